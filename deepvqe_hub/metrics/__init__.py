"""Measures of speech quality, for training validation and for `deepvqe evaluate`.

One signal at a time (`(time,)`, tensors or arrays; they raise `UnscorableError` where they are not defined):

>>> from deepvqe_hub import metrics
>>> metrics.si_sdr(enhanced, clean), metrics.pesq_wb(enhanced, clean)  # doctest: +SKIP
>>> metrics.dnsmos(enhanced)["ovrl"]  # doctest: +SKIP

Batches and files (NaN where a measure is not defined):

>>> metrics.evaluate_tensors(enhanced, clean, 16000, ("pesq_wb", "dnsmos"))  # doctest: +SKIP
>>> metrics.evaluate_file("enhanced.wav", "clean.wav")  # doctest: +SKIP

`METRICS` says of each measure what it needs and where it comes from. Everything is computed at 16 kHz; other rates
are resampled, and every channel is scored on its own and the scores averaged. PESQ, STOI, DNSMOS and AECMOS need
`pip install "deepvqe-hub[metrics]"`; without a C compiler, `"deepvqe-hub[mos]"` has all of them but PESQ.
"""

from __future__ import annotations

from deepvqe_hub.metrics._signal import UnscorableError
from deepvqe_hub.metrics.evaluation import Case, evaluate_file, evaluate_files
from deepvqe_hub.metrics.intrusive import erle, estoi, pesq_wb, si_sdr, stoi
from deepvqe_hub.metrics.mos import aecmos, dnsmos, dnsmos_p808, dnsmos_p835
from deepvqe_hub.metrics.registry import METRICS, Metric, available_metrics, select_metrics
from deepvqe_hub.metrics.scoring import evaluate_tensors
from deepvqe_hub.metrics.statistics import bootstrap_interval

__all__ = [
    "METRICS",
    "Case",
    "Metric",
    "UnscorableError",
    "aecmos",
    "available_metrics",
    "bootstrap_interval",
    "dnsmos",
    "dnsmos_p808",
    "dnsmos_p835",
    "erle",
    "estoi",
    "evaluate_file",
    "evaluate_files",
    "evaluate_tensors",
    "pesq_wb",
    "select_metrics",
    "si_sdr",
    "stoi",
]
