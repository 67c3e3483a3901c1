"""Intervals of means, and values cut into ranges."""

import numpy as np
import pytest

from deepvqe_hub import metrics
from deepvqe_hub.metrics.statistics import quantile_ranges


def test_bootstrap_interval():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = metrics.bootstrap_interval([*values, np.nan])
    standard_error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * standard_error, abs=0.15 * standard_error)
    assert high == pytest.approx(values.mean() + 1.96 * standard_error, abs=0.15 * standard_error)
    assert (low, high) == metrics.bootstrap_interval(values) != metrics.bootstrap_interval(values, seed=1)
    narrow = metrics.bootstrap_interval(values, 0.5)
    assert low < narrow[0] < narrow[1] < high
    assert np.isnan(metrics.bootstrap_interval([1.0, np.nan])).all()
    with pytest.raises(ValueError, match="95"):
        metrics.bootstrap_interval(values, 95)


def test_quantile_ranges():
    names, labels = quantile_ranges([5, 0, np.nan, 10, 15, 20], 2)
    assert names == ["0 to 10", "10 to 20"]
    assert labels == ["0 to 10", "0 to 10", None, "10 to 20", "10 to 20", "10 to 20"]
    assert quantile_ranges([3, 3, 3])[1] == ["3 to 3"] * 3
    assert len(set(quantile_ranges(160000 + np.arange(134))[1])) == 4
    assert quantile_ranges([np.nan])[1] == [None]
