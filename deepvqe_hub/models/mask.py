"""How the decoder's last feature map becomes the enhanced spectrum.

Shapes: B batch, T frames, F bins; masks are (B, channels, T, F), spectra (B, F, T, 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models.causal import State, Stateful, complex_product


class Mask(nn.Module):
    """A mask of `channels` channels at each frame and bin: (B, channels, T, F) applied to a spectrum (B, F, T, 2)."""

    channels: int
    identity: int
    """The channel whose one, among zeros, leaves the spectrum as it is."""

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins

    def start_as_identity(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        """Let an untrained network pass its input through, by the bias of the convolution that gives the mask."""
        nn.init.zeros_(conv.bias)
        conv.bias.data[self.identity :: self.channels] = 1.0  # in both sub-pixel groups, where there are two


class ComplexConvolvingMask(Mask, Stateful):
    """The complex convolving mask (paper, section 2.4): each bin becomes a weighted sum of its past neighbourhood.

    27 real channels are 3 parts of 9 complex weights along the cube roots of one, for 3 frames (t-2, t-1, t) and 3 bins
    (f-1, f, f+1): out(t, f) = sum_mn H_mn(t, f) X(t-2+m, f-1+n). No weights of its own.

    It also takes 18 channels, the real parts of the 9 weights and then the imaginary parts; see `combine_roots`.
    """

    channels = 27
    identity = 7  # the present bin's weight on the first root, one
    roots = ((1, -0.5, -0.5), (0, 3**0.5 / 2, -(3**0.5) / 2))
    """Real and imaginary parts of the cube roots of one."""

    def state_shapes(self):
        return {"past": (2, 2, self.bins)}

    def forward(self, mask: torch.Tensor, spec: torch.Tensor, state: State) -> torch.Tensor:
        frames = spec.shape[2]
        x = self.with_past(spec.permute(0, 3, 2, 1).contiguous(), state)
        x = F.pad(x, (1, 1))
        taps = [x[:, :, m : m + frames, n : n + self.bins] for m in range(3) for n in range(3)]
        # The cube roots of one are applied after the sum over taps: 3 real sums instead of 9 complex weights.
        # Unbound, since the gradient of an index is a tensor of zeros as large as the mask, 27 times over.
        mask = mask if mask.stride(-1) == 1 else mask.contiguous()  # each of its channels is gone through by itself
        weights = mask.unsqueeze(2).unbind(1)
        parts = [sum(w * tap for w, tap in zip(weights[r : r + 9], taps)) for r in range(0, len(weights), 9)]
        if len(parts) == 3:
            parts = [parts[0] - (parts[1] + parts[2]) / 2, (parts[1] - parts[2]) * (3**0.5 / 2)]
        real, imaginary = parts
        return torch.stack([real[:, 0] - imaginary[:, 1], real[:, 1] + imaginary[:, 0]], -1).transpose(1, 2)

    def combine_roots(self, conv: nn.Conv2d) -> None:
        """Let `conv`, whose channels are this mask's, once or for several groups of bins, give the 18 for good.

        The same function, as nothing stands between the two that is not linear, with a third less to compute.
        """
        for name in ("weight", "bias"):
            value = getattr(conv, name).detach()
            wide = value.to(torch.promote_types(value.dtype, torch.float32)).unflatten(0, (-1, 3, self.channels // 3))
            wide = torch.einsum("pr,gr...->gp...", wide.new_tensor(self.roots), wide).flatten(0, 2)
            setattr(conv, name, nn.Parameter(wide.to(value.dtype), False))
        conv.out_channels = len(conv.bias)


class ComplexMask(Mask):
    """A plain complex mask: the two channels are real and imaginary part of a factor for each frame and bin."""

    channels = 2
    identity = 0

    def forward(self, mask: torch.Tensor, spec: torch.Tensor, state: State) -> torch.Tensor:
        return complex_product(mask.permute(0, 3, 2, 1), spec)


MASKS = {"ccm": ComplexConvolvingMask, "complex": ComplexMask}
