"""Convolution along many frames with half the multiplications: minimal filtering.

S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin and S. Gray, "Fast algorithms for convolutional
neural networks", 2016. Three frames of output of a kernel of four frames take 12 products in the usual way, and 6 here:
six frames of input are combined with small factors, each combination meets one of six combinations of the kernel, and
the six results are combined to three frames. The combinations cost additions, which pay where channels are many.

The result is as near to the exact one as the usual one, within a factor of two. It is causal up to rounding: of what is
rounded off a frame, something reaches the two frames before it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

TAPS, TILE = 4, 3  # frames of the kernel, and of output for each set of six products
WIDE = 64  # channels from which on the products saved outweigh the additions


def pays(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether `conv2d` is faster than PyTorch's: many frames and channels, float32 on a CPU, no gradients."""
    return (
        weight.shape[2] == TAPS
        and weight.shape[1] >= WIDE
        and x.shape[2] >= 32
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
    )


def conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """`torch.nn.functional.conv2d` for kernels of four frames, with stride and padding along bins alone.

    Shapes: (batch, in_channels, frames, bins), (out_channels, in_channels, 4, width) and (out_channels,)
    -> (batch, out_channels, frames - 3, out_bins).
    """
    frames = x.shape[2] - TAPS + 1
    if frames % TILE:
        x = F.pad(x, (0, 0, 0, -frames % TILE))
    pairs = zip(combine_frames(x), combine_taps(weight))
    # The three frames are first + a + c, b + 2 d and last + a + 4 c of the six results.
    first, a, b, c, d, last = (F.conv2d(part, taps, None, stride, padding) for part, taps in pairs)
    a, b = a + b, a.sub_(b)
    c, d = c + d, c.sub_(d)
    y = x.new_empty(*first.shape[:3], TILE, first.shape[3])
    torch.add(first.add_(a), c, out=y[:, :, :, 0])
    torch.add(b, d, alpha=2, out=y[:, :, :, 1])
    torch.add(last.add_(a), c, alpha=4, out=y[:, :, :, 2])
    return y.add_(bias[:, None, None, None]).flatten(2, 3)[:, :, :frames]


def combine_frames(x: torch.Tensor) -> list[torch.Tensor]:
    """Six combinations of each six frames, which overlap by three: (…, frames, bins) -> (…, (frames - 3) / 3, bins)."""
    end = x.shape[2] - TAPS + 1
    x0, x1, x2, x3, x4, x5 = (x[:, :, start : start + end : TILE] for start in range(TAPS + TILE - 1))
    first = torch.add(x4, x0, alpha=4).sub_(x2, alpha=5)
    last = torch.add(x5, x1, alpha=4).sub_(x3, alpha=5)
    even, odd = torch.sub(x4, x2, alpha=4), torch.sub(x3, x1, alpha=4)
    a, b = even + odd, even.sub_(odd)
    even, odd = x4 - x2, torch.sub(x3, x1, out=odd)
    c, d = torch.add(even, odd, alpha=2), even.sub_(odd, alpha=2)
    return [first, a, b, c, d, last]


def combine_taps(weight: torch.Tensor) -> list[torch.Tensor]:
    """Six combinations of the four frames of a kernel: (out, in, 4, width) -> (out, in, 1, width)."""
    w0, w1, w2, w3 = (tap.contiguous() for tap in weight.split(1, 2))
    even, odd, even_2, odd_2 = w0 + w2, w1 + w3, w0 + 4 * w2, 2 * w1 + 8 * w3
    return [w0 / 4, (even + odd) / -6, (odd - even) / 6, (even_2 + odd_2) / 24, (even_2 - odd_2) / 24, w3]
