"""The second stage: batches of raw ingredients become mixtures, on whatever device the batch is on.

Nothing here draws random numbers; `mix` is a function of its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepvqe_hub.data.codec import transcode
from deepvqe_hub.data.rooms import DIRECT_INDEX
from deepvqe_hub.fourier import fft_length

EARLY_SECONDS = 0.05
"""Reflections up to this long after the direct path belong to the target."""
SHAPE_HZ = tuple(50.0 * 2 ** (k / 2) for k in range(16))
"""Frequencies at which spectral shapes are given, half an octave apart; constant beyond the ends."""

SILENCE = 1e-10
"""Power (-100 dBFS) below which a signal has no level that could be set."""


def active_power(signal: Tensor, sample_rate: int = 16000) -> Tensor:
    """Mean power while the signal is active, `(..., time) -> (...)`.

    Frames of 20 ms count as active when they are less than 15.9 dB below the active level, found by
    iteration: the margin of ITU-T P.56 on frames instead of an envelope. Stationary noise gets its plain
    mean power. Silence gives 0.

    Raises:
        ValueError: the signal is shorter than a frame.
    """
    length = sample_rate // 50
    if signal.shape[-1] < length:
        raise ValueError(f"active_power needs at least 20 ms ({length} samples), got {signal.shape[-1]}")
    frames = signal[..., : signal.shape[-1] // length * length].unflatten(-1, (-1, length))
    power = frames.square().mean(-1)
    level = power.mean(-1)
    for _ in range(5):
        active = (power >= level[..., None] * 10**-1.59).to(power.dtype)
        level = (power * active).sum(-1) / active.sum(-1).clamp(min=1)
    return level


def magnitude(shape_db: Tensor, cutoff_hz: Tensor, bins: int, sample_rate: int = 16000) -> Tensor:
    """Zero-phase gain at FFT bins, `(batch, len(SHAPE_HZ)), (batch,) -> (batch, bins)`.

    Args:
        shape_db: gain in dB at `SHAPE_HZ`, interpolated over log frequency.
        cutoff_hz: low-pass: a raised cosine falls from 1 to 0 over the 8 % above this frequency. Values of
            half the sample rate or more change nothing.
        bins: bins from 0 to half the sample rate.
    """
    hertz = torch.linspace(0, sample_rate / 2, bins, device=shape_db.device)
    place = (hertz.clamp(min=SHAPE_HZ[0]) / SHAPE_HZ[0]).log2() * 2
    place = place.clamp(max=len(SHAPE_HZ) - 1)
    low = place.floor().clamp(max=len(SHAPE_HZ) - 2).long()
    left = shape_db[:, low]
    gain_db = left + (shape_db[:, low + 1] - left) * (place - low)
    ramp = (hertz / cutoff_hz[:, None] - 1) / 0.08
    ramp = torch.where((cutoff_hz >= sample_rate / 2)[:, None], 0.0, ramp.clamp(0, 1))
    return torch.exp(gain_db * (2.302585093 / 20)) * (0.5 + 0.5 * torch.cos(ramp * torch.pi))


def early(response: Tensor, sample_rate: int = 16000) -> Tensor:
    """The part of room responses `(..., samples)` up to 50 ms after the direct path; zero after it."""
    keep = DIRECT_INDEX + round(EARLY_SECONDS * sample_rate)
    return torch.nn.functional.pad(response[..., :keep], (0, max(0, response.shape[-1] - keep)))


class Scene:
    """Frequency-domain convolution of one batch: every signal and response is transformed once.

    Args:
        samples: length of the signals.
        response_samples: length of the room responses.
        sample_rate: in Hz.
    """

    def __init__(self, samples: int, response_samples: int, sample_rate: int = 16000):
        self.samples, self.sample_rate = samples, sample_rate
        self.size = fft_length(samples + response_samples)
        self.bins = self.size // 2 + 1

    def spectrum(self, signal: Tensor) -> Tensor:
        """`(..., time) -> (..., bins)`, complex."""
        return torch.fft.rfft(signal, self.size)

    def wave(self, spectrum: Tensor) -> Tensor:
        """`(..., bins) -> (..., samples)`, shifted so that the direct path of a room has no delay."""
        return torch.fft.irfft(spectrum, self.size)[..., DIRECT_INDEX : DIRECT_INDEX + self.samples]

    def curve(self, shape_db: Tensor, cutoff_hz: Tensor) -> Tensor:
        """`magnitude` at the bins of this scene."""
        return magnitude(shape_db, cutoff_hz, self.bins, self.sample_rate)


def add_noises(noise: Tensor, relative_db: Tensor) -> Tensor:
    """Sum noises at given relative levels, `(batch, n, time), (batch, n) -> (batch, time)`.

    Each is brought to unit power first; -inf dB leaves one out.
    """
    power = noise.square().mean(-1)
    gain = torch.where(power > SILENCE, power.clamp(min=SILENCE).rsqrt(), 0.0)
    gain = gain * 10 ** (relative_db / 20)
    return torch.einsum("bnt,bn->bt", noise, gain)


def ratio_gain(reference: Tensor, power: Tensor, ratio_db: Tensor) -> Tensor:
    """Factor that puts a signal of power `power` `ratio_db` below one of power `reference`, all `(batch,)`.

    1 where the reference is silent, so that the signal stays what it was; 0 where the signal is.
    """
    gain = (reference / power.clamp(min=SILENCE)).sqrt() * 10 ** (-ratio_db / 20)
    gain = torch.where(reference > SILENCE, gain, torch.ones_like(gain))
    return torch.where(power > SILENCE, gain, torch.zeros_like(gain))


def level_gain(signal: Tensor, level_dbfs: Tensor, sample_rate: int = 16000) -> Tensor:
    """Factor `(batch,)` that sets the active level of `(batch, time)` in dB below full scale (square wave).

    Lowered where the peak would pass 0.99. 1 for silence.
    """
    power = active_power(signal, sample_rate)
    gain = (10 ** (level_dbfs / 10) / power.clamp(min=SILENCE)).sqrt()
    peak = signal.abs().amax(-1)
    gain = torch.minimum(gain, 0.99 / peak.clamp(min=1e-9))
    return torch.where(power > SILENCE, gain, torch.ones_like(gain))


def capture(
    mixture: Tensor, target: Tensor, batch: dict[str, Tensor], sample_rate: int = 16000
) -> tuple[Tensor, Tensor]:
    """What the microphone and its converter do to the sum: level, clipping, drop-outs.

    Args:
        mixture, target: `(batch, time)`; both get the same gain.
        batch: `level_dbfs`, `clip` (fraction of the peak at which the mixture is cut, 1: nowhere) and
            `mute` `(batch, 2)`, the first and last sample + 1 of digital silence in both; with `codec`
            (see `codec.CODECS`) the mixture is coded and decoded at the end.

    Returns:
        Mixture and target, each `(batch, time)`.
    """
    gain = level_gain(mixture, batch["level_dbfs"], sample_rate)[:, None]
    mixture, target = mixture * gain, target * gain
    limit = mixture.abs().amax(-1, keepdim=True) * batch["clip"][:, None]
    mixture = torch.maximum(torch.minimum(mixture, limit), -limit)
    time = torch.arange(mixture.shape[-1], device=mixture.device)
    heard = ((time < batch["mute"][:, :1]) | (time >= batch["mute"][:, 1:])).to(mixture.dtype)
    mixture = mixture * heard
    if "codec" in batch:
        mixture = transcode(mixture, batch["codec"], sample_rate)
    return mixture, target * heard


def near_end(batch: dict[str, Tensor], scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    """Near-end talker, its early part (the target) and noise at the microphone, each `(batch, time)`.

    Channel 0 of `room` is the talker's and the last one the noise's. The noise is not scaled yet.
    """
    rate = scene.sample_rate
    response = batch["room"][:, (0, -1)]
    talker = scene.spectrum(batch["speech"] * batch["speech_gain"][:, None])
    talker = talker * scene.curve(batch["speech_shape"], batch["speech_cutoff"])
    noise = scene.spectrum(add_noises(batch["noise"], batch["noise_db"]))
    noise = noise * scene.curve(batch["noise_shape"], batch["noise_cutoff"])
    responses = scene.spectrum(torch.stack([response[:, 0], response[:, 1], early(response[:, 0], rate)], 1))
    sources = torch.stack([talker * responses[:, 0], noise * responses[:, 1], talker * responses[:, 2]], 1)
    speech, noise, target = scene.wave(sources).unbind(1)
    return speech, target, noise


def mix(batch: dict[str, Tensor], sample_rate: int = 16000) -> tuple[Tensor, Tensor]:
    """Mix a batch of `NoisySpeech` items.

    Args:
        batch: items collated by a `DataLoader`, on any device.
        sample_rate: in Hz, that of the pools.

    Returns:
        `(noisy, clean)`, float32 `(batch, time)`, time-aligned, |noisy| <= 0.99. The target is the
        talker with the first 50 ms of the room, in the band and at the level that the input has.
        The noise is `snr_db` below the reverberant speech, both measured as `active_power`.
    """
    scene = Scene(batch["speech"].shape[-1], batch["room"].shape[-1], sample_rate)
    speech, target, noise = near_end(batch, scene)
    powers = active_power(speech, sample_rate), active_power(noise, sample_rate)
    gain = ratio_gain(*powers, batch["snr_db"]) * batch["noise_gain"]
    return capture(speech + noise * gain[:, None], target, batch, sample_rate)
