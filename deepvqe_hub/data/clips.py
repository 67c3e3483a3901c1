"""One audio clip: where it is, how long it is, who speaks, and how it is read."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from deepvqe_hub.data.grouping import group_of
from deepvqe_hub.data.threads import THREADS, each
from deepvqe_hub.files.audio import native
from deepvqe_hub.files.unread import Endless
from deepvqe_hub.folders import audio_files

READ_ERRORS = (soundfile.SoundFileError, OSError, EOFError)


@dataclass(frozen=True)
class Clip:
    """One recording, as a file of its own or as a stretch of bytes inside a tar shard.

    Attributes:
        path: the audio file, or the shard that holds it.
        duration: length in seconds.
        speaker: name that utterances of one talker share; for noise, any label.
        offset, size: where the encoded bytes stand inside `path`; `None` when `path` is the audio file.
        name: what messages call it; empty means `path`.
    """

    path: str
    duration: float
    speaker: str = ""
    offset: int | None = None
    size: int | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.path

    def encoded(self) -> bytes:
        """The bytes of the audio file.

        Raises:
            OSError: it cannot be read.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset or 0)
            return file.read(-1 if self.size is None else self.size)

    def open(self, encoded: bytes | None = None) -> soundfile.SoundFile:
        """Open the clip for reading; raises one of `READ_ERRORS` when it cannot be.

        Args:
            encoded: what `encoded()` gives, where that is at hand.
        """
        if encoded is None and self.offset is not None:
            encoded = self.encoded()
        file = soundfile.SoundFile(native(self.path) if encoded is None else io.BytesIO(encoded))
        if file.format == "MP3":
            counted = soundfile.SoundFile(Endless(io.BytesIO(self.encoded() if encoded is None else encoded)))
            if counted.frames != file.frames:  # which was an estimate, then
                file.close()
                return counted
            counted.close()  # as it is slower to seek in
        return file

    def measured(self, encoded: bytes | None = None) -> Clip:
        """The same clip with its duration read from the audio, see `open`; 0 where it cannot be opened."""
        try:
            with self.open(encoded) as file:
                return replace(self, duration=round(file.frames / file.samplerate, 4))  # as manifests have it
        except READ_ERRORS:
            return replace(self, duration=0.0)

    def read(self, sample_rate: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Read a stretch of the clip.

        Args:
            sample_rate: wanted rate in Hz; a clip at another rate is resampled.
            start: first sample, counted at `sample_rate`.
            frames: number of samples at `sample_rate`; `None` reads to the end.

        Returns:
            float32 `(channels, samples)` in -1…1; shorter than `frames` where the clip ends early.

        Raises:
            OSError, EOFError, soundfile.SoundFileError: the clip cannot be read (these are `READ_ERRORS`), or holds
                NaN, infinity or numbers far beyond full scale.
        """
        with self.open() as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            count = -1 if frames is None else int(np.ceil(frames * ratio))
            audio = file.read(count, dtype="float32", always_2d=True)
            rate = file.samplerate
        if rate != sample_rate:
            import soxr

            audio = soxr.resample(audio, rate, sample_rate)
        if not (np.abs(audio) < 1e6).all():  # of floating-point files; the power of more is beyond float32
            raise OSError("holds samples that are NaN, infinite or far beyond full scale")
        return audio.T[:, :frames].astype(np.float32)


def find_clips(folder: str | Path, kind: str | None = None, *, threads: int = THREADS) -> list[Clip]:
    """All audio files below a folder, sorted by path, with their durations.

    The speaker is what `group_of` tells from the name of a file of that `kind` ("speech", "noise", "rooms"); without
    a kind, the folder of the file relative to `folder` (`source/speaker`), so that equal names in two sources stay
    two speakers. Files that cannot be opened get duration 0 and are left out on use.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no such kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    paths = sorted(audio_files(folder), key=lambda path: path.parts)  # Windows would ignore case, and draw other clips
    names = [path.relative_to(folder) for path in paths]
    speakers = [group_of(name, kind) if kind else name.parent.as_posix() for name in names]
    clips = [Clip(str(path), 0.0, speaker) for path, speaker in zip(paths, speakers)]
    return each(Clip.measured, clips, threads)


def read_manifest(path: str | Path) -> dict[str, Clip]:
    """Clips of a SpeechBrain style JSON manifest, `{id: {"wav": path, "duration": s, "speaker": id}}`.

    Relative paths, and the placeholder `{data_root}`, count from the manifest's folder. `"speaker"` may be called
    `"spk_id"` or be missing (the parent folder's name is taken), and so may `"duration"` (it is read from the file).

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is no JSON, an entry has no `"wav"`, or two have one id.
    """
    root = Path(path).parent
    clips = {}
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except ValueError as error:  # of an edited file, above all
        raise ValueError(f"{path} is no manifest: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is no manifest: expected {{id: {{'wav': path, 'duration': s}}, ...}}")
    for key, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("wav"), str):
            raise ValueError(f"{path}: entry {key!r} has no 'wav'; expected {{'wav': path, 'duration': s}}")
        wav = root / entry["wav"].removeprefix("{data_root}/")
        clips[key] = Clip(str(wav), *noted(entry, wav.parent.name))
    return dict(zip(clips, each(timed, clips.values())))


def _unique(pairs: list[tuple[str, object]]) -> dict:
    """An object of a JSON file; of two entries of one name the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has {name!r} twice")
    return found


def noted(entry: dict, speaker: str) -> tuple[float, str]:
    """Seconds and speaker that a manifest or shard notes of a clip; 0 and `speaker` where it notes none."""
    duration = entry.get("duration")
    # NaN among the lengths would let every draw give the last clip.
    duration = float(duration) if isinstance(duration, (int, float)) and 0 < duration < math.inf else 0.0
    return duration, str(entry.get("speaker", entry.get("spk_id", speaker)))


def timed(clip: Clip) -> Clip:
    """The clip, measured where its duration is not known."""
    return clip if clip.duration else clip.measured()


def as_clips(files: Iterable[Clip | str | Path]) -> list[Clip]:
    """Turn paths into clips (parent folder = speaker) and leave clips as they are.

    Raises:
        ValueError: for one path, each letter of which would be taken for another.
    """
    if isinstance(files, (str, Path)):
        raise ValueError(f"{str(files)!r} is one path and not several; for all files in a folder: from_folder")

    def as_clip(file: Clip | str | Path) -> Clip:
        return file if isinstance(file, Clip) else Clip(str(file), 0.0, Path(file).parent.name).measured()

    return each(as_clip, files)
