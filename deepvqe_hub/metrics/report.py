"""Results of an evaluation as summary, table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence

from deepvqe_hub import machine
from deepvqe_hub._version import __version__
from deepvqe_hub.metrics.registry import METRICS
from deepvqe_hub.metrics.statistics import mean_interval

SIG_DROP = 0.3  # MOS: a fall of DNSMOS SIG below the input's that a listener would call damaged speech
_PACKAGES = ("torch", "numpy", "soundfile", "soxr", "pesq", "pystoi", "speechmos", "onnxruntime")


def summarise(results: Sequence[Mapping], metrics: Sequence[str]) -> dict[str, dict]:
    """Mean, 95 % bootstrap interval of it and median of every measure over files; of input and change where scored.

    Returns:
        `{metric: {"n", "mean", "low", "high", "median", "unit", "noisy": {...}, "change": {...}}}`; the change is
        taken file by file, which makes its interval narrower than those of the two means.
    """
    summary = {}
    for metric in metrics:
        values = [result.get(metric, math.nan) for result in results]
        summary[metric] = mean_interval(values) | {"unit": METRICS[metric].unit}
        # Of the same files, or a model that silences the hardest ones would seem to gain.
        noisy = [
            result.get(f"noisy_{metric}", math.nan) if math.isfinite(value) else math.nan
            for result, value in zip(results, values)
        ]
        if any(f"noisy_{metric}" in result for result in results):
            summary[metric]["noisy"] = mean_interval(noisy)
            change = [value - before for value, before in zip(values, noisy)]
            summary[metric]["change"] = mean_interval(change)
    return summary


def sig_drops(results: Sequence[Mapping], threshold: float = SIG_DROP) -> dict | None:
    """Files whose DNSMOS SIG falls by more than `threshold` below the input's; None where that was not scored."""
    drops = {}
    for result in results:
        drop = result.get("noisy_dnsmos_sig", math.nan) - result.get("dnsmos_sig", math.nan)
        if math.isfinite(drop):
            drops[result["file"]] = drop
    if not drops:
        return None
    damaged = [file for file, drop in drops.items() if drop > threshold]
    return {"threshold": threshold, "n": len(drops), "share": len(damaged) / len(drops), "files": damaged}


def summary_table(summary: Mapping[str, Mapping], markdown: bool) -> str:
    """One line a measure: files, mean, interval, median; with the input's mean and the change where they are there."""
    compared = any("noisy" in entry for entry in summary.values())
    interval = "95% interval"
    head = ["metric", "files", "mean", interval, "median"]
    if compared:
        head = ["metric", "files", "noisy", "enhanced", interval, "median", "change", interval]
    rows = [head]
    for metric, entry in summary.items():
        digits = METRICS[metric].digits
        name = METRICS[metric].label + (" (dB)" if METRICS[metric].unit == "dB" else "")
        mean, median = (_number(entry[key], digits) for key in ("mean", "median"))
        row = [name, str(entry["n"]), mean, _interval(entry, digits), median]
        if compared:
            change = entry.get("change", {})
            row.insert(2, _number(entry.get("noisy", {}).get("mean"), digits))
            row += [_number(change.get("mean"), digits, sign=True), _interval(change, digits, sign=True)]
        rows.append(row)
    return render(rows, markdown)


def group_table(column: str, groups: Mapping[str, Mapping], markdown: bool) -> str:
    """One line a group of files, one column a measure: the mean, and "input > mean" where the input was scored.

    Args:
        column: what the groups are, for the head.
        groups: name of the group to `{"files": how many, "summary": as from summarise}`.
    """
    metrics = list(next(iter(groups.values()))["summary"])
    rows = [[column, "files", *(METRICS[metric].label for metric in metrics)]]
    for group, entry in groups.items():
        cells = []
        for metric in metrics:
            digits, scores = METRICS[metric].digits, entry["summary"][metric]
            cell = _number(scores["mean"], digits)
            if "noisy" in scores and cell != "-":
                cell = f"{_number(scores['noisy']['mean'], digits)} > {cell}"
            cells.append(cell)
        rows.append([group, str(entry["files"]), *cells])
    return render(rows, markdown)


def render(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Rows of text, the first one the head, as a table: aligned, with the bars of Markdown if asked."""
    if markdown:
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        for row in rows
    ]
    if not markdown:
        rule = "  ".join("-" * width for width in widths)
        lines = ["  ".join(line).rstrip() for line in lines]
        return "\n".join([lines[0], rule, *lines[1:]])
    rule = ["-" * width if i == 0 else "-" * max(1, width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def score_cell(entry: Mapping, digits: int, interval: bool) -> str:
    """A mean, with its interval in brackets if asked; "-" where there is none."""
    mean = _number(entry.get("mean"), digits)
    return f"{mean} ({_interval(entry, digits)})" if interval and mean != "-" else mean


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _interval(entry: Mapping, digits: int, sign: bool = False) -> str:
    low, high = (_number(entry.get(end), digits, sign) for end in ("low", "high"))
    return "-" if low == "-" else f"{low} to {high}"


def unscored(results: Sequence[Mapping]) -> list[str]:
    """What went wrong, one line a reason: which score, how many files, the first of their names."""
    files: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for about, reason in result["notes"].items():
            # a reason that names the file stays a line of its own
            files.setdefault((about, reason), []).append(result["file"])
    lines = []
    for (about, reason), names in files.items():
        first = ", ".join(names[:3]) + (", ..." if names[3:] else "")
        lines.append(f"{about}: {reason} ({len(names)} of {len(results)} files: {first})")
    return lines


def to_csv(results: Sequence[Mapping]) -> str:
    """One line a file: name, seconds, every score, notes, as far as there are. An undefined score is an empty cell."""
    columns = dict.fromkeys(key for result in results for key in result)
    columns = sorted(columns, key=lambda column: column == "notes")  # the text stands last
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(result.get(column)) for column in columns] for result in results)
    return text.getvalue()


def _cell(value) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{about}: {reason}" for about, reason in value.items())
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)


def to_json(document: Mapping) -> str:
    """Strict JSON: NaN and infinity, which it does not have, become null."""

    def clean(value):
        if isinstance(value, Mapping):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        if isinstance(value, float):
            return float(f"{value:.6g}") if math.isfinite(value) else None
        return value

    return json.dumps(clean(document), indent=2, allow_nan=False, default=str) + "\n"


def versions() -> dict[str, str | None]:
    """Versions that scores depend on; None for a package that is not installed."""
    return {"deepvqe-hub": __version__, "python": platform.python_version(), **machine.versions(*_PACKAGES)}
