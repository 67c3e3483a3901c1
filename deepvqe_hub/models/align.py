"""Soft alignment of the loudspeaker signal with the microphone by cross-attention over delays.

DeepVQE paper, section 2.2: queries from the microphone and keys from the far end are 1x1 projections; their product
over bins is a similarity for each channel, frame and delay; a small convolution smooths it; its softmax over delays
weighs the delayed far-end features.

The delayed copies of the far end, dmax times the features, are never built: similarities are a band of a matrix
product, and the weighted sum is a product with a banded matrix. Memory grows with frames * dmax and cost does, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from deepvqe_hub.models.causal import State, Stateful

BLOCK = 64  # frames per matrix product; the part of it that lies off the band costs (BLOCK - 1) / dmax


class AlignBlock(Stateful):
    """Aligns far-end features with microphone features.

    Args:
        mic_channels, far_channels: channels of the two feature maps <C>.
        hidden: similarity channels <h>.
        bins: bins of both maps <F>.
        dmax: number of delays, from 0 to dmax - 1 frames <D>.

    Shapes: (B, C_mic, T, F) and (B, C_far, T, F) -> aligned (B, C_far, T, F) and weights (B, T, D), which sum to one
    over delays; index D - 1 is no delay, index 0 the longest.
    """

    def __init__(self, mic_channels: int, far_channels: int, hidden: int, bins: int, dmax: int):
        super().__init__()
        self.far_channels, self.hidden, self.bins, self.dmax = far_channels, hidden, bins, dmax
        self.pconv_mic = nn.Conv2d(mic_channels, hidden, 1)
        self.pconv_ref = nn.Conv2d(far_channels, hidden, 1)
        # (frames, delays); causal along frames through the state, so no padding there
        self.conv = nn.Conv2d(hidden, 1, (5, 3), padding=(0, 1))

    def state_shapes(self):
        return {
            "keys": (self.hidden, self.dmax - 1, self.bins),
            "features": (self.far_channels, self.dmax - 1, self.bins),
            "similarity": (self.hidden, 4, self.dmax),
        }

    def forward(self, mic: torch.Tensor, far: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        queries = self.pconv_mic(mic) * self.bins**-0.5
        keys = self.with_past(self.pconv_ref(far), state, "keys")
        features = self.with_past(far, state, "features")
        similarity = [
            band(
                queries[:, :, t : t + BLOCK] @ keys[:, :, t : t + BLOCK + self.dmax - 1].transpose(2, 3),
                self.dmax,
            )
            for t in range(0, mic.shape[2], BLOCK)
        ]
        similarity = self.with_past(torch.cat(similarity, dim=2), state, "similarity")
        weights = self.conv(similarity).softmax(dim=-1)  # (B, 1, T, D)
        aligned = [
            unband(weights[:, :, t : t + BLOCK]) @ features[:, :, t : t + BLOCK + self.dmax - 1]
            for t in range(0, mic.shape[2], BLOCK)
        ]
        return torch.cat(aligned, dim=2), weights[:, 0]


def band(matrix: torch.Tensor, width: int) -> torch.Tensor:
    """(…, T, T + width - 1) -> (…, T, width) with out[t, d] = matrix[t, t + d].

    In memory the wanted elements of consecutive rows lie one row plus one apart, so rows longer by one line them up.
    """
    rows, columns = matrix.shape[-2:]
    return F.pad(matrix.flatten(-2), (0, rows)).unflatten(-1, (rows, columns + 1))[..., :width]


def unband(weights: torch.Tensor) -> torch.Tensor:
    """The inverse of `band`: (…, T, width) -> (…, T, T + width - 1), zero off the band."""
    rows, width = weights.shape[-2:]
    return F.pad(weights, (0, rows)).flatten(-2)[..., :-rows].unflatten(-1, (rows, rows + width - 1))
