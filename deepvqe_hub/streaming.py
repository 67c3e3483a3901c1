"""Waveform in, waveform out, chunk by chunk: `Stream`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn

from deepvqe_hub.stft import Analysis, Synthesis

if TYPE_CHECKING:
    from deepvqe_hub.enhancement import EnhancementModel


class Stream:
    """Live enhancement: chunks of any size in, the samples that are ready out.

    Outputs joined are exactly as long as the inputs and aligned with them. Made by `EnhancementModel.stream`.

    Shapes: chunks are (time,) for one stream, or (batch_size, time), and so is what comes out. Far-end and microphone
    chunks are equally long.
    """

    def __init__(self, model: EnhancementModel, network: nn.Module, batch_size: int = 1):
        self.model, self.network, self.batch_size = model, network, batch_size
        self._flat, self._dtype = batch_size == 1, torch.float32  # whether chunks are (time,), and their type
        self.reset()

    @property
    def sample_rate(self) -> int:
        """Of input and output, in Hz."""
        return self.model.sample_rate

    @property
    def farend(self) -> bool:
        """Whether it takes what the loudspeaker plays."""
        return self.model.farend

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds."""
        return self.model.latency

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal."""
        stft = self.model.stft
        self._analysis, self._far_analysis, self._synthesis = Analysis(stft), Analysis(stft), Synthesis(stft)
        self._state = None
        self._due = 0  # samples taken in and not yet given out

    def __call__(self, chunk: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
        """Take in a chunk (and what the loudspeaker plays meanwhile); return the samples that are ready, maybe none."""
        wave = self._checked(chunk, "chunk")
        far = None if farend is None else self._checked(farend, "farend")
        if far is not None and far.shape != wave.shape:
            raise ValueError(
                f"farend chunk {tuple(farend.shape)} and microphone chunk {tuple(chunk.shape)} differ in shape"
            )
        self._flat, self._dtype = chunk.dim() == 1, chunk.dtype
        enhanced = self._step(wave, far).to(chunk.dtype)
        return enhanced[0] if self._flat else enhanced

    def flush(self) -> torch.Tensor:
        """End the signal: the samples still due, in the shape and type of the chunks. Then `reset`."""
        weight = next(self.network.parameters(), torch.empty(0))
        wave = self.model._checked(weight.new_zeros(self.batch_size, 0), "chunk")
        wave = self._step(wave, None, last=True).to(self._dtype)
        self.reset()
        return wave[0] if self._flat else wave

    def _step(self, wave: torch.Tensor, far: torch.Tensor | None, last: bool = False) -> torch.Tensor:
        """`step` without gradients. A copy, because others may not write to what inference mode has made."""
        with torch.inference_mode():
            enhanced = self.step(wave, far, last)
        return enhanced.clone()

    def step(self, wave: torch.Tensor, far: torch.Tensor | None, last: bool = False) -> torch.Tensor:
        """The work itself, on (batch, time); offline it is called with the whole signal as the last chunk."""
        if far is not None and not self.model.farend:
            raise ValueError("this model has no far-end input; load an echo-cancelling one, such as deepvqe-aec-s")
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
        wave = self.model._checked(chunk, name)
        if chunk.dim() > 2 or wave.shape[0] != self.batch_size:
            raise ValueError(f"{name} has shape {tuple(chunk.shape)}; this stream takes ({self.batch_size}, time)")
        return wave


def precision(network: nn.Module) -> torch.dtype:
    """The type of a network's weights. A replica of `nn.DataParallel` has them, too, though not as parameters."""
    weights = (getattr(module, "weight", None) for module in network.modules())
    # One after the other, as a stream asks for every chunk and the first will do.
    found = (value.dtype for value in chain(network.parameters(), weights) if isinstance(value, torch.Tensor))
    return next(found, torch.float32)
