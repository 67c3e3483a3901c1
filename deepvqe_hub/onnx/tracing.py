"""Graphs of streaming networks that have no writer of their own: traced from PyTorch, states made explicit."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import nn

from deepvqe_hub.onnx.builder import OPSET, Graph
from deepvqe_hub.onnx.frontend import rows, spectrum


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


def trace(g: Graph, network: nn.Module, inputs: list[str], bins: int, batch: int, frames: int) -> str:
    """Add the whole of `network`, a copy for inference on the CPU, to the graph: (T * B * bins, 2) -> the same."""
    state = network.initial_state(batch)
    spectra = [spectrum(g, x, bins, batch, frames) for x in inputs]
    following = [g.remember(name, tuple(value.shape)) + ".next" for name, value in state.items()]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on shapes that become constants, as they should
        torch.onnx.export(
            Flat(network, list(state)),
            (*[torch.zeros(batch, bins, frames, 2) for _ in spectra], *state.values()),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[*spectra, *state],  # what they are called in `g`, so that its nodes fit
            output_names=["traced", *following],
        )
    traced = onnx.load_from_string(buffer.getvalue()).graph
    g.nodes.extend(traced.node)
    g.initializers.extend(traced.initializer)
    for name, value in zip(state, following, strict=True):
        g.update(name, value)
    return rows(g, "traced", bins, batch, frames)
