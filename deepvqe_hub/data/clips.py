"""One audio clip: where it is, how long it is, who speaks, and how it is read."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

AUDIO_SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".mp3")
READ_ERRORS = (soundfile.SoundFileError, OSError, EOFError)


@dataclass(frozen=True)
class Clip:
    """One recording, as a file of its own or as a stretch of bytes inside a tar shard.

    Attributes:
        path: the audio file, or the shard that holds it.
        duration: length in seconds.
        speaker: name that utterances of one talker share; for noise, any label.
        offset, size: where the encoded bytes stand inside `path`; `None` when `path` is the audio file.
        name: name for messages; empty means `path`.
    """

    path: str
    duration: float
    speaker: str = ""
    offset: int | None = None
    size: int | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.path

    def open(self) -> soundfile.SoundFile:
        """Open the clip for reading; raises one of `READ_ERRORS` when it cannot be."""
        if self.offset is None:
            return soundfile.SoundFile(self.path)
        with open(self.path, "rb") as shard:
            shard.seek(self.offset)
            return soundfile.SoundFile(io.BytesIO(shard.read(self.size)))

    def read(self, sample_rate: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Read a stretch of the clip.

        Args:
            sample_rate: wanted rate in Hz; a clip at another rate is resampled.
            start: first sample, counted at `sample_rate`.
            frames: number of samples at `sample_rate`; `None` reads to the end.

        Returns:
            float32 `(channels, samples)` in -1…1; shorter than `frames` where the clip ends early.
        """
        with self.open() as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            count = -1 if frames is None else int(np.ceil(frames * ratio))
            audio = file.read(count, dtype="float32", always_2d=True)
            native = file.samplerate
        if native != sample_rate:
            import soxr

            audio = soxr.resample(audio, native, sample_rate)
        if not np.isfinite(audio).all():
            raise OSError("holds NaN or infinite samples")
        return audio.T[:, :frames].astype(np.float32)


def find_clips(folder: str | Path, *, threads: int = 8) -> list[Clip]:
    """All audio files below a folder, sorted by path, with their durations.

    The speaker is the folder of the file relative to `folder` (`source/speaker`), so that equal names in
    two sources stay two speakers. Files that cannot be opened get duration 0 and are left out on use.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    with ThreadPoolExecutor(threads) as workers:
        durations = list(workers.map(_duration, paths))
    return [
        Clip(str(path), seconds, path.parent.relative_to(folder).as_posix())
        for path, seconds in zip(paths, durations)
    ]


def _duration(path: Path) -> float:
    try:
        info = soundfile.info(str(path))
    except READ_ERRORS:
        return 0.0
    return info.frames / info.samplerate


def as_clips(files: Iterable[Clip | str | Path]) -> list[Clip]:
    """Turn paths into clips (parent folder = speaker) and leave clips as they are."""
    return [
        file if isinstance(file, Clip) else Clip(str(file), _duration(Path(file)), Path(file).parent.name)
        for file in files
    ]
