"""Score enhanced speech: DNSMOS, PESQ, STOI, SI-SDR, AECMOS, ERLE.

Without references DNSMOS is computed; with --reference also PESQ-WB, STOI, ESTOI and SI-SDR; with --noisy and
--farend AECMOS and ERLE. Prints means with bootstrap intervals; -o writes one line a file.

  deepvqe evaluate enhanced/
  deepvqe evaluate enhanced/ --reference clean/ --noisy noisy/ --metadata meta.csv -o scores.csv
  deepvqe evaluate noisy/ --model deepvqe-s --reference clean/
  deepvqe evaluate mic/ --model deepvqe-aec-s --farend farend/ --talk st

Files are matched by relative path without suffix, else by stem, also across endings such as _mic, _lpb and _clean
(AEC challenge) and by fileid_N (DNS challenge). Everything is scored at 16 kHz, other rates are resampled;
each channel is scored and the scores are averaged.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from deepvqe_hub.cli import CommandError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("enhanced", metavar="ENHANCED", type=Path, help="folder (searched with its subfolders) or file to score")
    add("--reference", metavar="DIR", type=Path, help="clean references")
    add("--noisy", metavar="DIR", type=Path, help="unprocessed input (microphone): scored, too, and compared")
    add("--farend", metavar="DIR", type=Path, help="far-end (loudspeaker) signals")
    add("--model", metavar="NAME_OR_PATH", help="ENHANCED is noisy: enhance it in memory with this model first")
    add("--metadata", metavar="CSV", type=Path, help="conditions of the files, for a breakdown")
    add("--group-by", metavar="COLUMNS", help="columns of the metadata for the breakdown (default: all that fit)")
    add("--bins", type=int, default=4, help="ranges to cut columns of numbers into (default 4)")
    add("--talk", choices=("st", "nst", "dt"), help="talk type of all files: far-end, near-end single, double talk")
    add("--talk-column", metavar="NAME", help="metadata column with talk types (default: talk, scenario, kind)")
    add(
        "--metrics",
        metavar="LIST",
        help="comma-separated, e.g. dnsmos,pesq_wb,aecmos (default: all that the signals and packages allow)",
    )
    add("--skip-noisy", action="store_true", help="do not score the unprocessed input")
    add("--jobs", metavar="N", type=int, default=0, help="processes (default: one a core)")
    add("-o", "--output", metavar="CSV", type=Path, help="write the scores, one line a file")
    add("--json", metavar="JSON", type=Path, help="write summary, settings and versions")
    add("--markdown", action="store_true", help="print Markdown tables")
    add("--force", action="store_true", help="overwrite existing results")
    add("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Score; 1 if a file could not be read or enhanced."""
    from deepvqe_hub.metrics import available_metrics, report, select_metrics
    from deepvqe_hub.metrics.evaluation import evaluate_files

    outputs = [path for path in (args.output, args.json) if path]
    report.check_writable(outputs, args.force)
    cases, metadata = _collect(args)
    given = {"reference": args.reference, "noisy": args.noisy or args.model, "farend": args.farend}
    possible = available_metrics(**{role: bool(where) for role, where in given.items()})
    metrics = select_metrics(args.metrics) if args.metrics else _installed(possible)
    _check_needs(metrics, given)
    groups, left_out = _groups(args, metadata)

    begin = time.monotonic()
    results = evaluate_files(
        cases,
        metrics=metrics,
        model=args.model,
        score_noisy=not args.skip_noisy,
        jobs=args.jobs if args.jobs > 0 else _cores(),
        progress=not args.quiet,
    )
    failed = [result for result in results if "failed" in result["notes"]]
    for line in report.unscored(results):
        print(f"deepvqe: {line}", file=sys.stderr)
    if len(failed) == len(results):
        raise CommandError(f"none of the {len(results)} files could be scored: {failed[0]['notes']['failed']}")

    by_name = {result["file"]: result for result in results}
    document = {
        "files": len(results),
        "failed": len(failed),
        "seconds_of_audio": sum(r["seconds"] for r in results if r["seconds"] == r["seconds"]),
        "summary": report.summarise(results, metrics),
        "sig_drops": report.sig_drops(results),
        "groups": {
            column: {
                group: {"files": len(names), "summary": report.summarise([by_name[n] for n in names], metrics)}
                for group, names in members.items()
            }
            for column, members in groups.items()
        },
        "settings": {key: value for key, value in vars(args).items() if key != "run"} | {"metrics": metrics},
        "model": _model_config(args.model),
        "versions": report.versions(),
        "wall_seconds": time.monotonic() - begin,
    }
    contents = {args.output: report.to_csv(results)} if args.output else {}
    contents |= {args.json: report.to_json(document)} if args.json else {}
    report.write_files(contents, args.force)
    _print(document, left_out, args.markdown)
    return 1 if failed else 0


