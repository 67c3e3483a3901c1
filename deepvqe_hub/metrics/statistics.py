"""Means with bootstrap intervals, and values cut into quantile ranges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000  # test sets drawn with replacement


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: one number a file, `(files,)`; NaN are left out.
        level: probability that the interval is to hold, between 0 and 1.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Lower and upper end; NaN both for fewer than two values.

    Raises:
        ValueError: `level` is not between 0 and 1.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1; got {level}")
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    block = max(1, 2**22 // values.size)  # resamples at a time, to bound the memory
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    means = [values[random.integers(values.size, size=(size, values.size))].mean(1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """`{"n", "mean", "low", "high", "median"}` of the finite values, with the 95 % bootstrap interval of the mean."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    low, high = bootstrap_interval(values)
    mean, median = (float(values.mean()), float(np.median(values))) if values.size else (float("nan"), float("nan"))
    return {"n": values.size, "mean": mean, "low": low, "high": high, "median": median}


def quantile_ranges(values: Sequence[float], bins: int = 4) -> tuple[list[str], list[str | None]]:
    """Cut numbers into ranges that hold about equally many. A range holds its lower end, the last one both.

    Returns:
        The names of the ranges in their order, such as `"-5 to 1.36"`; and for each value the name of its range,
        None for NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return [], [None] * len(values)
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)))
    if edges.size == 1:
        edges = np.repeat(edges, 2)
    for digits in range(4, 18):  # as many as tell the ranges apart
        names = [f"{low:.{digits}g} to {high:.{digits}g}" for low, high in itertools.pairwise(edges)]
        if len(set(names)) == len(names):
            break
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(names) - 1)
    return names, [names[place] if np.isfinite(value) else None for place, value in zip(places, values)]
