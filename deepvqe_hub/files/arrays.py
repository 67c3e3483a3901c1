"""Enhancement of audio in memory: `enhance`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from deepvqe_hub.files.audio import block_frames
from deepvqe_hub.files.blocks import FarEnd, check_model, dry_share, enhanced_blocks, warn_of_length
from deepvqe_hub.files.samples import as_numpy, from_float, to_float
from deepvqe_hub.limits import MAX_CHANNELS, check_layout, check_loudness, check_rate

if TYPE_CHECKING:
    from deepvqe_hub.protocols import Model

Audio = TypeVar("Audio", bound=np.ndarray | torch.Tensor)


def enhance(
    model: Model,
    audio: Audio,
    sample_rate: int,
    farend: np.ndarray | torch.Tensor | None = None,
    *,
    mix: float = 1.0,
    attenuation_limit_db: float | None = None,
) -> Audio:
    """Enhance audio in memory, whatever its rate and type.

    The model hears the audio at its own rate: content above `model.sample_rate / 2` is removed.

    Args:
        model: from `deepvqe_hub.load`.
        audio: a numpy array as soundfile gives it, (time,) or (time, channels), or a tensor, (..., time). Integers span
            their whole range (uint8 is centred on 128, as in WAV files), floating point nominally ±1. Channels are
            enhanced one by one.
        sample_rate: of `audio` and `farend`, in Hz.
        farend: loudspeaker signal for echo-cancelling models, in the layout of `audio`; with another number of
            channels it is averaged. Padded with silence or cut to the length of `audio`, with a warning.
        mix: 1 gives the enhanced signal, 0 the input, values between a blend.
        attenuation_limit_db: remove at most this many dB, 0 or more; None is no limit.

    Returns:
        The enhanced audio: type, shape, rate, and device of `audio`, aligned with it. Integers are clipped.

    Raises:
        ValueError: for NaN, Inf or numbers beyond 1e30, types and shapes that are no audio, settings out of range, or
            a far end given to a model without one.
        TypeError: for a `model` that is none, such as its name.

    Example:
        >>> samples, rate = soundfile.read("noisy.wav", dtype="int16")  # doctest: +SKIP
        >>> clean = deepvqe_hub.enhance(model, samples, rate)  # doctest: +SKIP
    """
    dry = dry_share(mix, attenuation_limit_db)
    check_rate(sample_rate)
    model = check_model(model, farend)
    samples = _samples(audio, "audio")
    frames, channels = samples.shape
    result = np.empty_like(samples)
    if samples.size == 0:
        return _restored(result, audio)

    far = None
    if farend is not None:
        loudspeaker = _samples(farend, "farend")
        if len(loudspeaker) != frames:
            warn_of_length("farend", (len(loudspeaker) - frames) / sample_rate, "audio", stacklevel=2)
        far = FarEnd(
            _blocks(loudspeaker, sample_rate),
            sample_rate,
            loudspeaker.shape[1],
            target_rate=model.sample_rate,
            target_channels=channels,
        )
    done = 0
    for block in enhanced_blocks(model, _blocks(samples, sample_rate), sample_rate, channels, far, dry):
        result[done : done + len(block)] = from_float(block, result.dtype)
        done += len(block)
    return _restored(result, audio)


def _samples(audio: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    """`audio` as numpy, (time, channels), in its own type; or an error that names it."""
    if isinstance(audio, torch.Tensor):
        check_layout(audio, name)
        samples = as_numpy(audio)
        if samples.ndim > 0:
            samples = samples.reshape(math.prod(samples.shape[:-1]), samples.shape[-1]).T
    else:
        samples = np.asarray(audio)
        samples = samples[:, None] if samples.ndim == 1 else samples
        if samples.ndim == 2 and samples.shape[1] > max(MAX_CHANNELS, len(samples)):
            raise ValueError(
                f"{name} has shape {samples.shape}, which is {samples.shape[1]} channels: "
                "numpy audio is (time, channels), as soundfile reads it; transpose it, or pass a tensor (..., time)"
            )
    if samples.ndim != 2:
        raise ValueError(f"{name} has shape {samples.shape}; numpy audio is (time,) or (time, channels)")
    if samples.dtype.kind == "f":
        check_loudness(samples, name)
    elif samples.dtype.kind not in "iu" or samples.dtype.itemsize > 4:
        raise ValueError(f"{name} has type {samples.dtype}; audio is floating point, or integers of 8, 16 or 32 bits")
    return samples


def _restored(samples: np.ndarray, like: Audio) -> Audio:
    """(time, channels) in the kind and shape of what the caller gave."""
    if isinstance(like, torch.Tensor):
        return torch.from_numpy(np.ascontiguousarray(samples.T)).reshape(like.shape).to(like)
    return samples.reshape(np.shape(like))


def _blocks(samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    step = block_frames(sample_rate, samples.shape[1])
    for start in range(0, len(samples), step):
        yield to_float(samples[start : start + step])
