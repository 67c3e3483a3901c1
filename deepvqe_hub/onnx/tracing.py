"""Graphs of streaming networks that have no writer of their own: traced from PyTorch, states made explicit."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import nn

from deepvqe_hub.onnx.builder import OPSET, StateInfo


class Flat(nn.Module):
    """A network with its state as a list of arguments and results, in the order of `names`."""

    def __init__(self, network: nn.Module, names: list[str]):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: torch.Tensor):
        signals, values = tensors[: -len(self.names)], tensors[-len(self.names) :]
        farend = signals[1] if self.network.farend else None
        spec, state = self.network(signals[0], farend, dict(zip(self.names, values, strict=True)))
        return spec, *(state[name] for name in self.names)


def trace(network: nn.Module, frames: int, batch_size: int) -> tuple[onnx.ModelProto, list[StateInfo]]:
    """The graph of `network`, a copy for inference on the CPU, and its states."""
    state = network.initial_state(batch_size)
    spec = torch.zeros(batch_size, network.bins, frames, 2)
    names = ["noisy", "farend"] if network.farend else ["noisy"]
    infos = [StateInfo(name, f"{name}.next", tuple(value.shape)) for name, value in state.items()]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on shapes that become constants, as they should
        torch.onnx.export(
            Flat(network, list(state)),
            (*[spec for _ in names], *state.values()),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[*names, *(s.name for s in infos)],
            output_names=["enhanced", *(s.output for s in infos)],
        )
    return onnx.load_from_string(buffer.getvalue()), infos
