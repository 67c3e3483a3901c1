"""Training losses on waveforms.

The spectral part compares power-law compressed spectra, magnitude and complex (A. Ephrat et al., "Looking to Listen",
2018; S. Braun and I. Tashev, "A consolidated view of loss functions for supervised deep learning-based speech
enhancement", 2021); the waveform part is the scale-invariant SDR (J. Le Roux et al., "SDR - half-baked or well done?", 2019).
"""

from __future__ import annotations

import torch
from torch import nn

from deepvqe_hub.stft import STFT


class SpeechLoss(nn.Module):
    """complex_weight * complex + magnitude_weight * magnitude - sisdr_weight * SI-SDR.

    Args:
        compression: exponent <c> on magnitudes.
        complex_weight, magnitude_weight: weights of the mean squared errors of compressed spectra.
        sisdr_weight: weight per dB of SI-SDR; items whose target is silent have no such term.
        level_floor_db: SI-SDR counts only above this level of the target relative to full scale.
        stft: transform for the spectral part.

    Shapes: estimate and target (batch, samples) -> scalar.
    """

    def __init__(
        self,
        compression: float = 0.3,
        complex_weight: float = 30.0,
        magnitude_weight: float = 70.0,
        sisdr_weight: float = 0.1,
        level_floor_db: float = -60.0,
        stft: STFT | None = None,
    ):
        super().__init__()
        self.compression = compression
        self.complex_weight, self.magnitude_weight, self.sisdr_weight = (
            complex_weight,
            magnitude_weight,
            sisdr_weight,
        )
        self.floor = 10 ** (level_floor_db / 10)
        self.stft = stft or STFT()

    def forward(self, estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        spectra = self.stft.analyse(torch.cat([estimate, target]).float())
        power = spectra.square().sum(-1) + 1e-12
        magnitude = power.pow(self.compression / 2)
        spectra = spectra * (magnitude * power.rsqrt())[..., None]
        (estimate_spec, target_spec), (estimate_mag, target_mag) = spectra.chunk(2), magnitude.chunk(2)
        loss = self.magnitude_weight * (estimate_mag - target_mag).square().mean()
        loss = loss + self.complex_weight * (estimate_spec - target_spec).square().mean()
        if self.sisdr_weight:
            audible = target.square().mean(-1) > self.floor
            loss = loss - self.sisdr_weight * (si_sdr(estimate, target) * audible).mean()
        return loss


def si_sdr(estimate: torch.Tensor, target: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio in dB: (…, samples) -> (…). Bounded at ±80 dB by ``eps``."""
    energy = target.square().sum(-1, keepdim=True)
    projection = (estimate * target).sum(-1, keepdim=True) / (energy + eps) * target
    noise = (estimate - projection).square().sum(-1)
    signal = projection.square().sum(-1)
    return 10 * torch.log10((signal + eps * energy[..., 0] + 1e-12) / (noise + eps * energy[..., 0] + 1e-12))
