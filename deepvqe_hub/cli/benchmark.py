"""Measure speed and memory on this machine.

  deepvqe benchmark                                    every model and backend, one thread and all
  deepvqe benchmark --models deepvqe-s --threads 1 2   some of them
  deepvqe benchmark --json speed.json                  the numbers as a file, with the machine named

A step is one call of a stream, front end included: one frame of live audio, or --frames of them; it must take less
than the 16 ms that a frame lasts, each.
RTF is computing time over audio time. Weights are random, which does not change the speed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

from deepvqe_hub.atomic import check_writable, write_files
from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import FORCE, thread_count
from deepvqe_hub.cli._measure import BACKENDS
from deepvqe_hub.machine import cores, description


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME", help="names that `deepvqe models` lists (default: all)")
    names = ", ".join(BACKENDS)
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, metavar="NAME", help=f"{names} (default: all)")
    add(
        "--threads",
        nargs="+",
        type=thread_count,
        metavar="N",
        help="thread counts (default: 1 and the number of usable cores)",
    )
    add("--seconds", type=float, default=4.0, metavar="S", help="seconds of audio (default: 4)")
    add("--frames", type=int, default=1, metavar="N", help="frames a call when streaming (default: 1)")
    add("--json", metavar="JSON", help="write the numbers as well, with the machine")
    add("--force", action="store_true", help=FORCE)


def run(args: argparse.Namespace) -> int:
    from deepvqe_hub.cli._measure import MAX_SECONDS, Trial, apart, measure, prepare
    from deepvqe_hub.hub.registry import ENTRIES
    from deepvqe_hub.onnx.description import MAX_FRAMES

    files = [Path(args.json)] if args.json else []
    check_writable(files, args.force)
    models = args.models or list(ENTRIES)
    if unknown := [name for name in models if name not in ENTRIES]:
        raise CommandError(f"unknown model {unknown[0]}; choose from {', '.join(ENTRIES)}")
    threads = args.threads or sorted({1, cores()})
    if not 1 <= args.frames <= MAX_FRAMES:
        raise CommandError(f"--frames must be from 1 to {MAX_FRAMES}, not {args.frames}")
    least = max(1, 0.16 * args.frames)  # ten calls
    if not least <= args.seconds <= MAX_SECONDS:
        raise CommandError(f"--seconds must be from {least:g} to {MAX_SECONDS}, not {args.seconds:g}")
    about, results, failed = description(), [], 0
    print(
        f"{about['cpu']}, {about['cores']} cores, {', '.join(f'{k} {v}' for k, v in about['versions'].items() if v)}\n"
    )
    print(row("model", "backend", "threads", "step p50 ms", "p99 ms", "stream RTF", "offline RTF", "peak MB"))
    print(row(*["---"] * 8), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model, backend in itertools.product(models, args.backends):
            path = None if backend == "torch" else f"{folder}/{model}-{backend}.onnx"
            if path and (problem := apart(prepare, Trial(model, backend, 1, args.seconds, args.frames), path)):
                print(f"{model}, {backend}: {problem}", file=sys.stderr)
                failed += 1
                continue
            for count in threads:
                result = apart(measure, Trial(model, backend, count, args.seconds, args.frames), path)
                results.append(result)
                keys = ("step_ms_p50", "step_ms_p99", "stream_rtf", "offline_rtf", "peak_mb")
                print(row(model, backend, count, *(result.get(key, "—") for key in keys)), flush=True)
    text = json.dumps({"machine": about, "results": results}, indent=1) + "\n"
    write_files(dict.fromkeys(files, text), args.force)
    return 1 if failed else 0


def row(*cells) -> str:
    """A line of a table that reads well in a terminal and as Markdown."""
    widths = (14, 9, 7, 11, 8, 10, 11, 7)
    return "| " + " | ".join(f"{cell!s:{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"
