"""Compare models: size, cost, speed, memory and, on a folder of recordings, quality.

  deepvqe compare deepvqe-s dpcrn tf-gridnet
  deepvqe compare deepvqe-s ours=results/dpcrn/1234/model deepvqe-s.onnx --noisy noisy/ --reference clean/ --plot q.png
  deepvqe compare deepvqe-aec-s --noisy mic/ --farend farend/ --reference nearend/ --metadata meta.csv

A model is a name, a checkpoint folder or file, a Hub repository or an exported .onnx file; LABEL=MODEL names its row.
Whole signals run on PyTorch, live frames on the exported graph (--live torch: on PyTorch, too), a .onnx file on itself
alone; one thread each. RTF is computing time over audio time, memory that of a process that does nothing else. A name
without weights is measured with random ones, and its quality is left open.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from deepvqe_hub.atomic import check_writable, write_files
from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import FORCE, MODEL, positive
from deepvqe_hub.cli._cases import add_case_options, choose_metrics, collect
from deepvqe_hub.machine import cores
from deepvqe_hub.onnx import is_graph

# Heading, unit and digits of each column of costs.
COSTS = {
    "parameters": ("parameters (M)", 1e6, 2),
    "macs_per_second": ("multiply-adds (G/s)", 1e9, 2),
    "offline_rtf": ("offline RTF", 1, 3),
    "step_ms_p50": ("live (ms a frame)", 1, 2),
    "peak_mb": ("memory (MB)", 1, 0),
}
UNPROCESSED = "(unprocessed)"


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="+", metavar="[LABEL=]MODEL", help=MODEL)
    add("--noisy", metavar="DIR", type=Path, help="recordings to enhance and score")
    add("--reference", metavar="DIR", type=Path, help="their clean references")
    add("--farend", metavar="DIR", type=Path, help="their far-end signals, for models that take one")
    add_case_options(parser)
    add("--seconds", type=float, default=10.0, metavar="S", help="seconds of audio for speed and memory (default: 10)")
    add("--live", choices=("onnx", "onnx-8bit", "torch"), default="onnx", help="what runs live frames (default: onnx)")
    add("--jobs", metavar="N", type=positive, help="processes for quality (default: one a core)")
    add("--markdown", action="store_true", help="print a Markdown table, with intervals")
    add("-o", "--output", metavar="CSV", type=Path, help="write the table, with intervals")
    add("--plot", metavar="PNG", type=Path, help="draw quality against cost")
    add("--plot-cost", choices=COSTS, metavar="COST", help=f"{', '.join(COSTS)} (default: macs_per_second)")
    add("--plot-quality", metavar="METRIC", help="measure to draw (default: dnsmos_ovrl, or the first that is scored)")
    add("--force", action="store_true", help=FORCE)
    add("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Compare; 1 if a model left a file that could not be read or enhanced."""
    from deepvqe_hub.cli._measure import MAX_SECONDS, describe, measure_cost
    from deepvqe_hub.metrics import METRICS, report

    models = _labelled(args.models)
    cases, metrics = _recordings(args)
    quality = _plotted(args, metrics)
    check_writable([path for path in (args.output, args.plot) if path], args.force)
    if not 1 <= args.seconds <= MAX_SECONDS:
        raise CommandError(f"--seconds must be from 1 to {MAX_SECONDS}, not {args.seconds:g}")
    if args.plot:  # whether it can draw is better known before the work
        from deepvqe_hub.plots import Point, check_format, plot_comparison

        check_format(args.plot)

    rows = {label: {"model": label, **describe(name)} for label, name in models.items()}  # all can be loaded
    for label, name in models.items():
        _say(args, f"measuring {label}")
        rows[label] |= measure_cost(name, args.seconds, args.live) | {"model": label}
    if cases:
        rows = {UNPROCESSED: {"model": UNPROCESSED}, **rows}
    results = {}
    for label, name in models.items() if cases else ():
        if not _has_weights(name):
            _say(args, f"there are no weights for {label}, so its quality is left open")
            continue
        _say(args, f"scoring {label}")
        results[label] = _score(args, label, name, cases, metrics, score_noisy=not results)
    failed = [
        result["notes"]["failed"] for scores in results.values() for result in scores if "failed" in result["notes"]
    ]
    none_left = failed and len(failed) == len(results) * len(cases)
    if results:
        inputs = next(iter(results.values()))
        results[UNPROCESSED] = [{metric: r.get(f"noisy_{metric}", math.nan) for metric in metrics} for r in inputs]
        for metric, count in _leave_common(results, metrics).items():
            _say(args, f"{metric} is of the {count} of {len(cases)} files in which it can be had of all")
        for label, scores in results.items():
            rows[label]["quality"] = report.summarise(scores, metrics)

    rows = list(rows.values())
    print(report.render(table(rows, metrics, intervals=args.markdown), args.markdown))
    if args.output:
        write_files({args.output: report.to_csv([_flat(row) for row in rows])}, args.force)
    if none_left:
        raise CommandError(f"none of the {len(cases)} files could be scored: {failed[0]}")
    if args.plot:
        cost = args.plot_cost or "macs_per_second"
        heading, unit, _ = COSTS[cost]
        points = [
            Point(row["model"], row[cost] / unit, row["quality"][quality], row["streams"])
            for row in rows
            if "quality" in row and row.get(cost) is not None
        ]
        unprocessed = rows[0].get("quality", {}).get(quality, {}).get("mean")
        plot_comparison(points, args.plot, heading, METRICS[quality].label, unprocessed, overwrite=args.force)
    return 1 if failed else 0


