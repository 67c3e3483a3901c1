"""What every measure needs: checked one-dimensional signals at 16 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

import numpy as np

from deepvqe_hub.files.samples import as_numpy
from deepvqe_hub.limits import check_rate

if TYPE_CHECKING:
    import torch

Signal = Union[np.ndarray, "torch.Tensor"]

SAMPLE_RATE = 16000  # Hz; every measure of this package works at this rate
SILENCE = 1e-5  # peak, -100 dBFS: below half a step of 16-bit audio


class UnscorableError(ValueError):
    """A signal that a measure is not defined for: silent, not finite or too short. The text says why."""


def as_array(wav: Signal) -> np.ndarray:
    """A tensor (any device, with or without gradient) or array_like as float64 numpy array.

    Raises:
        ValueError: for integers, whose full scale is not ±1.
    """
    wav = as_numpy(wav)
    if wav.dtype.kind != "f":
        raise ValueError(f"the samples are {wav.dtype}; convert them to floating point within ±1")
    return wav.astype(np.float64)


def resample(wav: np.ndarray, rate: int, to: int = SAMPLE_RATE) -> np.ndarray:
    """Resample the last axis from `rate` to `to` Hz (soxr, very high quality)."""
    if rate == to or wav.shape[-1] == 0:
        return wav
    import soxr

    return np.ascontiguousarray(soxr.resample(wav.T, rate, to, quality="VHQ").T)


def signal(wav: Signal, sample_rate: int, name: str, *, sound: bool = True, seconds: float = 0.0) -> np.ndarray:
    """One checked signal at 16 kHz.

    Args:
        wav: `(time,)`, tensor or array.
        sample_rate: its rate in Hz.
        name: what to call it in an error.
        sound: whether silence (peak below -100 dBFS) makes it unscorable.
        seconds: the shortest length that can be scored.

    Returns:
        float64 `(time,)`.

    Raises:
        ValueError: `wav` has more or less than one dimension, or `sample_rate` is no rate of a recording.
        UnscorableError: empty, not finite, too short or silent.
    """
    check_rate(sample_rate)
    wav = as_array(wav)
    if wav.ndim != 1:
        raise ValueError(f"the {name} must be one channel, shape (time,); got {tuple(wav.shape)}")
    if wav.size == 0:
        raise UnscorableError(f"the {name} is empty")
    if not np.isfinite(wav).all():
        raise UnscorableError(f"the {name} has NaN or infinite samples")
    if wav.size < seconds * sample_rate:
        raise UnscorableError(f"the {name} lasts {wav.size / sample_rate:.3g} s, shorter than {seconds:g} s")
    if sound and np.abs(wav).max() < SILENCE:
        raise UnscorableError(f"the {name} is silent")
    return resample(wav, sample_rate)


def pair(
    enhanced: Signal, reference: Signal, sample_rate: int, *, seconds: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """`signal` for an enhanced signal and its clean reference, which must be equally long."""
    enhanced = signal(enhanced, sample_rate, "enhanced signal", seconds=seconds)
    reference = signal(reference, sample_rate, "reference", seconds=seconds)
    if enhanced.size != reference.size:
        raise ValueError(
            f"enhanced signal and reference differ in length: {enhanced.size} and {reference.size} samples"
        )
    return enhanced, reference


def decibels(numerator: float, denominator: float) -> float:
    """`10 log10` of a ratio of energies, held within plus/minus 100 dB.

    Without the limit a single perfect (or perfectly silent) file makes the mean of a whole test set infinite.
    """
    limit = 100.0
    bound = 10 ** (limit / 10)
    if numerator >= bound * denominator:
        return limit
    if denominator >= bound * numerator:
        return -limit
    return float(10 * np.log10(numerator / denominator))
