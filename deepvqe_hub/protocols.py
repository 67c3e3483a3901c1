"""What a model and a live stream are, whatever they run on: PyTorch or an exported graph. For annotations alone."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

Wave = TypeVar("Wave")


class Enhancement(Protocol):
    """What whoever handles audio must know of a model and of its streams."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of input and output, in Hz."""

    @property
    def farend(self) -> bool:
        """Whether it takes a loudspeaker signal and cancels its echo."""

    @property
    def latency(self) -> float:
        """Algorithmic latency of a stream in seconds."""


class LiveStream(Enhancement, Protocol[Wave]):
    """Chunks of any size in, the samples that are ready out: `Stream` on tensors, `OnnxStream` on arrays.

    Outputs joined are exactly as long as the inputs and aligned with them.
    """

    @property
    def batch_size(self) -> int:
        """How many signals go through side by side."""

    def __call__(self, chunk: Wave, farend: Wave | None = None) -> Wave:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""

    def flush(self) -> Wave:
        """End the signal: the samples still due. Then `reset`."""

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""


class NumpyStream(LiveStream[np.ndarray], Protocol):
    """A live stream on numpy arrays that tells how many samples it computes at a time."""

    @property
    def call_samples(self) -> int:
        """Samples that one call of the network takes; fewer wait for the next chunk."""


class Model(Enhancement, Protocol):
    """Waveform to waveform: an `EnhancementModel` or an `OnnxModel`."""

    config: dict[str, Any]

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""

    @property
    def finds_delay(self) -> bool:
        """Whether it has the methods `delay` and `delay_distribution` of an `EnhancementModel` with alignment."""

    def stream(self, batch_size: int = ..., sample_rate: int | None = None) -> LiveStream[Any]:
        """A live stream, or `batch_size` of them side by side, at `sample_rate` or the model's."""

    def __call__(self, noisy: Any, farend: Any = None, lengths: Any = None) -> Any:
        """Enhance whole signals, (..., time) -> (..., time), floating point at `sample_rate`.

        Args:
            noisy: microphone signals.
            farend: loudspeaker signals of the same shape for echo-cancelling models; None is silence.
            lengths: for a padded batch (batch, time), relative lengths in 0..1.
        """
