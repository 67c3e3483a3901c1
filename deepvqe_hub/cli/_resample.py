"""A resampler for live audio, which waits for 3 ms and not for a block of some 50 ms as one made for files does."""

from __future__ import annotations

from math import ceil, gcd

import numpy as np

CROSSINGS = 48  # of zero on either side, at the lower of the two rates
MAX_WEIGHTS = 1 << 21  # half of the numbers in the table of filters
BETA = 8.0  # of the Kaiser window: images and aliases below -80 dB, flat up to 0.9 of the band


class Resampler:
    """Windowed sinc interpolation: (time, channels) blocks of any size in, what is ready out, aligned with the input.

    Args:
        source, target: rates in Hz.
        channels: of input and output.
    """

    def __init__(self, source: int, target: int, channels: int = 1):
        common = gcd(source, target)
        self.up, self.down = target // common, source // common
        band = min(1.0, self.up / self.down)
        self.half = ceil(CROSSINGS / band)
        if self.up * self.half > MAX_WEIGHTS:
            raise ValueError(
                f"{source} and {target} Hz have too little in common; choose a usual rate, such as 48000 Hz"
            )
        distance = np.arange(1 - self.half, self.half + 1) - np.arange(self.up)[:, None] / self.up
        shape = np.i0(BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / self.half))))
        filters = np.sinc(0.95 * band * distance) * shape
        self.filters = (filters / filters.sum(1, keepdims=True)).astype(np.float32)  # (up, 2 * half)
        self.waiting = np.zeros((self.half - 1, channels), np.float32)
        self.phase = 0  # time of the next output after the first sample that it may need, in 1 / up samples

    def __call__(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """(time, channels) -> (time', channels); `last` gives the rest, to the input's length within a sample."""
        after = [np.zeros((self.half, block.shape[1]), np.float32)] if last else []
        wave = np.concatenate([self.waiting, block, *after])
        ready = len(wave) - 2 * self.half + 1  # input samples with all their neighbours
        count = max(0, -(-(ready * self.up - self.phase) // self.down))
        times = self.phase + np.arange(count) * self.down
        whole, phase = times // self.up, times % self.up
        windows = np.lib.stride_tricks.sliding_window_view(wave, 2 * self.half, 0) if count else wave[:0, :, None]
        out = np.einsum("nck,nk->nc", windows[whole], self.filters[phase]) if count else wave[:0]
        done = min((self.phase + count * self.down) // self.up, len(wave))
        self.phase += count * self.down - done * self.up
        self.waiting = wave[done:].copy()
        return out
