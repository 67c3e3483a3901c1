"""The command line program `deepvqe`: one module in this folder for each sub-command.

A sub-command module has a docstring (its first line is the help), `configure(parser)` for its arguments
and `run(args) -> int` for the work; heavy imports belong inside `run`, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import pkgutil
import re
import sys

from deepvqe_hub._lazy import WITHOUT_TORCH
from deepvqe_hub._version import __version__
from deepvqe_hub.processes import terminated_cleanly


class CommandError(Exception):
    """An error the user can mend: printed without a traceback, exit status 2."""


def _commands():
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):  # what commands share
            yield info.name, importlib.import_module(f"{__name__}.{info.name}")


def build_parser() -> argparse.ArgumentParser:
    """The whole argument parser, one sub-parser for each module of this folder."""
    parser = argparse.ArgumentParser(
        prog="deepvqe", description="Real-time voice quality enhancement: noise, reverberation and echo."
    )
    parser.add_argument("--version", action="version", version=f"deepvqe-hub {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in _commands():
        help_line = module.__doc__.strip().splitlines()[0]
        sub = subparsers.add_parser(
            name,
            help=help_line,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(sub)
        sub.set_defaults(run=module.run, parser=sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 some inputs failed, 2 wrong use)."""
    arguments = sys.argv[1:] if argv is None else argv
    empty = _empty(arguments)
    if empty is not None:
        print(f"deepvqe: error: {empty} is empty; is a variable of the shell not set?", file=sys.stderr)
        return 2
    args, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        args.parser.error(_unrecognized(unknown, args.parser))
    if "OMP_WAIT_POLICY" not in os.environ:
        # PyTorch's threads wait for one another by spinning, on a busy machine in the way of those they wait for:
        # ten times slower. So they spin a thousand times at most; libgomp reads this when torch is imported.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Hours of work are not lost to a letter that the terminal cannot show. On Windows, files and pipes have a code
        # page and "surrogateescape", which then raises as "strict" does.
        unicode = sys.stdout.encoding.lower().startswith("utf")
        if sys.stdout.errors in (("strict",) if unicode else ("strict", "surrogateescape")):
            sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with terminated_cleanly():
            status = args.run(args) or 0
        _flush()
        return status
    except BrokenPipeError:  # whoever read the output has gone
        _forget_output()
        return 128 + 13  # as of a program that SIGPIPE ends
    except (CommandError, OSError, ValueError, ImportError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        print(f"deepvqe: error: {WITHOUT_TORCH if missing else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deepvqe: interrupted", file=sys.stderr)
        return 130


def _empty(arguments: list[str]) -> str | None:
    """What is empty among the arguments, which no command wants: a path would be this folder, an option left out."""
    for before, argument in zip(["", *arguments], arguments):
        if argument == "":
            return before if before.startswith("-") else "an argument"
        if re.fullmatch("--[a-z-]+=", argument):
            return argument[:-1]
    return None


def _unrecognized(arguments: list[str], parser: argparse.ArgumentParser) -> str:
    """What to say of arguments that a command does not have: by argparse alone, of no command and without a hint."""
    options = re.findall(r"--[\w-]+", parser.format_help())
    close = difflib.get_close_matches(arguments[0].partition("=")[0], options, 1, 0.7)
    return f"unrecognized arguments: {' '.join(arguments)}" + (f"; did you mean {close[0]}?" if close else "")


def check_output(other: str) -> None:
    """Raise CommandError where standard output cannot take audio; `other` says where it could go."""
    if getattr(sys.stdout, "name", None) == os.devnull:  # what `main` put in the place of a closed one
        raise CommandError("standard output is closed")
    if sys.stdout.isatty():
        raise CommandError(f"standard output is a terminal; redirect it, or {other}")


def _flush() -> None:
    """Write what standard output still holds, while what goes wrong can be told."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_output()
        raise CommandError(f"cannot write to standard output: {error.strerror}") from error


def _forget_output() -> None:
    """Let Python's own attempt to write the rest, when it ends, succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
