"""DeepVQE: one network for echo, noise and reverberation.

E. Indenbom et al., "DeepVQE: Real Time Deep Voice Quality Enhancement for Joint Acoustic Echo Cancellation, Noise
Suppression and Dereverberation", Interspeech 2023, arXiv:2306.03177. Names of the parts, and so of the weights, follow
the public implementation of its noise-suppressing half by Xiaobin Rong (github.com/Xiaobin-Rong/deepvqe).

Shapes: B batch, C channels, T frames, F bins; feature maps are (B, C, T, F), spectra (B, F, T, 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models import winograd
from deepvqe_hub.models.align import AlignBlock
from deepvqe_hub.models.causal import (
    CausalConv2d,
    CausalConvTranspose2d,
    CausalGRU,
    CausalNetwork,
    State,
    SubpixelConv2d,
)
from deepvqe_hub.models.fusing import fuse_norm
from deepvqe_hub.models.mask import MASKS, ComplexConvolvingMask

UPSAMPLING = ("interleave", "concat", "transposed")


class DeepVQE(CausalNetwork):
    """The network on complex spectra; defaults are the paper's noise suppressor.

    Args:
        bins: DFT bins of the spectrum <n_fft / 2 + 1>.
        channels: output channels of the microphone encoder's blocks.
        decoder_channels: output channels of the decoder's blocks, deepest first, without the last, the mask's.
        encoder_residual: whether each encoder block ends in a residual block.
        decoder_residual: the same for the decoder, deepest first.
        hidden: units of the GRU.
        compression: exponent <c> of the input's power-law compression, |X|^c with the phase kept; 1 is none.
        upsampling: sub-pixel convolution in the order "interleave" (paper) or "concat" (reference implementation), or
            "transposed": a transposed convolution of the same kernel, which has half the weights.
        mask: "ccm", the complex convolving mask, or "complex", one complex factor for each frame and bin.
        mask_activation: batch norm and ELU on the mask, as the reference implementation has and the paper has not.
        farend_channels: output channels of the far-end encoder's two blocks; None for a network without a far end.
        align: whether the far end is aligned with the microphone; if not, its features are joined as they come.
        align_hidden: similarity channels <h> of the alignment.
        dmax: how many echo delays are told apart, 0 to dmax - 1 frames.
    """

    def __init__(
        self,
        bins: int = 257,
        channels: tuple[int, ...] = (64, 128, 128, 128, 128),
        decoder_channels: tuple[int, ...] = (128, 128, 128, 64),
        encoder_residual: tuple[bool, ...] = (True, True, True, True, True),
        decoder_residual: tuple[bool, ...] = (True, True, True, True, True),
        hidden: int = 576,
        compression: float = 0.3,
        upsampling: str = "interleave",
        mask: str = "ccm",
        mask_activation: bool = False,
        farend_channels: tuple[int, int] | None = None,
        align: bool = True,
        align_hidden: int = 32,
        dmax: int = 63,
    ):
        super().__init__()
        depth = len(channels)
        for name, value, length in (
            ("decoder_channels", decoder_channels, depth - 1),
            ("encoder_residual", encoder_residual, depth),
            ("decoder_residual", decoder_residual, depth),
        ):
            if len(value) != length:
                raise ValueError(f"{name} has {len(value)} entries; {depth} encoder blocks need {length}")
        if not 0 < compression <= 1:
            raise ValueError(f"compression must lie above 0 and be at most 1, not {compression}")
        if mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}, not {mask!r}")
        if upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLING)}, not {upsampling!r}")
        if farend_channels is not None and (depth < 3 or len(farend_channels) != 2):
            raise ValueError("a far end needs two farend_channels and at least three encoder blocks")

        sizes = [bins]  # bins before and after each encoder block
        for _ in channels:
            sizes.append((sizes[-1] - 1) // 2 + 1)

        self.farend = farend_channels is not None
        self.finds_delay = self.farend and align
        self.bins = bins
        self.depth = depth
        self.compression = compression
        inputs = [2, *channels[:-1]]
        if self.farend:
            self.farblock1 = EncoderBlock(2, farend_channels[0], sizes[0], encoder_residual[0])
            self.farblock2 = EncoderBlock(*farend_channels, sizes[1], encoder_residual[1])
            self.align = None
            if align:
                self.align = AlignBlock(channels[1], farend_channels[1], align_hidden, sizes[2], dmax)
            inputs[2] += farend_channels[1]  # the third block sees the aligned far end beside the microphone
        for i in range(depth):
            block = EncoderBlock(inputs[i], channels[i], sizes[i], encoder_residual[i])
            self.add_module(f"enblock{i + 1}", block)

        self.bottle = Bottleneck(channels[-1], sizes[-1], hidden)

        inputs = [channels[-1], *decoder_channels]
        outputs = [*decoder_channels, MASKS[mask].channels]
        for j in range(depth):
            i = depth - j
            block = DecoderBlock(
                channels[i - 1],
                inputs[j],
                outputs[j],
                bins=sizes[i],
                out_bins=sizes[i - 1],
                residual=decoder_residual[j],
                upsampling=upsampling,
                activation=mask_activation or i > 1,
            )
            self.add_module(f"deblock{i}", block)
        self.ccm = MASKS[mask](bins)
        if not mask_activation:  # an untrained network passes its input through
            self.ccm.start_as_identity(self.deblock1.upsampling_conv)
        self.name_states()

    @property
    def encoder_blocks(self) -> list[nn.Module]:
        """The microphone encoder's blocks, `enblock1` first."""
        return [self.get_submodule(f"enblock{i + 1}") for i in range(self.depth)]

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        """The decoder's blocks, deepest first, `deblock1` last."""
        return [self.get_submodule(f"deblock{i}") for i in range(self.depth, 0, -1)]

    def enhance(self, spec: torch.Tensor, farend: torch.Tensor | None, state: State) -> torch.Tensor:
        skips = self.encode(spec, farend, state)
        x = self.bottle(skips[-1], state)
        for block, skip in zip(self.decoder_blocks, reversed(skips)):
            x = block(x, skip, state)
        return self.ccm(x, spec, state)

    def encode(self, spec: torch.Tensor, farend: torch.Tensor | None, state: State) -> list[torch.Tensor]:
        """Outputs of the encoder blocks, with the aligned far end joined before the third."""
        x = compress(spec, self.compression)
        skips = []
        for i, block in enumerate(self.encoder_blocks):
            if i == 2 and self.farend:
                far = self.encode_farend(spec, farend, state)
                if self.align is not None:
                    far, _ = self.align(x, far, state)
                x = torch.cat([x, far], dim=1)
            x = block(x, state)
            skips.append(x)
        return skips

    def encode_farend(self, spec: torch.Tensor, farend: torch.Tensor | None, state: State) -> torch.Tensor:
        x = compress(torch.zeros_like(spec) if farend is None else farend, self.compression)
        return self.farblock2(self.farblock1(x, state), state)

    def for_inference(self) -> DeepVQE:
        network = self.folded()
        last, conv = network.deblock1, network.deblock1.upsampling_conv
        if isinstance(network.ccm, ComplexConvolvingMask) and not last.activation and isinstance(conv, nn.Conv2d):
            network.ccm.combine_roots(conv)
        convs = [part for part in network.modules() if isinstance(part, CausalConv2d)]
        if all(part.weight.device.type == "cpu" and part.in_channels < winograd.WIDE for part in convs):
            network.to(memory_format=torch.channels_last)  # a tenth faster where all maps are narrow
        return network

    def delay(self, spec: torch.Tensor, farend: torch.Tensor, state: State | None = None) -> torch.Tensor:
        """Probability of each echo delay for each frame of two spectra, or of the next frames of them.

        Args:
            spec, farend: (B, F, T, 2), as for `forward`.
            state: of `initial_state`; its entries go on to those of the next call, in place. None at the start.

        Returns:
            (B, T, dmax), which sums to one; entry d stands for a delay of d frames.

        Raises:
            ValueError: without a far end, or without alignment.
        """
        if not self.farend:
            raise ValueError("this DeepVQE has no far end, so it estimates no delay; load an echo-cancelling model")
        if self.align is None:
            raise ValueError("this DeepVQE was built without alignment, so it estimates no delay")
        if state is None:
            state = self.initial_state(spec.shape[0], device=spec.device, dtype=spec.dtype)
        x = self.enblock2(self.enblock1(compress(spec, self.compression), state), state)
        _, weights = self.align(x, self.encode_farend(spec, farend, state), state)
        return weights.flip(-1)


