"""Waveform in, waveform out, chunk by chunk: `Stream`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from deepvqe_hub.interruptible import Interruptible
from deepvqe_hub.limits import LOUD, LOUDEST, LOUDEST_HALF, check_farend, check_peak
from deepvqe_hub.stft import Analysis, Synthesis

if TYPE_CHECKING:
    from deepvqe_hub.enhancement import EnhancementModel
    from deepvqe_hub.protocols import LiveStream


class Stream(Interruptible):
    """Live enhancement: chunks of any size in, the samples that are ready out.

    Outputs joined are exactly as long as the inputs and aligned with them. Made by `EnhancementModel.stream`, with a
    copy of the weights; streams that are made of one network share them.

    Args:
        model: what the stream is of.
        network: the `for_inference()` of the model's network.
        batch_size: how many signals go through side by side.

    Attributes:
        sample_rate: of input and output, in Hz.
        farend: whether it takes what the loudspeaker plays.
        latency: algorithmic latency in seconds.

    Shapes: chunks are (time,) for one stream, or (batch_size, time), and so is what comes out. Far-end and microphone
    chunks are equally long.

    Raises:
        ValueError: by calls, for a chunk that does not fit; it is not taken in, and the stream goes on with the next.
        RuntimeError: by calls and `flush`, after a call that failed half-way (Ctrl-C, no memory left), until `reset`;
            also while another thread is in the middle of one.
    """

    def __init__(self, model: EnhancementModel, network: nn.Module, batch_size: int = 1):
        self.model, self.network, self.batch_size = model, network, batch_size
        self.sample_rate, self.farend, self.latency = model.sample_rate, model.farend, model.latency
        self._flat, self._dtype = batch_size == 1, torch.float32  # whether chunks are (time,), and their type
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""
        stft = self.model.stft
        self._analysis, self._far_analysis, self._synthesis = Analysis(stft), Analysis(stft), Synthesis(stft)
        self._state = None
        self._due = 0  # samples taken in and not yet given out
        super().reset()

    def __call__(self, chunk: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""
        wave = self._checked(chunk, "chunk")
        far = None if farend is None else self._checked(farend, "farend")
        if far is not None and far.shape != wave.shape:
            raise ValueError(
                f"farend chunk {tuple(farend.shape)} and microphone chunk {tuple(chunk.shape)} differ in shape"
            )
        check_farend(self.model, farend)
        with self._taking():
            self._flat, self._dtype = chunk.dim() == 1, chunk.dtype
            enhanced = self._infer(wave, far).to(chunk.dtype)
        return enhanced[0] if self._flat else enhanced

    def flush(self) -> torch.Tensor:
        """End the signal: the samples still due, in the shape and type of the chunks. Then `reset`."""
        weight = next(self.network.parameters(), torch.empty(0))
        nothing = weight.new_zeros(self.batch_size, 0, dtype=signal_dtype(precision(self.network)))
        with self._taking():
            wave = self._infer(nothing, None, last=True).to(self._dtype)
            self.reset()
        return wave[0] if self._flat else wave

    def _infer(self, wave: torch.Tensor, far: torch.Tensor | None, last: bool = False) -> torch.Tensor:
        """`process` without gradients. A copy, because others may not write to what inference mode has made."""
        with torch.inference_mode():
            enhanced = self.process(wave, far, last)
        return enhanced.clone()

    def process(self, wave: torch.Tensor, far: torch.Tensor | None, last: bool = False) -> torch.Tensor:
        """Enhance the next samples of a batch, gradients and all; a call of the stream checks its chunk and does this.

        Args:
            wave: what `as_batch` returns, (batch, time).
            far: likewise, of the same shape; None is silence.
            last: whether the signal ends here, as it does at once when a model is called with the whole of it.

        Returns:
            The samples that are ready, (batch, fewer or more than time).
        """
        self._due += wave.shape[1]
        spec = self._analysis(wave, last)
        if self.model.farend:  # a far end may come and go: where it is not given it is silent
            far = self._far_analysis(torch.zeros_like(wave) if far is None else far, last)
        if spec.shape[2] == 0:
            return wave[:, :0]
        dtype = precision(self.network)
        spec, self._state = self.network(spec.to(dtype), None if far is None else far.to(dtype), self._state)
        wave = self._synthesis(spec.to(wave.dtype))[:, : self._due]
        self._due -= wave.shape[1]
        return wave

    def _checked(self, chunk: torch.Tensor, name: str) -> torch.Tensor:
        # What is for whole arrays would begin a new signal with every chunk.
        wave = as_batch(chunk, name, precision(self.network), numpy=f"torch.from_numpy({name})")
        if chunk.dim() > 2 or wave.shape[0] != self.batch_size:
            raise ValueError(f"{name} has shape {tuple(chunk.shape)}; this stream takes ({self.batch_size}, time)")
        device = next((parameter.device for parameter in self.network.parameters()), wave.device)
        if wave.device != device:
            where = f"{name} is on {wave.device}, this stream on {device}"
            raise ValueError(f"{where}, where its model was when it was made")
        return wave


class ArrayStream:
    """A stream that takes tensors, called with arrays, (batch_size, time) or (time,), as an `OnnxStream` is."""

    def __init__(self, model: EnhancementModel, stream: LiveStream[torch.Tensor]):
        self.device, self.stream = next((p.device for p in model.parameters()), "cpu"), stream
        self.sample_rate, self.farend, self.latency = model.sample_rate, model.farend, model.latency
        self.batch_size, self.call_samples = stream.batch_size, model.stft.hop_length

    def __call__(self, chunk: np.ndarray, farend: np.ndarray | None = None) -> np.ndarray:
        return self._array(self.stream(self._tensor(chunk), None if farend is None else self._tensor(farend)))

    def flush(self) -> np.ndarray:
        return self._array(self.stream.flush())

    def reset(self) -> None:
        self.stream.reset()

    def _tensor(self, wave: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(wave)).to(self.device)  # in float32, whatever the network has

    def _array(self, wave: torch.Tensor) -> np.ndarray:
        return wave.float().cpu().numpy()


def precision(network: nn.Module) -> torch.dtype:
    """The type of a network's weights. A replica of `nn.DataParallel` has them, too, though not as parameters."""
    weights = (getattr(module, "weight", None) for module in network.modules())
    # One after the other, as a stream asks for every chunk and the first will do.
    found = (value.dtype for value in chain(network.parameters(), weights) if isinstance(value, torch.Tensor))
    return next(found, torch.float32)


