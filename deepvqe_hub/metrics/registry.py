"""The known measures: what each needs, its unit and where it comes from; and which of them to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deepvqe_hub._optional import locate


class MissingSignalError(ValueError):
    """A measure was asked for that needs signals which are not there.

    Attributes:
        label: of the measure.
        signals: their names, as in `Metric.needs`.
    """

    def __init__(self, label: str, signals: list[str]):
        super().__init__(f"{label} needs the {' and the '.join(signals)} signal")
        self.label, self.signals = label, signals


@dataclass(frozen=True)
class Metric:
    """One measure; of all of them, more is better.

    One of your own joins the table by `METRICS["name"] = Metric(..., compute=function)`.

    Attributes:
        label: for the head of a table.
        needs: signals besides the enhanced one: "reference" (clean), "noisy" (what went in), "farend" (loudspeaker).
        unit: "dB" (-100 to 100), "MOS" (about 1 to 5) or "" (about 0 to 1).
        source: the publication.
        packages: optional packages it takes.
        talk: talk types in which it means something, see `deepvqe_hub.metrics.aecmos`; None: not known which.
        compute: for one of your own `compute(enhanced, **others) -> float`, where the others are the signals in `needs`
            by their names; all are float64 arrays (time,) of one length at 16 kHz. An `UnscorableError` that it raises
            says why it is not defined.
    """

    label: str
    needs: tuple[str, ...]
    unit: str
    source: str
    packages: tuple[str, ...] = ()
    talk: tuple[str | None, ...] = (None, "nst", "dt")
    compute: Callable[..., float] | None = None

    @property
    def digits(self) -> int:
        """Decimals worth printing."""
        return 2 if self.unit else 3


TALK_TYPES = (None, "st", "nst", "dt")

_P835 = "Reddy et al., DNSMOS P.835, ICASSP 2022"
_AECMOS = "Purin et al., AECMOS, ICASSP 2022"
_MOS = ("speechmos", "onnxruntime")

METRICS: dict[str, Metric] = {
    "dnsmos_sig": Metric("DNSMOS SIG", (), "MOS", _P835, _MOS),
    "dnsmos_bak": Metric("DNSMOS BAK", (), "MOS", _P835, _MOS),
    "dnsmos_ovrl": Metric("DNSMOS OVRL", (), "MOS", _P835, _MOS),
    "dnsmos_p808": Metric("DNSMOS P.808", (), "MOS", "Reddy et al., DNSMOS, ICASSP 2021", _MOS),
    "pesq_wb": Metric("PESQ-WB", ("reference",), "MOS", "ITU-T P.862.2, 2007", ("pesq",)),
    "stoi": Metric("STOI", ("reference",), "", "Taal et al., IEEE TASLP 19(7), 2011", ("pystoi",)),
    "estoi": Metric("ESTOI", ("reference",), "", "Jensen and Taal, IEEE TASLP 24(11), 2016", ("pystoi",)),
    "si_sdr": Metric("SI-SDR", ("reference",), "dB", "Le Roux et al., ICASSP 2019"),
    "aecmos_echo": Metric("AECMOS echo", ("noisy", "farend"), "MOS", _AECMOS, _MOS, (None, "st", "dt")),
    "aecmos_deg": Metric("AECMOS deg", ("noisy", "farend"), "MOS", _AECMOS, _MOS),
    "erle": Metric("ERLE", ("noisy",), "dB", "ITU-T G.168", (), ("st",)),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "dnsmos": ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"),
    "aecmos": ("aecmos_echo", "aecmos_deg"),
    "intrusive": ("pesq_wb", "stoi", "estoi", "si_sdr"),
}


def available_metrics(*, reference: bool = False, noisy: bool = False, farend: bool = False) -> list[str]:
    """The names of all measures that can be computed from the signals at hand; of echo, where there is a far end."""
    given = {name for name, there in (("reference", reference), ("noisy", noisy), ("farend", farend)) if there}
    names = [name for name, metric in METRICS.items() if given.issuperset(metric.needs)]
    return names if farend else [name for name in names if name != "erle"]  # without echo it counts removed noise


def select_metrics(names: str | Iterable[str]) -> list[str]:
    """Names and names of groups (also comma-separated) to names of measures, without repetition, in table order.

    Raises:
        ValueError: an unknown name.
    """
    names = names.split(",") if isinstance(names, str) else list(names)
    chosen = set()
    for name in map(str.strip, names):
        name = name if name in METRICS else name.lower().replace("-", "_")
        if name not in METRICS and name not in GROUPS:
            raise ValueError(f"unknown metric {name!r}: one of {', '.join([*METRICS, *GROUPS])}")
        chosen.update(GROUPS.get(name, (name,)))
    return [name for name in METRICS if name in chosen]


def check_packages(names: Iterable[str]) -> None:
    """Raise an ImportError that names the remedy, if a package for one of these measures is missing."""
    for name in names:
        for package in METRICS[name].packages:
            locate(package, METRICS[name].label, "metrics")


def check_talk(talk: str | None) -> None:
    """Raise a ValueError for an unknown talk type."""
    if talk not in TALK_TYPES:
        raise ValueError(f'unknown talk type {talk!r}: "st", "nst", "dt" or None')


def chosen_metrics(
    metrics: str | Iterable[str] | None, given: Iterable[str], left_out: dict[str, str] | None = None
) -> list[str]:
    """The measures to compute from the signals `given`: those asked for, or all that are possible.

    Args:
        metrics: names from `METRICS` or groups of them; None: all.
        given: names of signals, as in `Metric.needs`.
        left_out: takes, of all that are possible, those whose package is missing, by name, with the reason.

    Raises:
        ValueError: an unknown name.
        MissingSignalError: (a ValueError) a measure that needs a signal that is not given.
        ImportError: a package is missing.
    """
    given = set(given)
    names = available_metrics(**dict.fromkeys(given, True)) if metrics is None else select_metrics(metrics)
    chosen = []
    for name in names:
        missing = [need for need in METRICS[name].needs if need not in given]
        if missing:
            raise MissingSignalError(METRICS[name].label, missing)
    for name in names:
        try:
            check_packages([name])
            chosen.append(name)
        except ImportError as error:
            if metrics is not None or left_out is None:
                raise
            left_out[name] = str(error)
    return chosen
