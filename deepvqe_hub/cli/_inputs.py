"""What `deepvqe enhance` is asked to do, as a list of `Job`: settled, and checked, before any work starts."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from deepvqe_hub.cli import CommandError
from deepvqe_hub.folders import AUDIO_SUFFIXES, audio_files
from deepvqe_hub.pairing import called, find_pairs


class _Standard:
    """Standard input or output, in the place of a path: Path("-") may be that of a file."""

    def __str__(self) -> str:
        return "-"

    def exists(self) -> bool:  # nothing that an earlier run has left
        return False


STANDARD = _Standard()
# What is looked for in folders: what libsndfile reads, and what it does not, which deserves a message, not silence.
SUFFIXES = (*AUDIO_SUFFIXES, ".m4a", ".aac", ".wma", ".amr", ".webm")


@dataclass(frozen=True)
class Job:
    """One file to enhance.

    Attributes:
        source, output: paths, or `STANDARD`.
        farend: path of the loudspeaker signal.
        plot: path of the picture to draw.
        found: whether the source was found in a folder or by a pattern, and not named by the user.
    """

    source: Path | _Standard
    output: Path | _Standard
    farend: Path | None = None
    plot: Path | None = None
    found: bool = False

    @property
    def results(self) -> list[Path | _Standard]:
        """All that it makes."""
        return [self.output] if self.plot is None else [self.output, self.plot]

    def done(self) -> bool:
        """Whether all that it makes is there."""
        return all(path.exists() for path in self.results)


class _File(NamedTuple):
    """A file that was asked for."""

    path: Path
    relative: Path
    """The path within the searched folder, and so within that of the outputs."""
    found: bool
    """Whether it was found in a folder or by a pattern, and not named by the user."""


def plan(
    inputs: list[str],
    output: str | None = None,
    farend: str | None = None,
    farend_pattern: str | None = None,
    *,
    plot: bool = False,
    force: bool = False,
    resume: bool = False,
) -> tuple[list[Job], int]:
    """The jobs to do, and how many `resume` leaves out because their outputs are there.

    Raises:
        CommandError, FileNotFoundError, FileExistsError: where the request cannot be met without harm.
    """
    pairing = _Pairing(farend, farend_pattern)
    if inputs == ["-"]:
        jobs = [_standard_job(output, farend, farend_pattern)]
    else:
        jobs = _without_own_results(_file_jobs(inputs, output, pairing))
    if not jobs:
        raise CommandError(f"no audio files found in {', '.join(inputs)}")
    if plot:
        jobs = _with_plots(jobs)
    _check_distinct(jobs)
    if not (force or resume):
        _check_free(jobs)
    waiting = [job for job in jobs if not (resume and job.done())]
    return waiting, len(jobs) - len(waiting)


def _standard_job(output: str | None, farend: str | None, pattern: str | None) -> Job:
    if pattern or (farend and not Path(farend).is_file()):
        raise CommandError("with standard input, --farend names one file")
    target = STANDARD if output in (None, "-") else Path(output)
    if target is not STANDARD:
        if target.is_dir() or output.endswith(("/", os.sep)):
            raise CommandError(f"with standard input, -o names a file, not the folder {output}")
        _check_format(target)
    return Job(STANDARD, target, Path(farend) if farend else None)


def _file_jobs(inputs: list[str], output: str | None, pairing: _Pairing) -> list[Job]:
    """A job for each microphone file, without pictures; a file that is named twice has one, unless outputs differ."""
    files: dict[tuple[Path, Path | _Standard], _File] = {}
    for text in inputs:
        many = len(inputs) > 1 or Path(text).is_dir() or not Path(text).exists()
        for file in _expand(text, output):
            if pairing.is_microphone(file):
                files.setdefault((file.path, _target(file, output, many)), file)
    farends = pairing.farends_of(list(files.values()))
    return [Job(file.path, target, far, found=file.found) for ((_, target), file), far in zip(files.items(), farends)]


def _expand(text: str, output: str | None) -> Iterator[_File]:
    """The files that one input stands for: a file, a folder, or a pattern."""
    if text == "-":
        raise CommandError("standard input (-) cannot be combined with other inputs")
    path = Path(text)
    if path.is_dir():
        if output is None:
            raise CommandError(f"{text} is a folder; name a folder for the results with -o")
        root, paths = path, audio_files(path, SUFFIXES)
    elif path.exists():
        yield _File(path, Path(path.name), found=False)
        return
    elif glob.has_magic(text):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        matches = map(Path, glob.iglob(text, recursive=True))
        root, paths = Path(*parts[:fixed]), (p for p in matches if p.suffix.lower() in SUFFIXES and p.is_file())
    else:
        raise FileNotFoundError(f"{text}: no such file or folder")
    results = _results_within(root, output)
    for path in sorted(set(paths)):
        if results is None or results not in path.resolve().parents:
            yield _File(path, path.relative_to(root), found=True)


def _results_within(root: Path, output: str | None) -> Path | None:
    """The output folder, whose files are no input where it lies inside the searched one or is linked there."""
    if output in (None, "-"):
        return None
    target, root = Path(output).resolve(), root.resolve()
    if target == root and root.is_dir():
        raise CommandError(f"{output} is the folder of the inputs as well; name another with -o")
    return None if target in root.parents else target


def _target(file: _File, output: str | None, many: bool) -> Path | _Standard:
    """Where the result of a file goes; `many`: whether there may be more inputs than this one."""
    if output is None:
        path = file.path
        if not path.suffix:
            raise CommandError(f"{path} has no extension to say the format of the result; name it with -o")
        return path.with_name(f"{path.stem}.enhanced{path.suffix}")
    target = Path(output)
    if output == "-":
        if many:
            raise CommandError("standard output (-o -) takes one input; name a folder with -o")
        return STANDARD
    if many and not target.is_dir() and (target.is_file() or target.suffix.lower() in SUFFIXES):
        raise CommandError(f"{output} is one file; a folder, a pattern or several inputs need a folder")
    if many or target.is_dir() or output.endswith(("/", os.sep)):
        return target / file.relative
    if not target.suffix:
        raise CommandError(f"{output} has no extension to say the format, such as .wav; end it with / for a folder")
    _check_format(target)
    return target


def _check_format(output: Path) -> None:
    """Raise AudioFileError where the extension of a file that the user named is no format that can be written."""
    from deepvqe_hub.files.output import named_format

    named_format(output)


class _Pairing:
    """Which far-end file belongs to which microphone file."""

    def __init__(self, farend: str | None, pattern: str | None):
        self.farend = Path(farend) if farend else None
        if self.farend is not None and not self.farend.exists():
            raise FileNotFoundError(f"{farend}: no such far-end file or folder")
        if pattern and self.farend is not None and not self.farend.is_dir():
            raise CommandError(f"--farend-pattern looks for files in a folder; --farend {farend} is a file")
        self.left, equals, self.right = (pattern or "").partition("=")
        if not equals:  # the far end alone: its * stands for the microphone's name without extension
            self.left, self.right = "", self.left
        sides = [side for side in (self.left, self.right) if side]
        if pattern and (not self.right or any(side.count("*") != 1 for side in sides)):
            raise CommandError(
                f"--farend-pattern {pattern!r}: write MIC=FAREND with one * each, such as '*_mic.wav=*_farend.wav'"
            )

    def is_microphone(self, file: _File) -> bool:
        """Whether the pattern takes `file` for a microphone's; files that the user named must fit.

        Without a pattern, what was found beside the microphones and is called a far end is none.
        """
        path, found = file.path, file.found
        if found and not self.right and self.farend is not None and self.farend.resolve() in path.resolve().parents:
            return not called(path, "farend")
        fits = self._stem(path) is not None
        if not fits and not found:
            raise CommandError(f"{path} does not match {self.left!r} of --farend-pattern")
        return fits

    def farends_of(self, files: list[_File]) -> list[Path | None]:
        """The far end of each file. It may be missing, as may a source."""
        if self.right:
            names = [self.right.replace("*", self._stem(file.path)) for file in files]
            folders = [self.farend / file.relative.parent if self.farend else file.path.parent for file in files]
            return [folder / name for folder, name in zip(folders, names)]
        if self.farend is None or not self.farend.is_dir():
            return [self.farend] * len(files)
        pairs = find_pairs([file.relative.as_posix() for file in files], self.farend, "farend")
        return [pairs[file.relative.as_posix()] or self.farend / file.relative for file in files]

    def _stem(self, path: Path) -> str | None:
        if not self.left:
            return path.stem
        before, after = self.left.split("*")
        name, length = path.name, len(before) + len(after)
        fits = len(name) >= length and name.startswith(before) and name.endswith(after)
        return name[len(before) : len(name) - len(after)] if fits else None


def _without_own_results(jobs: list[Job]) -> list[Job]:
    """Leave out what an earlier run wrote beside its input, and found files that are another's far end."""
    results = {job.output for job in jobs if job.output is not STANDARD and job.output.stem.endswith(".enhanced")}
    farends = {job.farend for job in jobs if job.farend != job.source}
    return [job for job in jobs if job.source not in results and not (job.found and job.source in farends)]


