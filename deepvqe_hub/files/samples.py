"""Arrays of samples: from integers to floating point and back, and one signal to fit another."""

from __future__ import annotations

import numpy as np


def as_numpy(wave) -> np.ndarray:
    """An array, or a tensor on any device as one; of bfloat16, which numpy has not, as float32."""
    if not hasattr(wave, "detach"):
        return np.asarray(wave)
    wave = wave.detach().cpu()
    return (wave.float() if str(wave.dtype) == "torch.bfloat16" else wave).numpy()


def to_float(samples: np.ndarray) -> np.ndarray:
    """Samples of any type as float32; the range of an integer type becomes ±1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 1 << (8 * samples.dtype.itemsize - 1)
    centre = half if samples.dtype.kind == "u" else 0
    return ((samples.astype(np.float64) - centre) / half).astype(np.float32)


def from_float(wave: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The reverse of `to_float`."""
    if dtype.kind == "f":
        return wave.astype(dtype)
    bits = 8 * dtype.itemsize
    centre = 1 << (bits - 1) if dtype.kind == "u" else 0
    return (levels(wave, bits) + centre).astype(dtype)


def fitted(farend: np.ndarray, length: int, channels: int) -> np.ndarray:
    """A far end for a microphone signal: (time, any channels) -> (length, channels), in its own type.

    As many channels go pairwise, one goes to all, others are averaged. It is cut, or silence comes after its end.
    """
    farend = farend[:length]
    if farend.shape[1] != channels:
        farend = farend.mean(1, keepdims=True).repeat(channels, axis=1)
    return np.pad(farend, ((0, length - len(farend)), (0, 0)))


def levels(wave: np.ndarray, bits: int) -> np.ndarray:
    """Signed integers of `bits` bits, as float64: rounded, and clipped where they would wrap."""
    half = 1 << (bits - 1)
    return np.clip(np.rint(wave.astype(np.float64) * half), -half, half - 1)
