"""DPCRN: a convolutional encoder and decoder around recurrent layers along bins and along frames.

X. Le, H. Chen, K. Chen, J. Lu, "DPCRN: Dual-Path Convolution Recurrent Network for Single Channel Speech Enhancement",
Interspeech 2021, arXiv:2107.05429. Names of the parts, and so of the weights, follow the public PyTorch implementation
by Xiaobin Rong (github.com/Xiaobin-Rong/TRT-SE). The authors' own Keras implementation
(github.com/Le-Xiaohuai-speech/DPCRN_DNS3) differs in details; `layout` chooses.

Shapes: B batch, C channels, T frames, F bins; feature maps are (B, C, T, F), spectra (B, F, T, 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models.causal import (
    CausalConv2d,
    CausalConvTranspose2d,
    CausalNetwork,
    State,
    Stateful,
    complex_product,
)
from deepvqe_hub.models.fusing import fuse_norm


@dataclass(frozen=True)
class Variant:
    """Where the two public implementations differ."""

    input_norm: bool
    """Layer norm over the bins of each frame of the spectrum, for the encoder only."""
    final_norm: bool
    """Batch norm of the mask."""
    symmetric: bool
    """Strided convolutions are padded by half a kernel below the lowest bin; otherwise not at all."""
    skip_first: bool
    """A decoder layer sees the skip connection's channels before, not after, those of the layer below."""
    slope_per_channel: bool
    """A PReLU has one slope for each channel, otherwise one."""
    hard_sigmoid: bool
    """The gates of the LSTMs are piecewise linear, as was the default of Keras."""
    batch_norm_eps: float
    layer_norm_eps: float


VARIANTS = {
    "pytorch": Variant(
        input_norm=False,
        final_norm=True,
        symmetric=True,
        skip_first=False,
        slope_per_channel=False,
        hard_sigmoid=False,
        batch_norm_eps=1e-5,
        layer_norm_eps=1e-8,
    ),
    "keras": Variant(
        input_norm=True,
        final_norm=False,
        symmetric=False,
        skip_first=True,
        slope_per_channel=True,
        hard_sigmoid=True,
        batch_norm_eps=1e-3,
        layer_norm_eps=1e-3,
    ),
}


class DPCRN(CausalNetwork):
    """The network on complex spectra; the defaults are the paper's, for spectra of 257 bins.

    Args:
        bins: DFT bins of the spectrum <n_fft / 2 + 1>.
        channels: output channels of the encoder's layers; the decoder mirrors them.
        kernel_bins: width of each layer's kernel along bins; along frames it is two.
        strides: of each layer along bins. (2, 2, 2, 1, 1) is the lighter network of the PyTorch implementation.
        blocks: number of dual-path recurrent blocks.
        layout: "pytorch" or "keras", the implementation whose weights fit.
    """

    def __init__(
        self,
        bins: int = 257,
        channels: tuple[int, ...] = (32, 32, 32, 64, 128),
        kernel_bins: tuple[int, ...] = (5, 3, 3, 3, 3),
        strides: tuple[int, ...] = (2, 2, 1, 1, 1),
        blocks: int = 2,
        layout: str = "pytorch",
    ):
        super().__init__()
        if layout not in VARIANTS:
            raise ValueError(f"layout must be one of {', '.join(VARIANTS)}, not {layout!r}")
        if not len(channels) == len(kernel_bins) == len(strides) > 0:
            lengths = f"{len(channels)}, {len(kernel_bins)}, {len(strides)}"
            raise ValueError(f"channels, kernel_bins and strides differ in length: {lengths}")
        if any(width % 2 == 0 for width in kernel_bins):
            raise ValueError(f"kernel_bins must be odd, not {list(kernel_bins)}")
        self.bins = bins
        variant = VARIANTS[layout]
        self.input_ln = nn.LayerNorm((bins, 2), eps=variant.layer_norm_eps) if variant.input_norm else None
        self.encoder = Encoder(bins, channels, kernel_bins, strides, variant)
        width = self.encoder.conv_list[-1].out_bins
        self.dprnns = nn.ModuleList(DualPathBlock(channels[-1], width, variant) for _ in range(blocks))
        self.decoder = Decoder(self.encoder, variant)
        self.name_states()

    def enhance(self, spec: torch.Tensor, farend: torch.Tensor | None, state: State) -> torch.Tensor:
        return complex_product(self.mask(spec, state), spec)

    def mask(self, spec: torch.Tensor, state: State) -> torch.Tensor:
        """The complex mask of a spectrum: (B, F, T, 2) -> (B, F, T, 2)."""
        x = spec.transpose(1, 2)  # (B, T, F, 2)
        x = x if self.input_ln is None else self.input_ln(x)
        skips = self.encoder(x.permute(0, 3, 1, 2), state)
        x = skips[-1].permute(0, 2, 3, 1)  # (B, T, F, C)
        for block in self.dprnns:
            x = block(x, state)
        return self.decoder(x.permute(0, 3, 1, 2), skips, state).permute(0, 3, 2, 1)


