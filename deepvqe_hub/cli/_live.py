"""The loops behind `deepvqe stream`; devices and files are handed in, so that tests can hand in others."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil, gcd
from typing import TYPE_CHECKING

import numpy as np

from deepvqe_hub.files.samples import from_float, to_float
from deepvqe_hub.limits import MAX_LIVE_RATE, MIN_RATE
from deepvqe_hub.onnx import is_graph
from deepvqe_hub.resampling import ResampledStream, Resampler

if TYPE_CHECKING:
    from deepvqe_hub.protocols import NumpyStream

MAX_BLOCKS = 20_000  # that are counted to find the latency, some minutes of audio
# Of sound files; as samples they would be a bang.
HEADERS = (b"RIFF", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"fLaC", b"OggS", b"ID3")
FORMATS = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}


def open_stream(model: str, threads: int = 1, device: str | None = None) -> NumpyStream:
    """A stream on numpy arrays: an exported graph for a path ending in .onnx, PyTorch for all that `load` knows."""
    if is_graph(model):
        from deepvqe_hub.onnx import OnnxStream

        if device not in (None, "cpu"):
            raise ValueError(f"--device is for PyTorch; the exported graph {model} runs on the CPU")
        stream = OnnxStream(model, threads=threads)
        if stream.batch_size > 1:
            raise ValueError(f"{model} was exported for {stream.batch_size} streams; export it with --batch-size 1")
        return stream
    import torch

    import deepvqe_hub
    from deepvqe_hub.streaming import ArrayStream

    torch.set_num_threads(threads)
    network = deepvqe_hub.load(model, device=device)
    return ArrayStream(network, network.stream())


class Converter:
    """Blocks at any rate in, enhanced samples at that rate out, aligned with the input and in the end as many.

    Args:
        stream: of `open_stream`.
        rate: of input and output, in Hz.
        channels: of the input: 1, or 2 where the second is the far end.
    """

    def __init__(self, stream: NumpyStream, rate: int, channels: int = 1):
        if channels == 2 and not stream.farend:
            raise ValueError("this model has no far-end input; use --channels 1, or a model such as deepvqe-aec-s")
        if not MIN_RATE <= rate <= MAX_LIVE_RATE:
            raise ValueError(f"rate must be from {MIN_RATE} to {MAX_LIVE_RATE} Hz, not {rate}")
        self.stream, self.rate, self.channels = stream, rate, channels
        self._live = stream if rate == stream.sample_rate else ResampledStream(stream, rate)
        self._start()

    def _start(self) -> None:
        self.taken = self.given = 0  # samples
        self.latency = 0  # the most samples that were taken in and not yet given out after a call

    def held(self, block: int) -> int:
        """The most samples that blocks of this size leave waiting: the `latency` they lead to in the long run.

        Counted block by block, without computing anything, until blocks and frames stand to each other as at first.
        """
        size, rate = self.stream.call_samples, self.stream.sample_rate
        overlap = round(self.stream.latency * rate) - size
        there, back = None, None
        if self.rate != rate:
            there, back = Resampler(self.rate, rate, channels=0), Resampler(rate, self.rate, channels=0)

        def through(resampler: Resampler | None, count: int) -> int:
            return len(resampler(np.zeros((count, 0), np.float32))) if resampler else count

        common = gcd(self.rate, rate)
        size_ratio, block_ratio = size * (self.rate // common), block * (rate // common)
        cycle = min(size_ratio // gcd(size_ratio, block_ratio), MAX_BLOCKS)
        beginning = ceil(2 * self.stream.latency * self.rate / block) + 10
        taken = heard = done = given = most = 0
        for _ in range(beginning + cycle):
            taken += block
            heard += through(there, block)
            ready = max(done, heard // size * size - overlap)
            given += min(through(back, ready - done), taken - given)
            done, most = ready, max(most, taken - given)
        return most

    def warm_up(self, block: int, count: int = 10) -> None:
        """Compute some blocks of silence, as the first take longer; then begins anew."""
        for _ in range(count):
            self(np.zeros((block, self.channels), np.float32))
        self._live.reset()
        self._start()

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(time, channels) in float32 -> (time,) samples that are ready."""
        self.taken += len(block)
        out = self._live(*(np.ascontiguousarray(channel) for channel in block.T))
        self.given += len(out)
        self.latency = max(self.latency, self.taken - self.given)
        return out

    def finish(self) -> np.ndarray:
        """The samples still due."""
        out = self._live.flush()
        self.given += len(out)
        return out


