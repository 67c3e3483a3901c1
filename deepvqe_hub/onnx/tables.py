"""Constants of a graph: where in a ring stands what a call needs, for each place in it, and fixed weights."""

from __future__ import annotations

import numpy as np

from deepvqe_hub.models.align import AlignBlock
from deepvqe_hub.models.mask import ComplexConvolvingMask

MASK_TAPS = 3  # frames and bins


def patch_rows(places: int, frames: int, batch: int, bins: int, kernel: tuple[int, int], stride: int) -> np.ndarray:
    """Rows of a ring that each output of a convolution sees: (places, frames, 1, out_bins, taps * width).

    The ring holds rows (place, frame, stream, bin) and a last one of zeros, for bins off the axis; the outputs are
    those of the first stream.
    """
    taps, width = kernel
    place, frame, bin_, tap, offset = np.ogrid[:places, :frames, : (bins - 1) // stride + 1, :taps, :width]
    frame = (place * frames + frame + tap - taps + 1) % (places * frames)
    bin_ = bin_ * stride + offset - width // 2
    rows = np.where((bin_ >= 0) & (bin_ < bins), frame * batch * bins + bin_, places * frames * batch * bins)
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


def tap_weights(block: AlignBlock) -> np.ndarray:
    """Weights of the alignment's convolution, (taps + 1, channels), a row for each tap and a last one of zeros."""
    weight = block.conv.weight.detach().numpy()[0].reshape(block.hidden, -1)
    return np.pad(weight.T, ((0, 1), (0, 0)))


def tap_values(places: int, frames: int, block: AlignBlock, rows: int) -> np.ndarray:
    """Where the products of the alignment's taps stand in their ring, (slot, tap, slot): (places, frames, slots, taps).

    The ring's frame f has its products by slot of the keys, of which that in slot f is its own, with no delay.
    """
    ring, (frames_back, width) = places * frames, block.conv.kernel_size
    frame, slot, tap, offset = np.ogrid[:ring, :ring, :frames_back, :width]
    delay = (frame - slot) % ring - offset + width // 2  # in frames, of what the tap sees
    frame = (frame + tap - frames_back + 1) % ring
    seen = (delay >= 0) & (delay < block.dmax)
    row = np.where(seen, tap * width + offset, rows - 1)
    values = (frame * rows + row) * ring + (frame - delay) % ring
    return values.reshape(places, frames, ring, -1).astype(np.int32)


def out_of_reach(places: int, frames: int, dmax: int) -> np.ndarray:
    """What rules out the slots of a ring beyond the delays: 0 or a very small number, (places, frames, slots)."""
    frame, slot = np.ogrid[: places * frames, : places * frames]
    scores = np.where((frame - slot) % (places * frames) < dmax, 0, np.finfo(np.float32).min / 2)
    return scores.reshape(places, frames, -1).astype(np.float32)


def subpixel_rows(frames: int, bins: int, module) -> np.ndarray:
    """Where the bins after a sub-pixel convolution stand among rows (frame, bin, group): (frames * out_bins,)."""
    rows = np.arange(frames * bins * 2).reshape(frames, bins, 2)
    rows = rows.transpose(0, 2, 1) if module.order == "concat" else rows
    return rows.reshape(frames, -1)[:, : module.out_bins].ravel()
