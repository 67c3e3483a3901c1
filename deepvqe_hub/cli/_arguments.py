"""Arguments that several commands have, and what they stand for."""

from __future__ import annotations

import argparse

from deepvqe_hub.limits import MAX_THREADS


def positive(text: str) -> int:
    """A whole number from 1, as a type of an argument."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads, as a type of an argument."""
    if not (text.isdecimal() and 1 <= int(text) <= MAX_THREADS):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to {MAX_THREADS}")
    return int(text)
