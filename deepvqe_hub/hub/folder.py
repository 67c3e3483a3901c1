"""Checkpoint folders, the package's own format.

`config.json` and `model.safetensors` make the model, and nothing else; `hyperparams.yaml` is for SpeechBrain and
`README.md` for people.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from deepvqe_hub.atomic import make_parent, named_when_full
from deepvqe_hub.enhancement import EnhancementModel, uncompiled
from deepvqe_hub.hub import card as cards
from deepvqe_hub.hub.checkpoint import (
    MAX_BYTES,
    UNKNOWN_LICENSE,
    Checkpoint,
    build,
    build_blank,
    check_config,
    check_tensors,
    parse_config,
)
from deepvqe_hub.hub.errors import CheckpointError

CONFIG, WEIGHTS, YAML, README = "config.json", "model.safetensors", "hyperparams.yaml", "README.md"
FILES = (CONFIG, WEIGHTS, YAML, README)
_MAX_CONFIG_BYTES = 1 << 16
_MAX_CARD = 1 << 16  # characters of a model card that are searched for the licence


def read_folder(
    folder: str | Path, where: str | None = None, cls: type[EnhancementModel] = EnhancementModel
) -> EnhancementModel:
    """The model in a checkpoint folder, in evaluation mode; see `deepvqe_hub.hub.checkpoint.build`.

    Args:
        folder: holds `config.json` and `model.safetensors`; of a `README.md` the licence is noted.
        where: what messages call it, by default the path.
        cls: subclass of `EnhancementModel` to build.
    """
    where = where or str(folder)
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{where} is not a deepvqe-hub checkpoint: it has no {' and no '.join(missing)}")
    config_file = folder / CONFIG
    if config_file.stat().st_size > _MAX_CONFIG_BYTES:
        raise CheckpointError(f"{where}: config.json is larger than {_MAX_CONFIG_BYTES:,} bytes")
    config = parse_config(config_file.read_text(encoding="utf-8", errors="replace"), where)
    tensors = read_weights(folder / WEIGHTS, where)
    model = build(Checkpoint(config, tensors, "checkpoint folder"), where, cls)
    model.license = license_in(folder)
    return model


def license_in(folder: Path) -> str:
    """The licence that the model card in a folder states."""
    if not (folder / README).is_file():
        return UNKNOWN_LICENSE
    with open(folder / README, encoding="utf-8", errors="replace") as card:
        return cards.license_of(card.read(_MAX_CARD)) or UNKNOWN_LICENSE


def read_weights(path: str | Path, where: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, whatever its name.

    Raises:
        CheckpointError: the file is damaged, is no safetensors file or is larger than the largest model.
    """
    where = where or str(path)
    if Path(path).stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{where}: the weights are larger than {MAX_BYTES:,} bytes")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{where}: {WEIGHTS} is not a sound safetensors file: {error}") from error


def load_weights(model: EnhancementModel, path: str | Path) -> None:
    """Put the tensors of a safetensors file into `model`, strictly: same names, same shapes, all finite.

    Their licence is that of the model card beside the file, or unknown.
    """
    tensors = read_weights(path)
    check_tensors(model.state_dict(), tensors, str(path))
    model.load_state_dict(tensors, strict=True)
    model.license = license_in(Path(path).resolve().parent)  # SpeechBrain links to files where they lie


def save_folder(
    model: EnhancementModel,
    folder: str | Path,
    card: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
    keep_card: bool = False,
) -> Path:
    """Write a checkpoint folder that `deepvqe_hub.load`, the Hugging Face Hub and SpeechBrain understand.

    The files are written on the disk of their destination first and moved there when all of them are complete.

    Args:
        model: any `EnhancementModel`, on any device.
        folder: destination, "~" is the home folder; its parents are made.
        card: what the model card says, all of it optional; see `deepvqe_hub.hub.card.model_card`.
        half: store matrices and kernels as float16, half the size; they are float32 again when loaded. Vectors (biases,
            statistics of norms) keep their precision.
        overwrite: replace checkpoint files that are there already; other files in the folder are left alone.
        keep_card: with `overwrite`, keep a model card that is there: people edit them.

    Returns:
        The folder.

    Raises:
        FileExistsError: without `overwrite`, for a folder that holds any of the files; for a file of that name.
        ValueError: it is no `EnhancementModel`; the weights are not finite, or not within float16 for `half`, or not
            those of the config, as in a folded or pruned network, or one compiled without its model; or the model is of
            a subclass and was made with arguments that a config does not hold.
    """
    model, folder = uncompiled(model), expanded(folder)
    if not isinstance(model, EnhancementModel):
        hint = "; give its model" if isinstance(getattr(model, "model", None), EnhancementModel) else ""
        raise ValueError(f"only an EnhancementModel can be saved, and this is {type(model).__name__}{hint}")
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        names = ", ".join(present)
        raise FileExistsError(f"{folder} already has {names}; pass overwrite=True (--force) to replace them")
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, or a link to nothing; a checkpoint is a folder")
    config = check_config(json.loads(json.dumps(model.config)), str(folder))
    _check_arguments(model, config)
    tensors = {name: _storable(tensor, half) for name, tensor in model.state_dict().items()}
    check_tensors(build_blank(config, str(folder), type(model)).state_dict(), tensors, "the model to save")

    make_parent(folder)
    # A folder that is there may lie on another disk than its parent, or in one that is not ours to write to.
    beside = folder if folder.exists() else folder.parent
    with named_when_full(folder), tempfile.TemporaryDirectory(dir=beside, prefix=f".{folder.name}.") as parent:
        draft = Path(parent) / "draft"
        draft.mkdir()
        (draft / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))  # save_file: private to its owner
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (draft / YAML).write_text(cards.hyperparams(config), encoding="utf-8")
        (draft / README).write_text(cards.model_card(model, card, f"./{folder.absolute().name}"), encoding="utf-8")
        if folder.exists():
            for name in FILES:
                if not (keep_card and name == README and name in present):
                    os.replace(draft / name, folder / name)
        else:
            os.rename(draft, folder)
    return folder


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with the home folder for "~"; a ValueError for that of a user who is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_arguments(model: EnhancementModel, config: Mapping) -> None:
    """Raise ValueError for what a subclass was made with, other than its defaults, and would not be again."""
    made_with, defaults = model._hub_mixin_config or {}, model._hub_mixin_jsonable_default_values  # as the mixin notes
    variadic = [name for name, p in model._hub_mixin_init_parameters.items() if p.kind is p.VAR_POSITIONAL]
    if made_with.keys() & variadic:  # it gives arguments by position wrong names where the signature has *args
        return
    lost = [name for name in made_with if name not in config and (name, made_with[name]) not in defaults.items()]
    if lost:
        raise ValueError(
            f"{type(model).__name__} was made with {', '.join(f'{name}={made_with[name]!r}' for name in lost)}, which "
            "config.json does not hold, so it would be lost; save the state_dict() by torch.save"
        )


def _storable(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float16 if half and tensor.dim() > 1 else torch.float32)
    return tensor.contiguous().clone()  # a copy each: safetensors stores no shared memory