def signal_dtype(network: torch.dtype) -> torch.dtype:
    """The type of signals for a network of this type: Fourier transforms want single precision at least."""
    return torch.float64 if network == torch.float64 else torch.float32


def loudest(network: torch.dtype) -> float:
    """The magnitude that samples for a network of this type must not reach."""
    return LOUDEST_HALF if network == torch.float16 else LOUDEST


def check_wave(wave: object, name: str, numpy: str = "deepvqe_hub.enhance") -> None:
    """Raise a ValueError that calls it `name` for what is no tensor of samples in floating point.

    Args:
        numpy: what the error recommends for arrays.
    """
    if not isinstance(wave, torch.Tensor):
        raise ValueError(f"{name} is a {type(wave).__name__}; a torch.Tensor is needed (numpy: {numpy})")
    if not wave.is_floating_point():
        raise ValueError(f"{name} has dtype {wave.dtype}; convert it to floating point within ±1")
    if wave.dim() == 0:
        raise ValueError(f"{name} is a single number; its last dimension must be time")


def as_batch(wave: torch.Tensor, name: str, dtype: torch.dtype, numpy: str = "deepvqe_hub.enhance") -> torch.Tensor:
    """Signals, (..., time), as (batch, time) in the precision of the front end for a network of type `dtype`.

    Raises:
        ValueError: which calls them `name`, as `check_wave`, and for samples that are no sound (not in a program that
            is being exported or recorded).
    """
    check_wave(wave, name, numpy)
    wave = wave.to(signal_dtype(dtype))  # what soundfile reads is double unless told otherwise
    # A program is exported, and a CUDA graph recorded, without numbers to look at.
    recorded = torch.compiler.is_exporting() or (wave.is_cuda and torch.cuda.is_current_stream_capturing())
    if not recorded and wave.numel() and not (peak := wave.abs().amax()) <= LOUD:
        check_peak(float(peak), name, loudest(dtype), "torch.nan_to_num")
    return wave[None] if wave.dim() == 1 else wave.flatten(0, -2)
