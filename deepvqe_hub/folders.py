"""Audio files of a folder: one search for training, scoring and enhancement."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# What libsndfile reads.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"),
)
# What file systems keep at the top of a disk, and let nobody list.
_OF_THE_SYSTEM = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}


def audio_files(folder: str | Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> Iterator[Path]:
    """Audio files at any depth, through links to folders as well: corpora are often put together from such links.

    Hidden files and folders are left out, as are those of the system at the top of a disk, such as lost+found, and a
    second way to the same folder; links come after what is no link. There is nothing in a folder that does not exist.

    Raises:
        OSError: a folder cannot be listed, so that its files would be missed.
    """
    suffixes, seen = tuple(suffixes), set()
    for where, below, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # or a link to a folder above
            below.clear()
            continue
        seen.add(real)
        shown = (name for name in below if not name.startswith(".") and name not in _OF_THE_SYSTEM)
        below[:] = sorted(shown, key=lambda name: (os.path.islink(os.path.join(where, name)), name))
        shown = (name for name in names if not name.startswith("."))
        yield from (Path(where, name) for name in shown if name.lower().endswith(suffixes))


def _unlisted(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # removed meanwhile, or never there
        remedy = "the audio in it would be missed; make the folder readable, or name others that are"
        raise type(error)(error.errno, f"{error.strerror}: {remedy}", error.filename) from error
