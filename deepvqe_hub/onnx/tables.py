"""Constants of a graph: which rows a convolution sees, where sub-pixel groups go, and the mask's fixed weights."""

from __future__ import annotations

import numpy as np

from deepvqe_hub.models.mask import ComplexConvolvingMask

MASK_TAPS = 3  # frames and bins


def patch_rows(places: int, frames: int, batch: int, bins: int, kernel: tuple[int, int], stride: int) -> np.ndarray:
    """Rows of a ring that each output of a convolution sees: (places, frames, 1, out_bins, taps * width).

    The ring holds rows (place, frame, stream, bin) and a last one of zeros, for bins off the axis; the outputs are
    those of the first stream.
    """
    taps, width = kernel
    place, frame, out_bin, tap, offset = np.ogrid[:places, :frames, : (bins - 1) // stride + 1, :taps, :width]
    seen = (place * frames + frame + tap - (taps - 1)) % (places * frames)  # frame in the ring
    bin_ = out_bin * stride + offset - width // 2
    rows = np.where((bin_ >= 0) & (bin_ < bins), seen * batch * bins + bin_, places * frames * batch * bins)
    return rows.reshape(places, frames, 1, -1, taps * width)


def mask_weights(channels: int) -> np.ndarray:
    """From the mask's channels to what multiplies the taps' real and imaginary parts: (18 or 27, 2 * 9 * 2).

    Columns are (re or im of the result, tap, re or im of the tap).
    """
    taps = MASK_TAPS**2
    weight = np.zeros((2, taps, 2, taps, 2), np.float32)  # first the real parts of the taps' factors, then the others
    for tap in range(taps):
        weight[0, tap, :, tap] = [[1, 0], [0, 1]]
        weight[1, tap, :, tap] = [[0, -1], [1, 0]]
    weight = weight.reshape(2 * taps, -1)
    if channels == ComplexConvolvingMask.channels:
        weight = np.kron(np.transpose(ComplexConvolvingMask.roots), np.eye(taps)) @ weight
    return weight.astype(np.float32)


def subpixel_rows(frames: int, bins: int, module) -> np.ndarray:
    """Where the bins after a sub-pixel convolution stand among rows (frame, bin, group): (frames * out_bins,)."""
    rows = np.arange(frames * bins * 2).reshape(frames, bins, 2)
    rows = rows.transpose(0, 2, 1) if module.order == "concat" else rows
    return rows.reshape(frames, -1)[:, : module.out_bins].ravel()
