"""What fast convolutions share, in training data and in losses."""

from __future__ import annotations


def fft_length(samples: int) -> int:
    """A fast FFT length of at least `samples`: the smallest of 1, 3, 5, 9, 15 times a power of two.

    Nearer 5-smooth numbers with fewer factors of two take twice as long.
    """
    return min(odd << max(0, -(-samples // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))
