"""The few causal layers that the streaming networks are made of.

A causal layer sees the present and the past, never the future. What it must remember of the past is data, not
a hidden attribute: a *state* is a flat `dict` from names such as `"enblock1.conv.past"` to tensors. A state
of zeros is silence before the first frame. Running a whole recording, a chunk, or a single frame is therefore
the same code with the same weights; only the state handed in and the number of frames differ.

Shapes: feature maps are (batch, channels, frames, bins); sequences are (batch, frames, features).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models import winograd
from deepvqe_hub.models.fusing import fused_copy, fused_weights, split_norm

State = dict[str, torch.Tensor]


class Stateful(nn.Module):
    """A layer with memory. `key` is its name inside the network, set by `CausalNetwork.name_states`.

    A subclass implements `state_shapes` and, in a `forward` that gets the state, replaces its own entries
    `state[f"{self.key}.{name}"]` by new tensors, or leaves that to `with_past`. A layer is called once in each pass.
    """

    key = ""

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape, without the batch dimension, of each tensor that this layer remembers."""
        raise NotImplementedError

    def with_past(self, x: torch.Tensor, state: State, name: str = "past") -> torch.Tensor:
        """`x` with the remembered frames put in front (dim 2); remembers its last frames for the next call.

        Shapes: (batch, channels, frames, bins) -> (batch, channels, past + frames, bins), where `state_shapes` has
        (channels, past, bins) for `name`.
        """
        name = f"{self.key}.{name}"
        past = state[name]
        # In the memory format of x, or the two together would be in neither.
        x = torch.cat([past.to(x.dtype, memory_format=memory_format_of(x)), x], dim=2)
        # A copy, because a view would keep the whole chunk alive from one call to the next.
        state[name] = x[:, :, x.shape[2] - past.shape[2] :].clone()
        return x


class CausalConv2d(nn.Conv2d, Stateful):
    """Convolution over (frames, bins): causal along frames, zero-padded by half a kernel along bins.

    Many frames at once, as in recordings, take the shorter way of `deepvqe_hub.models.winograd`.

    Args:
        in_channels, out_channels: channels.
        bins: number of bins of the input, needed for the shape of the state.
        kernel_size: (frames, bins).
        stride: along bins.
        below: zeros below the lowest bin, half a kernel by default.

    Shapes: (batch, in_channels, frames, bins) -> (batch, out_channels, frames, out_bins); for a kernel of odd width and
    the default padding, out_bins = (bins - 1) // stride + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bins: int,
        kernel_size: tuple[int, int] = (4, 3),
        stride: int = 1,
        below: int | None = None,
    ):
        half = kernel_size[1] // 2
        symmetric = below is None or below == half
        super().__init__(in_channels, out_channels, kernel_size, (1, stride), (0, half if symmetric else 0))
        self.bins = bins
        self.margins = None if symmetric else (below, half)  # zeros that the convolution itself cannot pad
        self.out_bins = (bins + (half if symmetric else below) + half - kernel_size[1]) // stride + 1

    def state_shapes(self):
        return {"past": (self.in_channels, self.kernel_size[0] - 1, self.bins)}

    def forward(self, x: torch.Tensor, state: State, norm: nn.BatchNorm2d | None = None) -> torch.Tensor:
        """Convolve, then normalise."""
        fused, after = split_norm(norm)
        weight, bias = fused_weights(self, fused)
        x = self.with_past(x, state)
        if self.margins is not None:
            x = F.pad(x, self.margins)
        convolve = winograd.conv2d if winograd.pays(x, weight) else F.conv2d
        return after(convolve(x, weight, bias, self.stride, self.padding))


class CausalConvTranspose2d(nn.ConvTranspose2d, Stateful):
    """Transposed convolution over (frames, bins): causal along frames, cropped along bins.

    A frame of input adds to its own frame of output and to the next `kernel_size[0] - 1`. What has been added so far
    to frames still to come is the state, so every product is computed once.

    Args:
        in_channels, out_channels: channels.
        out_bins: bins kept of the output, at most (bins - 1) * stride + kernel_size[1] - below.
        kernel_size: (frames, bins).
        stride: along bins.
        below: bins dropped at the lower end, half a kernel by default.

    Shapes: (batch, in_channels, frames, bins) -> (batch, out_channels, frames, out_bins).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        out_bins: int,
        kernel_size: tuple[int, int] = (4, 3),
        stride: int = 2,
        below: int | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, (1, stride))
        self.out_bins = out_bins
        self.below = kernel_size[1] // 2 if below is None else below

    def state_shapes(self):
        return {"tail": (self.out_channels, self.kernel_size[0] - 1, self.out_bins)}

    def forward(self, x: torch.Tensor, state: State, norm: nn.BatchNorm2d | None = None) -> torch.Tensor:
        fused, after = split_norm(norm)
        weight, bias = fused_weights(self, fused)
        frames, name = x.shape[2], f"{self.key}.tail"
        x = F.conv_transpose2d(x, weight, None, self.stride)[..., self.below : self.below + self.out_bins]
        x = x + F.pad(state[name], (0, 0, 0, frames))
        state[name] = x[:, :, frames:].clone()
        return after(x[:, :, :frames] + bias[:, None, None])


