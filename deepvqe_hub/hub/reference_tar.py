"""Reads the checkpoints of the reference implementation, github.com/Xiaobin-Rong/deepvqe.

A file written by `torch.save`: `{"model": state_dict}`, 156 tensors of the noise suppressor (preset `deepvqe`).
Their names are ours, except in its streaming copy, whose convolutions are called `<name>.Conv2d`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from deepvqe_hub.hub.checkpoint import Checkpoint
from deepvqe_hub.hub.errors import CheckpointError
from deepvqe_hub.hub.torch_archive import load_tensors
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
