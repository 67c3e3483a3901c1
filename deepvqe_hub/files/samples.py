"""Arrays of samples: from integers to floating point and back, and one signal to fit another."""

from __future__ import annotations

import numpy as np

from deepvqe_hub.limits import LOUDEST, check_loudness


def as_numpy(wave) -> np.ndarray:
    """An array, or a tensor on any device as one; of bfloat16, which numpy has not, as float32."""
    if not hasattr(wave, "detach"):
        return np.asarray(wave)
    wave = wave.detach().cpu()
    return (wave.float() if str(wave.dtype) == "torch.bfloat16" else wave).numpy()


def chunk_rows(chunk, farend, batch_size: int, takes_farend: bool, loudest: float = LOUDEST) -> list[np.ndarray]:
    """What goes into a live stream, each (batch_size, time) in float32: the chunk, and the far end where it takes one.

    Raises:
        ValueError: for integers, samples that are no sound, or shapes that do not fit.
    """

    def rows(wave, name: str) -> np.ndarray:
        wave = as_numpy(wave)
        if not np.issubdtype(wave.dtype, np.floating):
            raise ValueError(f"{name} has dtype {wave.dtype}; convert it to floating point within ±1")
        if wave.ndim not in (1, 2) or len(np.atleast_2d(wave)) != batch_size:
            raise ValueError(f"{name} has shape {wave.shape}; this stream takes ({batch_size}, time)")
        check_loudness(wave, name, loudest)
        return np.atleast_2d(wave).astype(np.float32, copy=False)

    waves = [rows(chunk, "chunk")]
    if takes_farend:  # a far end may come and go: where it is not given it is silent
        waves.append(np.zeros_like(waves[0]) if farend is None else rows(farend, "farend"))
        if waves[1].shape != waves[0].shape:
            shapes = f"farend chunk {tuple(np.shape(farend))} and microphone chunk {tuple(np.shape(chunk))}"
            raise ValueError(f"{shapes} differ in shape")
    return waves


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
