"""Limits and sizes that every way into a model shares. Needs neither torch nor, until an array is checked, numpy."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

LOUDEST = 1e30  # magnitude of a sample: near the end of single precision a network's state becomes NaN for good
LOUDEST_HALF = 100.0  # the same for a network in float16
LOUD = 8.0  # beyond it samples are most likely integers that were not scaled to ±1
MIN_RATE = 1000  # Hz
MAX_MODEL_RATE = 384_000  # Hz, at which a model may work
MAX_LIVE_RATE = 768_000  # Hz, of a sound device
MAX_RATE = 10_000_000  # Hz, of a recording
BLOCK_SECONDS = 2  # of a long signal in memory as features at a time; longer blocks fall out of a CPU's caches
MAX_THREADS = 1024  # with very many, libraries crash
MAX_CHANNELS = 64  # of a recording; more side by side with fewer samples are time and channels mixed up


def check_format_version(version: object, latest: int, where: object, error: type[Exception] = ValueError) -> None:
    """Raise `error`, which calls it `where`, for what a later release has written; what is no number is let through."""
    if isinstance(version, Real) and version > latest:
        raise error(
            f"{where} has format version {version}, this release reads up to {latest}: "
            "pip install --upgrade deepvqe-hub"
        )


def check_rate(sample_rate: object) -> None:
    """Refuse a sample rate that no recording has: a number of kHz, a word, seconds."""
    if not (isinstance(sample_rate, Real) and MIN_RATE <= sample_rate <= MAX_RATE):
        raise ValueError(f"sample_rate must be from {MIN_RATE} to {MAX_RATE} Hz, not {sample_rate!r}")


def check_loudness(wave: np.ndarray, name: str, loudest: float = LOUDEST) -> None:
    """`check_peak` of an array in floating point."""
    import numpy as np

    check_peak(float(np.abs(wave).max(initial=0)), name, loudest, "numpy.nan_to_num")


def check_peak(peak: float, name: str, loudest: float, remedy: str) -> None:
    """Raise a ValueError for the largest magnitude of samples that are no sound; warn of one that is unlikely.

    Args:
        peak: the magnitude; NaN where there is one among the samples.
        name: what the error calls the samples.
        loudest: what the magnitude must not reach.
        remedy: a function that replaces NaN.
    """
    if not peak < loudest:
        raise ValueError(
            f"{name} contains NaN, Inf or a number beyond {loudest:g}; repair the recording, for example with {remedy}"
        )
    if peak > LOUD:  # here and without a name, so that it is said once and not for every block
        text = f"audio goes beyond ±{LOUD:g}, and models expect it within ±1; divide 16-bit samples by 32768"
        warnings.warn(text, stacklevel=1)


def check_farend(model: Any, farend: object) -> None:
    """Refuse a far end, if there is one, for a model or stream that takes none."""
    if farend is not None and not model.farend:
        raise ValueError("this model has no far-end input; load an echo-cancelling one, such as deepvqe-aec-s")


def check_same_shape(noisy: np.ndarray | torch.Tensor, farend: np.ndarray | torch.Tensor | None) -> None:
    """Refuse a far end, if there is one, that is not as many signals of as many samples as `noisy`."""
    if farend is not None and farend.shape != noisy.shape:
        # In SpeechBrain's interfaces lengths come second.
        likely = farend.ndim == 1 and farend.shape == noisy.shape[:-1]
        hint = "; if these are lengths, give them by name: model(noisy, lengths=lengths)" if likely else ""
        raise ValueError(f"farend {tuple(farend.shape)} and noisy {tuple(noisy.shape)} differ in shape{hint}")


def ends_of(lengths: np.ndarray | torch.Tensor | Sequence[float], noisy: np.ndarray | torch.Tensor) -> list[int]:
    """Relative lengths of the signals of a padded batch (batch, time), in samples.

    Raises:
        ValueError: for lengths that do not fit the batch, lie outside (0, 1], or are in half precision.
    """
    import numpy as np

    lengths = lengths if hasattr(lengths, "dtype") else np.asarray(lengths)
    if noisy.ndim != 2 or lengths.shape != noisy.shape[:1]:
        # In SpeechBrain's interfaces lengths come second, where a model takes the far end.
        hint = "; if this is a far end, give it by name: farend=" if lengths.shape == noisy.shape else ""
        shapes = f"lengths {tuple(lengths.shape)} and noisy {tuple(noisy.shape)}"
        raise ValueError(f"{shapes} do not fit; they must be (batch,) and (batch, time){hint}")
    if lengths.dtype.itemsize < 4 and "float" in str(lengths.dtype):
        raise ValueError(
            f"lengths in {lengths.dtype} are too coarse to tell samples apart, and would cut signals short; "
            "compute them in float32"
        )
    if not ((lengths > 0) & (lengths <= 1)).all():
        raise ValueError("lengths are relative: greater than 0, at most 1")
    return [round(length * noisy.shape[1]) for length in lengths.tolist()]


def check_layout(wave: np.ndarray | torch.Tensor, name: str) -> None:
    """Refuse (..., time, channels), which would be thousands of signals of two samples."""
    if wave.ndim > 1 and 0 < wave.shape[-1] <= MAX_CHANNELS < wave.shape[-2]:
        raise ValueError(
            f"{name} has shape {tuple(wave.shape)}, which is {wave.shape[-2]} signals of {wave.shape[-1]} samples; "
            "time is the last dimension: transpose what soundfile reads, (time, channels)"
        )
