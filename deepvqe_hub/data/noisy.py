"""The first stage: everything random about a training item is drawn here, in the loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepvqe_hub.data.codec import CODECS
from deepvqe_hub.data.drawn import DrawnItems
from deepvqe_hub.data.mixing import SHAPE_HZ
from deepvqe_hub.data.pools import AudioPool
from deepvqe_hub.data.rooms import DIRECT_GAIN, DIRECT_INDEX, RoomPool

Range = tuple[float, float]


class NoisySpeech(DrawnItems):
    """Ingredients of noisy speech; a batch of them goes to `mix`.

    Item `i` is a pure function of `(seed, epoch, i)`: the same for any number of workers, after a resume
    and on any machine with the same files.

    Args:
        speech, noise: pools of clips.
        rooms: pool of room responses, or `None` for dry mixtures.
        segment_seconds: length of an item.
        size: items per epoch.
        seed: two seeds give two unrelated data sets.
        snr_db: active speech level against noise level, uniform.
        level_dbfs: active level of the mixture, uniform.
        noises: up to this many noises at once: one half of the time, else from one to this many.
        room_p: chance of a room.
        shape_p, shape_db: chance and strength of spectral shaping, for speech and for noise.
        band_p, band_hz: chance of a low-pass and the range of its cutoff. Half of the time it is put on
            speech alone and half of the time on everything; the target always has the band of the speech.
        clip_p, clip_peak: chance of clipping, and at which fraction of the peak.
        lead_p, lead_seconds: chance and length of silence before the first word.
        mute_p, mute_seconds: chance and length of a drop-out (digital silence).
        noise_only_p: chance of no speech at all: the target is zero.
        clean_only_p: chance of no noise.
        speed: range of playback speed of the speech, log-uniform: pitch and formants move together, so
            that a few speakers become many. Off at `(1.0, 1.0)`; `(0.9, 1.12)` sounds natural.
        noise_speed: the same for each noise, where a wider range does no harm.
        babble_p: chance that a noise is babble instead: talkers of the speech pool, all at once.
        babble_talkers: least and greatest number of them.
        codec_p: chance that the mixture is coded as MP3 or Opus and decoded again; slow (25 to 100 ms for
            4 s, on the CPU) and off by default.
        sample_rate: in Hz; that of the pools.

    An item is a dict of float32 tensors: `speech (time,)`, `noise (noises, time)`, `room (2, samples)` for
    talker and noise (impulses of `DIRECT_GAIN` where there is no room), and the drawn numbers.

    Raises:
        ValueError: a pool of another sample rate, or a length, count or speed that is too small.
    """

    def __init__(
        self,
        speech: AudioPool,
        noise: AudioPool,
        rooms: RoomPool | None = None,
        *,
        segment_seconds: float = 4.0,
        size: int = 10000,
        seed: int = 0,
        snr_db: Range = (-5.0, 20.0),
        level_dbfs: Range = (-40.0, -10.0),
        noises: int = 3,
        room_p: float = 0.5,
        shape_p: float = 0.4,
        shape_db: float = 6.0,
        band_p: float = 0.1,
        band_hz: Range = (3400.0, 8000.0),
        clip_p: float = 0.05,
        clip_peak: Range = (0.2, 0.8),
        lead_p: float = 0.3,
        lead_seconds: Range = (0.1, 1.5),
        mute_p: float = 0.02,
        mute_seconds: Range = (0.02, 0.5),
        noise_only_p: float = 0.04,
        clean_only_p: float = 0.03,
        speed: Range = (1.0, 1.0),
        noise_speed: Range = (1.0, 1.0),
        babble_p: float = 0.0,
        babble_talkers: tuple[int, int] = (3, 8),
        codec_p: float = 0.0,
        sample_rate: int = 16000,
    ):
        for name, pool in (("speech", speech), ("noise", noise), ("rooms", rooms)):
            if pool is not None and pool.sample_rate != sample_rate:
                raise ValueError(
                    f"the {name} pool has {pool.sample_rate} Hz and the data set {sample_rate} Hz; "
                    "give both the same sample_rate"
                )
        if segment_seconds < 0.1 or size < 1 or noises < 1:
            raise ValueError("segment_seconds must be at least 0.1, size and noises at least 1")
        if min(speed[0], noise_speed[0]) <= 0:
            raise ValueError("speed and noise_speed must be above 0")
        super().__init__(size, seed)
        self.speech, self.noise, self.rooms = speech, noise, rooms
        self.samples = round(segment_seconds * sample_rate)
        self.sample_rate, self.noises = sample_rate, noises
        self.snr_db, self.level_dbfs = snr_db, level_dbfs
        self.room_samples = DIRECT_INDEX + 1 if rooms is None else rooms.samples
        self.room_p, self.shape_p, self.shape_db = room_p, shape_p, shape_db
        self.band_p, self.band_hz = band_p, band_hz
        self.clip_p, self.clip_peak = clip_p, clip_peak
        self.lead_p, self.lead_seconds = lead_p, lead_seconds
        self.mute_p, self.mute_seconds = mute_p, mute_seconds
        self.noise_only_p, self.clean_only_p = noise_only_p, clean_only_p
        self.speed, self.noise_speed, self.codec_p = speed, noise_speed, codec_p
        self.babble_p, self.babble_talkers = babble_p, babble_talkers

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return as_tensors(self.draw(self.generator(index)))

    def draw(self, rng: np.random.Generator) -> dict:
        """One item as numpy arrays and numbers."""
        lead = rng.uniform(*self.lead_seconds) * (rng.random() < self.lead_p)
        speech = self.draw_speech(rng, lead=int(lead * self.sample_rate))
        return {"speech": speech, "room": self.draw_room(rng)[[0, 2]]} | self.draw_conditions(rng)

    def draw_speech(self, rng: np.random.Generator, **options: Any) -> np.ndarray:
        """Speech of one item at a random speed, `(time,)`; `options` go to `AudioPool.speech`."""
        return self._at_speed(rng, self.speed, lambda samples: self.speech.speech(rng, samples, **options))

    def draw_noise(self, rng: np.random.Generator) -> np.ndarray:
        """One noise at a random speed, or babble, `(time,)`."""
        if self.babble_p and rng.random() < self.babble_p:
            return self.draw_babble(rng)
        return self._at_speed(rng, self.noise_speed, lambda samples: self.noise.noise(rng, samples))

    def draw_babble(self, rng: np.random.Generator) -> np.ndarray:
        """Several talkers at once, none more than 6 dB louder than another, `(time,)`."""
        babble = np.zeros(self.samples, np.float32)
        for _ in range(rng.integers(self.babble_talkers[0], self.babble_talkers[1], endpoint=True)):
            talker = self.draw_speech(rng)
            babble += talker * np.float32(10 ** (rng.uniform(-6, 0) / 20) / (np.sqrt(np.mean(talker**2)) + 1e-6))
        return babble / 10  # about the level of speech

    def _at_speed(self, rng: np.random.Generator, speeds: Range, read: Callable[[int], np.ndarray]) -> np.ndarray:
        speed = float(np.exp(rng.uniform(*np.log(speeds)))) if speeds[0] < speeds[1] else speeds[0]
        if speed == 1.0:
            return read(self.samples)
        import soxr

        return np.resize(soxr.resample(read(int(np.ceil(self.samples * speed)) + 1), speed, 1.0), self.samples)

    def draw_room(self, rng: np.random.Generator) -> np.ndarray:
        """A room `(3, samples)`, or impulses of `DIRECT_GAIN`."""
        if self.rooms is not None and rng.random() < self.room_p:
            return self.rooms.draw(rng)
        room = np.zeros((3, self.room_samples), np.float32)
        room[:, DIRECT_INDEX] = DIRECT_GAIN
        return room

    def draw_conditions(self, rng: np.random.Generator) -> dict:
        """Noise and all numbers of one item."""
        count = 1 if rng.random() < 0.5 else int(rng.integers(1, self.noises + 1))
        noise = np.zeros((self.noises, self.samples), np.float32)
        noise_db = np.full(self.noises, -np.inf)
        for k in range(count):
            noise[k] = self.draw_noise(rng)
            noise_db[k] = rng.uniform(-10, 0) if k else 0.0
        kind = rng.random()
        nyquist = self.sample_rate / 2
        speech_cutoff = rng.uniform(*self.band_hz) if rng.random() < self.band_p else nyquist
        noise_cutoff = speech_cutoff if rng.random() < 0.5 else nyquist
        clip = rng.uniform(*self.clip_peak) if rng.random() < self.clip_p else 1.0
        mute = np.zeros(2)
        if rng.random() < self.mute_p:
            mute[0] = rng.integers(self.samples)
            mute[1] = mute[0] + int(rng.uniform(*self.mute_seconds) * self.sample_rate)
        codec = {"codec": rng.integers(1, len(CODECS) + 1) * (rng.random() < self.codec_p)}
        return (codec if self.codec_p else {}) | {
            "noise": noise,
            "noise_db": noise_db,
            "snr_db": rng.uniform(*self.snr_db),
            "level_dbfs": rng.uniform(*self.level_dbfs),
            "speech_shape": self.draw_shape(rng),
            "noise_shape": self.draw_shape(rng),
            "speech_cutoff": speech_cutoff,
            "noise_cutoff": noise_cutoff,
            "clip": clip,
            "mute": mute,
            "speech_gain": float(kind >= self.noise_only_p),
            "noise_gain": float(not self.noise_only_p <= kind < self.noise_only_p + self.clean_only_p),
        }

    def draw_shape(self, rng: np.random.Generator) -> np.ndarray:
        """Gain in dB at `SHAPE_HZ`: a low shelf, a high shelf and one broad bell, or nothing."""
        octaves = np.log2(np.array(SHAPE_HZ) / 1000)
        low, high, bell = rng.uniform(-self.shape_db, self.shape_db, 3)
        low_at, high_at = rng.uniform(-4, -1), rng.uniform(0, 2.5)
        bell_at, width = rng.uniform(-3, 2.5), rng.uniform(0.5, 1.5)
        shape = low / (1 + np.exp(4 * (octaves - low_at))) + high / (1 + np.exp(-4 * (octaves - high_at)))
        shape = shape + bell * np.exp(-0.5 * ((octaves - bell_at) / width) ** 2)
        return shape * (rng.random() < self.shape_p)


def as_tensors(item: dict) -> dict[str, Tensor]:
    """Arrays and numbers as float32 tensors, the form that the default collate function joins."""
    return {name: torch.as_tensor(np.asarray(value, np.float32)) for name, value in item.items()}
