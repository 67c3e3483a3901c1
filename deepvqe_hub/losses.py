"""Training losses on waveforms.

The spectral part compares power-law compressed spectra, magnitude and complex (A. Ephrat et al., "Looking to Listen at
the Cocktail Party", 2018; S. Braun and I. Tashev, "A consolidated view of loss functions for supervised deep
learning-based speech enhancement", 2021). The asymmetric part counts only magnitude that is missing, so that speech is
not suppressed with the noise (S. E. Eskimez et al., "Personalized speech enhancement: new models and comprehensive
evaluation", 2022). The waveform part is the scale-invariant SDR (J. Le Roux et al., "SDR - half-baked or well done?",
2019); where the target is silent it is not defined, and the level of what is left can take its place (after S. Wisdom
et al., "What's all the fuss about free universal sound separation data?", 2021). The perceptual parts, PESQ, STOI and
DNSMOS, stand in `deepvqe_hub.perceptual`.
"""

from __future__ import annotations

import torch
from torch import nn

from deepvqe_hub.perceptual import p808_loss, pesq_loss, stoi_loss
from deepvqe_hub.stft import STFT

PERCEPTUAL = {"pesq": pesq_loss, "stoi": stoi_loss, "p808": p808_loss}
"""What makes the terms by what listeners hear, each with a weight of its own."""


