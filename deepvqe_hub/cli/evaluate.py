"""Score enhanced speech: DNSMOS, PESQ, STOI, SI-SDR, AECMOS, ERLE.

Without references DNSMOS is computed; with --reference also PESQ-WB, STOI, ESTOI and SI-SDR; with --noisy and
--farend AECMOS and ERLE. Prints means with bootstrap intervals, and medians; -o writes one line a file.

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
import sys
import time
from pathlib import Path

from deepvqe_hub.atomic import check_writable, write_files
from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import FORCE, MODEL, positive
from deepvqe_hub.cli._cases import add_case_options, choose_metrics, collect
from deepvqe_hub.machine import cores


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("enhanced", metavar="ENHANCED", type=Path, help="folder (searched with its subfolders) or file to score")
    add("--reference", metavar="DIR", type=Path, help="clean references")
    add("--noisy", metavar="DIR", type=Path, help="unprocessed input (microphone): scored, too, and compared")
    add("--farend", metavar="DIR", type=Path, help="far-end (loudspeaker) signals")
    add("--model", help=f"ENHANCED is noisy: enhance it in memory with this model first; {MODEL}")
    add("--group-by", metavar="COLUMNS", help="columns of the metadata for the breakdown (default: all that fit)")
    add("--bins", type=int, metavar="N", help="ranges to cut columns of numbers into (default: 4)")
    add_case_options(parser)
    add("--skip-noisy", action="store_true", help="do not score the unprocessed input")
    add("--jobs", metavar="N", type=positive, help="processes (default: one a core)")
    add("-o", "--output", metavar="CSV", type=Path, help="write the scores, one line a file")
    add("--json", metavar="JSON", type=Path, help="write summary, settings and versions")
    add("--markdown", action="store_true", help="print Markdown tables")
    add("--force", action="store_true", help=FORCE)
    add("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Score; 1 if a file could not be read or enhanced."""
    from deepvqe_hub.metrics import report
    from deepvqe_hub.metrics.evaluation import evaluate_files

    outputs = [path for path in (args.output, args.json) if path]
    check_writable(outputs, args.force)
    if args.model and args.noisy:
        raise CommandError("with --model ENHANCED is the noisy input: leave --noisy out")
    for option, value in (("--group-by", args.group_by), ("--bins", args.bins)):
        if value is not None and not args.metadata:
            raise CommandError(f"{option} is for the columns of --metadata CSV, which is not given")
    cases, metadata = collect(args.enhanced, args, reference=args.reference, noisy=args.noisy, farend=args.farend)
    metrics = choose_metrics(args.metrics, reference=args.reference, noisy=args.noisy or args.model, farend=args.farend)
    groups, left_out = _groups(args, metadata)

    begin = time.monotonic()
    results = evaluate_files(
        cases,
        metrics=metrics,
        model=args.model,
        score_noisy=not args.skip_noisy,
        jobs=args.jobs or cores(),
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
    try:
        write_files(contents, args.force)
    finally:  # what hours of work gave is seen even where it cannot be written
        _print(document, left_out, args.markdown)
    return 1 if failed else 0


def _groups(args, metadata):
    if metadata is None:
        return {}, {}
    columns = [column.strip() for column in args.group_by.split(",")] if args.group_by else None
    bins = 4 if args.bins is None else args.bins
    if bins < 2:
        raise CommandError(f"--bins {bins}: at least 2 ranges")
    return metadata.groups(columns, bins)


def _model_config(name: str | None) -> dict | None:
    if name is None:
        return None
    from deepvqe_hub.metrics.evaluation import load_model

    model = load_model(name)  # of this process: loaded before the first file, as a check
    return {"name": name, "sample_rate": model.sample_rate, "config": getattr(model, "config", None)}


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
