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
        IsADirectoryError: ``path`` is a folder.
        OSError: its folder is missing or may not be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it, or another")
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


def make_parent(path: str | os.PathLike) -> Path:
    """``path``, the folder that it lies in made.

    Raises:
        NotADirectoryError: a file is in the way.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"{path.parent} cannot be made, as a part of that path is a file; name another output"
        ) from error
    return path
