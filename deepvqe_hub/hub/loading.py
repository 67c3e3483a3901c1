"""`load`: every way to get a model with trained weights."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.hub import formats
from deepvqe_hub.hub.checkpoint import build
from deepvqe_hub.hub.download import Repository
from deepvqe_hub.hub.errors import CheckpointError, HubError, NotCachedError
from deepvqe_hub.hub.folder import CONFIG, README, WEIGHTS, expanded, read_folder
from deepvqe_hub.hub.resolving import Place, check_kind, refuse_revision, resolve
from deepvqe_hub.onnx import is_graph

if TYPE_CHECKING:
    from deepvqe_hub.onnx.model import OnnxModel

_HUB_OPTIONS = ("token", "cache_dir", "local_files_only", "force_download")


@overload
def load(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: Literal["torch"] | None = None,
    **options: Any,
) -> EnhancementModel: ...
@overload
def load(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: Literal["onnx"],
    **options: Any,
) -> OnnxModel: ...
@overload
def load(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: str | None,
    **options: Any,
) -> EnhancementModel | OnnxModel: ...
def load(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: str | None = None,
    **options: Any,
) -> EnhancementModel | OnnxModel:
    """A model with trained weights, in evaluation mode. Nothing that is loaded is executed.

    Args:
        name_or_path: one of

            * a name of `list_models`, such as `"deepvqe-s"`;
            * a checkpoint folder (`"./deepvqe-s"` if it is called like a model);
            * a repository of the Hugging Face Hub, `"owner/name"` (a folder of that name goes first), or
              `"owner/name@revision"`, which is the way to say it on the command line;
            * a `.tar` of the reference implementation, github.com/Xiaobin-Rong/deepvqe;
            * a `.gguf` of github.com/richiejp/deepvqe-ggml (needs the extra `gguf`);
            * an `.h5` of github.com/Le-Xiaohuai-speech/DPCRN_DNS3 (needs h5py);
            * a `.onnx` written by `deepvqe_hub.onnx.export`.
        revision: branch, tag or commit of a Hub repository; pin one where results must not change.
        device: where to put the model, by default the CPU.
        backend: "torch", or "onnx" for a `deepvqe_hub.onnx.OnnxModel`: the same call on onnxruntime, with
            the options `threads` and `quantize`. By default that of the file.
        **options: for the Hub `token`, `cache_dir`, `local_files_only`, `force_download`, and `file`
            to choose one of several in another format; for a `.tar` `window` and `padding`, see
            `deepvqe_hub.hub.reference_tar.read`; for a `.gguf` `temperature`, see
            `deepvqe_hub.hub.gguf_file.read`.

    Returns:
        The model, float32, `model.sample_rate` Hz; with onnxruntime a `deepvqe_hub.onnx.OnnxModel`. What both have is
        `deepvqe_hub.protocols.Model`. Type checkers, who cannot tell a `.onnx` by its name, are told by `backend`.

    Raises:
        FileNotFoundError: no such file, or one of the kinds of `deepvqe_hub.hub.HubError` and
            `deepvqe_hub.hub.WeightsMissingError`.
        ValueError: an unknown name, option or device; `deepvqe_hub.hub.CheckpointError` for a damaged or foreign
            file.
        ImportError: what reads the format is not installed.

    Example:
        >>> model = deepvqe_hub.load("deepvqe-s")  # doctest: +SKIP
        >>> clean = model(noisy)  # doctest: +SKIP
    """
    check_kind(name_or_path)
    if backend is None:
        backend = "onnx" if is_graph(name_or_path) else "torch"
    if backend == "onnx":
        if device is not None and not str(device).startswith("cpu"):
            raise ValueError(f"onnxruntime is used on the CPU, not on {device}; for others see OnnxModel(providers=)")
        return _load_onnx(name_or_path, revision, options)
    if backend != "torch":
        raise ValueError(f'backend must be "torch" or "onnx", not {backend!r}')
    return on_device(load_as(EnhancementModel, name_or_path, revision, options), device, name_or_path)


def on_device(
    model: EnhancementModel, device: str | torch.device | None, name: str | os.PathLike[str]
) -> EnhancementModel:
    """`model` on `device`, where it is for None; a ValueError that calls it `name` for one that is not there."""
    try:
        return model if device is None else model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"cannot put {name} on device {device}: {error}") from error


def load_as(
    cls: type[EnhancementModel], source: str | os.PathLike[str], revision: str | None, options: dict
) -> EnhancementModel:
    """`load` for a subclass: what `EnhancementModel.from_pretrained` does."""
    place = resolve(source, revision)
    if place.kind == "repository":
        return _from_hub(place, options, cls)
    if place.kind == "file":
        if place.path.name == CONFIG:
            raise CheckpointError(f"{place.path} is only the config; load the folder that holds its {WEIGHTS} as well")
        options = {key: value for key, value in options.items() if key not in _HUB_OPTIONS}
        return build(formats.read_file(place.path, **options), place.name, cls)
    _refuse_options(options, str(place))
    return read_folder(place.path, str(place) if place.kind == "shipped" else place.name, cls)


def _load_onnx(source: str | os.PathLike[str], revision: str | None, options: dict) -> OnnxModel:
    from deepvqe_hub.onnx import OnnxModel, export

    threads, quantize = options.pop("threads", 1), options.pop("quantize", False)
    if is_graph(source):
        source = expanded(source)
        where = f"the exported graph {source}"
        _refuse_options(options | ({"quantize": True} if quantize else {}), where)
        refuse_revision(revision, where)
        try:
            return OnnxModel(source, threads=threads)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    model = load_as(EnhancementModel, source, revision, options)
    with tempfile.TemporaryDirectory(prefix="deepvqe-") as folder:
        path = export(model, Path(folder) / "model.onnx", quantize=quantize)
        return OnnxModel(path.read_bytes(), threads=threads)


def _from_hub(place: Place, options: dict, cls: type[EnhancementModel]) -> EnhancementModel:
    asked = {key: options.pop(key) for key in _HUB_OPTIONS if key in options}
    repository, entry = Repository(place.name, place.revision, **asked), place.entry
    file = options.pop("file", entry.file if entry else None)
    if file is None:
        try:
            config = repository.file(CONFIG)
        except (CheckpointError, NotCachedError) as error:  # perhaps in another project's format
            file = _foreign_file(repository, error)
        else:
            _refuse_options(options, str(repository))
            pinned = repository.pinned(config)
            pinned.file(WEIGHTS)
            with contextlib.suppress(CheckpointError, HubError):  # a repository need not have a card
                pinned.file(README)  # names the licence
            return read_folder(config.parent, str(repository), cls)
    model = build(formats.read_file(repository.file(file), **options), f"{repository.repo_id}/{file}", cls)
    model.license = entry.license if entry else model.license
    return model


def _foreign_file(repository: Repository, error: Exception) -> str:
    """The GGUF file in a repository, of several the one that is not quantised; if there is none, `error`."""
    try:
        names = [name for name in repository.names() if name.endswith(".gguf")]
    except (FileNotFoundError, ValueError):
        names = []
    full = [name for name in names if not re.search(r"q\d", name.lower())]
    for choice in (names, full):
        if len(choice) == 1:
            return choice[0]
    if names:
        raise CheckpointError(f"{repository} has several checkpoints, choose one with file=: {', '.join(names)}")
    raise error


def _refuse_options(options: dict, where: str) -> None:
    """Raise ValueError for options that are not of the Hub, of what takes no other there."""
    unknown = [key for key in options if key not in _HUB_OPTIONS]
    if unknown:
        raise ValueError(f"{where} takes no option {', '.join(unknown)}")