def compress(spec: torch.Tensor, exponent: float) -> torch.Tensor:
    """Power-law compressed spectrum: (B, F, T, 2) -> (B, 2, T, F), magnitude |X|^exponent, phase kept.

    Squares of quiet and of loud spectra are beyond float16, so they are taken in float32.
    """
    wide = spec.float() if spec.dtype == torch.float16 else spec
    power = wide.square().sum(-1, keepdim=True) + 1e-12  # the floor bounds the gradient at silence
    return (wide * power.pow((exponent - 1) / 2)).to(spec.dtype).permute(0, 3, 2, 1).contiguous()


class ResidualBlock(nn.Module):
    """x + ELU(BN(conv(x)))."""

    def __init__(self, channels: int, bins: int):
        super().__init__()
        self.conv = CausalConv2d(channels, channels, bins)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        return F.elu(self.conv(x, state, self.bn), inplace=True) + x

    def fuse_norms(self) -> None:
        self.bn = fuse_norm(self.conv, self.bn)


class EncoderBlock(nn.Module):
    """ELU(BN(conv(x))), halving the bins, then a residual block."""

    def __init__(self, in_channels: int, out_channels: int, bins: int, residual: bool):
        super().__init__()
        self.conv = CausalConv2d(in_channels, out_channels, bins, stride=2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.resblock = ResidualBlock(out_channels, self.conv.out_bins) if residual else None

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        x = F.elu(self.conv(x, state, self.bn), inplace=True)
        return x if self.resblock is None else self.resblock(x, state)

    def fuse_norms(self) -> None:
        self.bn = fuse_norm(self.conv, self.bn)


class Bottleneck(nn.Module):
    """A GRU over frames on all channels and bins of a frame at once (channel-major), and a linear layer back."""

    def __init__(self, channels: int, bins: int, hidden: int):
        super().__init__()
        self.channels, self.bins = channels, bins
        self.gru = CausalGRU(channels * bins, hidden)
        self.fc = nn.Linear(hidden, channels * bins)

    def forward(self, x: torch.Tensor, state: State) -> torch.Tensor:
        y = self.fc(self.gru(x.transpose(1, 2).flatten(2), state))
        return y.unflatten(2, (self.channels, self.bins)).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Skip connection through a 1x1 convolution, residual block, convolution to twice the bins, BN and ELU."""

    def __init__(
        self,
        skip_channels: int,
        in_channels: int,
        out_channels: int,
        *,
        bins: int,
        out_bins: int,
        residual: bool,
        upsampling: str,
        activation: bool,
    ):
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, in_channels, 1)
        self.resblock = ResidualBlock(in_channels, bins) if residual else None
        if upsampling == "transposed":
            self.deconv = CausalConvTranspose2d(in_channels, out_channels, out_bins)
        else:
            self.deconv = SubpixelConv2d(in_channels, out_channels, bins, out_bins, upsampling)
        self.bn = nn.BatchNorm2d(out_channels) if activation else None
        self.activation = activation

    def forward(self, x: torch.Tensor, skip: torch.Tensor, state: State) -> torch.Tensor:
        x = x + self.skip_conv(skip)
        if self.resblock is not None:
            x = self.resblock(x, state)
        x = self.deconv(x, state, self.bn)
        return F.elu(x, inplace=True) if self.activation else x

    @property
    def upsampling_conv(self) -> CausalConv2d | CausalConvTranspose2d:
        return self.deconv.conv if isinstance(self.deconv, SubpixelConv2d) else self.deconv

    def fuse_norms(self) -> None:
        self.bn = fuse_norm(self.upsampling_conv, self.bn)
