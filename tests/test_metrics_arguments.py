"""Rates and names of the arguments of measures."""

from __future__ import annotations

import functools

import pytest
from test_metrics import noisy_voice, voice

from deepvqe_hub import metrics


@pytest.mark.parametrize("sample_rate", [16, 0, -16000, float("nan"), 1e9, "16000", None])
def test_sample_rates_that_no_recording_has_are_refused(sample_rate):
    pytest.importorskip("pystoi")
    wave = voice(1)  # which would become 16 million samples from 16 Hz
    for call in (metrics.evaluate_tensors, metrics.stoi):
        with pytest.raises(ValueError, match="sample_rate must be from 1000 to 10000000 Hz, not"):
            call(wave, wave, sample_rate)


@pytest.mark.parametrize(
    ("measure", "other"), [(functools.partial(metrics.si_sdr, zero_mean=False), "reference"), (metrics.erle, "noisy")]
)
def test_variants_of_the_measures_are_measures_of_ones_own(monkeypatch, measure, other):
    monkeypatch.setitem(metrics.METRICS, "own", metrics.Metric("own", (other,), "dB", "", compute=measure))
    enhanced = noisy_voice(1, 0.1) + 0.01
    scores = metrics.evaluate_tensors(enhanced, metrics="own", **{other: voice(1)})
    assert scores["own"] == pytest.approx([measure(enhanced, voice(1))])
