"""Sound files: read in blocks with errors that name the file, and written whole or not at all."""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from deepvqe_hub.files.blocks import block_frames
from deepvqe_hub.files.samples import levels

Source = str | os.PathLike | bytes | BinaryIO

# Extensions that are not the name of a libsndfile format: the format, and its subtype where the extension fixes it.
_ALIASES = {
    "AIF": ("AIFF", None),
    "OGA": ("OGG", None),
    "OPUS": ("OGG", "OPUS"),
    "SND": ("AU", None),
    "WAVE": ("WAV", None),
}
_FLOATING = {"FLOAT", "DOUBLE"}
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_MAX_FRAMES = 1 << 48  # libsndfile gives the largest number there is for a length that it does not know
_WRITE_FRAMES = 1 << 14  # at a time: libsndfile's Vorbis encoder overflows its stack on long blocks


class AudioFileError(ValueError):
    """A sound file that cannot be read or written; the message names it."""


@dataclass(frozen=True)
class Layout:
    """What the samples of a sound file are.

    Attributes:
        sample_rate, channels, frames: of the audio; ``frames`` may be an estimate.
        container, subtype: the file's format and that of its samples, as libsndfile calls them.
    """

    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str


class _Sequential(soundfile.SoundFile):
    """Read from start to end: soundfile otherwise seeks after each read, which a FLAC file without length refuses."""

    def seekable(self) -> bool:
        return False