class Layers(nn.Module):
    """Convolutions, batch norms and PReLUs in three lists, as the PyTorch implementation names them."""

    def __init__(self, convs: list[nn.Module], variant: Variant, last: bool):
        """`last`: the last convolution gives the mask, so no PReLU follows it, and a norm in one variant only."""
        super().__init__()
        self.conv_list = nn.ModuleList(convs)
        normed = convs if variant.final_norm or not last else convs[:-1]
        self.bn_list = nn.ModuleList(nn.BatchNorm2d(conv.out_channels, variant.batch_norm_eps) for conv in normed)
        active = convs[:-1] if last else convs
        slopes = [conv.out_channels if variant.slope_per_channel else 1 for conv in active]
        self.act_list = nn.ModuleList(nn.PReLU(count) for count in slopes)

    def layer(self, i: int, x: torch.Tensor, state: State) -> torch.Tensor:
        x = self.conv_list[i](x, state, self.bn_list[i] if i < len(self.bn_list) else None)
        return self.act_list[i](x) if i < len(self.act_list) else x

    def fuse_norms(self) -> None:
        for i, norm in enumerate(self.bn_list):
            self.bn_list[i] = fuse_norm(self.conv_list[i], norm)


class Encoder(Layers):
    """(B, 2, T, F) -> the output of every layer."""

    def __init__(self, bins: int, channels, kernel_bins, strides, variant: Variant):
        convs = []
        for inputs, outputs, width, stride in zip([2, *channels], channels, kernel_bins, strides):
            convs.append(CausalConv2d(inputs, outputs, bins, (2, width), stride, margin(width, stride, variant)))
            bins = convs[-1].out_bins
        super().__init__(convs, variant, last=False)

    def forward(self, x: torch.Tensor, state: State) -> list[torch.Tensor]:
        outputs = []
        for i in range(len(self.conv_list)):
            x = self.layer(i, x, state)
            outputs.append(x)
        return outputs


class Decoder(Layers):
    """Undoes the encoder, deepest layer first, each with the skip connection of its counterpart."""

    def __init__(self, encoder: Encoder, variant: Variant):
        convs = []
        for conv in reversed(encoder.conv_list):
            width, stride = conv.kernel_size[1], conv.stride[1]
            below = margin(width, stride, variant)
            convs.append(
                CausalConvTranspose2d(2 * conv.out_channels, conv.in_channels, conv.bins, (2, width), stride, below)
            )
        super().__init__(convs, variant, last=True)
        self.skip_first = variant.skip_first

    def forward(self, x: torch.Tensor, skips: list[torch.Tensor], state: State) -> torch.Tensor:
        for i, skip in enumerate(reversed(skips)):
            x = self.layer(i, torch.cat([skip, x] if self.skip_first else [x, skip], dim=1), state)
        return x


