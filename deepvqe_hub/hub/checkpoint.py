"""A checkpoint as plain data, whatever file it came from, and the strict way from there to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from deepvqe_hub.enhancement import FORMAT_VERSION, MAX_PARAMETERS, EnhancementModel
from deepvqe_hub.hub.errors import CheckpointError, FormatVersionError
from deepvqe_hub.limits import check_format_version

MAX_BYTES = 4 * MAX_PARAMETERS + (1 << 20)
"""Size of the largest weights file that is read: the largest model in float32, and a header."""

UNKNOWN_LICENSE = "unknown"  # as the Hub calls it; readers that know better say so

_CONFIG_KEYS = {"network": str, "options": dict, "stft": dict, "sample_rate": int, "format_version": int}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_MAX_NUMBER = 1 << 16  # no size in a config comes near it, and none is refused that fits MAX_PARAMETERS
_MAX_ENTRIES = 64  # of a list, and of parts of a network: thousands would take hours to build before they are counted
_PARTS = ("blocks", "heads")  # options that say how many of them


@dataclass
class Checkpoint:
    """Config and weights in this package's naming, and how they were called where they came from.

    Args:
        config: keyword arguments of `EnhancementModel`.
        tensors: state dict of the model.
        format: what kind of file they came from, for messages.
        names: our name -> the name in that file, for the report of a conversion.
        notes: what a reader should know: what was folded, assumed or left out.
    """

    config: dict[str, Any]
    tensors: Mapping[str, torch.Tensor]
    format: str
    names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build(checkpoint: Checkpoint, where: str, cls: type[EnhancementModel] = EnhancementModel) -> EnhancementModel:
    """The model of a checkpoint, in evaluation mode, on the CPU, in float32, its licence unknown.

    Everything is checked before memory is taken for the model: names, shapes and types must be exactly those that the
    config asks for, and all numbers finite.

    Args:
        checkpoint: what a reader returned.
        where: path or repository, for messages.
        cls: subclass of `EnhancementModel` to build.

    Raises:
        CheckpointError: naming the offending entries.
    """
    blank = build_blank(checkpoint.config, where, cls)
    tensors = {name: tensor.detach() for name, tensor in checkpoint.tensors.items()}
    check_tensors(blank.state_dict(), tensors, where)
    with torch.random.fork_rng(devices=[]):  # the user's random sequence goes on as if nothing were drawn
        model = cls(**checkpoint.config).float()  # whatever torch's default type is
    model.load_state_dict(tensors, strict=True)  # copies, and converts half precision to float32
    model.license = UNKNOWN_LICENSE
    return model.eval()


def build_blank(config: Any, where: str, cls: type[EnhancementModel] = EnhancementModel) -> EnhancementModel:
    """The model that a config describes, checked, without weights and memory (on the meta device).

    Raises:
        CheckpointError: as `check_config`, or no model can be built so.
    """
    config = check_config(config, where)
    try:
        with torch.device("meta"):
            model = cls(**config)
            if hasattr(model.network, "initial_state"):
                state = sum(value.numel() for value in model.network.initial_state().values())
                if state > MAX_PARAMETERS:
                    raise ValueError(f"a stream would remember {state:,} numbers; the limit is {MAX_PARAMETERS:,}")
    except Exception as error:  # a stranger's numbers may fail anywhere inside a constructor
        raise CheckpointError(f"{where}: the config describes no model: {error}") from error
    return model


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The contents of a `config.json`, checked; see `check_config`."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is not a number")

    try:
        config = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: config.json is not valid JSON: {error}") from error
    return check_config(config, where)


def check_config(config: Any, where: str) -> dict[str, Any]:
    """`config` itself if it has our keys with sane values.

    Raises:
        FormatVersionError: it was written by a later release.
        CheckpointError: it is not one of ours, or asks for something absurd.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"{where}: the config is a {type(config).__name__}, not an object")
    missing = [key for key in ("network", "format_version") if key not in config]
    if missing:
        raise CheckpointError(
            f"{where} is not a deepvqe-hub checkpoint: its config lacks {' and '.join(missing)}"
            + (f" (it is for {config['model_type']!r})" if isinstance(config.get("model_type"), str) else "")
        )
    version = config["format_version"]
    check_format_version(version, FORMAT_VERSION, where, FormatVersionError)
    unknown = sorted(set(config) - set(_CONFIG_KEYS))
    if unknown:
        raise CheckpointError(f"{where}: unknown entries in the config: {', '.join(map(str, unknown))}")
    for key, kind in _CONFIG_KEYS.items():
        if key in config and type(config[key]) is not kind:
            raise CheckpointError(f"{where}: {key} in the config must be of type {kind.__name__}, not {config[key]!r}")
    if version < 1:
        raise CheckpointError(f"{where}: format_version {version} does not exist")
    options = config.get("options", {})
    for name in _PARTS:
        if isinstance(options.get(name), int) and options[name] > _MAX_ENTRIES:
            raise CheckpointError(f"{where}: {options[name]} {name} in the config, the limit is {_MAX_ENTRIES}")
    _check_values({"options": options, "stft": config.get("stft", {})}, where)
    return config


def _check_values(value: Any, where: str) -> None:
    if isinstance(value, (dict, list, tuple)):
        if len(value) > _MAX_ENTRIES:
            raise CheckpointError(
                f"{where}: {len(value)} entries in one place of the config, the limit is {_MAX_ENTRIES}"
            )
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, where)
    elif isinstance(value, (int, float)) and not abs(value) <= _MAX_NUMBER:
        raise CheckpointError(f"{where}: {value} in the config is out of range, the limit is {_MAX_NUMBER}")


def check_tensors(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str) -> None:
    """Compare a state dict with what the model needs, by name, shape and type, and look for NaN and Inf.

    Raises:
        CheckpointError: naming up to five entries of each kind of fault.
    """
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    odd = [name for name, t in found.items() if t.is_nested or t.is_meta or t.layout != torch.strided]
    common = [name for name in wanted if name in found and name not in odd]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in common
        if found[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} {found[name].dtype}"
        for name in common
        if found[name].dtype not in (_FLOATS if wanted[name].is_floating_point() else _INTEGERS)
    ]
    faults = {"missing": missing, "unknown": unknown, "no plain tensors": odd, "shapes": shapes, "types": kinds}
    if any(faults.values()):
        texts = (f"{fault}: {_some(names)}" for fault, names in faults.items() if names)
        raise CheckpointError(f"{where}: the weights do not fit the config; {'; '.join(texts)}")
    # As the model will hold them: a double may be beyond its range.
    broken = [name for name in common if not torch.isfinite(found[name].to(wanted[name].dtype)).all()]
    if broken:
        raise CheckpointError(f"{where}: NaN or Inf in {_some(broken)}")


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
