"""Pools of clips, and the one that draws random speech and noise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deepvqe_hub.data.clips import READ_ERRORS, Clip, as_clips, find_clips, read_manifest
from deepvqe_hub.data.shards import find_shard_clips
from deepvqe_hub.folders import AUDIO_SUFFIXES
from deepvqe_hub.machine import cores

ATTEMPTS = 20
"""Files in a row that may be unreadable before a draw gives up."""
JITTER_DB = 3.0  # by which each utterance is louder or softer
CROSSFADE = 0.05  # seconds, of a noise with its own repetition

AnyPool = TypeVar("AnyPool", bound="Pool")


class Pool:
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
    def from_folder(cls: type[AnyPool], folder: str | Path, kind: str | None = None, **options: Any) -> AnyPool:
        """All audio files below `folder`, see `find_clips` for `kind`; `options` go to the constructor.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: there is no audio file in it.
        """
        clips = find_clips(folder, kind)
        if not clips:
            raise ValueError(f"no audio files ({', '.join(AUDIO_SUFFIXES)}) below {folder}")
        return cls(clips, **options)

    @classmethod
    def from_manifest(cls: type[AnyPool], path: str | Path, **options: Any) -> AnyPool:
        """The clips of a JSON manifest; `options` go to the constructor.

        Raises:
            FileNotFoundError, ValueError: as `read_manifest`; ValueError also if it has no entries.
        """
        return cls(read_manifest(path).values(), **options)

    @classmethod
    def from_shards(cls: type[AnyPool], folder: str | Path, **options: Any) -> AnyPool:
        """The clips inside the tar shards of a folder (see `write_shards`); `options` go to the constructor.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: there are no shards in it, or one that cannot be read.
        """
        return cls(find_shard_clips(folder), **options)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def hours(self) -> float:
        """Total length in hours."""
        return sum(clip.duration for clip in self.clips) / 3600

    def preload(self: AnyPool, threads: int | None = None) -> AnyPool:
        """Decode every clip into memory now, so that workers forked later share it; returns the pool.

        Args:
            threads: that decode at the same time; `None` takes one for each core.
        """
        self.cache = True
        with ThreadPoolExecutor(threads or cores()) as workers:
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


class AudioPool(Pool):
    """Speech or noise recordings from which random stretches are drawn.

    Args:
        clips: `Clip`s or paths.
        sample_rate: rate of everything returned, in Hz; files at another rate are resampled.
        cache: decode each file once and keep it as 16-bit integers (0.12 GB per hour at 16 kHz). Worth it
            on small corpora, above all with Opus or MP3. Without it only the needed stretch is read.
        balance: a speaker is drawn with probability proportional to (hours of the speaker) ** balance:
            1 draws every hour alike, 0 every speaker alike.

    A clip with several channels gives its first one. Unreadable files are passed over with a warning.

    Raises:
        ValueError: there are no clips, or a path in place of several.
    """

    def __init__(
        self,
        clips: Iterable[Clip | str | Path],
        sample_rate: int = 16000,
        cache: bool = False,
        balance: float = 1.0,
    ):
        super().__init__(clips, sample_rate, cache)
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
        for _ in range(ATTEMPTS):
            name = self.speakers[_weighted(rng, self._across)]
            if name != avoid:
                return name
        return next((name for name in self.speakers if name != avoid), self.speakers[0])

    def _draw(
        self, rng: np.random.Generator, samples: int, speaker: str | None = None, inside: float = 1.0
    ) -> np.ndarray:
        """At most `samples` of a random clip, which begins inside the clip with chance `inside`.

        Inside means anywhere that leaves `samples`, or in the first half of a clip that is too short.
        """
        for attempt in range(ATTEMPTS):
            # A speaker whose files all fail is given up, or one bad file would end a run, and each resumption of it.
            given = speaker is not None and attempt < ATTEMPTS // 2
            name = speaker if given else self.draw_speaker(rng)
            index = int(self._by_speaker[name][_weighted(rng, self._within[name])])
            length = int(self.clips[index].duration * self.sample_rate)
            last = length - samples if length > samples else (length // 2 if inside < 1 else 0)
            start = int(rng.random() * last) * (rng.random() < inside)
            audio = self.read(index, start, samples)
            if audio is not None and len(audio):
                return audio
        raise ValueError(f"{ATTEMPTS} files in a row could not be read; the warnings name them")

    def speech(
        self,
        rng: np.random.Generator,
        samples: int,
        *,
        speaker: str | None = None,
        lead: int = 0,
        pause: tuple[float, float] = (0.1, 0.7),
    ) -> np.ndarray:
        """Utterances of one talker, each a little louder or softer than it was, with pauses, float32 `(samples,)`.

        Args:
            rng: the only source of randomness.
            samples: length of the result.
            speaker: whose; `None` draws one.
            lead: samples of silence before the first utterance.
            pause: range of the pauses in seconds.

        Raises:
            ValueError: too many files in a row cannot be read.
        """
        if speaker is None:
            speaker = self.draw_speaker(rng)
        out = np.zeros(samples, np.float32)
        position, first = min(lead, samples), True
        fade = int(0.005 * self.sample_rate)
        while position < samples:
            audio = self._draw(rng, samples - position, speaker, inside=0.5 if first and not lead else 0.0)
            audio = audio * np.float32(10 ** (rng.uniform(-JITTER_DB, JITTER_DB) / 20))
            # A cut inside a word must not click when silence stands before it.
            if position > 0 and len(audio) > fade:
                audio[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
            out[position : position + len(audio)] = audio
            # Very short clips cannot keep the loop busy: each round moves on by the fade at least.
            position += max(len(audio), fade) + int(rng.uniform(*pause) * self.sample_rate)
            first = False
        return out

    def noise(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """One stretch of a recording, float32 `(samples,)`; a short one is repeated, with fades of equal power.

        Raises:
            ValueError: too many files in a row cannot be read.
        """
        audio = self._draw(rng, samples)
        fade = min(int(CROSSFADE * self.sample_rate), len(audio) // 2)
        if len(audio) >= samples or fade == 0:
            return np.resize(audio, samples)
        ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        loop = audio[: len(audio) - fade].copy()
        loop[:fade] = audio[:fade] * ramp + audio[len(audio) - fade :] * ramp[::-1]
        # The loop may begin anywhere: here it begins with untouched samples.
        return np.resize(np.roll(loop, -fade), samples)


def _weighted(rng: np.random.Generator, cumulative: np.ndarray) -> int:
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1])), len(cumulative) - 1)
