"""Score signals in memory: every measure asked for, NaN and a reason where one is not defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from deepvqe_hub.files.samples import as_numpy, fitted
from deepvqe_hub.limits import check_rate
from deepvqe_hub.metrics import intrusive, mos
from deepvqe_hub.metrics._signal import SAMPLE_RATE, Signal, as_array, resample
from deepvqe_hub.metrics.registry import METRICS, Metric, check_talk, chosen_metrics

# Measures that one network gives are computed together.
# The functions take single channels at 16 kHz: enhanced, the other signals by name, talk type.
_COMPUTE = {
    ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"): lambda wav, others, talk: mos.dnsmos_p835(wav).values(),
    ("dnsmos_p808",): lambda wav, others, talk: [mos.dnsmos_p808(wav)],
    ("pesq_wb",): lambda wav, others, talk: [intrusive.pesq_wb(wav, others["reference"])],
    ("stoi",): lambda wav, others, talk: [intrusive.stoi(wav, others["reference"])],
    ("estoi",): lambda wav, others, talk: [intrusive.estoi(wav, others["reference"])],
    ("si_sdr",): lambda wav, others, talk: [intrusive.si_sdr(wav, others["reference"])],
    ("aecmos_echo", "aecmos_deg"): lambda wav, others, talk: mos.aecmos(
        wav, others["noisy"], others["farend"], talk=talk
    ).values(),
    ("erle",): lambda wav, others, talk: [intrusive.erle(wav, others["noisy"])],
}


def score_channels(
    enhanced: np.ndarray, others: dict[str, np.ndarray], metrics: Sequence[str], talk: str | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Score one recording at 16 kHz; every channel is scored and the scores are averaged.

    Args:
        enhanced: `(channels, time)`.
        others: "reference", "noisy", "farend" as far as needed: `(channels, time)`, of one channel (compared with
            every enhanced one) or as many; those of a far end are averaged where they are not as many. Far end and
            noisy input are padded with silence or cut to the length of `enhanced`; with a reference, what both share
            in time is scored.
        metrics: names from `METRICS`.
        talk: talk type or None.

    Returns:
        Scores by name, NaN where one is not defined, and the reasons by name. A measure that means nothing in this
        talk type is NaN without a reason.

    Raises:
        ImportError: a package is missing. Nothing else, whatever is in the signals.
    """
    scores, reasons = dict.fromkeys(metrics, float("nan")), {}
    own = {(name,): _own(METRICS[name]) for name in metrics if METRICS[name].compute is not None}
    for names, compute in (_COMPUTE | own).items():
        wanted = [name for name in names if name in scores and talk in METRICS[name].talk]
        if "erle" in names and "erle" in scores and talk is None:
            reasons["erle"] = "the talk type is not known; it is defined for far-end single talk"
        if not wanted:
            continue
        needs = METRICS[wanted[0]].needs
        if missing := [need for need in needs if need not in others]:
            reasons |= dict.fromkeys(wanted, f"needs the {missing[0]} signal")
            continue
        try:
            needed = {need: others[need] for need in needs}
            channels = [compute(*channel, talk) for channel in _channels(enhanced, needed)]
        except ImportError:
            raise
        except Exception as error:  # whatever one file does to one measure, the run goes on
            unforeseen = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            reasons |= dict.fromkeys(wanted, f"{unforeseen}{error}")
        else:
            means = dict(zip(names, np.mean([list(values) for values in channels], axis=0)))
            scores |= {name: float(means[name]) for name in wanted}
    return scores, reasons


def _own(metric: Metric) -> Callable:
    """The function of a measure that brings its own, in the form of those in `_COMPUTE`."""
    return lambda wav, others, talk: [float(metric.compute(wav, **others))]


def _channels(enhanced: np.ndarray, others: dict[str, np.ndarray]) -> Iterator[tuple[np.ndarray, dict]]:
    """Channel by channel, equally long."""
    length = enhanced.shape[1]
    if "reference" in others:
        length = min(length, others["reference"].shape[1])
    beside = {}
    for name, wav in others.items():
        if name != "farend" and len(wav) not in (1, len(enhanced)):
            raise ValueError(f"the {name} signal has {len(wav)} channels, the enhanced one {len(enhanced)}")
        beside[name] = fitted(wav.T, length, len(enhanced)).T
    for index, channel in enumerate(enhanced):
        yield channel[:length], {name: wav[index] for name, wav in beside.items()}


def evaluate_tensors(
    enhanced: Signal,
    reference: Signal | None = None,
    sample_rate: int = SAMPLE_RATE,
    metrics: str | Iterable[str] | None = None,
    *,
    noisy: Signal | None = None,
    farend: Signal | None = None,
    lengths: Signal | Sequence[float] | None = None,
    talk: str | Sequence[str | None] | None = None,
) -> dict[str, np.ndarray]:
    """Score signals in memory, for example the batches of a validation set.

    Args:
        enhanced: `(time,)` or `(batch, time)`, tensor or array, full scale 1.
        reference, noisy, farend: of the same shape, as far as `metrics` need them.
        sample_rate: of all, in Hz; other rates than 16 kHz are resampled.
        metrics: names from `METRICS` or groups of them; default: all that the signals allow.
        lengths: `(batch,)`, how much of each row counts: a number of samples if of integer type, a share of the
            longest (0 to 1, as in SpeechBrain) if of floating-point type.
        talk: talk type, one for all or one for each row.

    Returns:
        For each measure the scores `(batch,)`, NaN where one is not defined (take `numpy.nanmean`).

    Raises:
        ValueError: unknown metric, shapes or lengths that do not fit, or a rate that no recording has.
        ImportError: a package is missing; the text names the remedy.
    """
    check_rate(sample_rate)
    given = {"reference": reference, "noisy": noisy, "farend": farend}
    given = {name: np.atleast_2d(as_array(wav)) for name, wav in given.items() if wav is not None}
    enhanced = np.atleast_2d(as_array(enhanced))
    if enhanced.ndim != 2:
        raise ValueError(f"enhanced {enhanced.shape} must be (time,) or (batch, time)")
    for name, wav in given.items():
        if wav.shape != enhanced.shape:
            raise ValueError(f"enhanced {enhanced.shape} and {name} {wav.shape}: both must be (batch, time)")
    names = chosen_metrics(metrics, given)
    talks = [talk] * len(enhanced) if talk is None or isinstance(talk, str) else list(talk)
    if len(talks) != len(enhanced):
        raise ValueError(f"talk has {len(talks)} entries for a batch of {len(enhanced)}")
    for one in talks:
        check_talk(one)
    rows = []
    for row, length in enumerate(_row_lengths(lengths, *enhanced.shape)):
        cut = {name: resample(wav[row : row + 1, :length], sample_rate) for name, wav in given.items()}
        wav = resample(enhanced[row : row + 1, :length], sample_rate)
        rows.append(score_channels(wav, cut, names, talks[row])[0])
    return {name: np.array([row[name] for row in rows]) for name in names}


def _row_lengths(lengths, batch: int, time: int) -> list[int]:
    if lengths is None:
        return [time] * batch
    lengths = as_numpy(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths has shape {lengths.shape} for a batch of {batch}")
    samples = lengths if lengths.dtype.kind in "iu" else np.round(lengths * time)
    if not ((samples >= 0) & (samples <= time)).all():
        raise ValueError(f"lengths are shares from 0 to 1 or whole numbers from 0 to {time}, not {lengths.tolist()}")
    return [int(n) for n in samples]
