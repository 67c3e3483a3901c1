"""Spectral front end: analysis and synthesis of waveforms, offline and streaming by the same code.

Frame k covers the samples up to (k + 1) * hop_length, so the spectrum is causal; a signal is preceded by
win_length - hop_length samples of padding, so that its first sample lies in as many frames as every other. This is the
frame grid of `torch.stft(center=True)` for 50 % overlap.

Shapes: waveforms are (batch, samples), spectra real (batch, bins, frames, 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

_WINDOWS = {
    "hann": lambda n, **where: torch.hann_window(n, dtype=torch.float64, **where),
    "sqrt_hann": lambda n, **where: torch.hann_window(n, dtype=torch.float64, **where).sqrt(),
    # The same shape as sqrt_hann, sampled half a step off (as in the DPCRN authors' code).
    "sine": lambda n, **where: torch.sin((torch.arange(n, dtype=torch.float64, **where) + 0.5) * torch.pi / n),
}


@dataclass(frozen=True)
class STFT:
    """Settings of a short-time Fourier transform; part of a model's config.

    Args:
        win_length: window and DFT length in samples, a multiple of `hop_length`, at least two of them.
        hop_length: step in samples.
        window: "sqrt_hann" (periodic), "hann" or "sine", used for analysis and synthesis.
        padding: what precedes and follows a signal: "zeros"; "reflect", as `torch.stft` does by default; or "none",
            as in `torch.stft(center=False)`: the first frame begins with the signal, whose edge then fades in.
        scale: factor on the spectrum, undone by the synthesis.

    Synthesis divides by the overlapping squared windows, as `torch.istft` does: every window reconstructs perfectly.
    """

    win_length: int = 512
    hop_length: int = 256
    window: str = "sqrt_hann"
    padding: str = "zeros"
    scale: float = 1.0

    def __post_init__(self):
        for name in ("win_length", "hop_length"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number of samples, not {getattr(self, name)!r}")
        if not (0 < self.hop_length < self.win_length <= 1 << 16) or self.win_length % self.hop_length:
            raise ValueError(
                f"win_length {self.win_length} must be a multiple, two or more, of hop_length {self.hop_length}"
            )
        if self.window not in _WINDOWS:
            raise ValueError(f"window must be one of {', '.join(_WINDOWS)}, not {self.window!r}")
        if self.padding not in ("zeros", "reflect", "none"):
            raise ValueError(f'padding must be "zeros", "reflect" or "none", not {self.padding!r}')
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, not {self.scale}")

    @property
    def bins(self) -> int:
        """Bins of a spectrum, from 0 Hz to half the sample rate: win_length / 2 + 1."""
        return self.win_length // 2 + 1

    @property
    def overlap(self) -> int:
        """Samples of a frame that the next one covers as well."""
        return self.win_length - self.hop_length

    def windows(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Analysis and synthesis window, with the scale, on the device and in the precision of `like`."""
        # Nothing can be copied to a GPU while a CUDA graph is recorded; other accelerators lack double precision.
        window = _WINDOWS[self.window](self.win_length, device=like.device if like.is_cuda else "cpu")
        power = window.square().view(-1, self.hop_length).sum(0).repeat(self.win_length // self.hop_length)
        return (window * self.scale).to(like), (window / (power * self.scale)).to(like)

    def analyse(self, wave: torch.Tensor) -> torch.Tensor:
        """Spectrum of a whole signal: (batch, samples) -> (batch, bins, frames, 2)."""
        return Analysis(self)(wave, last=True)

    def synthesise(self, spec: torch.Tensor, length: int) -> torch.Tensor:
        """Whole signal of a spectrum: (batch, bins, frames, 2) -> (batch, length)."""
        return Synthesis(self)(spec)[:, :length]


class Analysis:
    """Streaming analysis: called with chunks of any size, it returns the spectra of the frames that became complete."""

    def __init__(self, stft: STFT):
        self.stft = stft
        self.waiting = None  # samples that the next frame begins with
        self.recent = None  # the last samples, whose mirror image may follow the signal
        self.window = None
        self.started = stft.padding == "none"

    def __call__(self, wave: torch.Tensor, last: bool = False) -> torch.Tensor:
        """(batch, samples) -> (batch, bins, frames, 2); `last` pads so that every sample can be reconstructed."""
        stft = self.stft
        if self.window is None:
            self.window, _ = stft.windows(wave)
            self.waiting = self.recent = wave[:, :0]
        if stft.padding == "reflect":
            self.recent = torch.cat([self.recent, wave], 1)[:, -stft.overlap - 1 :].clone()
        wave = torch.cat([self.waiting, wave], 1)
        if not self.started and (last or wave.shape[1] > stft.overlap):
            wave = torch.cat([self._edge(wave), wave], 1)
            self.started = True
        if last:
            missing = (stft.overlap - wave.shape[1]) % stft.hop_length
            wave = torch.cat([wave, self._edge(self.recent.flip(1)).flip(1)], 1)
            wave = F.pad(wave, (0, missing))
        if not self.started or wave.shape[1] < stft.win_length:
            self.waiting = wave
            return wave.new_zeros(wave.shape[0], stft.bins, 0, 2)
        frames = wave.unfold(1, stft.win_length, stft.hop_length)
        self.waiting = wave[:, frames.shape[1] * stft.hop_length :].clone()
        return torch.view_as_real(torch.fft.rfft(frames * self.window)).transpose(1, 2)

    def _edge(self, wave: torch.Tensor) -> torch.Tensor:
        """What stands before `wave`: its mirror image about the first sample, or zeros."""
        overlap = self.stft.overlap
        if self.stft.padding == "reflect" and wave.shape[1] > overlap:
            return wave[:, 1 : overlap + 1].flip(1)
        return wave.new_zeros(wave.shape[0], overlap)


class Synthesis:
    """Streaming synthesis by overlap-add: (batch, bins, frames, 2) -> (batch, samples), hop_length samples a frame.

    The first samples, which belong to the padding before the signal, are left out.
    """

    def __init__(self, stft: STFT):
        self.stft = stft
        self.tail = None  # sums that later frames still add to
        self.window = None
        self.skip = 0 if stft.padding == "none" else stft.overlap

    def __call__(self, spec: torch.Tensor) -> torch.Tensor:
        hop, frames = self.stft.hop_length, spec.shape[2]
        if self.window is None:
            _, self.window = self.stft.windows(spec)
            self.tail = spec.new_zeros(spec.shape[0], self.stft.overlap // hop, hop)
        waves = torch.fft.irfft(torch.view_as_complex(spec.transpose(1, 2).contiguous()), n=self.stft.win_length)
        parts = (waves * self.window).unflatten(2, (-1, hop)).unbind(2)  # each (batch, frames, hop)
        behind = len(parts) - 1
        total = sum(F.pad(part, (0, 0, i, behind - i)) for i, part in enumerate(parts))
        total = total + F.pad(self.tail, (0, 0, 0, frames))
        self.tail = total[:, frames:].clone()
        wave = total[:, :frames].flatten(1)
        start = min(self.skip, wave.shape[1])
        self.skip -= start
        return wave[:, start:]
