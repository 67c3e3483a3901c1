"""Enhancement of sound files: `enhance_file`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepvqe_hub.atomic import check_free
from deepvqe_hub.files.audio import Recording, Source
from deepvqe_hub.files.blocks import FarEnd, check_model, dry_share, enhanced_blocks, resampled, warn_of_length
from deepvqe_hub.files.output import written

if TYPE_CHECKING:
    from deepvqe_hub.protocols import Model


def enhance_file(
    model: Model,
    source: Source,
    output: str | os.PathLike[str],
    farend: Source | None = None,
    *,
    mix: float = 1.0,
    attenuation_limit_db: float | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Enhance a sound file of any length, in constant memory if the network streams.

    The output has the length, sample rate, channels, sample format (such as 24-bit) and tags of the source and is
    aligned with it; its container follows from its extension. It appears under its name when it is complete, or not at
    all. The model hears the audio at its own rate: content above `model.sample_rate / 2` is removed.

    Args:
        model: from `deepvqe_hub.load`.
        source: what to enhance: path, bytes of a file, or a binary file object, in any format that libsndfile reads.
            Channels are enhanced one by one.
        output: path; its folder is made if need be. The extension is one that libsndfile writes, such as .wav, .flac,
            .ogg, .opus or .mp3; without one the source's format is kept.
        farend: loudspeaker signal for echo-cancelling models, like `source`, at any rate; with another number of
            channels it is averaged. Padded with silence or cut to the length of `source`, with a warning.
        mix: 1 gives the enhanced signal, 0 the input, values between a blend.
        attenuation_limit_db: remove at most this many dB, 0 or more; None is no limit.
        overwrite: replace an existing output.
        progress: called now and then with the seconds of audio done since the last call.

    Raises:
        FileNotFoundError, FileExistsError, IsADirectoryError: for a missing source, an existing output, and an output
            that ends in a slash.
        AudioFileError: (a ValueError) for files that are empty, truncated, no audio or hold NaN, and for formats that
            cannot be written.
        ValueError: for settings out of range, or a far end given to a model without one.
        TypeError: for a `model` that is none, such as its name, and for arrays in place of files: see `enhance`.

    Example:
        >>> deepvqe_hub.enhance_file(model, "noisy.mp3", "clean.wav")  # doctest: +SKIP
    """
    dry = dry_share(mix, attenuation_limit_db)
    model = check_model(model, farend)
    if os.fspath(output).endswith(("/", os.sep)):
        raise IsADirectoryError(f"{output} names a folder; add the name of a file")
    output = Path(output)
    check_free(output, overwrite=overwrite)
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(source))
        far = None if farend is None else _far_end(stack.enter_context(Recording(farend)), recording, model.sample_rate)
        with written(output, recording.info, overwrite=overwrite) as write:
            wave = recording.blocks()
            for block in enhanced_blocks(model, wave, recording.sample_rate, recording.channels, far, dry):
                write(block)
                if progress is not None:
                    progress(len(block) / recording.sample_rate)
            stack.close()  # before the output takes its name, which may be the source's


def enhance_to_mono(
    model: Model, source: Source, output: str | os.PathLike[str] | None = None, farend: Source | None = None
) -> np.ndarray:
    """Enhance a sound file mixed down to mono, at the model's rate.

    Args:
        model, source: as for `enhance_file`.
        output: path for the result as 16-bit audio, written as by `enhance_file`, replaced if it is there.
        farend: loudspeaker signal, averaged to mono.

    Returns:
        The enhanced signal, (time,), float32.

    Raises:
        FileNotFoundError, AudioFileError, ValueError: as `enhance_file`.
    """
    model = check_model(model, farend)
    rate, parts = model.sample_rate, []
    with ExitStack() as writing, ExitStack() as reading:
        recording = reading.enter_context(Recording(source))
        far = None
        if farend is not None:
            far = _far_end(reading.enter_context(Recording(farend)), recording, rate, channels=1)
        write = None
        if output is not None:
            info = replace(recording.info, sample_rate=rate, channels=1, subtype="PCM_16")
            write = writing.enter_context(written(Path(output), info, overwrite=True))
        for block in enhanced_blocks(model, _mono(recording, rate), rate, 1, far):
            parts.append(block[:, 0])
            if write is not None:
                write(block)
    return np.concatenate(parts)


def _mono(recording: Recording, rate: int) -> Iterator[np.ndarray]:
    """The mean of the channels at another rate, (time, 1)."""
    taken = given = 0

    def mean() -> Iterator[np.ndarray]:
        nonlocal taken
        for block in recording.blocks():
            taken += len(block)
            yield block.mean(1, keepdims=True)

    for block in resampled(mean(), recording.sample_rate, rate, 1):
        block = block[: math.ceil(taken * rate / recording.sample_rate) - given]
        given += len(block)
        yield block


def _far_end(farend: Recording, recording: Recording, rate: int, channels: int | None = None) -> FarEnd:
    longer = farend.duration - recording.duration
    if abs(longer) > 1 / rate:
        warn_of_length(farend.name, longer, recording.name, stacklevel=3)
    return FarEnd(
        farend.blocks(),
        farend.sample_rate,
        farend.channels,
        target_rate=rate,
        target_channels=channels or recording.channels,
    )