class SubpixelConv2d(nn.Module):
    """Causal convolution to twice the channels, which then become twice the bins (paper, section 2.3).

    The convolution's channels are two groups of `out_channels`. `order` says where they go:
    `"interleave"`: even and odd bins, the sub-pixel convolution as published;
    `"concat"`: lower and upper half of the axis, as the reference implementation was trained.

    Shapes: (batch, in_channels, frames, bins) -> (batch, out_channels, frames, out_bins), out_bins <= 2 * bins.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: int, out_bins: int, order: str = "interleave"):
        super().__init__()
        if order not in ("interleave", "concat"):
            raise ValueError(f'the order of sub-pixel channels is "interleave" or "concat", not {order!r}')
        self.conv = CausalConv2d(in_channels, 2 * out_channels, bins)
        self.order = order
        self.out_bins = out_bins

    def forward(self, x: torch.Tensor, state: State, norm: nn.BatchNorm2d | None = None) -> torch.Tensor:
        fused, after = split_norm(norm)
        x = self.conv(x, state, fused)
        if self.order == "concat":
            x = torch.cat(x.chunk(2, dim=1), -1)
        elif memory_format_of(x) == torch.channels_last:  # the order that memory has already
            x = x.permute(0, 2, 3, 1).unflatten(3, (2, -1)).flatten(2, 3).permute(0, 3, 1, 2)
        else:
            x = torch.stack(x.chunk(2, dim=1), -1).flatten(-2)
        return after(x)[..., : self.out_bins]


class CausalGRU(nn.GRU, Stateful):
    """A GRU over frames: (batch, frames, input_size) -> (batch, frames, hidden_size)."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size, batch_first=True)

    def state_shapes(self):
        return {"hidden": (self.hidden_size,)}

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        name = f"{self.key}.hidden"
        x, hidden = super().forward(x, state[name][None])
        state[name] = hidden[0]
        return x


def memory_format_of(x: torch.Tensor) -> torch.memory_format:
    """`torch.channels_last` for maps that lie in memory so and not otherwise, else `torch.contiguous_format`."""
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def complex_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of complex numbers, real and imaginary part in the last dimension."""
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    imag = a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return torch.stack([real, imag], -1)


class CausalNetwork(nn.Module):
    """Base class of networks that stream: complex spectra in and out, with explicit state.

    A subclass implements `enhance`. Its constructor takes the DFT `bins` of the spectrum among its arguments, keeps
    them as an attribute, and calls `name_states` at the end. The arguments are the options of a `config.json`: numbers,
    strings, booleans and lists of them.
    """

    streams = True
    """Whether frames may be given one after the other."""
    farend = False
    """Whether the network takes a far-end (loudspeaker) signal."""
    finds_delay = False
    """Whether it has a method `delay` that tells where the echo is, as `DeepVQE` has."""

    def name_states(self) -> None:
        """Tell each layer its name in the state; a subclass calls it when all its layers are there."""
        for name, module in self.named_modules():
            if isinstance(module, Stateful):
                module.key = name

    def initial_state(
        self, batch_size: int = 1, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of silence: a dict from names to zeros, by default where and of what type the weights are.

        Raises:
            RuntimeError: the subclass has not called `name_states`, so that layers would overwrite each other's memory.
        """
        like = next(self.parameters(), torch.empty(0))
        device, dtype = device or like.device, dtype or like.dtype
        layers = [module for module in self.modules() if isinstance(module, Stateful)]
        if len({layer.key for layer in layers}) < len(layers):
            raise RuntimeError(
                f"layers of this {type(self).__name__} have the same name in the state; "
                "call name_states() at the end of its constructor"
            )
        return {
            f"{layer.key}.{name}": torch.zeros(batch_size, *shape, device=device, dtype=dtype)
            for layer in layers
            for name, shape in layer.state_shapes().items()
        }

    def forward(
        self, spec: torch.Tensor, farend: torch.Tensor | None = None, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Enhance a spectrum, or the next frames of one.

        Args:
            spec: microphone spectrum, real, (batch, bins, frames, 2) with real and imaginary part last.
            farend: loudspeaker spectrum of the same shape, for networks with a far end; None is silence.
            state: what the previous call returned, or None at the start.

        Returns:
            The enhanced spectrum in the shape of `spec`, and the state to go on with. `state` itself is left as it
            was.
        """
        if farend is not None and not self.farend:
            raise ValueError(f"this {type(self).__name__} has no far-end input; load an echo-cancelling model")
        if farend is not None and farend.shape != spec.shape:
            raise ValueError(f"far end {tuple(farend.shape)} and microphone {tuple(spec.shape)} differ in shape")
        if state is None:
            state = self.initial_state(spec.shape[0], device=spec.device, dtype=spec.dtype)
        state = dict(state)
        return self.enhance(spec, farend, state), state

    def enhance(self, spec: torch.Tensor, farend: torch.Tensor | None, state: State) -> torch.Tensor:
        """Enhance the next frames of a spectrum: the method that a subclass writes, and `forward` calls.

        Args:
            spec: microphone spectrum, real, (batch, bins, frames, 2) with real and imaginary part last.
            farend: loudspeaker spectrum of the same shape; None is silence, and always so for a network without.
            state: what the layers remember, at first zeros. Each layer puts new tensors for its own entries into
                this `dict`; the tensors themselves are not written to.

        Returns:
            The enhanced spectrum in the shape of `spec`. Frame t depends on no later frame of the inputs.
        """
        raise NotImplementedError

    def folded(self) -> CausalNetwork:
        """A frozen copy with every batch norm fused into its convolution (the same function, with the same hooks)."""
        return fused_copy(self)

    def for_inference(self) -> CausalNetwork:
        """A frozen copy that computes the same function in fewer operations: `folded`, and what a network adds.

        The names and shapes of its weights are its own affair; what is written to files is not taken from it.
        """
        return self.folded()