class SpeechLoss(nn.Module):
    """Weighted sum of eight terms; those beyond the first two are not computed with a weight of 0.

    Args:
        compression: exponent <c> on magnitudes.
        complex_weight: weight of the mean squared error of compressed spectra, |X|^c with the phase kept.
        magnitude_weight: weight of the mean squared error of compressed magnitudes.
        sisdr_weight: weight of a dB of SI-SDR. Items whose target is silent have no such term.
        asymmetric_weight: weight of the mean square of compressed magnitude that the estimate lacks.
        silence_weight: weight of a dB of residual, above `residual_floor_db`, of items whose target is silent:
            far-end single talk, and noise alone. The compressed spectra hardly tell -50 from -70 dB; this term does.
        pesq_weight: weight of the disturbance of PESQ, from 0 to about 6; needs the package torch-pesq. Items whose
            target is silent have neither this nor the next two terms.
        stoi_weight: weight of a point of STOI, from 0 to 1; needs the package torch-stoi, and 0.5 s of signal.
        p808_weight: weight of a point of DNSMOS P.808, from 1 to 5; needs the packages speechmos and onnx.
        level_floor_db: a target below this level relative to full scale (mean power) is silent.
        residual_floor_db: level below which a residual is good enough.
        stft: transform for the spectral part; by default windows of 512 samples, whatever the rate.
        sample_rate: in Hz, for PESQ, STOI and DNSMOS alone; other rates than theirs are resampled.

    Shapes: estimate and target (batch, samples) -> scalar.

    Raises:
        ImportError: a package that a term needs is missing.
        ValueError: by calls, for signals of other shapes.
    """

    def __init__(
        self,
        compression: float = 0.3,
        complex_weight: float = 30.0,
        magnitude_weight: float = 70.0,
        sisdr_weight: float = 0.5,
        asymmetric_weight: float = 0.0,
        silence_weight: float = 0.0,
        pesq_weight: float = 0.0,
        stoi_weight: float = 0.0,
        p808_weight: float = 0.0,
        level_floor_db: float = -60.0,
        residual_floor_db: float = -80.0,
        stft: STFT | None = None,
        sample_rate: int = 16000,
    ):
        super().__init__()
        self.compression = compression
        self.complex_weight, self.magnitude_weight = complex_weight, magnitude_weight
        self.sisdr_weight, self.asymmetric_weight = sisdr_weight, asymmetric_weight
        self.silence_weight = silence_weight
        self.floor, self.residual_floor = 10 ** (level_floor_db / 10), 10 ** (residual_floor_db / 10)
        self.stft = stft or STFT()
        self.pesq_weight, self.stoi_weight, self.p808_weight = pesq_weight, stoi_weight, p808_weight
        for name, weight in self.perceptual_weights().items():
            if weight:
                self.add_module(name, PERCEPTUAL[name](sample_rate))

    def forward(self, estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if estimate.dim() != 2 or estimate.shape != target.shape:
            shapes = f"{tuple(estimate.shape)} and {tuple(target.shape)}"
            raise ValueError(f"estimate and target must both be (batch, samples), of one shape; got {shapes}")
        # Squares of quiet signals, and the numbers that bound ratios of them, are below float16.
        estimate, target = (w.float() if w.dtype in (torch.float16, torch.bfloat16) else w for w in (estimate, target))
        spectra = self.stft.analyse(torch.cat([estimate, target]).float())
        power = spectra.square().sum(-1) + 1e-12
        magnitude = power.pow(self.compression / 2)
        spectra = spectra * (magnitude * power.rsqrt())[..., None]
        (estimate_spec, target_spec), (estimate_mag, target_mag) = spectra.chunk(2), magnitude.chunk(2)
        loss = self.magnitude_weight * (estimate_mag - target_mag).square().mean()
        loss = loss + self.complex_weight * (estimate_spec - target_spec).square().mean()
        if self.asymmetric_weight:
            loss = loss + self.asymmetric_weight * (target_mag - estimate_mag).relu().square().mean()
        audible = target.square().mean(-1) > self.floor
        if self.sisdr_weight:
            loss = loss - self.sisdr_weight * (si_sdr(estimate, target) * audible).mean()
        if self.silence_weight:
            loss = loss + self.silence_weight * (self.residual_db(estimate) * ~audible).mean()
        if any(self.perceptual_weights().values()):
            loss = loss + (self.perceptual(estimate, target, audible) * audible).mean()
        return loss

    def perceptual(self, estimate: torch.Tensor, target: torch.Tensor, audible: torch.Tensor) -> torch.Tensor:
        """What listeners would mind in each item: (batch, samples) -> (batch,); means nothing where all is silent."""
        # A tone takes the place of silence, as shapes must not depend on numbers, for which a GPU is waited for.
        tone = 0.1 * torch.arange(target.shape[-1], device=target.device, dtype=torch.float32).sin()
        estimate, target = (torch.where(audible[:, None], wave.float(), tone) for wave in (estimate, target))
        loss = target.new_zeros(len(target))
        for name, weight in self.perceptual_weights().items():
            if weight:
                loss = loss + weight * self.get_submodule(name)(estimate, target)
        return loss

    def perceptual_weights(self) -> dict[str, float]:
        """The weights of the terms by what listeners hear, by the names in `PERCEPTUAL`."""
        return {name: getattr(self, f"{name}_weight") for name in PERCEPTUAL}

    def residual_db(self, estimate: torch.Tensor) -> torch.Tensor:
        """Level above the floor in dB, from 0: (…, samples) -> (…)."""
        return 10 * torch.log10(1 + estimate.square().mean(-1) / self.residual_floor)


def si_sdr(estimate: torch.Tensor, target: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, with gradients: (…, samples) -> (…).

    Not `deepvqe_hub.metrics.si_sdr` to the last digit: that one subtracts the means first, holds what it gives
    within ±100 dB and refuses silence. Here means stay, so that an offset costs, and silence has a value; `eps`
    bounds it, at ±80 dB for an estimate as loud as the target, and each dB louder widens the bounds by one dB.
    """
    energy = target.square().sum(-1, keepdim=True)
    projection = (estimate * target).sum(-1, keepdim=True) / (energy + eps) * target
    noise = (estimate - projection).square().sum(-1)
    signal = projection.square().sum(-1)
    return 10 * torch.log10((signal + eps * energy[..., 0] + 1e-12) / (noise + eps * energy[..., 0] + 1e-12))
