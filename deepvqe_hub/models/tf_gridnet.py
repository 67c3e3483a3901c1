"""TF-GridNet: recurrent layers along bins and along frames, and attention between frames. It sees the whole signal.

Z.-Q. Wang et al., "TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation", IEEE/ACM TASLP 31, 2023,
arXiv:2211.12433. Names of the parts, and so of the weights, follow its implementation in ESPnet
(`espnet2/enh/separator/tfgridnet_separator.py`).

Shapes: B batch, D channels, T frames, F bins; feature maps are (B, D, T, F), spectra (B, F, T, 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models.causal import State


class TFGridNet(nn.Module):
    """The network on complex spectra; it maps spectrum to spectrum, without a mask.

    Args:
        bins: DFT bins of the spectrum <n_fft / 2 + 1>.
        channels: of the feature maps <D>.
        blocks: number of blocks <B>.
        hidden: units of each LSTM and direction <H>.
        heads: of the attention <L>; `channels` must be a multiple.
        attention_channels: of queries and keys, for each head <E>.
        kernel: neighbouring bins, or frames, that an LSTM takes in one step <I>.
        stride: bins, or frames, from step to step <J>.
        normalize: whether the spectrum is brought to the level of a signal of variance one, and back at the end. The
            network itself cannot hear the level; ESPnet does the same around it, with the waveform. Off by default, so
            that this class is exactly what ESPnet calls by its name from spectrum to spectrum.
    """

    streams = False
    farend = False

    def __init__(
        self,
        bins: int = 257,
        channels: int = 32,
        blocks: int = 6,
        hidden: int = 100,
        heads: int = 4,
        attention_channels: int = 1,
        kernel: int = 1,
        stride: int = 1,
        normalize: bool = False,
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads")
        if not 0 < stride <= kernel:
            raise ValueError(f"stride {stride} must lie between 1 and kernel {kernel}, or bins are skipped")
        self.bins, self.normalize = bins, normalize
        self.conv = nn.Sequential(nn.Conv2d(2, channels, 3, padding=1), nn.GroupNorm(1, channels))
        self.blocks = nn.ModuleList(
            GridBlock(bins, channels, hidden, heads, attention_channels, kernel, stride) for _ in range(blocks)
        )
        self.deconv = nn.ConvTranspose2d(channels, 2, 3, padding=1)

    def forward(
        self, spec: torch.Tensor, farend: torch.Tensor | None = None, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Enhance the spectrum of a whole signal.

        Args:
            spec: real, (batch, bins, frames, 2) with real and imaginary part last.
            farend: must be None; part of the signature that all networks share.
            state: must be None, likewise.

        Returns:
            The enhanced spectrum in the shape of `spec`, and an empty state.

        Raises:
            ValueError: for a far end, or for a state, which would mean that `spec` goes on where another ended.
        """
        if farend is not None:
            raise ValueError("TFGridNet has no far-end input; load an echo-cancelling model")
        if state is not None:
            raise ValueError(
                "TFGridNet looks at the whole signal and cannot go on from a state; "
                "load a causal model, such as deepvqe-s, for streaming"
            )
        level = self.level(spec) if self.normalize else 1.0
        x = self.conv((spec / level).to(spec.dtype).permute(0, 3, 2, 1))
        for block in self.blocks:
            x = block(x)
        return (self.deconv(x).permute(0, 3, 2, 1) * level).to(spec.dtype), {}

    def level(self, spec: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the signal of each spectrum, (B, 1, 1, 1), up to a factor that depends on the window.

        The factor is one for the square-root Hann window: the mean of |X|^2 is then the variance times half the DFT
        length. The floor keeps digital silence silent; it and squares of spectra are beyond float16.
        """
        wide = spec.float() if spec.dtype == torch.float16 else spec
        power = wide.square().sum(-1, keepdim=True).mean((1, 2, 3), keepdim=True)
        return (power / (self.bins - 1)).clamp(min=1e-16).sqrt()


class GridBlock(nn.Module):
    """(B, D, T, F) -> the same: LSTM along bins, LSTM along frames, attention between frames, each with a residual."""

    def __init__(
        self, bins: int, channels: int, hidden: int, heads: int, attention_channels: int, kernel: int, stride: int
    ):
        super().__init__()
        self.kernel, self.stride, self.heads = kernel, stride, heads
        for path in ("intra", "inter"):
            self.add_module(f"{path}_norm", ChannelNorm(channels))
            rnn = nn.LSTM(channels * kernel, hidden, batch_first=True, bidirectional=True)
            self.add_module(f"{path}_rnn", rnn)
            self.add_module(f"{path}_linear", nn.ConvTranspose1d(2 * hidden, channels, kernel, stride))
        for head in range(heads):
            for name, outputs in (("Q", attention_channels), ("K", attention_channels), ("V", channels // heads)):
                self.add_module(f"attn_conv_{name}_{head}", projection(channels, outputs, bins))
        self.attn_concat_proj = projection(channels, channels, bins)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames, bins = x.shape[2:]
        x = F.pad(x, (0, self.missing(bins), 0, self.missing(frames)))
        y = self.intra_norm(x).transpose(1, 2)  # (B, T, D, F)
        x = x + self.along_last(y, self.intra_rnn, self.intra_linear).transpose(1, 2)
        y = self.inter_norm(x).permute(0, 3, 1, 2)  # (B, F, D, T)
        x = x + self.along_last(y, self.inter_rnn, self.inter_linear).permute(0, 2, 3, 1)
        x = x[:, :, :frames, :bins]
        return x + self.attn_concat_proj(torch.cat([self.attend(x, head) for head in range(self.heads)], 1))

    def missing(self, size: int) -> int:
        """By how much an axis must grow for the LSTM's steps to cover it."""
        steps = -(-max(size - self.kernel, 0) // self.stride)
        return steps * self.stride + self.kernel - size

    def along_last(self, x: torch.Tensor, rnn: nn.LSTM, linear: nn.ConvTranspose1d) -> torch.Tensor:
        """Run an LSTM along the last axis of (B, N, D, S), `kernel` entries a step."""
        steps = x.flatten(0, 1).unfold(2, self.kernel, self.stride)  # (BN, D, steps, kernel)
        y, _ = rnn(steps.transpose(1, 2).flatten(2))
        if self.kernel == 1:  # the same as a matrix product, which is faster
            return F.linear(y, linear.weight[:, :, 0].T, linear.bias).transpose(1, 2).unflatten(0, x.shape[:2])
        return linear(y.transpose(1, 2)).view_as(x)

    def attend(self, x: torch.Tensor, head: int) -> torch.Tensor:
        """One head: each frame becomes a weighted mean of all frames; (B, D, T, F) -> (B, D / heads, T, F)."""
        query, key, value = (self.get_submodule(f"attn_conv_{name}_{head}")(x).transpose(1, 2) for name in "QKV")
        query, key = query.flatten(2), key.flatten(2)  # (B, T, EF)
        weights = (query @ key.transpose(1, 2) * query.shape[2] ** -0.5).softmax(-1)
        return (weights @ value.flatten(2)).view_as(value).transpose(1, 2)


def projection(in_channels: int, out_channels: int, bins: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.PReLU(), FrameNorm(out_channels, bins))


class ChannelNorm(nn.Module):
    """Layer norm over the channels at each frame and bin."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return standardize(x, (1,)) * self.gamma + self.beta


class FrameNorm(nn.Module):
    """Layer norm over the channels and bins of each frame."""

    def __init__(self, channels: int, bins: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, bins))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, bins))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return standardize(x, (1, 3)) * self.gamma + self.beta


def standardize(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)
