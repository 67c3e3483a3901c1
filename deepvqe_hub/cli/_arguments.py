"""What arguments of several commands have in common: their types, and what the help says of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from deepvqe_hub.limits import MAX_THREADS

MODEL = "name, folder, file or Hub repository[@revision]"
DEVICE = "for PyTorch, such as cpu, cuda or cuda:1 (default: cpu)"
FORCE = "replace existing outputs"


def whole_number(most: int | None = None) -> Callable[[str], int]:
    """The type of an argument that is a whole number from 1, to `most` where there is a limit."""
    wanted = f"whole number from 1 to {most}" if most else "positive whole number"

    def parse(text: str) -> int:
        if not (text.isdecimal() and 1 <= int(text) <= (most or int(text))):
            raise argparse.ArgumentTypeError(f"{text} is not a {wanted}")
        return int(text)

    return parse


def torch_device(text: str) -> str:
    """The type of --device: as `torch.device` takes it, which is found out later, but for the one without numbers."""
    if text.partition(":")[0] == "meta":
        raise argparse.ArgumentTypeError(f"{text} computes nothing; choose another, such as cpu or cuda")
    return text


positive, thread_count = whole_number(), whole_number(MAX_THREADS)
