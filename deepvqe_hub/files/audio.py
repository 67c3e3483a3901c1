"""Sound files read in blocks, with errors that name the file. Needs no torch: scoring reads files, too."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from deepvqe_hub.files.unread import Endless, begins_twice, breaks_off, caf_end, joined, stated_length
from deepvqe_hub.limits import BLOCK_SECONDS, LOUDEST

Source = str | os.PathLike[str] | bytes | BinaryIO

_MAX_FRAMES = 1 << 48  # libsndfile gives the largest number there is for a length that it does not know
_MP3_SLACK = 2 * 1152  # samples, two MPEG frames
# Bytes that programs promise where they write into a pipe and do not know the length yet: sox for AIFF and for WAV,
# arecord, ffmpeg; each more or less than that by headers and the rest of a frame.
_UNKNOWN, _UNKNOWN_SLACK = (0x7F000000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF), 1 << 16
_UNKNOWN_64 = 1 << 62  # and more, where sizes have 64 bits


class AudioFileError(ValueError):
    """A sound file that cannot be read or written; the message names it."""


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file is, beside its samples.

    Attributes:
        sample_rate, channels, frames: of the audio.
        container, subtype: the file's format and that of its samples, as libsndfile calls them.
        tags: title, artist and the like, by libsndfile's names.
    """

    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str
    tags: dict[str, str] = field(default_factory=dict)


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
        info: what the file is, beside its samples.
        sample_rate, channels, frames: as in `info`.

    Raises:
        FileNotFoundError: for a path that is not there.
        AudioFileError: for anything else that is no readable audio: empty, truncated, of another kind.
    """

    def __init__(self, source: Source):
        self._opened = ExitStack()
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            size = _size(Path(source))
            handle = native(self.name)
        elif not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
            raise TypeError(f"a path, bytes or a binary file is needed, not {type(source).__name__}; arrays: enhance()")
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
            piped = ", such as CAF that ffmpeg wrote into a pipe," if "malformed" in reason else ","  # without a length
            raise AudioFileError(
                f"{self.name}: not an audio file that libsndfile reads ({reason}); if it plays elsewhere{piped} "
                "convert it, for example with ffmpeg -i IN out.wav"
            ) from error
        self.sample_rate, self.channels, self.frames = self.file.samplerate, self.file.channels, self.file.frames
        kind, tags = (self.file.format, self.file.subtype), self.file.copy_metadata()
        try:
            if self.file.format in ("CAF", "MAT5", "MP3", "NIST", "OGG", "PVF", "W64"):
                self._look_for_unread(handle)
            if self.frames > _MAX_FRAMES:
                self._count(handle)
            self._check_whole()
        except AudioFileError:
            self.close()
            raise
        self.info = AudioInfo(self.sample_rate, self.channels, self.frames, *kind, tags)

    def _look_for_unread(self, handle: str | bytes | BinaryIO) -> None:
        """Refuse what would be read wrongly or in part, and find the length of an MP3 file that does not tell it."""
        file = handle
        if isinstance(handle, (str, bytes)):
            file = self._opened.enter_context(open(handle, "rb"))  # noqa: SIM115, close() closes it
        at = file.tell()
        if joined(file, self.file.format):
            raise AudioFileError(
                f"{self.name}: several recordings joined in one file, of which only the first would be read; "
                "rewrite it, for example with ffmpeg -i IN out.wav"
            )
        if self.file.format not in ("MP3", "OGG") and begins_twice(file):
            raise AudioFileError(
                f"{self.name}: written into a pipe, so its header has no length and stands twice, before the samples "
                "and as the first of them; write it to a file, or into the pipe as WAV"
            )
        if self.file.format == "NIST" and self.frames < (stated := stated_length(file)):
            raise self._truncated(f"{self.frames:,} of {stated:,} samples")
        if self.file.format == "CAF" and (size := file.seek(0, os.SEEK_END)) < (end := caf_end(file)):
            raise self._truncated(f"{size:,} of {end:,} bytes")
        if self.file.format == "OGG" and self.frames and breaks_off(file):
            raise self._truncated(f"only {self.frames:,} samples")
        if self.file.format == "MP3":
            endless = Endless(file)
            try:
                counted = _Sequential(endless)
            except soundfile.SoundFileError as error:
                raise self._damaged(0, error) from error
            if counted.frames != self.frames:  # which was an estimate, then
                self.file.close()
                self.file, self.frames = counted, counted.frames
                if endless.breaks_off():
                    raise self._damaged(self.frames, "MPEG frames end, and begin anew further on")
                return
            counted.close()
        file.seek(at)

    def _count(self, handle: str | bytes | BinaryIO) -> None:
        """Find the length of a file whose header does not say it, as of FLAC written into a pipe: by reading it."""
        self.frames = sum(len(block) for block in self._read(self.frames))
        self.file.close()
        if not isinstance(handle, (str, bytes)):
            handle.seek(0)
        self.file = _Sequential(handle)

    def _check_whole(self) -> None:
        # libsndfile reads what is left of a cut file without a word, but notes in its log what the header promised.
        note = re.search(
            r"^\s*(?:data|SSND|BODY|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", self.file.extra_info, re.M
        )
        promised, there = map(int, note.groups()) if note else (0, 0)
        if self.file.format in ("RF64", "W64"):
            unknown = promised >= _UNKNOWN_64
        else:
            unknown = any(abs(promised - size) < _UNKNOWN_SLACK for size in _UNKNOWN)
        if there < promised and not unknown:
            raise self._truncated(f"{there:,} of {promised:,} bytes")
        # Of GSM in WAV the log says so, too, where the last block is whole.
        if self.file.format in ("MAT4", "VOC") and re.search(r"to be (?:a )?truncated", self.file.extra_info):
            raise self._truncated(f"only {self.frames:,} samples")
        if self.frames == 0 and self.file.format == "OGG":  # whose last page tells the length
            raise AudioFileError(f"{self.name}: holds no samples, or breaks off before its end; get it whole")
        if self.frames == 0:
            raise AudioFileError(
                f"{self.name}: holds no samples, or a header that does not count them, as a recorder that crashed or "
                "a program that wrote into a pipe leaves it; then sox --ignore-length IN out.wav reads to the end"
            )

    def _truncated(self, what: str) -> AudioFileError:
        return AudioFileError(
            f"{self.name}: truncated, {what} are there; to use what is left, rewrite it, for example with "
            "ffmpeg -i IN out.wav"
        )

    def _damaged(self, done: int, why: object) -> AudioFileError:
        return AudioFileError(
            f"{self.name}: damaged after {done / self.sample_rate:.1f} s ({why}); "
            "to use what is left, rewrite it, for example with ffmpeg -i IN out.wav"
        )

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    def blocks(self, seconds: float | None = None) -> Iterator[np.ndarray]:
        """The audio, or its first `seconds`, as float32 blocks (time, channels) of a few seconds each."""
        wanted = self.frames if seconds is None else min(self.frames, round(seconds * self.sample_rate))
        done = 0
        for block in self._read(wanted):
            fine = (np.abs(block) < LOUDEST).all(1)
            if not fine.all():
                where = (done + int(np.argmin(fine))) / self.sample_rate
                raise AudioFileError(
                    f"{self.name}: NaN, Inf or a number beyond {LOUDEST:g} after {where:.3f} s; "
                    "repair the recording first"
                )
            done += len(block)
            yield block
        # Encoders of MP3 may count a frame too many.
        if done < wanted and not (self.file.format == "MP3" and done > self.frames - _MP3_SLACK):
            raise self._truncated(f"{done:,} of {self.frames:,} samples")

    def _read(self, wanted: int) -> Iterator[np.ndarray]:
        """At most `wanted` samples, as far as there are."""
        step, done = block_frames(self.sample_rate, self.channels), 0
        while done < wanted:
            try:
                block = self.file.read(min(step, wanted - done), dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise self._damaged(done, error) from error
            if len(block) == 0:
                return
            done += len(block)
            yield block

    def close(self) -> None:
        self.file.close()
        self._opened.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def block_frames(sample_rate: int, channels: int) -> int:
    """How many samples to take at a time: what the model works on best, less for many channels to bound memory."""
    return math.ceil(sample_rate * max(BLOCK_SECONDS / max(channels, 1), 0.25))


def native(path: str | os.PathLike[str]) -> str | bytes:
    """A path as soundfile takes it even where the name is not valid text, which bytes on a disk need not be."""
    path = os.fspath(path)
    path = os.path.join(".", path) if path == "-" else path  # which libsndfile takes for standard input
    return path if os.name == "nt" else os.fsencode(path)


def _size(path: Path) -> int:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise AudioFileError(f"{path}: {kind}; name a sound file, or pass its bytes")
    with open(path, "rb"):  # says why when it may not be read; libsndfile does not
        return path.stat().st_size
