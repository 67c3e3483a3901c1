"""What an exported graph says of itself, and whether that is so. Needs no torch: whoever runs a graph reads it."""

from __future__ import annotations

import json
import math

from deepvqe_hub.limits import MAX_MODEL_RATE, MIN_RATE, check_format_version
from deepvqe_hub.onnx.spectra import WINDOWS

FORMAT_VERSION = 1
MAX_FRAMES, MAX_BATCH_SIZE = 64, 4096
_MAX_NUMBERS = 1 << 28  # in all states
_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


def signal_inputs(farend: bool) -> tuple[str, ...]:
    """Names of a graph's inputs that are signals, in the order of a stream's arguments."""
    return ("noisy", "farend") if farend else ("noisy",)


def read_info(session, path) -> dict:
    """The description that export wrote into a file, by an onnxruntime session that has opened it.

    Raises:
        ValueError: there is none, it was written by a later release, or it does not fit the graph.
    """
    text = session.get_modelmeta().custom_metadata_map.get("deepvqe_hub")
    if text is None:
        raise ValueError(f"{path} is an ONNX file, but deepvqe-hub did not write it; make one with: deepvqe export")
    try:
        info = json.loads(text)
        if not info["format_version"] > FORMAT_VERSION:  # a later one may describe itself otherwise
            _check(info, session)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: its description does not fit the graph ({reason}); export it again") from error
    check_format_version(info["format_version"], FORMAT_VERSION, path)
    return info


def _check(info: dict, session) -> None:
    """Raise an error of any kind if what runs the graph could not rely on `info`."""
    frames, batch, stft, config = info["frames"], info["batch_size"], info["stft"], info["config"]
    size, hop = stft["win_length"], stft["hop_length"]
    for name, value, least, most in (
        ("frames", frames, 1, MAX_FRAMES),
        ("batch_size", batch, 1, MAX_BATCH_SIZE),
        ("sample_rate", info["sample_rate"], MIN_RATE, MAX_MODEL_RATE),
        ("hop_length", hop, 1, 1 << 15),
        ("win_length", size, 2 * hop, 1 << 16),
    ):
        if not (isinstance(value, int) and least <= value <= most):
            raise ValueError(f"{name} {value!r}")
    known = stft["window"] in WINDOWS and stft["padding"] in ("zeros", "reflect", "none")
    if size % hop or not known or not 0 < stft["scale"] < math.inf or not isinstance(config, dict):
        raise ValueError(f"settings {stft}, config {config}")

    signals = signal_inputs(info["farend"])
    waveform = info["input"] == "waveform"
    shape = [batch, frames * hop] if waveform else [batch, size // 2 + 1, frames, 2]
    states = {state["name"]: (state["shape"], state["dtype"]) for state in info["states"]}
    for name in signals if waveform else ():
        if states[f"{name}.past"] != ([batch, size - hop], "float32"):
            raise ValueError(f"state {name}.past")
    wanted = {name: (shape, "float32") for name in signals} | states
    found = _tensors(session.get_inputs())
    if wanted != found:
        raise ValueError(f"inputs {', '.join(sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k)))}")
    wanted = {"enhanced": (shape, "float32")}
    wanted |= {state["output"]: (state["shape"], state["dtype"]) for state in info["states"]}
    if wanted != _tensors(session.get_outputs()):
        raise ValueError("outputs")
    if any(state["in_place"] not in (True, False) for state in info["states"]):
        raise ValueError("in_place")
    if sum(math.prod(shape) for shape, _ in states.values()) > _MAX_NUMBERS:
        raise ValueError(f"states of more than {_MAX_NUMBERS:,} numbers")


def _tensors(values) -> dict[str, tuple]:
    """Shape and type of inputs or outputs of a graph, by name."""
    return {value.name: (list(value.shape), _TYPES.get(value.type)) for value in values}
