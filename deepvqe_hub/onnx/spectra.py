"""Framing and Fourier transforms of a live signal on numpy arrays; the same numbers as `deepvqe_hub.stft`.

Kept apart from it so that an exported graph runs where torch is not installed.
"""

from __future__ import annotations

import numpy as np

WINDOWS = {
    "hann": lambda size: 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size),
    "sqrt_hann": lambda size: np.sqrt(WINDOWS["hann"](size)),
    "sine": lambda size: np.sin((np.arange(size) + 0.5) * np.pi / size),
}


def windows(stft: dict) -> tuple[np.ndarray, np.ndarray]:
    """Analysis and synthesis window of the settings of a `deepvqe_hub.stft.STFT`, in float64."""
    size, hop = stft["win_length"], stft["hop_length"]
    window = WINDOWS[stft["window"]](size)
    power = np.tile(np.square(window).reshape(-1, hop).sum(0), size // hop)
    return window * stft["scale"], window / (power * stft["scale"])


class Framer:
    """Cuts a live signal into what a call of the graph takes: `frames` frames, which overlap.

    The signal is preceded and followed by padding ("zeros", or "reflect": its own mirror image), as in the model; with
    "none" the first frame begins with the signal.
    """

    def __init__(self, stft: dict, batch_size: int, frames: int):
        self.overlap = stft["win_length"] - stft["hop_length"]
        self.reflect = stft["padding"] == "reflect"
        self.size = frames * stft["hop_length"]
        self.waiting = np.zeros((batch_size, 0), np.float32)  # what the next block begins with
        self.recent = self.waiting
        self.started = stft["padding"] == "none"

    def blocks(self, wave: np.ndarray, last: bool = False):
        """Yield views of (batch, overlap + frames * hop) samples; `last` pads so that every sample comes out."""
        if self.reflect:
            self.recent = np.concatenate([self.recent, wave], 1)[:, -self.overlap - 1 :]
        waiting = np.concatenate([self.waiting, wave], 1)
        if not self.started and (last or waiting.shape[1] > self.overlap):
            waiting = np.concatenate([self._edge(waiting), waiting], 1)
            self.started = True
        if last:
            end = self._edge(self.recent[:, ::-1])[:, ::-1]
            waiting = np.concatenate([waiting, end], 1)
            waiting = np.pad(waiting, ((0, 0), (0, (self.overlap - waiting.shape[1]) % self.size)))
        start = 0
        if self.started:
            while start + self.overlap + self.size <= waiting.shape[1]:
                yield waiting[:, start : start + self.overlap + self.size]
                start += self.size
        self.waiting = waiting[:, start:].copy()

    def _edge(self, wave: np.ndarray) -> np.ndarray:
        """What stands before `wave`: its mirror image about the first sample, or zeros."""
        if self.reflect and wave.shape[1] > self.overlap:
            return wave[:, self.overlap : 0 : -1]
        return np.zeros((wave.shape[0], self.overlap), np.float32)


class Fourier:
    """Spectra of the frames of a block, and overlap-add of spectra, into arrays given by the caller."""

    def __init__(self, stft: dict, batch_size: int, frames: int):
        self.frames, self.size, self.hop = frames, stft["win_length"], stft["hop_length"]
        window, dual = windows(stft)
        self.window, self.dual = window.astype(np.float32), dual.astype(np.float32)
        self.tail = np.zeros((batch_size, self.size - self.hop), np.float32)

    def analyse(self, block: np.ndarray, spec: np.ndarray) -> None:
        """(batch, overlap + frames * hop) samples into `spec`, (batch, bins, frames, 2)."""
        for t in range(self.frames):
            frame = np.fft.rfft(block[:, t * self.hop : t * self.hop + self.size] * self.window)
            spec[:, :, t, 0], spec[:, :, t, 1] = frame.real, frame.imag

    def synthesise(self, spec: np.ndarray, wave: np.ndarray) -> None:
        """(batch, bins, frames, 2) into the samples that are complete, `wave`, (batch, frames * hop)."""
        for t in range(self.frames):
            frame = np.fft.irfft(spec[:, :, t, 0] + 1j * spec[:, :, t, 1], n=self.size).astype(np.float32) * self.dual
            frame[:, : -self.hop] += self.tail
            wave[:, t * self.hop : (t + 1) * self.hop] = frame[:, : self.hop]
            self.tail[:] = frame[:, self.hop :]