def margin(width: int, stride: int, variant: Variant) -> int:
    """Bins by which a layer's kernel reaches below the lowest bin."""
    return width // 2 if variant.symmetric or stride == 1 else 0


class DualPathBlock(nn.Module):
    """A bidirectional LSTM along the bins of each frame, then an LSTM along the frames of each bin; (B, T, F, C)."""

    def __init__(self, channels: int, bins: int, variant: Variant):
        super().__init__()
        self.intra_rnn = LSTM(channels, channels // 2, variant.hard_sigmoid, bidirectional=True)
        self.intra_fc = nn.Linear(channels // 2 * 2, channels)
        self.intra_ln = nn.LayerNorm((bins, channels), eps=variant.layer_norm_eps)
        self.inter_rnn = CausalLSTM(channels, channels, bins, variant.hard_sigmoid)
        self.inter_fc = nn.Linear(channels, channels)
        self.inter_ln = nn.LayerNorm((bins, channels), eps=variant.layer_norm_eps)

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        y, _ = self.intra_rnn(x.flatten(0, 1))
        x = x + self.intra_ln(self.intra_fc(y).view_as(x))
        y = self.inter_rnn(x.transpose(1, 2), state).transpose(1, 2)
        return x + self.inter_ln(self.inter_fc(y))


class LSTM(nn.LSTM):
    """An LSTM over (batch, steps, features), with the gates of Keras' old default if `hard_sigmoid`."""

    def __init__(self, input_size: int, hidden_size: int, hard_sigmoid: bool, bidirectional: bool = False):
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.hard_sigmoid = hard_sigmoid

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None = None):
        if not self.hard_sigmoid:
            return super().forward(x, state)
        if state is None:
            zeros = x.new_zeros(1 + self.bidirectional, x.shape[0], self.hidden_size)
            state = zeros, zeros
        forward, hidden, cell = hard_lstm(x, state[0][0], state[1][0], self.all_weights[0])
        if not self.bidirectional:
            return forward, (hidden[None], cell[None])
        backward, *last = hard_lstm(x.flip(1), state[0][1], state[1][1], self.all_weights[1])
        state = torch.stack([hidden, last[0]]), torch.stack([cell, last[1]])
        return torch.cat([forward, backward.flip(1)], -1), state


class CausalLSTM(LSTM, Stateful):
    """An LSTM along frames, the same for every bin: (batch, bins, frames, features), state kept."""

    def __init__(self, input_size: int, hidden_size: int, bins: int, hard_sigmoid: bool):
        super().__init__(input_size, hidden_size, hard_sigmoid)
        self.bins = bins

    def state_shapes(self):
        return {"hidden": (self.bins, self.hidden_size), "cell": (self.bins, self.hidden_size)}

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        names = f"{self.key}.hidden", f"{self.key}.cell"
        past = tuple(state[name].flatten(0, 1)[None] for name in names)
        y, past = super().forward(x.flatten(0, 1), past)
        for name, value in zip(names, past):
            state[name] = value[0].reshape(*x.shape[:2], -1)
        return y.reshape(*x.shape[:2], *y.shape[1:])


def hard_lstm(x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, weights: list[torch.Tensor]):
    """Outputs, last hidden and last cell state of one direction; gates clip(0.2 x + 0.5, 0, 1) instead of sigmoids."""
    input_weight, hidden_weight, input_bias, hidden_bias = weights
    outputs = []
    for step in F.linear(x, input_weight, input_bias + hidden_bias).unbind(1):
        step = step + F.linear(hidden, hidden_weight)
        entry, keep, candidate, show = step.chunk(4, dim=-1)
        cell = gate(keep) * cell + gate(entry) * candidate.tanh()
        hidden = gate(show) * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs, 1), hidden, cell


def gate(x: torch.Tensor) -> torch.Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)
