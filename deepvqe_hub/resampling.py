"""Live audio at any sample rate: `ResampledStream`, and the `Resampler` that it is made of. Needs no torch.

A resampler made for files waits for a block of some 50 ms; this one waits for 3 ms.
"""

from __future__ import annotations

import numbers
from math import ceil, gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from deepvqe_hub.files.samples import chunk_rows
from deepvqe_hub.interruptible import Interruptible
from deepvqe_hub.limits import LOUDEST, MAX_LIVE_RATE, MIN_RATE, check_farend

if TYPE_CHECKING:
    import torch

    from deepvqe_hub.protocols import LiveStream

CROSSINGS = 48  # of zero on either side, at the lower of the two rates
MAX_WEIGHTS = 1 << 21  # half of the numbers in the table of filters
BLOCK = 1 << 12  # samples in one go; each takes as much memory as its filter
BETA = 8.0  # of the Kaiser window: images and aliases below -80 dB, flat up to 0.9 of the band


class Resampler:
    """Windowed sinc interpolation: (time, channels) blocks of any size in, what is ready out, aligned with the input.

    Args:
        source, target: rates in Hz.
        channels: of input and output.

    Attributes:
        delay: how long a sample waits at most, in seconds.
    """

    def __init__(self, source: int, target: int, channels: int = 1):
        common = gcd(source, target)
        self.up, self.down = target // common, source // common
        band = min(1.0, self.up / self.down)
        self.half, self.channels = ceil(CROSSINGS / band), channels
        self.delay = self.half / source
        if self.up * self.half > MAX_WEIGHTS:
            raise ValueError(
                f"{source} and {target} Hz have too little in common; choose a usual rate, such as 48000 Hz"
            )
        distance = np.arange(1 - self.half, self.half + 1) - np.arange(self.up)[:, None] / self.up
        shape = np.i0(BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / self.half))))
        filters = np.sinc(0.95 * band * distance) * shape
        self.filters = (filters / filters.sum(1, keepdims=True)).astype(np.float32)  # (up, 2 * half)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next block is the beginning of a new signal."""
        self.waiting = np.zeros((self.half - 1, self.channels), np.float32)
        self.phase = 0  # time of the next output after the first sample that it may need, in 1 / up samples

    def __call__(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """(time, channels) -> (time', channels); `last` gives the rest, to the input's length within a sample."""
        after = [np.zeros((self.half, block.shape[1]), np.float32)] if last else []
        wave = np.ascontiguousarray(np.concatenate([self.waiting, block, *after]))
        ready = len(wave) - 2 * self.half + 1  # input samples with all their neighbours
        count = max(0, -(-(ready * self.up - self.phase) // self.down))
        times = self.phase + np.arange(count) * self.down
        whole, phase = times // self.up, times % self.up
        # A view by hand: numpy's own leaves cycles behind with every call, which pile up until they are collected.
        time, channel = wave.strides
        shape = max(0, ready), wave.shape[1], 2 * self.half
        windows = np.ndarray(shape, wave.dtype, wave, 0, (time, channel, time))
        out = np.empty((count, wave.shape[1]), np.float32)
        for start in range(0, count, BLOCK):
            part = slice(start, start + BLOCK)
            np.einsum("nck,nk->nc", windows[whole[part]], self.filters[phase[part]], out=out[part])
        done, self.phase = divmod(self.phase + count * self.down, self.up)  # the next filter begins inside of `wave`
        self.waiting = wave[done:].copy()
        return out


class ResampledStream(Interruptible):
    """A live stream at another sample rate than its model's: `model.stream(sample_rate=48000)`.

    It takes and gives what `Stream` and `OnnxStream` do, at `sample_rate`: chunks of any size in, the samples that are
    ready out; joined, these are exactly as long as the inputs and aligned with them. Tensors give tensors of their type
    and device, arrays give arrays in float32. The model hears the audio at its own rate: content above half of that is
    removed. Resampling is done on the CPU.

    Args:
        stream: a live stream on arrays, at the model's rate.
        sample_rate: of input and output, 1000 to 768000 Hz.
        like: an empty tensor of the type and on the device of the rest that `flush` gives before any chunk has come;
            None for an array.
        loudest: magnitude that samples must not reach.

    Attributes:
        sample_rate: of input and output, in Hz.
        farend: whether it takes what the loudspeaker plays.
        batch_size: how many signals go through side by side.
        latency: algorithmic latency in seconds, with what resampling there and back adds, 3 ms each way at usual rates.

    Shapes: chunks are (time,) for one stream, or (batch_size, time), floating point, nominally within ±1. Far-end and
    microphone chunks are equally long.

    Raises:
        ValueError: for a rate out of range, or one that has too little in common with the model's; by calls, for a
            chunk that does not fit, which is not taken in: the stream goes on with the next.
        RuntimeError: by calls and `flush`, after a call that failed half-way (Ctrl-C, no memory left), until `reset`;
            also while another thread is in the middle of one.
    """

    def __init__(
        self,
        stream: LiveStream[np.ndarray],
        sample_rate: int,
        like: torch.Tensor | None = None,
        loudest: float = LOUDEST,
    ):
        if not (isinstance(sample_rate, numbers.Integral) and MIN_RATE <= sample_rate <= MAX_LIVE_RATE):
            raise ValueError(
                f"sample_rate must be a whole number from {MIN_RATE} to {MAX_LIVE_RATE} Hz, not {sample_rate!r}"
            )
        self.stream, self.sample_rate = stream, int(sample_rate)
        self.farend, self.batch_size = stream.farend, stream.batch_size
        self._like, self._loudest = like, loudest
        self._flat = self.batch_size == 1  # whether chunks are (time,)
        self._signals = 1 + self.farend  # of each stream
        self._there = Resampler(self.sample_rate, stream.sample_rate, self._signals * self.batch_size)
        self._back = Resampler(stream.sample_rate, self.sample_rate, self.batch_size)
        self.latency = self._there.delay + stream.latency + self._back.delay
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""
        for part in (self.stream, self._there, self._back):
            part.reset()
        self._due = 0  # samples taken in and not yet given out
        super().reset()

    def __call__(self, chunk: Any, farend: Any = None) -> Any:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""
        check_farend(self, farend)
        rows = np.concatenate(chunk_rows(chunk, farend, self.batch_size, self.farend, self._loudest))
        with self._taking():
            self._flat = np.ndim(chunk) == 1
            self._like = chunk.new_empty(0) if hasattr(chunk, "new_empty") else None
            self._due += rows.shape[1]
            return self._given(self._back(self._enhanced(self._there(rows.T))))

    def flush(self) -> Any:
        """End the signal: the samples still due, in the shape and type of the chunks. Then `reset`."""
        with self._taking():
            rest = self._enhanced(self._there(np.zeros((0, self._there.channels), np.float32), last=True))
            wave = self._back(np.concatenate([rest, self._columns(self.stream.flush())]), last=True)
            # Lengths are rounded twice, there and back, which may cost the last sample.
            given = self._given(np.pad(wave, ((0, max(0, self._due - len(wave))), (0, 0))))
            self.reset()
        return given

    def _enhanced(self, wave: np.ndarray) -> np.ndarray:
        """(time, signals of all streams) at the model's rate -> (time', batch_size), what is ready of it."""
        if not len(wave):
            return wave[:, : self.batch_size]
        most = np.nextafter(np.float32(self._loudest), np.float32(0))  # filters overshoot
        waves = np.ascontiguousarray(wave.T).reshape(self._signals, self.batch_size, -1).clip(-most, most)
        return self._columns(self.stream(*(part[0] if self._flat else part for part in waves)))

    def _columns(self, wave: np.ndarray) -> np.ndarray:
        return wave.reshape(self.batch_size, -1).T

    def _given(self, wave: np.ndarray) -> Any:
        """(time, batch_size) as chunks are: no more than is due."""
        wave = np.ascontiguousarray(wave[: self._due].T)
        self._due -= wave.shape[1]
        wave = wave[0] if self._flat else wave
        return wave if self._like is None else self._like.new_tensor(wave)