def pipe(converter: Converter, read: Callable[[int], bytes], write: Callable[[bytes], None], fmt: str) -> list[str]:
    """Raw PCM from `read` (at most so many bytes, none at the end) to `write`, which gets what is ready at once.

    Returns:
        What was strange about the input, a sentence each.

    Raises:
        ValueError: the input has the header of a sound file.
    """
    dtype, channels = FORMATS[fmt], converter.channels
    size, rest, replaced = dtype.itemsize * channels, b"", 0
    while data := read(1 << 16):
        data = rest + data
        if not converter.taken and data.startswith(HEADERS):
            raise ValueError("the input is a sound file and no raw PCM; deepvqe enhance - takes it as it is")
        whole = len(data) - len(data) % size
        rest = data[whole:]
        if whole:
            replaced += int((~credible(np.frombuffer(data[:whole], dtype))).sum())
            write(encode(converter(decode(data[:whole], dtype, channels)), dtype))
    write(encode(converter.finish(), dtype))
    strange = []
    if rest:
        strange.append(f"{len(rest)} bytes at the end are no whole sample; are format and channels right?")
    if replaced:
        strange.append(f"{replaced} samples that were NaN or beyond any sound became silence; is the format right?")
    return strange


def decode(data: bytes, dtype: np.dtype, channels: int) -> np.ndarray:
    """Interleaved samples as (time, channels), nominally within ±1; those that are not credible become silence."""
    return plausible(to_float(np.frombuffer(data, dtype).reshape(-1, channels)))


def credible(block: np.ndarray) -> np.ndarray:
    """Which samples are numbers, and not beyond any sound, as in a garbled stream."""
    return np.abs(block) < 1e6


def plausible(block: np.ndarray) -> np.ndarray:
    """Floating-point samples as float32, with silence in place of those that are not `credible`."""
    return np.where(credible(block), block, 0).astype(np.float32)


def encode(wave: np.ndarray, dtype: np.dtype) -> bytes:
    return from_float(wave, dtype).tobytes()


class Live:
    """From a capturing to a playing device, block by block, with constant latency.

    A device has `read(n) -> ((n, channels) array, overflowed)` and `write((n, 1) array) -> underflowed`, both of
    which wait until it is time; `sounddevice.Stream` is one.
    """

    def __init__(self, converter: Converter, device, block: int, clock: Callable[[], float] = time.perf_counter):
        self.converter, self.device, self.block, self.clock = converter, device, block, clock
        self.bypass = False
        self.blocks = self.missed = 0
        self.load = self.peak_load = 0.0  # share of real time spent computing: lately, and at most
        self.level_in = self.level_out = -100.0  # dB relative to full scale
        converter.warm_up(block)
        self.silence = converter.held(block)  # samples before the first output, the latency of the loop
        self._ready = np.zeros(self.silence, np.float32)  # enhanced, and not yet played
        self._dry = self._ready  # the same times of the input, for bypass

    def step(self) -> None:
        """Record, enhance and play one block."""
        data, overflowed = self.device.read(self.block)
        start = self.clock()
        data = plausible(np.reshape(data, (self.block, -1)))
        enhanced = self.converter(data)
        self._ready = np.concatenate([self._ready, enhanced])
        self._dry = np.concatenate([self._dry, data[:, 0]])
        # Should too little be ready after all, silence goes first, and stays the delay from then on.
        missing = max(0, self.block - len(self._ready))
        if missing:
            self.silence += missing
            self._ready = np.pad(self._ready, (missing, 0))
            self._dry = np.pad(self._dry, (missing, 0))
        source = self._dry if self.bypass else self._ready
        out = np.clip(source[: self.block], -1, 1)
        self._ready, self._dry = self._ready[self.block :].copy(), self._dry[self.block :].copy()
        load = (self.clock() - start) * self.converter.rate / self.block
        underflowed = self.device.write(np.ascontiguousarray(out[:, None]))
        self.blocks += 1
        self.missed += bool(overflowed or underflowed or load > 1)
        self.load += (load - self.load) * min(1.0, 1 / min(self.blocks, 50))
        self.peak_load = max(self.peak_load, load) if self.blocks > 5 else load  # the first calls warm up
        self.level_in, self.level_out = level(data[:, 0]), level(out)

    def status(self) -> str:
        """One line for the terminal."""
        bars = " ".join(
            f"{name} {'#' * round((max(value, -60) + 60) / 4):15s} {value:5.0f} dB"
            for name, value in (("in", self.level_in), ("out", self.level_out))
        )
        mode = "BYPASS" if self.bypass else "on    "
        return f"{mode} {bars}  load {self.load:4.0%} (peak {self.peak_load:4.0%})  missed {self.missed}"


def level(wave: np.ndarray) -> float:
    """Root mean square in dB relative to full scale, at least -100."""
    return float(10 * np.log10(np.square(wave, dtype=np.float64).mean() + 1e-10))
