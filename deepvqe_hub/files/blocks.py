"""The way of a signal through a model, as generators over blocks: to the model's rate, through its stream, and back.

Shapes: blocks are numpy float32, (time, channels); each channel is a stream of its own.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepvqe_hub.enhancement import EnhancementModel, uncompiled
from deepvqe_hub.files.samples import fitted
from deepvqe_hub.limits import check_farend
from deepvqe_hub.streaming import ArrayStream

if TYPE_CHECKING:
    from deepvqe_hub.protocols import LiveStream, Model

Blocks = Iterable[np.ndarray]


def warn_of_length(farend: str, longer: float, audio: str, stacklevel: int) -> None:
    """Say that a far end, which is `longer` seconds longer than the audio or so much shorter, is made to fit."""
    change = "longer: cut" if longer > 0 else "shorter: padded with silence"
    warnings.warn(f"{farend} is {abs(longer):.3f} s {change} to fit {audio}", stacklevel=stacklevel + 1)


def check_model(model: Model, farend: object) -> Model:
    """The model itself; refuses what is no model, and a far end, if there is one, for a model that takes none."""
    model = uncompiled(model)
    if not callable(getattr(model, "stream", None)):
        raise TypeError(
            f"a model is needed, what deepvqe_hub.load returns or the .model of an Enhancer, not {type(model).__name__}"
        )
    check_farend(model, farend)
    return model


def dry_share(mix: float, attenuation_limit_db: float | None) -> float:
    """The part of the input that stays in the output: `out = enhanced + share * (input - enhanced)`.

    Args:
        mix: 1 is the enhanced signal, 0 the input.
        attenuation_limit_db: what the model removes stays in the enhanced signal, this much weaker; None removes it.
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"mix must lie between 0 (the input) and 1 (the enhanced signal), not {mix}")
    if attenuation_limit_db is not None and not attenuation_limit_db >= 0:
        raise ValueError(f"the attenuation limit must be 0 dB or more, not {attenuation_limit_db}")
    left = 0.0 if attenuation_limit_db is None else 10 ** (-attenuation_limit_db / 20)
    return 1 - mix * (1 - left)


def enhanced_blocks(
    model: Model,
    blocks: Blocks,
    sample_rate: int,
    channels: int,
    farend: FarEnd | None = None,
    dry: float = 0.0,
) -> Iterator[np.ndarray]:
    """Enhance a signal block by block; the blocks that come out, joined, are as long as those that go in.

    Args:
        blocks: the signal; any block lengths, each finite and nominally within ±1.
        sample_rate: of `blocks`, in Hz; any.
        farend: what the loudspeaker played, for echo-cancelling models.
        dry: share of the input in the output, see `dry_share`.
    """
    taken, ready = Fifo(channels), Fifo(channels)

    def kept() -> Iterator[np.ndarray]:
        for block in blocks:
            taken.put(block)
            yield block

    wave = resampled(kept(), sample_rate, model.sample_rate, channels)
    for block in resampled(_live(model, wave, channels, farend), model.sample_rate, sample_rate, channels):
        ready.put(block)
        count = min(len(ready), len(taken))  # resampling back may give a few samples more than there were
        wet, noisy = ready.get(count), taken.get(count)
        yield wet if dry == 0 else (1 - dry) * wet + dry * noisy


def resampled(blocks: Blocks, source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """The signal at another rate, without delay; never shorter than the exact length."""
    if source == target:
        yield from blocks
        return
    import soxr

    resampler = soxr.ResampleStream(source, target, channels, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    # A little silence after the end, so that rounding twice, there and back, does not cost the last sample.
    yield resampler.resample_chunk(np.zeros((math.ceil(source / target) + 1, channels), np.float32), last=True)


def _live(model: Model, blocks: Blocks, channels: int, farend: FarEnd | None) -> Iterator[np.ndarray]:
    """Blocks at the model's rate through its stream."""
    if isinstance(model, EnhancementModel) and not model.network.streams:
        yield _at_once(model, np.concatenate(list(blocks)), farend)
        return
    rows = channels
    stream: ArrayStream | LiveStream[np.ndarray]
    if isinstance(model, EnhancementModel):
        stream = ArrayStream(model, model.stream(channels))
    else:  # an exported graph, for so many signals side by side: silence joins those that are too few
        stream = model.stream()
        rows = math.ceil(channels / stream.batch_size) * stream.batch_size
        stream = stream if rows == stream.batch_size else model.stream(rows)
    silence = ((0, 0), (0, rows - channels))
    for block in blocks:
        far = None if farend is None else np.pad(farend.get(len(block)), silence).T
        yield stream(np.pad(block, silence).T, far).T[:, :channels]
    yield stream.flush().reshape(rows, -1).T[:, :channels]


@torch.inference_mode()
def _at_once(model: EnhancementModel, wave: np.ndarray, farend: FarEnd | None) -> np.ndarray:
    """A whole signal through a network that needs it so, in evaluation mode."""
    device = next((parameter.device for parameter in model.parameters()), "cpu")
    waves = [wave] if farend is None else [wave, farend.get(len(wave))]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        enhanced = model(*(torch.from_numpy(np.ascontiguousarray(w.T)).to(device) for w in waves))
    finally:
        for module in training:  # some of the model may have been in evaluation mode
            module.training = True
    return enhanced.float().cpu().numpy().T


class FarEnd:
    """The loudspeaker signal at the model's rate, handed out in the pieces the microphone asks for.

    It is `fitted` to the microphone's: after its end comes silence.
    """

    def __init__(self, blocks: Blocks, sample_rate: int, channels: int, *, target_rate: int, target_channels: int):
        self._blocks = iter(resampled(blocks, sample_rate, target_rate, channels))
        self._channels = target_channels
        self._waiting = Fifo(channels)

    def get(self, count: int) -> np.ndarray:
        """The next `count` samples, (count, target_channels)."""
        while len(self._waiting) < count:
            block = next(self._blocks, None)
            if block is None:
                break
            self._waiting.put(block)
        return fitted(self._waiting.get(min(count, len(self._waiting))), count, self._channels)


class Fifo:
    """Samples that wait, first in, first out."""

    def __init__(self, channels: int):
        self._blocks: deque[np.ndarray] = deque()
        self._empty = np.zeros((0, channels), np.float32)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._length += len(block)

    def get(self, count: int) -> np.ndarray:
        """The `count` oldest samples; there must be that many."""
        self._length -= count
        parts = [self._empty]
        while count:
            block = self._blocks.popleft()
            parts.append(block[:count])
            if len(block) > count:
                self._blocks.appendleft(block[count:])
            count -= len(parts[-1])
        return np.concatenate(parts)