def table(rows: list[dict], metrics: list[str], intervals: bool) -> list[list[str]]:
    """The head and a line for each row, as text."""
    from deepvqe_hub.metrics import METRICS, report

    lines = [["model", *(heading for heading, _, _ in COSTS.values()), *(METRICS[metric].label for metric in metrics)]]
    for row in rows:
        line = [row["model"]]
        for key, (_, unit, digits) in COSTS.items():
            line.append(f"{row[key] / unit:.{digits}f}" if row.get(key) is not None else "-")
        for metric in metrics:
            line.append(report.score_cell(row.get("quality", {}).get(metric, {}), METRICS[metric].digits, intervals))
        lines.append(line)
    return lines


def _labelled(models: list[str]) -> dict[str, str]:
    """Labels and models, in order."""
    labelled = {}
    for text in models:
        label, equals, name = text.partition("=")
        if not equals or "/" in label or os.sep in label or Path(text).exists():  # a path may hold "=" as well
            label, name = "", text
        label = label or (Path(name).name if is_graph(name) else name)
        if label in labelled:
            raise CommandError(f"two models are called {label}; tell them apart with LABEL={name}")
        labelled[label] = name
    return labelled


def _recordings(args: argparse.Namespace) -> tuple[list, list[str]]:
    """The cases to score and the measures."""
    if args.noisy is None:
        for option in ("reference", "farend", "metrics", "metadata", "talk", "talk_column", "jobs", "plot"):
            if getattr(args, option):
                raise CommandError(f"--{option.replace('_', '-')} needs recordings: --noisy DIR")
        return [], []
    cases, _ = collect(args.noisy, args, reference=args.reference, farend=args.farend)
    return cases, choose_metrics(args.metrics, reference=args.reference, noisy=args.noisy, farend=args.farend)


def _plotted(args: argparse.Namespace, metrics: list[str]) -> str | None:
    """The measure to draw."""
    from deepvqe_hub.metrics import select_metrics

    if args.plot is None:
        if args.plot_quality or args.plot_cost:
            raise CommandError("--plot-quality and --plot-cost say what to draw; name a picture with --plot PNG")
        return None
    wanted = select_metrics(args.plot_quality)[0] if args.plot_quality else "dnsmos_ovrl"
    if wanted not in metrics and args.plot_quality:
        raise CommandError(f"--plot-quality {args.plot_quality} is not scored; --metrics must hold it")
    return wanted if wanted in metrics else metrics[0]


def _has_weights(name: str) -> bool:
    from deepvqe_hub.hub import registry

    entry = registry.ENTRIES.get(name)
    return entry is None or entry.available


def _score(
    args: argparse.Namespace, label: str, model: str, cases: list, metrics: list[str], score_noisy: bool
) -> list[dict]:
    """Scores of a model, file by file; what could not be scored is said."""
    from deepvqe_hub.metrics import report
    from deepvqe_hub.metrics.evaluation import evaluate_files

    jobs = args.jobs or cores()
    results = evaluate_files(
        cases, metrics=metrics, model=model, score_noisy=score_noisy, jobs=jobs, progress=not args.quiet
    )
    for line in report.unscored(results):
        print(f"deepvqe: {label}: {line}", file=sys.stderr)
    return results


def _leave_common(results: dict[str, list[dict]], metrics: list[str]) -> dict[str, int]:
    """Leave scores of files that have one in all `results`, so that means are of the same files; the hardest ones are
    those that a model may silence. Returns how many are left, for each measure that has lost some.
    """
    left = {}
    for metric in metrics:
        columns = [[math.isfinite(r.get(metric, math.nan)) for r in scores] for scores in results.values()]
        columns = [column for column in columns if any(column)]  # a measure may be out of a model's reach
        keep = [all(column) for column in zip(*columns)]
        if keep and not all(keep):
            left[metric] = sum(keep)
            for result, kept in ((r, k) for scores in results.values() for r, k in zip(scores, keep)):
                result[metric] = result.get(metric, math.nan) if kept else math.nan
    return left


def _flat(row: dict) -> dict:
    """A row for the CSV file, with the ends of the intervals."""
    flat = {key: row.get(key) for key in ("model", *COSTS, "step_ms_p99", "streams", "farend")}
    for metric, entry in row.get("quality", {}).items():
        flat |= {
            f"{metric}{suffix}": entry.get(key) for suffix, key in (("", "mean"), ("_low", "low"), ("_high", "high"))
        }
    return flat


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(f"deepvqe: {text}", file=sys.stderr)
