"""Whole signals through exported graphs, arrays or tensors; torch is not needed."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from deepvqe_hub.files.samples import as_numpy
from deepvqe_hub.limits import check_layout, check_same_shape, ends_of
from deepvqe_hub.onnx.streams import OnnxStream, OnnxStreams
from deepvqe_hub.resampling import ResampledStream

if TYPE_CHECKING:
    import torch

Audio = TypeVar("Audio", bound="np.ndarray | torch.Tensor")

SECONDS_AT_ONCE = 4  # of a long signal in one go


class OnnxModel:
    """Whole signals through an exported graph; looks like an `EnhancementModel`.

    Threads may share it. All its calls and streams are in one session of onnxruntime.

    Args:
        path, threads, providers: as for `OnnxStream`.

    Attributes:
        sample_rate: of input and output, in Hz.
        farend: whether it takes a loudspeaker signal and cancels its echo.
        latency: algorithmic latency of a stream in seconds.
        hop_length: samples from one frame to the next.
        config: of the model that was exported.
        finds_delay: False, as the graph tells no delays.

    Raises:
        ImportError, FileNotFoundError, ValueError: as `OnnxStream`.
    """

    def __init__(self, path: str | os.PathLike[str] | bytes, *, threads: int = 1, providers: Sequence | None = None):
        self._stream = OnnxStream(path, threads=threads, providers=providers)
        self._options = {"path": self._stream.source, "threads": threads, "providers": providers}
        self.config, self.sample_rate = self._stream.config, self._stream.sample_rate
        self.farend, self.latency = self._stream.farend, self._stream.latency
        self.hop_length = self._stream.hop_length
        self.finds_delay = False

    def stream(
        self, batch_size: int | None = None, sample_rate: int | None = None
    ) -> OnnxStream | OnnxStreams | ResampledStream:
        """A live stream of its own.

        Args:
            batch_size: how many signals go through side by side, a multiple of those that the graph takes; None is as
                many as it takes.
            sample_rate: of input and output, 1000 to 768000 Hz; None is the graph's. At another one chunks are
                resampled there and back without a seam; see `deepvqe_hub.resampling.ResampledStream`.

        Raises:
            ValueError: for a `batch_size` that is no such multiple, or a `sample_rate` out of range or with too little
                in common with the graph's.
        """
        stream = self._live(batch_size)
        return stream if sample_rate in (None, self.sample_rate) else ResampledStream(stream, sample_rate)

    def _live(self, batch_size: int | None) -> OnnxStream | OnnxStreams:
        size = self._stream.batch_size
        if batch_size is None or batch_size == size:
            return self._stream.another()
        if batch_size < 1 or batch_size % size:
            raise ValueError(f"this graph takes {size} signals at a time; batch_size {batch_size} is no multiple")
        return OnnxStreams([self._stream.another() for _ in range(batch_size // size)])

    def __reduce__(self):  # for other processes: a session cannot be copied, but opened again
        return functools.partial(OnnxModel, **self._options), ()

    def __call__(
        self,
        noisy: Audio,
        farend: np.ndarray | torch.Tensor | None = None,
        lengths: np.ndarray | torch.Tensor | Sequence[float] | None = None,
    ) -> Audio:
        """Enhance whole signals, (..., time) -> (..., time); arrays give arrays, tensors give tensors, of their type.

        Args:
            noisy: microphone signals, floating point, nominally within ±1, at `sample_rate`.
            farend: loudspeaker signals of the same shape for echo-cancelling graphs; None is silence.
            lengths: for a padded batch (batch, time), relative lengths in 0..1 in single precision or better, as in
                SpeechBrain; what lies beyond is ignored and comes out as zeros.

        Raises:
            ValueError: for integers, NaN, Inf or numbers beyond 1e30, or shapes that do not fit.
        """
        if type(noisy).__module__.startswith("torch"):
            import torch

            return torch.from_numpy(self(as_numpy(noisy), farend, lengths)).to(noisy)
        noisy, farend = np.asarray(noisy), None if farend is None else as_numpy(farend)
        if noisy.ndim == 0:
            raise ValueError("noisy is a single number; its last dimension must be time")
        check_layout(noisy, "noisy")
        check_same_shape(noisy, farend)
        if lengths is not None:
            return self._padded(noisy, farend, lengths)
        if noisy.size == 0:
            return noisy.copy()
        # Signals that do not fill the graph's batch are joined by silence.
        size, time = self._stream.batch_size, noisy.shape[-1]
        flat = noisy.reshape(-1, time)
        far = None if farend is None else farend.reshape(-1, time)
        enhanced = np.empty(flat.shape, np.float32)
        for start in range(0, len(flat), size):
            rows = slice(start, start + size)
            enhanced[rows] = self._enhance(flat[rows], None if far is None else far[rows])
        return enhanced.reshape(noisy.shape).astype(noisy.dtype, copy=False)

    def _padded(self, noisy: np.ndarray, farend, lengths) -> np.ndarray:
        """A batch of signals of different lengths, each as if it were alone."""
        enhanced = np.zeros_like(noisy)
        for row, end in enumerate(ends_of(lengths, noisy)):
            part = (row, slice(end))
            enhanced[part] = self(noisy[part], None if farend is None else farend[part])
        return enhanced

    def _enhance(self, noisy: np.ndarray, farend: np.ndarray | None) -> np.ndarray:
        stream, count = self._stream.another(), len(noisy)
        fill = ((0, stream.batch_size - count), (0, 0))
        block, out, done = SECONDS_AT_ONCE * self.sample_rate, np.empty(noisy.shape, np.float32), 0
        for start in range(0, noisy.shape[1], block):
            part = slice(start, start + block)
            far = () if farend is None else (np.pad(farend[:, part], fill),)
            ready = stream(np.pad(noisy[:, part], fill), *far)[:count]
            out[:, done : done + ready.shape[1]] = ready
            done += ready.shape[1]
        if noisy.shape[1]:
            out[:, done:] = stream.flush()[:count]
        return out