def _with_plots(jobs: list[Job]) -> list[Job]:
    """With the picture NAME.png beside each output, or NAME.flac.png where another output has the same NAME."""
    if any(job.output is STANDARD for job in jobs):
        raise CommandError("--plot draws beside the output; name one with -o")
    pictures = Counter(job.output.with_suffix(".png") for job in jobs)
    return [
        replace(job, plot=alone if pictures[alone] == 1 else job.output.with_name(f"{job.output.name}.png"))
        for job, alone in ((job, job.output.with_suffix(".png")) for job in jobs)
    ]


def _check_distinct(jobs: list[Job]) -> None:
    written: dict[Path, Job] = {}
    sources = {job.source.resolve(): job for job in jobs if job.source is not STANDARD}
    farends = {job.farend.resolve() for job in jobs if job.farend is not None}
    for job in jobs:
        if job.farend is not None and sources.get(job.farend.resolve()) is job:
            raise CommandError(
                f"{job.farend} would be both the far end and the microphone: keep far ends in a folder of their "
                "own, or let their names end in _farend or _lpb"
            )
        for path in (path for path in job.results if path is not STANDARD):
            other = written.setdefault(path.resolve(), job)
            if other is not job:
                raise CommandError(f"{other.source} and {job.source} would both be written to {path}")
            if sources.get(path.resolve(), job) is not job:
                raise CommandError(f"the result of {job.source} would replace the input {path}; name another with -o")
            if path.resolve() in farends and path.resolve() not in sources:
                raise CommandError(f"the result of {job.source} would replace the far end {path}; name another with -o")


def _check_free(jobs: list[Job]) -> None:
    there = [path for job in jobs for path in job.results if path.exists()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise FileExistsError(f"{there[0]}{more} exists; --force replaces, --resume skips what is done")
