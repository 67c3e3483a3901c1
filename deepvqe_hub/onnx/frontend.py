"""The spectral front end inside a graph: products with windowed Fourier bases, and overlap-add.

Spectra are (T * B * bins, 2) here, a row for each (frame, stream, bin), and (B, bins, T, 2) outside of the graph.
"""

from __future__ import annotations

import numpy as np

from deepvqe_hub.onnx.builder import Graph
from deepvqe_hub.onnx.spectra import windows


def bases(stft: dict) -> tuple[np.ndarray, np.ndarray]:
    """Analysis (win_length, bins * 2) and synthesis (bins * 2, win_length); columns and rows are (bin, re or im)."""
    size = stft["win_length"]
    window, dual = windows(stft)
    spectrum = np.fft.rfft(np.eye(size) * window)
    analysis = np.stack([spectrum.real, spectrum.imag], -1).reshape(size, -1)
    bins = size // 2 + 1
    unit = np.eye(bins)
    synthesis = (
        np.stack([np.fft.irfft(unit, n=size), np.fft.irfft(unit * 1j, n=size)], 1).reshape(2 * bins, size) * dual
    )
    return analysis.astype(np.float32), synthesis.astype(np.float32)


def rows(g: Graph, spec: str, bins: int, batch: int, frames: int) -> str:
    """Spectra from outside: (B, bins, T, 2) -> (T * B * bins, 2)."""
    return g.reshape(g.permute(spec, (batch * bins, frames, 2), (1, 0, 2)), -1, 2)


def spectrum(g: Graph, rows: str, bins: int, batch: int, frames: int) -> str:
    """Spectra as they are outside: (T * B * bins, 2) -> (B, bins, T, 2)."""
    rows = g.permute(rows, (frames, batch * bins, 2), (1, 0, 2))
    return g.reshape(rows, batch, bins, frames, 2)


def analyse(g: Graph, wave: str, name: str, stft: dict, batch: int, frames: int) -> str:
    """New samples (B, T * hop) -> spectra (T * B * bins, 2), remembering the samples that later frames begin with."""
    hop, overlap = stft["hop_length"], stft["win_length"] - stft["hop_length"]
    parts = stft["win_length"] // hop
    old = g.remember(f"{name}.past", (batch, overlap))
    x = g.op("Concat", old, wave, axis=1)
    g.update(f"{name}.past", g.slice(x, frames * hop, frames * hop + overlap, 1))
    hops = g.constant(np.arange(frames)[:, None] + np.arange(parts))
    x = g.op("Gather", g.reshape(x, batch, frames + parts - 1, hop), hops, axis=1)
    x = g.reshape(g.permute(x, (batch, frames, parts * hop), (1, 0, 2)), frames * batch, parts * hop)
    return g.reshape(g.linear(x, bases(stft)[0]), -1, 2)


def synthesise(g: Graph, spec: str, stft: dict, batch: int, frames: int) -> str:
    """Spectra (T * B * bins, 2) -> complete samples (B, T * hop); remembers the sums that later frames add to."""
    hop, overlap = stft["hop_length"], stft["win_length"] - stft["hop_length"]
    behind = overlap // hop
    x = g.linear(g.reshape(spec, frames * batch, 2 * (stft["win_length"] // 2 + 1)), bases(stft)[1])
    x = g.permute(x, (frames, batch, behind + 1, hop), (1, 0, 2, 3))
    parts = g.op("Split", x, outputs=behind + 1, axis=2, num_outputs=behind + 1)
    total = g.remember("synthesis.tail", (batch, overlap))
    total = g.op("Pad", total, g.constant([0, 0, 0, frames * hop], np.int64))
    for i, part in enumerate(parts):
        pads = g.constant([0, i * hop, 0, (behind - i) * hop], np.int64)
        total = g.op("Add", total, g.op("Pad", g.reshape(part, batch, frames * hop), pads))
    g.update("synthesis.tail", g.slice(total, frames * hop, frames * hop + overlap, 1))
    return g.slice(total, 0, frames * hop, 1)
