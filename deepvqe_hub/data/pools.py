"""Pools of clips: random speech, noise and room responses for mixing."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .clips import READ_ERRORS, Clip, as_clips, find_clips

DIRECT_INDEX = 32
"""Sample of the direct path in every room response that a `RoomPool` returns."""
DIRECT_GAIN = 0.5
"""Value of the direct path in every room response that a `RoomPool` returns."""

_ATTEMPTS = 20


class _Pool:
    """What audio and room pools share: a list of clips, a cache and broken files that are passed over."""

    def __init__(self, clips: Iterable[Clip | str | Path], sample_rate: int = 16000, cache: bool = False):
        self.clips = as_clips(clips)
        if not self.clips:
            raise ValueError(f"{type(self).__name__} needs at least one audio file, got none")
        self.sample_rate = sample_rate
        self.cache = cache
        self._cached: dict[int, np.ndarray | None] = {}
        self._broken: set[int] = set()

    @classmethod
    def from_folder(cls, folder: str | Path, **options):
        """All audio files below `folder`; `options` go to the constructor."""
        clips = find_clips(folder)
        if not clips:
            raise ValueError(f"no audio files (wav, flac, opus, ogg, mp3) below {folder}")
        return cls(clips, **options)

    @classmethod
    def from_manifest(cls, path: str | Path, **options):
        """Clips of a SpeechBrain style JSON manifest, `{id: {"wav": path, "duration": s, "speaker": id}}`.

        Relative paths, and the placeholder `{data_root}`, count from the manifest's folder. `"speaker"` may
        be missing (the parent folder's name is taken), and so may `"duration"` (it is read from the file).
        """
        root = Path(path).parent
        clips = []
        for key, entry in json.loads(Path(path).read_text(encoding="utf-8")).items():
            if "wav" not in entry:
                raise ValueError(
                    f"{path}: entry {key!r} has no 'wav'; expected {{'wav': path, 'duration': s}}"
                )
            wav = root / entry["wav"].replace("{data_root}/", "")
            duration = float(entry.get("duration", 0.0)) or as_clips([wav])[0].duration
            clips.append(Clip(str(wav), duration, str(entry.get("speaker", wav.parent.name))))
        return cls(clips, **options)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def hours(self) -> float:
        """Total length in hours."""
        return sum(clip.duration for clip in self.clips) / 3600

    def preload(self, threads: int | None = None) -> _Pool:
        """Decode every clip into memory now, so that workers forked later share it; returns the pool."""
        self.cache = True
        with ThreadPoolExecutor(threads or os.cpu_count()) as workers:
            list(workers.map(self._load, range(len(self.clips))))
        return self

    def _load(self, index: int) -> np.ndarray | None:
        """The whole clip from the cache, or `None` when it is broken."""
        if index not in self._cached:
            try:
                self._cached[index] = self._pack(self.clips[index].read(self.sample_rate))
            except READ_ERRORS as error:
                self._cached[index] = None
                self._warn(index, error)
        return self._cached[index]

    def _pack(self, audio: np.ndarray) -> np.ndarray:
        return audio

    def _warn(self, index: int, error: Exception) -> None:
        if index not in self._broken:
            self._broken.add(index)
            warnings.warn(f"skipping unreadable audio file {self.clips[index]}: {error}", stacklevel=4)


class AudioPool(_Pool):
    """Speech or noise recordings from which random stretches are drawn.

    Args:
        clips: `Clip`s or paths.
        sample_rate: rate of everything returned, in Hz; files at another rate are resampled.
        cache: decode each file once and keep it as 16-bit integers (0.12 GB per hour at 16 kHz). Worth it
            on small corpora, above all with Opus or MP3. Without it only the needed stretch is read.
        balance: a speaker is drawn with probability proportional to (hours of the speaker) ** balance:
            1 draws every hour alike, 0 every speaker alike.

    A clip with several channels gives its first one. Unreadable files are passed over with a warning.
    """

    def __init__(
        self,
        clips: Iterable[Clip | str | Path],
        sample_rate: int = 16000,
        cache: bool = False,
        balance: float = 1.0,
    ):
        super().__init__(clips, sample_rate, cache)
        self._by_speaker: dict[str, np.ndarray] = {}
        speakers: dict[str, list[int]] = {}
        for index, clip in enumerate(self.clips):
            speakers.setdefault(clip.speaker, []).append(index)
        self.speakers = sorted(speakers)
        self._by_speaker = {name: np.array(speakers[name]) for name in self.speakers}
        # The floor keeps clips of unknown length in play, so that broken ones are named once.
        seconds = np.array([max(clip.duration, 0.1) for clip in self.clips])
        self._within = {name: np.cumsum(seconds[rows]) for name, rows in self._by_speaker.items()}
        self._across = np.cumsum([self._within[name][-1] ** balance for name in self.speakers])

    def _pack(self, audio: np.ndarray) -> np.ndarray:
        return np.round(np.clip(audio[0], -1, 1) * 32767).astype(np.int16)

    def read(self, index: int, start: int = 0, frames: int | None = None) -> np.ndarray | None:
        """A stretch of clip `index` as float32 `(samples,)`, or `None` (and one warning) if unreadable."""
        if self.cache:
            whole = self._load(index)
            if whole is None:
                return None
            part = whole[start : None if frames is None else start + frames]
            return part.astype(np.float32) * np.float32(1 / 32767)
        try:
            return self.clips[index].read(self.sample_rate, start, frames)[0]
        except READ_ERRORS as error:
            self._warn(index, error)
            return None

    def draw_speaker(self, rng: np.random.Generator, avoid: str | None = None) -> str:
        """A random speaker, other than `avoid` where there is another."""
        for _ in range(_ATTEMPTS):
            name = self.speakers[_weighted(rng, self._across)]
            if name != avoid:
                return name
        return next((name for name in self.speakers if name != avoid), self.speakers[0])

    def _draw(
        self, rng: np.random.Generator, speaker: str | None, samples: int, anywhere: float
    ) -> np.ndarray:
        """At most `samples` of a random clip; `anywhere`: chance to begin inside a short one."""
        for _ in range(_ATTEMPTS):
            name = speaker if speaker is not None else self.draw_speaker(rng)
            index = int(self._by_speaker[name][_weighted(rng, self._within[name])])
            length = int(self.clips[index].duration * self.sample_rate)
            inside = rng.random() < anywhere
            spare = max(length - samples, length // 2 if inside else 0, 0)
            start = int(rng.random() * spare)
            audio = self.read(index, start, samples)
            if audio is not None and len(audio):
                return audio
        raise ValueError(
            f"{_ATTEMPTS} files in a row could not be read"
            f"{'' if speaker is None else f' of speaker {speaker!r}'}; the warnings name them"
        )

    def speech(
        self,
        rng: np.random.Generator,
        samples: int,
        *,
        speaker: str | None = None,
        lead: int = 0,
        pause: tuple[float, float] = (0.1, 0.7),
        jitter_db: float = 3.0,
    ) -> np.ndarray:
        """Utterances of one talker, one after the other with pauses, float32 `(samples,)`.

        Args:
            rng: the only source of randomness.
            samples: length of the result.
            speaker: whose; `None` draws one.
            lead: samples of silence before the first utterance.
            pause: range of the pauses in seconds.
            jitter_db: each utterance is up to this much louder or softer than it was.
        """
        if speaker is None:
            speaker = self.draw_speaker(rng)
        out = np.zeros(samples, np.float32)
        position, first = min(lead, samples), True
        fade = int(0.005 * self.sample_rate)
        while position < samples:
            audio = self._draw(rng, speaker, samples - position, anywhere=0.5 if first else 0.0)
            audio = audio * np.float32(10 ** (rng.uniform(-jitter_db, jitter_db) / 20))
            # A cut inside a word must not click when silence stands before it.
            if position > 0 and len(audio) > fade:
                audio[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
            out[position : position + len(audio)] = audio
            # Very short clips cannot keep the loop busy: each round moves on by the fade at least.
            position += max(len(audio), fade) + int(rng.uniform(*pause) * self.sample_rate)
            first = False
        return out

    def noise(self, rng: np.random.Generator, samples: int, *, crossfade: float = 0.05) -> np.ndarray:
        """One stretch of a recording, float32 `(samples,)`; a short one is repeated.

        Repetitions overlap by `crossfade` seconds with square-root (equal power) fades.
        """
        audio = self._draw(rng, None, samples, anywhere=0.0)
        fade = min(int(crossfade * self.sample_rate), len(audio) // 2)
        if len(audio) >= samples or fade == 0:
            return np.resize(audio, samples)
        ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        loop = audio[: len(audio) - fade].copy()
        loop[:fade] = audio[:fade] * ramp + audio[len(audio) - fade :] * ramp[::-1]
        start = fade  # the loop may begin anywhere, and here it begins with untouched samples
        return np.resize(np.roll(loop, -start), samples)


class RoomPool(_Pool):
    """Room impulse responses, three to a room: near-end talker, loudspeaker, noise source.

    Files hold three channels in that order; a file with fewer repeats its last one. Each channel is
    returned with the direct path at sample `DIRECT_INDEX` and of value `DIRECT_GAIN`; a response that is
    not so already is shifted and scaled by its strongest sample.

    Args:
        clips: `Clip`s or paths.
        sample_rate: rate in Hz.
        cache: keep decoded responses in memory (float32; 0.17 MB for 0.9 s and three channels).
        seconds: length of the returned responses.
    """

    def __init__(
        self,
        clips: Iterable[Clip | str | Path],
        sample_rate: int = 16000,
        cache: bool = True,
        seconds: float = 0.9,
    ):
        super().__init__(clips, sample_rate, cache)
        self.samples = int(seconds * sample_rate)

    def _pack(self, audio: np.ndarray) -> np.ndarray:
        room = np.zeros((3, self.samples), np.float32)
        for channel in range(3):
            response = audio[min(channel, len(audio) - 1)]
            if not response.any():
                raise OSError("holds only zeros")
            if len(response) <= DIRECT_INDEX or abs(response[DIRECT_INDEX] - DIRECT_GAIN) > 1e-2:
                peak = int(np.argmax(np.abs(response)))
                response = response * (DIRECT_GAIN / response[peak])
                response = np.concatenate([np.zeros(DIRECT_INDEX, np.float32), response])[peak:]
            count = min(len(response), self.samples)
            room[channel, :count] = response[:count]
        return room

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One random room, float32 `(3, samples)`."""
        for _ in range(_ATTEMPTS):
            index = int(rng.integers(len(self.clips)))
            if self.cache:
                room = self._load(index)
            else:
                room = self._load(index)
                self._cached.pop(index, None)
            if room is not None:
                return room
        raise ValueError(f"{_ATTEMPTS} room responses in a row could not be read; the warnings name them")


def scan(root: str | Path, split: str | None = "train", *, sample_rate: int = 16000, cache: bool = False):
    """Pools of a folder laid out like the DNS challenge data.

    Args:
        root: folder with `clean/`, `noise/` and, if there are rooms, `impulse_responses/`.
        split: sub-folder of each (`train`, `valid`, `test`); `None` takes everything below the three.
        sample_rate: rate in Hz.
        cache: keep decoded speech and noise in memory.

    Returns:
        `(speech, noise, rooms)`: two `AudioPool`s and a `RoomPool` or `None`.

    Raises:
        ValueError: a folder is missing or empty. For a corpus without split folders make manifests
            and use `AudioPool.from_manifest`, so that training and validation do not share files.
    """
    root = Path(root)
    found = {}
    for name in ("clean", "noise", "impulse_responses"):
        folder = root / name if split is None else root / name / split
        if not folder.is_dir():
            if name == "impulse_responses":
                found[name] = None
                continue
            raise ValueError(
                f"no folder {folder}; pass split=None to use all of {root / name}, or build pools with "
                "AudioPool.from_manifest"
            )
        kind = RoomPool if name == "impulse_responses" else AudioPool
        options = {} if kind is RoomPool else {"cache": cache}
        found[name] = kind.from_folder(folder, sample_rate=sample_rate, **options)
    return found["clean"], found["noise"], found["impulse_responses"]


def _weighted(rng: np.random.Generator, cumulative: np.ndarray) -> int:
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1])), len(cumulative) - 1)
