"""Sound files written in blocks, each whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from deepvqe_hub.atomic import atomic_write
from deepvqe_hub.files.audio import AudioFileError, AudioInfo, native
from deepvqe_hub.files.samples import levels

# Extensions that are not the name of a libsndfile format: the format, and its subtype where the extension fixes it.
_ALIASES = {
    "AIF": ("AIFF", None),
    "OGA": ("OGG", None),
    "OPUS": ("OGG", "OPUS"),
    "SND": ("AU", None),
    "WAVE": ("WAV", None),
}
_FLOATING = {"FLOAT": 32, "DOUBLE": 64}
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_PRECISE = {*_FLOATING, "PCM_24", "PCM_32", "ALAC_20", "ALAC_24", "ALAC_32"}  # more than 16 bits
_WRITE_FRAMES = 1 << 14  # at a time: libsndfile's Vorbis encoder overflows its stack on long blocks


def named_format(path: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Container and sample format as far as the extension of `path` says them, or None.

    Raises:
        AudioFileError: for an extension of no format that can be written.
    """
    extension = Path(path).suffix[1:].upper()
    container, subtype = _ALIASES.get(extension, (extension or None, None))
    if extension and (container not in soundfile.available_formats() or container == "RAW"):
        raise AudioFileError(
            f"{path}: cannot write .{extension.lower()}; use .wav, .flac, .ogg, .opus, .mp3 or another of libsndfile's"
        )
    return container, subtype


def output_format(path: str | os.PathLike[str], like: AudioInfo) -> tuple[str, str]:
    """Container and sample format for `path`: by its extension, otherwise as close to `like` as the container can.

    Returns:
        libsndfile's names, such as ("WAV", "PCM_24").
    """
    container, subtype = named_format(path)
    container = container or like.container
    if container == "WAV" and like.container in ("WAVEX", "RF64"):  # kinds of WAV that share its extension
        container = like.container
    if subtype is None:
        codec = like.subtype not in _BITS | _FLOATING  # and so bound to its container
        kept = [] if codec and container != like.container else [like.subtype]
        precise = ["PCM_24"] if like.subtype in _PRECISE else []
        choices = [*kept, *precise, soundfile.default_subtype(container)]
        subtype = next(choice for choice in choices if soundfile.check_format(container, choice))
    bits = (_BITS | _FLOATING).get(subtype, 16)
    if container in ("WAV", "WAVEX") and like.frames * like.channels * bits // 8 > 0xFFF00000:
        container = "RF64"  # a WAV file ends at 4 GB
    return container, subtype


@contextmanager
def written(path: Path, like: AudioInfo, *, overwrite: bool) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a sound file laid out and tagged as `like`; gives a function that appends blocks, float (time, channels).

    Integer formats are rounded and clipped to ±1.
    """
    container, subtype = output_format(path, like)
    with atomic_write(path, overwrite=overwrite) as part:
        try:
            file = soundfile.SoundFile(native(part), "w", like.sample_rate, like.channels, subtype, format=container)
        except (soundfile.SoundFileError, ValueError) as error:
            reason = getattr(error, "error_string", str(error)).rstrip(".")
            raise AudioFileError(
                f"{path}: cannot write {like.channels} channels at {like.sample_rate} Hz as {container}/{subtype} "
                f"({reason}); choose another format, such as .wav"
            ) from error

        def write(block: np.ndarray) -> None:
            samples = block if subtype in _FLOATING else _clipped(block, _BITS.get(subtype))
            try:
                for start in range(0, len(samples), _WRITE_FRAMES):
                    file.write(samples[start : start + _WRITE_FRAMES])
            except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
                raise OSError(f"{path}: writing failed; is the disk full? {error}") from error

        _tag(file, like.tags)
        with file:
            yield write
        try:
            _check_room(part)
        except OSError as error:
            raise OSError(f"{path}: writing failed; is the disk full? {error}") from error


def _tag(file: soundfile.SoundFile, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        if name == "software" or (file.format == "MP3" and not value.isascii()):  # there libsndfile garbles it
            continue
        with suppress(soundfile.SoundFileError):  # a container without tags
            setattr(file, name, value)


def _check_room(part: Path) -> None:
    """Raise OSError on a full disk: encoders say nothing when their last bytes, written on closing, do not fit.

    They write what does fit, which leaves no room for one more.
    """
    with open(part, "ab", buffering=0) as file:
        size = file.tell()
        try:
            file.write(b"\0")
        finally:
            file.truncate(size)


def _clipped(block: np.ndarray, bits: int | None) -> np.ndarray:
    """Within ±1; for integer formats rounded here, in the upper bits of int32, as libsndfile truncates."""
    if bits is None:
        return np.clip(block, -1, 1)
    return levels(block, bits).astype(np.int32) << (32 - bits)
