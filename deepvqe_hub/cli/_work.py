"""The work of `deepvqe enhance`: jobs one after the other, or in several processes."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from deepvqe_hub.cli._inputs import STANDARD, Job
from deepvqe_hub.processes import worker_pool


@dataclass(frozen=True)
class Settings:
    """What holds for all files, as named on the command line."""

    mix: float
    attenuation_limit: float | None
    force: bool
    resume: bool


@dataclass(frozen=True)
class Result:
    """What became of a job: seconds of audio done, in so much time beside the picture, warnings, and the error."""

    seconds: float = 0.0
    elapsed: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


def one_by_one(model, jobs: list[Job], settings: Settings, quiet: bool) -> list[Result]:
    results = []
    if len(jobs) == 1:  # progress within the file
        with _bar(_duration(jobs[0]), "s", quiet) as bar:
            results.append(_enhance(model, jobs[0], settings, lambda seconds: bar.update(round(seconds, 1))))
    else:
        with _bar(len(jobs), "file", quiet) as bar:
            for job in jobs:
                results.append(_enhance(model, job, settings))
                bar.update()
    return results


def in_processes(model, jobs: list[Job], settings: Settings, processes: int, threads: int, quiet: bool) -> list[Result]:
    import torch

    # Networks travel over the CPU; an exported graph is opened again from its file.
    device = next(model.parameters()).device if isinstance(model, torch.nn.Module) else None
    pickled = pickle.dumps(model if device is None else model.cpu())
    with worker_pool(processes, _start_worker, (pickled, device, threads)) as submit:
        futures, results = {}, {}
        with contextlib.suppress(BrokenProcessPool):  # of many files, the first may end it before the last is submitted
            for job in jobs:
                futures[submit(_work, job, settings)] = job
        with _bar(len(jobs), "file", quiet) as bar:
            for future in as_completed(futures):
                job, error = futures[future], future.exception()  # of a process; those of a file come as results
                if not isinstance(error, BrokenProcessPool):
                    results[job] = future.result() if error is None else Result(error=f"{job.source}: {error}")
                bar.update()
    died = "not done, as a process died, perhaps for want of memory; try fewer --jobs, with --resume"
    return [results.get(job) or Result(error=f"{job.source}: {died}") for job in jobs]


_worker_model = None


def _start_worker(pickled_model: bytes, device, threads: int) -> None:
    global _worker_model
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unfinished outputs are removed on the way out
    import torch

    torch.set_num_threads(threads)
    _worker_model = pickle.loads(pickled_model)
    if device is not None:
        _worker_model.to(device)


def _work(job: Job, settings: Settings) -> Result:
    try:
        return _enhance(_worker_model, job, settings)
    except SystemExit:
        os._exit(1)  # the pool would take it for a result and go on with the next file


def _enhance(model, job: Job, settings: Settings, progress: Callable[[float], None] | None = None) -> Result:
    """Do one job; whatever goes wrong with its files ends up in the result."""
    begun, done, elapsed = time.perf_counter(), 0.0, 0.0

    def count(seconds: float) -> None:
        nonlocal done, elapsed
        done, elapsed = done + seconds, time.perf_counter() - begun
        if progress is not None:
            progress(seconds)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            _enhance_and_plot(model, job, settings, count)
            error = None
        except BrokenPipeError:  # whoever read standard output has gone
            raise
        except (ValueError, OSError) as problem:
            error = str(problem)
            if job.farend is not None and str(job.source) not in error:  # the far end of several, perhaps
                error = f"{job.source}: {error}"
        except Exception as problem:  # one file's trouble does not stop the others
            error = f"{job.source}: {type(problem).__name__}: {problem}"
    texts = dict.fromkeys(str(warning.message) for warning in caught)  # of each block, perhaps
    named = (text if str(job.source) in text else f"{job.source}: {text}" for text in texts)
    return Result(done, elapsed, tuple(named), error)


def _enhance_and_plot(model, job: Job, settings: Settings, progress: Callable[[float], None]) -> None:
    from deepvqe_hub.files import enhance_file

    with contextlib.ExitStack() as stack:
        source, output = job.source, job.output
        if source is STANDARD:  # a sound file cannot be read from a pipe, nor kept in memory when it is long
            source = stack.enter_context(tempfile.NamedTemporaryFile())
            source.name = "standard input"  # for messages
            shutil.copyfileobj(sys.stdin.buffer, source)
        if output is STANDARD:
            output = Path(stack.enter_context(tempfile.TemporaryDirectory()), "output.wav")
        if not (settings.resume and job.output.exists()):  # where only the picture is missing
            enhance_file(
                model,
                source,
                output,
                job.farend,
                mix=settings.mix,
                attenuation_limit_db=settings.attenuation_limit,
                overwrite=settings.force,
                progress=progress,
            )
        if job.output is STANDARD:
            with open(output, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        if job.plot is not None:
            from deepvqe_hub.plots import plot_enhancement

            overwrite = settings.force or settings.resume
            plot_enhancement(source, output, job.plot, model=model, farend=job.farend, overwrite=overwrite)


def _duration(job: Job) -> float | None:
    """Seconds, for the progress bar; None where unknown."""
    if job.source is STANDARD:
        return None
    from deepvqe_hub.files.audio import Recording

    try:
        with Recording(job.source) as recording:
            return round(recording.duration, 1)
    except (ValueError, OSError):
        return None


def _bar(total: float | None, unit: str, quiet: bool):
    from tqdm import tqdm

    # disable=None: no bar where standard error is not a terminal
    return tqdm(total=total, unit=unit, file=sys.stderr, disable=quiet or None, dynamic_ncols=True, leave=False)
