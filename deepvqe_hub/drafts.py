"""Files written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well and is removed when it does not.

    Raises:
        OSError: the folder is missing or may not be written to.
    """
    path = Path(path)
    part = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        part.touch()
    except OSError as error:  # naming the file that was asked for
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
