"""What `evaluate` and `compare` score: the files that belong together, and the measures that they allow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deepvqe_hub.cli import CommandError


def collect(folder: Path, args: argparse.Namespace, **roles: Path | None):
    """The cases in `folder`, and the metadata of `args`, if given.

    Args:
        folder: of the files to score, or of the noisy ones that a model is to enhance.
        args: has `metadata`, `talk` and `talk_column`.
        **roles: where the other files of a case are: `reference`, `noisy`, `farend`.
    """
    from deepvqe_hub.metrics.evaluation import Case
    from deepvqe_hub.metrics.metadata import Metadata
    from deepvqe_hub.pairing import find_audio, pair_files

    if args.talk and args.talk_column:
        raise CommandError("give either --talk or --talk-column")
    if args.talk_column and not args.metadata:
        raise CommandError("--talk-column names a column of --metadata CSV, which is not given")
    files = find_audio(folder)
    others = {role: pair_files(files, where, role) for role, where in roles.items() if where}
    for name, farend in others.get("farend", {}).items():
        if farend.samefile(others.get("noisy", files)[name]):
            raise CommandError(
                f"{farend} would be both the far end and the microphone of {name}: keep far ends in a folder of their "
                "own, or let their names end in _farend or _lpb"
            )
    metadata = Metadata(args.metadata, list(files)) if args.metadata else None
    if metadata and metadata.unmatched:
        names = metadata.unmatched
        print(f"deepvqe: {args.metadata} has no line for {len(names)} files, e.g. {names[0]}", file=sys.stderr)
    talks = dict.fromkeys(files, args.talk)
    if metadata and not args.talk:
        talks = metadata.talk_types(args.talk_column)
    if "farend" in others and None in talks.values():
        print(
            "deepvqe: without talk types (--talk, or a metadata column) AECMOS takes its network for unknown "
            "scenarios, and ERLE is left out",
            file=sys.stderr,
        )
    cases = [
        Case(path, talk=talks[name], name=name, **{role: paths.get(name) for role, paths in others.items()})
        for name, path in files.items()
    ]
    return cases, metadata


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `collect` and `choose_metrics` read."""
    add = parser.add_argument
    add("--metadata", metavar="CSV", type=Path, help="conditions of the files, such as their talk types")
    add("--talk", choices=("st", "nst", "dt"), help="talk type of all files: far-end, near-end single, double talk")
    add("--talk-column", metavar="NAME", help="metadata column with talk types (default: talk, scenario, kind)")
    text = "comma-separated, such as dnsmos,pesq_wb (default: all that the signals and packages allow)"
    add("--metrics", metavar="LIST", help=text)


def choose_metrics(names: str | None, **roles: Path | str | None) -> list[str]:
    """The measures named, or all that the given signals (as in `collect`) and the installed packages allow."""
    from deepvqe_hub.metrics.registry import MissingSignalError, chosen_metrics

    if roles["farend"] and not roles["noisy"]:
        raise CommandError("--farend is for AECMOS, which also needs the microphone signals: --noisy DIR")
    left_out = {}
    try:
        metrics = chosen_metrics(names, [role for role, where in roles.items() if where], left_out)
    except MissingSignalError as error:
        raise CommandError(f"{error.label} needs {' and '.join(f'--{name} DIR' for name in error.signals)}") from error
    if not metrics:
        raise CommandError(next(iter(left_out.values())))
    for metric, problem in left_out.items():
        print(f"deepvqe: {metric} is left out: {problem}", file=sys.stderr)
    return metrics
