"""How the decoder's last feature map becomes the enhanced spectrum.

Shapes: B batch, T frames, F bins; masks are (B, channels, T, F), spectra (B, F, T, 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models.causal import State, Stateful, complex_product


class Mask(nn.Module):
    """A mask of ``channels`` channels at each frame and bin: (B, channels, T, F) applied to a spectrum (B, F, T, 2)."""

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
    """

    channels = 27
    identity = 7  # the present bin's weight on the first root, one

    def state_shapes(self):
        return {"past": (2, 2, self.bins)}

    def forward(self, mask: torch.Tensor, spec: torch.Tensor, state: State) -> torch.Tensor:
        frames = spec.shape[2]
        x = self.with_past(spec.permute(0, 3, 2, 1), state)
        x = F.pad(x, (1, 1))
        taps = [x[:, :, m : m + frames, n : n + self.bins] for m in range(3) for n in range(3)]
        # The cube roots of one are applied after the sum over taps: 3 real sums instead of 9 complex weights.
        # Unbound, since the gradient of an index is a tensor of zeros as large as the mask, 27 times over.
        weights = mask.unsqueeze(2).unbind(1)
        part = [sum(weight * tap for weight, tap in zip(weights[r : r + 9], taps)) for r in (0, 9, 18)]
        even, odd = part[0] - (part[1] + part[2]) / 2, (part[1] - part[2]) * (3**0.5 / 2)
        return torch.stack([even[:, 0] - odd[:, 1], even[:, 1] + odd[:, 0]], -1).transpose(1, 2)


class ComplexMask(Mask):
    """A plain complex mask: the two channels are real and imaginary part of a factor for each frame and bin."""

    channels = 2
    identity = 0

    def forward(self, mask: torch.Tensor, spec: torch.Tensor, state: State) -> torch.Tensor:
        return complex_product(mask.permute(0, 3, 2, 1), spec)


MASKS = {"ccm": ComplexConvolvingMask, "complex": ComplexMask}
