"""Size and arithmetic cost of a network, counted by running it without numbers on PyTorch's meta device.

Counted are the multiply-adds of convolutions, linear layers, recurrent layers, and of the matrix products of attention
and alignment. Biases, norms, activations, element-wise products such as the mask's, and the Fourier transforms are not;
they add about a hundredth. Some tools count them, or the outputs of transposed convolutions that are cropped
afterwards, so their figures are slightly higher.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from deepvqe_hub.enhancement import EnhancementModel


class Complexity(NamedTuple):
    """What `count_model` counts."""

    parameters: int
    macs_per_second: float
    """Multiply-adds for a second of signal."""


def count_model(model: EnhancementModel) -> Complexity:
    """Parameters, and multiply-adds for one second of signal.

    A streaming network runs `sample_rate / hop_length` frames a second: 62.5 at 16 kHz with a hop of 256. The cost of
    a network that looks at the whole signal grows faster than the signal; its figure is that of a recording of one
    second, in the 63 frames that `torch.stft` makes of it. Published figures of either kind are often for 63 frames;
    compare them with `count_network`.
    """
    network, per_second = model.network, model.sample_rate / model.stft.hop_length
    if network.streams:
        macs = count_network(network, frames=1) * per_second
    else:
        macs = float(count_network(network, frames=int(per_second) + 1))
    return Complexity(sum(p.numel() for p in network.parameters()), macs)


def count_network(network: nn.Module, frames: int) -> int:
    """Multiply-adds for one signal of `frames` frames, with the far end if the network has one.

    A streaming network is counted frame by frame, as it runs live; run on many frames at once, the alignment of
    DeepVQE spends a little more on the part of its matrix products that it does not use.
    """
    network = copy.deepcopy(network).to("meta").eval()
    spec = torch.empty(1, network.bins, 1 if network.streams else frames, 2, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Recurrent() as recurrent:
        network(spec, spec if network.farend else None)
    macs = recurrent.macs + counter.get_total_flops() // 2  # it counts a multiplication and an addition as two
    return macs * frames if network.streams else macs


class _Recurrent(TorchFunctionMode):
    """Counts recurrent layers of PyTorch without running them, which on the meta device goes step by step."""

    macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ not in ("gru", "lstm"):
            return func(*args, **(kwargs or {}))
        x, state, weights = args[:3]
        # Each matrix meets the vector of each step of each sequence once.
        self.macs += x.shape[0] * x.shape[1] * sum(w.numel() for w in weights if w.dim() == 2)
        hidden = state[0] if func.__name__ == "lstm" else state
        directions = 2 if args[7] else 1  # "bidirectional"
        output = x.new_empty(*x.shape[:2], directions * hidden.shape[2])
        return (output, *state) if func.__name__ == "lstm" else (output, state)
