"""Enhance sound files: one, several, a whole folder, or standard input.

  deepvqe enhance noisy.wav                         writes noisy.enhanced.wav beside it
  deepvqe enhance noisy.wav -o clean.flac           the format follows from the extension
  deepvqe enhance corpus/ -o enhanced/ --resume     the whole tree, without what is done
  deepvqe enhance 'corpus/**/*.mp3' -o enhanced/
  ffmpeg -i talk.mp4 -f wav - | deepvqe enhance - > clean.wav
  deepvqe enhance mic.wav --farend loudspeaker.wav -o clean.wav
  deepvqe enhance mic/ --farend farend/ -o clean/   paired by name, also x_mic.wav with x_lpb.wav
  deepvqe enhance calls/ --farend-pattern '*_mic.wav=*_farend.wav' -o clean/

Length, sample rate, channels and sample format stay as they are. Each output is written whole or not at all. Files
that fail are listed at the end, and the exit status is 1; for a request that makes no sense it is 2.
"""

from __future__ import annotations

import argparse
import sys
import time

from deepvqe_hub.cli import CommandError, check_output
from deepvqe_hub.cli._arguments import DEVICE, FORCE, MODEL, positive, thread_count, torch_device
from deepvqe_hub.cli._inputs import STANDARD, Job, plan
from deepvqe_hub.cli._work import Result, Settings, in_processes, one_by_one


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="files, folders, patterns such as '*.wav', or - for standard input")
    add("-o", "--output", metavar="OUT", help="file, or folder for several inputs, or - for standard output as WAV")
    add("--model", help=f"{MODEL} (default: deepvqe-s, with a far end deepvqe-aec-s)")
    add("--farend", metavar="FILE|DIR", help="what the loudspeaker played; in a folder, what evaluate would pair")
    add(
        "--farend-pattern",
        metavar="MIC=FAREND",
        help="pairs file names, * standing for what they share; in the folder --farend, or else beside the input. "
        "FAREND alone: * is the input's name without extension",
    )
    add("--device", type=torch_device, help=DEVICE)
    add("--mix", type=float, default=1.0, metavar="0..1", help="1 enhanced, 0 as it was, else a blend (default: 1)")
    add("--attenuation-limit", type=float, metavar="DB", help="take away at most so many dB (default: no limit)")
    add("--plot", action="store_true", help="draw spectrograms before and after, NAME.png beside the output")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="skip inputs whose output (and picture) exists")
    existing.add_argument("--force", action="store_true", help=FORCE)
    add("--jobs", type=positive, default=1, metavar="N", help="processes, of a file each at a time (default: 1)")
    add("--threads", type=thread_count, metavar="N", help="threads a process (default: all; 1 with --jobs or a graph)")
    add("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(args: argparse.Namespace) -> int:
    jobs, skipped = plan(
        args.inputs,
        args.output,
        args.farend,
        args.farend_pattern,
        plot=args.plot,
        force=args.force,
        resume=args.resume,
    )
    if not jobs:
        return _report([], [], skipped, 0.0, args.quiet)
    if jobs[0].output is STANDARD:
        check_output("name a file with -o")
    if args.plot:
        import deepvqe_hub.plots  # whether it can draw is better known before the work
    import torch

    import deepvqe_hub
    from deepvqe_hub.files.blocks import dry_share
    from deepvqe_hub.onnx import is_graph

    dry_share(args.mix, args.attenuation_limit)  # checks them
    echo = any(job.farend is not None for job in jobs)
    name = args.model or ("deepvqe-aec-s" if echo else "deepvqe-s")
    options = {"threads": args.threads or 1} if is_graph(name) else {}
    model = deepvqe_hub.load(name, device=args.device, **options)
    if echo and not model.farend:
        raise CommandError(f"{name} has no far-end input; choose an echo-cancelling model, such as deepvqe-aec-s")
    settings = Settings(args.mix, args.attenuation_limit, args.force, args.resume)
    processes = min(args.jobs, len(jobs))
    started = time.perf_counter()
    if processes > 1:
        results = in_processes(model, jobs, settings, processes, args.threads or 1, args.quiet)
    else:
        if args.threads:
            torch.set_num_threads(args.threads)
        results = one_by_one(model, jobs, settings, args.quiet)
    wall = time.perf_counter() - started
    elapsed = wall if processes > 1 else sum(result.elapsed for result in results)
    return _report(jobs, results, skipped, elapsed, args.quiet)


def _report(jobs: list[Job], results: list[Result], skipped: int, elapsed: float, quiet: bool) -> int:
    errors = [result.error for result in results if result.error is not None]
    seconds = sum(result.seconds for result in results)
    for result in results:
        for text in result.warnings:
            print(f"deepvqe: warning: {text}", file=sys.stderr)
    if not quiet:
        done = f"{len(results) - len(errors)} of {len(results)} enhanced" if results else "nothing to do"
        done += f", {skipped} skipped" if skipped else ""
        if len(jobs) == 1 and not errors and jobs[0].output is not STANDARD:
            done = f"wrote {jobs[0].output}" if seconds else f"drew {jobs[0].plot}"
        if seconds:
            done += f"; {seconds:.1f} s of audio in {elapsed:.1f} s, real-time factor {elapsed / seconds:.3f}"
        print(f"deepvqe: {done}", file=sys.stderr)
    if len(errors) == 1:
        print(f"deepvqe: error: {errors[0]}", file=sys.stderr)
    elif errors:
        print("\n  ".join([f"deepvqe: error: {len(errors)} inputs failed:", *errors]), file=sys.stderr)
    return 1 if errors else 0