class Recording:
    """A sound file open for reading.

    Args:
        source: path, bytes of a file, or a binary file object that can seek (it stays open).

    Attributes:
        name: for messages.
        layout: of the file.
        sample_rate, channels, frames: of the layout.

    Raises:
        FileNotFoundError: for a path that is not there.
        AudioFileError: for anything else that is no readable audio: empty, truncated, of another kind.
    """

    def __init__(self, source: Source):
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            size = _size(Path(source))
            handle = self.name
        else:
            handle = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
            given = getattr(source, "name", None)
            self.name = given if isinstance(given, str) else f"<{type(source).__name__}>"
            size = handle.seek(0, os.SEEK_END)
            handle.seek(0)
        if size == 0:
            raise AudioFileError(f"{self.name}: empty file (0 bytes)")
        try:
            self.file = _Sequential(handle)
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless formats
            reason = getattr(error, "error_string", str(error)).rstrip(".")
            raise AudioFileError(
                f"{self.name}: not an audio file that libsndfile reads ({reason}); if it plays elsewhere, convert it, "
                "for example with ffmpeg -i IN out.wav"
            ) from error
        self.sample_rate, self.channels, self.frames = self.file.samplerate, self.file.channels, self.file.frames
        try:
            if self.frames > _MAX_FRAMES:
                self._count(handle)
            self._check_whole()
        except AudioFileError:
            self.close()
            raise
        self.layout = Layout(self.sample_rate, self.channels, self.frames, self.file.format, self.file.subtype)

    def _count(self, handle: str | BinaryIO) -> None:
        """Find the length of a file whose header does not say it, as of FLAC written into a pipe: by reading it."""
        self.frames = sum(len(block) for block in self._read(self.frames))
        self.close()
        if not isinstance(handle, str):
            handle.seek(0)
        self.file = _Sequential(handle)

    def _check_whole(self) -> None:
        # libsndfile reads what is left of a cut file without a word, but notes in its log what the header promised.
        note = re.search(
            r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", self.file.extra_info, re.M
        )
        promised, there = map(int, note.groups()) if note else (0, 0)
        # Programs that write into a pipe put a very large number for the length they do not know yet.
        if there < promised < 0x7FFF0000:
            raise self._truncated(f"{there:,} of {promised:,} bytes")
        if self.frames == 0:
            raise AudioFileError(f"{self.name}: holds no samples")

    def _truncated(self, what: str) -> AudioFileError:
        return AudioFileError(
            f"{self.name}: truncated, {what} are there; to use what is left, rewrite it, for example with "
            "ffmpeg -i IN out.wav"
        )

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.frames / self.sample_rate

    def blocks(self, seconds: float | None = None) -> Iterator[np.ndarray]:
        """The audio, or its first ``seconds``, as float32 blocks (time, channels) of a few seconds each."""
        wanted = self.frames if seconds is None else min(self.frames, round(seconds * self.sample_rate))
        done = 0
        for block in self._read(wanted):
            if not np.isfinite(block).all():
                where = (done + int(np.argmin(np.isfinite(block).all(1)))) / self.sample_rate
                raise AudioFileError(f"{self.name}: NaN or Inf after {where:.3f} s; repair the recording first")
            done += len(block)
            yield block
        # The length of an MP3 file without a table of contents is an estimate.
        if done < wanted and not (self.file.format == "MP3" and done > 0.95 * self.frames):
            raise self._truncated(f"{done:,} of {self.frames:,} samples")

    def _read(self, wanted: int) -> Iterator[np.ndarray]:
        """At most ``wanted`` samples, as far as there are."""
        step, done = block_frames(self.sample_rate, self.channels), 0
        while done < wanted:
            try:
                block = self.file.read(min(step, wanted - done), dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise AudioFileError(
                    f"{self.name}: damaged after {done / self.sample_rate:.1f} s ({error}); "
                    "to use what is left, rewrite it, for example with ffmpeg -i IN out.wav"
                ) from error
            if len(block) == 0:
                return
            done += len(block)
            yield block

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _size(path: Path) -> int:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise AudioFileError(f"{path}: {kind}; name a sound file, or pass its bytes")
    with open(path, "rb"):  # says why when it may not be read; libsndfile does not
        return path.stat().st_size


def output_format(path: str | os.PathLike, like: Layout) -> tuple[str, str]:
    """Container and sample format for ``path``: by its extension, otherwise as close to ``like`` as the container can.

    Returns:
        libsndfile's names, such as ("WAV", "PCM_24").
    """
    extension = Path(path).suffix[1:].upper()
    container, subtype = _ALIASES.get(extension, (extension or like.container, None))
    if container not in soundfile.available_formats() or container == "RAW":
        raise AudioFileError(
            f"{path}: cannot write .{extension.lower()}; use .wav, .flac, .ogg, .opus, .mp3 or another of libsndfile's"
        )
    if container == "WAV" and like.container in ("WAVEX", "RF64"):  # kinds of WAV that share its extension
        container = like.container
    if subtype is None:
        codec = like.subtype not in (*_BITS, *_FLOATING)  # and so bound to its container
        kept = [] if codec and container != like.container else [like.subtype]
        precise = ["PCM_24"] if like.subtype in (*_FLOATING, "PCM_24", "PCM_32") else []
        choices = [*kept, *precise, soundfile.default_subtype(container)]
        subtype = next(choice for choice in choices if soundfile.check_format(container, choice))
    bits = {"DOUBLE": 64, "FLOAT": 32}.get(subtype, _BITS.get(subtype, 16))
    if container in ("WAV", "WAVEX") and like.frames * like.channels * bits // 8 > 0xFFF00000:
        container = "RF64"  # a WAV file ends at 4 GB
    return container, subtype


@contextmanager
def written(path: Path, like: Layout, *, overwrite: bool) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a sound file laid out as ``like``; gives a function that appends blocks, float (time, channels).

    Integer formats are rounded and clipped to ±1.
    """
    container, subtype = output_format(path, like)
    with whole_or_nothing(path, overwrite=overwrite) as part:
        try:
            file = soundfile.SoundFile(part, "w", like.sample_rate, like.channels, subtype, format=container)
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

        with file:
            yield write


def _clipped(block: np.ndarray, bits: int | None) -> np.ndarray:
    """Within ±1; for integer formats rounded here, in the upper bits of int32, as libsndfile truncates."""
    if bits is None:
        return np.clip(block, -1, 1)
    return levels(block, bits).astype(np.int32) << (32 - bits)


@contextmanager
def whole_or_nothing(path: str | os.PathLike, *, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well and is removed when it does not.

    Raises:
        FileExistsError: when ``path`` is there and ``overwrite`` is not set.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        part.touch()
    except OSError as error:  # such as a folder that may not be written; libsndfile does not say
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    try:
        yield part
        check_free(path, overwrite=overwrite)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError where a file may not be written."""
    if path.exists() and not path.is_file():  # replacing would remove a folder or a device
        raise FileExistsError(f"{path} is not a regular file; name another output")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True (command line: --force) replaces it")
