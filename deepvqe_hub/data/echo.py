"""Echo cancellation: ingredients of a scene with a loudspeaker, and their mixing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepvqe_hub.data.loudspeaker import KINDS, TAPS, delay_track, delayed, distort
from deepvqe_hub.data.mixing import SILENCE, Scene, active_power, capture, level_gain, near_end, ratio_gain
from deepvqe_hub.data.noisy import NoisySpeech, Range
from deepvqe_hub.data.pools import AudioPool
from deepvqe_hub.data.rooms import RoomPool

MAX_DELAY = 0.6
"""Longest bulk delay in seconds."""
SCENES = ("noise_only", "far_only", "near_only", "double_talk")
"""Of an item: who talks."""


class EchoSpeech(NoisySpeech):
    """Ingredients of microphone signals with echo; a batch of them goes to `mix_echo`.

    Reproducible as `NoisySpeech` is, and with its options for everything at the near end. The scenes:
    double talk, far-end single talk (no near-end speech), near-end single talk (the far end is silent, or
    it talks and is not heard: headphones), and noise alone.

    Args:
        speech, noise, rooms: pools; near-end talker, loudspeaker and noise are the channels of one room.
        far_only_p, near_only_p, noise_only_p: chance of each scene; the rest is double talk.
        snr_db: near-end speech (or, where there is none, echo) against noise.
        ser_db: near-end speech against echo, active levels.
        far_level_dbfs: active level of the far-end signal.
        far_noise_p: chance that the far end is a recording of noise (music and the like) and no talker.
        far_noisy_p, far_snr_db: chance and level of noise behind a far-end talker.
        delay_seconds: bulk delay, uniform; one scene in ten goes up to 0.6 s.
        jump_p, jump_seconds: chance and size of a jump of the delay inside the segment.
        drift_p, drift_ppm: chance and strength of a clock difference.
        change_p: chance that the echo path turns into another room's inside the segment.
        distortion_p: chance of a non-linear loudspeaker.
        memory_p: chance of short filters before and after the non-linearity.
        high_pass_p: chance of a small loudspeaker without low frequencies.
        pause_seconds: pauses between utterances at both ends.
        room_p: chance of a room; without one there is a straight path.
        lead_p: chance that a talker begins late, in the first half, and that one ends early, in the second.
        options: those of `NoisySpeech`, but for `lead_seconds`.

    An item holds, beside the near end, `farend (time,)`, `room (3, samples)`, `new_echo_room (samples,)`
    and the numbers of the echo path.

    Raises:
        ValueError: as `NoisySpeech`; or one speaker alone, chances of the scenes above 1 together, or a delay beyond
            `MAX_DELAY`.
    """

    def __init__(
        self,
        speech: AudioPool,
        noise: AudioPool,
        rooms: RoomPool | None = None,
        *,
        far_only_p: float = 0.22,
        near_only_p: float = 0.2,
        noise_only_p: float = 0.03,
        snr_db: Range = (5.0, 40.0),
        ser_db: Range = (-15.0, 15.0),
        far_level_dbfs: Range = (-40.0, -12.0),
        far_noise_p: float = 0.1,
        far_noisy_p: float = 0.2,
        far_snr_db: Range = (10.0, 40.0),
        delay_seconds: Range = (0.0, 0.5),
        jump_p: float = 0.12,
        jump_seconds: Range = (0.005, 0.15),
        drift_p: float = 0.15,
        drift_ppm: Range = (-100.0, 100.0),
        change_p: float = 0.15,
        distortion_p: float = 0.6,
        memory_p: float = 0.4,
        high_pass_p: float = 0.4,
        pause_seconds: Range = (0.1, 1.5),
        room_p: float = 0.9,
        lead_p: float = 0.5,
        **options: Any,
    ):
        if "lead_seconds" in options:
            raise ValueError(
                "lead_seconds: EchoSpeech has no such setting; a talker begins in the first half, see lead_p"
            )
        options |= {"noise_only_p": noise_only_p, "snr_db": snr_db, "room_p": room_p, "lead_p": lead_p}
        super().__init__(speech, noise, rooms, **options)
        if len(speech.speakers) < 2:
            raise ValueError("the speech pool has one speaker; near end and far end need one each")
        if far_only_p + near_only_p + noise_only_p > 1:
            raise ValueError("far_only_p + near_only_p + noise_only_p must not pass 1")
        if not 0 <= delay_seconds[0] <= delay_seconds[1] <= MAX_DELAY:
            raise ValueError(f"delay_seconds must lie in 0…{MAX_DELAY} s, got {delay_seconds}")
        self.far_only_p, self.near_only_p = far_only_p, near_only_p
        self.ser_db, self.far_level_dbfs = ser_db, far_level_dbfs
        self.far_noise_p, self.far_noisy_p, self.far_snr_db = far_noise_p, far_noisy_p, far_snr_db
        self.delay_seconds, self.jump_p, self.jump_seconds = delay_seconds, jump_p, jump_seconds
        self.drift_p, self.drift_ppm, self.change_p = drift_p, drift_ppm, change_p
        self.distortion_p, self.memory_p, self.high_pass_p = distortion_p, memory_p, high_pass_p
        self.pause_seconds = pause_seconds

    def draw(self, rng: np.random.Generator) -> dict:
        """One item as numpy arrays and numbers."""
        scene = self.draw_scene(rng)
        headphones = scene == "near_only" and rng.random() < 0.5
        near = self.speech.draw_speaker(rng)
        far = self.speech.draw_speaker(rng, avoid=near)
        farend = self.draw_far(rng, far)
        item = {
            "speech": self.draw_turns(rng, near),
            "room": self.draw_room(rng),
            "farend": farend * float(scene in ("far_only", "double_talk") or headphones),
            "echo_gain": float(scene != "near_only"),
            "ser_db": rng.uniform(*self.ser_db),
            "far_level_dbfs": rng.uniform(*self.far_level_dbfs),
        }
        item |= self.draw_conditions(rng) | self.draw_path(rng)
        near_talks = scene in ("near_only", "double_talk")
        return item | {"speech_gain": float(near_talks)}  # in place of what draw_conditions gives

    def draw_scene(self, rng: np.random.Generator) -> str:
        """One of `SCENES`."""
        ends = np.cumsum([self.noise_only_p, self.far_only_p, self.near_only_p])
        return SCENES[np.searchsorted(ends, rng.random(), side="right")]

    def draw_turns(self, rng: np.random.Generator, speaker: str) -> np.ndarray:
        """Speech with pauses, that may begin late and end early, `(time,)`."""
        lead = rng.uniform(0, 0.5) * self.samples * (rng.random() < self.lead_p)
        speech = self.draw_speech(rng, speaker=speaker, lead=int(lead), pause=self.pause_seconds)
        stop = int(rng.uniform(0.5, 1) * self.samples)
        if rng.random() < self.lead_p:
            fade = np.clip((stop - np.arange(self.samples)) / (0.01 * self.sample_rate), 0, 1)
            speech = speech * fade.astype(np.float32)
        return speech

    def draw_far(self, rng: np.random.Generator, speaker: str) -> np.ndarray:
        """The far-end signal, `(time,)`, at no particular level."""
        is_noise, is_noisy = rng.random() < self.far_noise_p, rng.random() < self.far_noisy_p
        if is_noise:
            return self.draw_noise(rng)
        speech = self.draw_turns(rng, speaker)
        if is_noisy:
            noise = self.draw_noise(rng)
            powers = active_power(torch.from_numpy(np.stack([speech, noise])), self.sample_rate).numpy()
            ratio = np.sqrt(powers[0] / max(powers[1], SILENCE)) * 10 ** (-rng.uniform(*self.far_snr_db) / 20)
            speech = speech + np.float32(ratio) * noise
        return speech

    def draw_path(self, rng: np.random.Generator) -> dict:
        """Loudspeaker, delay and second room of one item."""
        length = self.samples / self.sample_rate
        first = rng.uniform(*(self.delay_seconds if rng.random() < 0.9 else (0.0, MAX_DELAY)))
        jump = rng.uniform(*self.jump_seconds) * rng.choice([-1, 1])
        if not 0 <= first + jump <= MAX_DELAY:
            jump = -jump
        jumps, drifts = rng.random() < self.jump_p, rng.random() < self.drift_p
        # Without drift the delay is a whole number of samples, as in a buffer.
        delays = np.round(np.array([first, first + jump * jumps]) * self.sample_rate) / self.sample_rate
        changes = rng.random() < self.change_p
        new_room = self.draw_room(rng)[1] if changes else np.zeros(self.room_samples)
        kind = rng.integers(1, len(KINDS)) * (rng.random() < self.distortion_p)
        memory = rng.random() < self.memory_p
        shape = self.draw_shape(rng)
        if rng.random() < self.high_pass_p:
            corner = rng.uniform(1.0, 3.3)  # octaves above 50 Hz: 100 to 500 Hz
            shape = shape - rng.uniform(6, 18) * np.clip(corner - np.arange(len(shape)) / 2, 0, 2)
        return {
            "delay_starts": [0.0, rng.uniform(0.2, 0.9) * length],
            "delay_seconds": np.clip(delays, 0, MAX_DELAY),
            "drift_ppm": rng.uniform(*self.drift_ppm) * drifts,
            "new_echo_room": new_room,
            "change_seconds": [rng.uniform(0.2, 0.8) * length, rng.uniform(0.05, 0.5)],
            "changes": float(changes),
            "kind": kind,
            "drive": np.exp(rng.uniform(0, np.log(5))),
            "bias": rng.uniform(-0.5, 0.5),
            "filters": np.stack([draw_filter(rng, has) for has in (memory, True, memory)]),
            "echo_shape": shape,
        }


def draw_filter(rng: np.random.Generator, memory: bool) -> np.ndarray:
    """A short filter `(TAPS,)` that begins with 1: a decaying random tail, or nothing more."""
    tail = rng.standard_normal(TAPS) * np.exp(-np.arange(TAPS) / rng.uniform(2, 12)) * rng.uniform(0.1, 0.4)
    tail = tail * memory
    tail[0] = 1
    return tail


def active_frames(signal: Tensor, sample_rate: int = 16000, hop_length: int = 256) -> Tensor:
    """Where a signal is active, `(batch, time) -> (batch, time // hop_length + 1)`, bool.

    Frame `k` is centred at sample `k * hop_length` and two hops long, as in a centred STFT. It is active
    when less than 30 dB below the active level (`active_power`).

    Args:
        signal: on any device, floating point within ±1.
        sample_rate: in Hz.
        hop_length: samples from one frame to the next.
    """
    frames = torch.nn.functional.pad(signal, (hop_length, hop_length)).unfold(-1, 2 * hop_length, hop_length)
    power = frames.square().mean(-1)
    return (power > 1e-3 * active_power(signal, sample_rate)[:, None]) & (power > 1e-12)


def mix_echo(
    batch: dict[str, Tensor], sample_rate: int = 16000, hop_length: int = 256
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mix a batch of `EchoSpeech` items.

    Args:
        batch: items collated by a `DataLoader`, on any device.
        sample_rate: in Hz, that of the pools.
        hop_length: STFT hop for the delay track.

    Returns:
        `(mic, farend, clean, delay_seconds)`: microphone, loudspeaker signal and target, each
        `(batch, time)`, and the true bulk delay `(batch, time // hop_length + 1)` of the echo behind
        `farend` in seconds at the centre of each STFT frame, -1 where no echo arrives. For the frames in
        which the far end itself is active see `active_frames(farend)`. The target is the near-end talker
        with the first 50 ms of the room, time-aligned with `mic`.
    """
    scene = Scene(batch["speech"].shape[-1], batch["room"].shape[-1], sample_rate)
    speech, target, noise = near_end(batch, scene)
    echo, arriving = echo_path(batch, scene)
    speech_power, echo_power = active_power(speech, sample_rate), active_power(echo, sample_rate)
    echo_gain = ratio_gain(speech_power, echo_power, batch["ser_db"]) * batch["echo_gain"]
    # Noise is measured against the talker, or against the echo where there is no talker.
    reference = torch.where(speech_power > SILENCE, speech_power, echo_power * echo_gain.square())
    noise_gain = ratio_gain(reference, active_power(noise, sample_rate), batch["snr_db"])
    mic = speech + echo * echo_gain[:, None] + noise * (noise_gain * batch["noise_gain"])[:, None]
    mic, target = capture(mic, target, batch, sample_rate)
    farend = batch["farend"]
    farend = farend * level_gain(farend, batch["far_level_dbfs"], sample_rate)[:, None]
    frames = torch.arange(farend.shape[-1] // hop_length + 1, device=farend.device)
    delay = track(batch, frames * (hop_length / sample_rate))
    audible = active_frames(arriving, sample_rate, hop_length) & (batch["echo_gain"] > 0)[:, None]
    return mic, farend, target, torch.where(audible, delay, -1.0)


def track(batch: dict[str, Tensor], time: Tensor) -> Tensor:
    """Bulk delay of each item at the given times, `(points,) -> (batch, points)`, both in seconds."""
    return delay_track(batch["delay_starts"], batch["delay_seconds"], batch["drift_ppm"], time)


def echo_path(batch: dict[str, Tensor], scene: Scene) -> tuple[Tensor, Tensor]:
    """Echo at the microphone, and the delayed loudspeaker signal without the room, each `(batch, time)`."""
    filters = scene.spectrum(batch["filters"])
    inner = torch.fft.irfft(scene.spectrum(batch["farend"])[:, None] * filters[:, :2], scene.size)
    signal, second = to_peak(inner[..., : scene.samples]).unbind(1)
    played = distort(signal, second, batch["kind"], batch["drive"], batch["bias"])
    time = torch.arange(scene.samples, device=played.device) / scene.sample_rate
    played = delayed(played, track(batch, time) * scene.sample_rate)
    everything = torch.full_like(batch["kind"], scene.sample_rate / 2)
    colour = filters[:, 2] * scene.curve(batch["echo_shape"], everything)
    rooms = scene.spectrum(torch.stack([batch["room"][:, 1], batch["new_echo_room"]], 1))
    before, after = scene.wave((scene.spectrum(played) * colour)[:, None] * rooms).unbind(1)
    start, length = batch["change_seconds"].split(1, 1)
    weight = ((time - start) / length).clamp(0, 1) * batch["changes"][:, None]
    return torch.lerp(before, after, weight), played


def to_peak(signal: Tensor) -> Tensor:
    """A signal scaled to peak 1 along time, `(..., time)`; silence stays silent."""
    return signal / signal.abs().amax(-1, keepdim=True).clamp(min=1e-9)
