"""Live enhancement by exported graphs on numpy arrays; torch is not needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepvqe_hub.files.samples import chunk_rows
from deepvqe_hub.interruptible import Interruptible
from deepvqe_hub.onnx.description import signal_inputs
from deepvqe_hub.onnx.runtime import Step
from deepvqe_hub.onnx.spectra import Fourier, Framer


class OnnxStream(Interruptible):
    """Live enhancement by an exported graph: the call of `model.stream()`, on numpy arrays.

    Outputs joined are exactly as long as the inputs and aligned with them. For audio at another rate put it into a
    `deepvqe_hub.resampling.ResampledStream`, which has the same call.

    Args:
        path: a file written by `deepvqe_hub.onnx.export`, or its bytes.
        threads: of onnxruntime; one is best for live audio, more help only the largest networks.
        providers: onnxruntime's execution providers, best first; None is the CPU.

    Attributes:
        sample_rate: of input and output, in Hz.
        farend: whether it takes what the loudspeaker plays.
        batch_size: how many signals go through side by side.
        frames: how many frames one call of the graph takes.
        hop_length: samples from one frame to the next.
        call_samples: samples that one call of the graph takes; fewer wait for the next chunk.
        config: of the model that was exported.
        source: the absolute path of the graph, or its bytes: what opens it again.
        latency: algorithmic latency in seconds: how long a sample waits at most until it comes out.

    Shapes: chunks are (time,) for one stream, or (batch_size, time), floating point, nominally within ±1, at
    `sample_rate`. Far-end and microphone chunks are equally long.

    Raises:
        ImportError: without onnxruntime.
        FileNotFoundError, ValueError: for a path that is no exported graph.
        ValueError: for `threads` that are no number from 1 to 1024, or a provider that onnxruntime has not; by calls,
            for a chunk that does not fit; it is not taken in, and the stream goes on with the next.
        RuntimeError: by calls and `flush`, after a call that failed half-way (Ctrl-C, no memory left), until `reset`;
            also while another thread is in the middle of one.
    """

    def __init__(self, path: str | os.PathLike[str] | bytes, *, threads: int = 1, providers: Sequence | None = None):
        self._step = Step(path, threads, providers)
        self.source, info = self._step.graph, self._step.info
        self.config: dict[str, Any] = info["config"]
        self.sample_rate: int = info["sample_rate"]
        self.farend: bool = info["farend"]
        self.batch_size: int = info["batch_size"]
        self.frames: int = info["frames"]
        self._stft, self._waveform = info["stft"], info["input"] == "waveform"
        self.hop_length: int = self._stft["hop_length"]
        self.call_samples = self.frames * self.hop_length
        self._overlap = self._stft["win_length"] - self.hop_length
        self.latency: float = (self._overlap + self.call_samples) / self.sample_rate
        self._flat = self.batch_size == 1  # whether chunks are (time,)
        self.reset()

    def another(self) -> OnnxStream:
        """A stream for another signal in the same session of onnxruntime: it takes the memory of its states alone."""
        stream = OnnxStream.__new__(OnnxStream)
        vars(stream).update(vars(self), _step=self._step.another())
        stream.reset()
        return stream

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""
        shape = (self._stft, self.batch_size, self.frames)
        self._step.reset()
        self._framers = [Framer(*shape) for _ in self._step.inputs]
        self._fourier = None if self._waveform else Fourier(*shape)
        self._skip = 0 if self._stft["padding"] == "none" else self._overlap  # of the padding before the signal
        self._due = 0  # samples taken in and not yet given out
        self._first = True
        super().reset()

    def __call__(self, chunk: np.ndarray, farend: np.ndarray | None = None) -> np.ndarray:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""
        waves = self._inputs(chunk, farend)
        with self._taking():
            self._flat = np.ndim(chunk) == 1
            enhanced = self._run(waves)
        return enhanced[0] if self._flat else enhanced

    def flush(self) -> np.ndarray:
        """End the signal: the samples still due, in the shape of the chunks. Then `reset`."""
        empty = np.zeros((self.batch_size, 0), np.float32)
        with self._taking():
            wave = self._run([empty for _ in self._framers], last=True)
            self.reset()
        return wave[0] if self._flat else wave

    def _run(self, waves: list[np.ndarray], last: bool = False) -> np.ndarray:
        self._due += waves[0].shape[1]
        done = []
        blocks = [framer.blocks(wave, last) for framer, wave in zip(self._framers, waves, strict=True)]
        for parts in zip(*blocks, strict=True):
            out = self._waves(parts) if self._waveform else self._spectra(parts)
            out = out[:, self._skip :]
            self._skip -= min(self._skip, self.call_samples)
            out = out[:, : self._due]
            self._due -= out.shape[1]
            done.append(out)
        return np.concatenate(done, 1) if done else np.zeros((self.batch_size, 0), np.float32)

    def _spectra(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        for part, spec in zip(parts, self._step.inputs, strict=True):
            self._fourier.analyse(part, spec)
        wave = np.empty((self.batch_size, self.call_samples), np.float32)
        self._fourier.synthesise(self._step(), wave)
        return wave

    def _waves(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        for name, part, wave in zip(signal_inputs(self.farend), parts, self._step.inputs, strict=True):
            if self._first:
                self._step.set_state(f"{name}.past", part[:, : self._overlap])
            wave[...] = part[:, self._overlap :]
        self._first = False
        return self._step().copy()

    def _inputs(self, chunk: np.ndarray, farend: np.ndarray | None) -> list[np.ndarray]:
        """What the graph takes, each (batch_size, time), or an error; nothing is taken in yet."""
        if farend is not None and not self.farend:
            raise ValueError("this graph has no far-end input; export an echo-cancelling model, such as deepvqe-aec-s")
        return chunk_rows(chunk, farend, self.batch_size, self.farend)


class OnnxStreams(Interruptible):
    """Several streams of one graph side by side, as one: chunks are (batch_size, time)."""

    def __init__(self, streams: list[OnnxStream]):
        self._streams = streams
        self.batch_size = sum(stream.batch_size for stream in streams)
        first = streams[0]
        self.config, self.sample_rate, self.farend = first.config, first.sample_rate, first.farend
        self.latency, self.frames = first.latency, first.frames
        self.hop_length, self.call_samples = first.hop_length, first.call_samples

    def reset(self) -> None:
        for stream in self._streams:
            stream.reset()
        super().reset()

    def __call__(self, chunk: np.ndarray, farend: np.ndarray | None = None) -> np.ndarray:
        if np.ndim(chunk) != 2 or len(chunk) != self.batch_size:
            raise ValueError(f"chunk has shape {np.shape(chunk)}; these streams take ({self.batch_size}, time)")
        if farend is not None and np.shape(farend) != np.shape(chunk):
            raise ValueError(f"farend chunk {np.shape(farend)} and microphone chunk {np.shape(chunk)} differ in shape")
        count = len(self._streams)
        mics = np.split(np.asarray(chunk), count)
        fars = [None] * count if farend is None else np.split(np.asarray(farend), count)
        # All are checked before one takes its part: a refused chunk leaves no stream ahead of the others.
        waves = [stream._inputs(mic, far) for stream, mic, far in zip(self._streams, mics, fars)]
        with self._taking():
            return np.concatenate([stream._run(wave) for stream, wave in zip(self._streams, waves)])

    def flush(self) -> np.ndarray:
        with self._taking():
            return np.concatenate([np.atleast_2d(stream.flush()) for stream in self._streams])
