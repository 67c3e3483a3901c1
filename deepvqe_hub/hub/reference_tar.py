"""Reads the checkpoints of the reference implementation, github.com/Xiaobin-Rong/deepvqe.

A file written by `torch.save`: `{"model": state_dict}`, 156 tensors of the noise suppressor (preset `deepvqe`).
Their names are ours, except in its streaming copy, whose convolutions are called `<name>.Conv2d`.

Nothing is unpickled beyond tensors, and the archive is measured before it is opened.
"""

from __future__ import annotations

import copy
import pickle
import zipfile
from pathlib import Path

import torch

from deepvqe_hub.hub.checkpoint import MAX_BYTES, Checkpoint
from deepvqe_hub.hub.errors import CheckpointError, first_line
from deepvqe_hub.presets import PRESETS


def read(path: Path, *, window: str = "sqrt_hann", padding: str | None = None) -> Checkpoint:
    """Read a `.tar` of the reference implementation.

    Args:
        path: the file.
        window: "sqrt_hann", as its text says, or "hann", as its usage snippet has it. The file does not tell.
        padding: what stands around a signal, "zeros" or "reflect"; by default "reflect" for "hann", as in the snippet,
            and zeros for the others.

    Raises:
        CheckpointError: the file is something else, is damaged, or holds code.
    """
    content = load_tensors(path)
    state = content.get("model", content)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f'{path} is not a checkpoint of the reference implementation: no state dict under "model", only '
            + (", ".join(map(str, list(content)[:8])) or "nothing")
        )
    if state and all(name.startswith("network.") for name in state):
        held = '["model"]' if "model" in content else ""
        raise CheckpointError(
            f"{path} holds an EnhancementModel's state_dict, which has no config. Where you know it: "
            "model = EnhancementModel.from_config(name); "
            f"model.load_state_dict(torch.load({str(path)!r}, weights_only=True){held}). "
            "For next time: model.save_pretrained(folder), and load the folder"
        )
    left_out = [str(key) for key in content if key != "model"] if "model" in content else []
    names = {f"network.{name.replace('.Conv2d.', '.')}": name for name in state}
    if len(names) < len(state):
        raise CheckpointError(f"{path} holds weights both of the plain and of the streaming network")
    config = copy.deepcopy(PRESETS["deepvqe"])
    config["stft"] = {"window": window, "padding": padding or ("reflect" if window == "hann" else "zeros")}
    return Checkpoint(
        config=config | {"format_version": 1},
        tensors={ours: state[theirs] for ours, theirs in names.items()},
        format="checkpoint of the reference implementation",
        names=names,
        notes=[
            f"window {window!r}, padding {config['stft']['padding']!r}: the file does not say what it was trained with",
            *([f"left out: {', '.join(left_out)}"] if left_out else []),
        ],
    )


def load_tensors(path: Path) -> dict:
    """The dict in a file by `torch.save`, tensors and plain values only, with bounds on its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    # torch.save stores without compression; an archive that would grow in memory is not one of its.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(f"{path} is a compressed archive, not a file written by torch.save")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise CheckpointError(f"{path} holds more than {MAX_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(b"bytearray" in archive.read(member) for member in members if member.filename.endswith(".pkl")):
                raise pickle.UnpicklingError("a bytearray")  # weights_only lets it pass, and it may be of any length
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = first_line(error, "Unsupported", "GLOBAL")
        raise CheckpointError(f"{path} holds more than tensors and is not loaded: {reason}") from error
    except Exception as error:  # torch reports a damaged archive in many ways
        raise CheckpointError(f"{path} is not a file written by torch.save: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content