def _collect(args):
    """The files that belong together, and the metadata if given."""
    from deepvqe_hub.metrics.evaluation import Case
    from deepvqe_hub.metrics.metadata import Metadata
    from deepvqe_hub.metrics.pairing import find_audio, pair_files

    if args.model and args.noisy:
        raise CommandError("with --model ENHANCED is the noisy input: leave --noisy out")
    if args.talk and args.talk_column:
        raise CommandError("give either --talk or --talk-column")
    if (args.talk_column or args.group_by) and not args.metadata:
        raise CommandError("--talk-column and --group-by name columns of --metadata CSV, which is not given")
    files = find_audio(args.enhanced)
    others = {}
    for role in ("reference", "noisy", "farend"):
        where = getattr(args, role)
        others[role] = pair_files(files, where, role) if where else {}
    metadata = Metadata(args.metadata, list(files)) if args.metadata else None
    if metadata and metadata.unmatched:
        names = metadata.unmatched
        print(f"deepvqe: {args.metadata} has no line for {len(names)} files, e.g. {names[0]}", file=sys.stderr)
    talks = dict.fromkeys(files, args.talk)
    if metadata and not args.talk:
        talks = metadata.talk_types(args.talk_column)
    if args.farend and None in talks.values():
        print(
            "deepvqe: without talk types (--talk, or a metadata column) AECMOS takes its network for unknown "
            "scenarios, and ERLE is left out",
            file=sys.stderr,
        )
    cases = [
        Case(path, *(others[role].get(name) for role in ("reference", "noisy", "farend")), talks[name], name)
        for name, path in files.items()
    ]
    return cases, metadata


def _installed(metrics: list[str]) -> list[str]:
    """Those of the default measures whose packages are there; what is left out is said."""
    from deepvqe_hub.metrics.table import check_packages

    installed, problems = [], {}
    for metric in metrics:
        try:
            check_packages([metric])
            installed.append(metric)
        except ImportError as error:
            problems[metric] = str(error)
    if not installed:
        raise CommandError(next(iter(problems.values())))
    for metric, problem in problems.items():
        print(f"deepvqe: {metric} is left out: {problem}", file=sys.stderr)
    return installed


def _check_needs(metrics, given) -> None:
    from deepvqe_hub.metrics import METRICS

    for metric in metrics:
        missing = [f"--{need} DIR" for need in METRICS[metric].needs if not given[need]]
        if missing:
            raise CommandError(f"{METRICS[metric].label} needs {' and '.join(missing)}")
    if given["farend"] and not given["noisy"]:
        raise CommandError("--farend is for AECMOS, which also needs the microphone signals: --noisy DIR")


def _groups(args, metadata):
    if metadata is None:
        return {}, {}
    columns = [column.strip() for column in args.group_by.split(",")] if args.group_by else None
    if args.bins < 2:
        raise CommandError(f"--bins {args.bins}: at least 2 ranges")
    return metadata.groups(columns, args.bins)


def _model_config(name: str | None) -> dict | None:
    if name is None:
        return None
    from deepvqe_hub.metrics.evaluation import load_model

    model = load_model(name)  # of this process: loaded before the first file, as a check
    return {"name": name, "sample_rate": model.sample_rate, "config": getattr(model, "config", None)}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _print(document: dict, left_out: dict[str, str], markdown: bool) -> None:
    from deepvqe_hub.metrics import report

    print(report.summary_table(document["summary"], markdown))
    drops = document["sig_drops"]
    if drops:
        print(
            f"\nDNSMOS SIG falls by more than {drops['threshold']} below the input's in "
            f"{len(drops['files'])} of {drops['n']} files ({drops['share']:.1%})."
        )
    for column, groups in document["groups"].items():
        print("\n" + report.group_table(column, groups, markdown))
    if left_out:
        why = ", ".join(f"{column} ({reason})" for column, reason in left_out.items())
        print(f"\nNo breakdown by {why}.")
