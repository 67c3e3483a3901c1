"""Where a named model lives: in this package, in a folder or file here, or on the Hugging Face Hub."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepvqe_hub.hub import formats, registry
from deepvqe_hub.hub.errors import WeightsMissingError
from deepvqe_hub.hub.folder import expanded


@dataclass(frozen=True)
class Place:
    """Where a model lives.

    Args:
        kind: "shipped" for a folder inside this package, "folder", "file" or "repository".
        name: the name of the shipped model, the path of the folder or file, or the repository's "owner/name".
        path: the folder or file, which is there; None for a repository.
        entry: what is known of the model, if it is one of ours.
        revision: of the repository, if one was given.
    """

    kind: Literal["shipped", "folder", "file", "repository"]
    name: str
    path: Path | None = None
    entry: registry.Entry | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"the {'model' if self.kind == 'shipped' else self.kind} {self.name}"


def resolve(source: str | os.PathLike[str], revision: str | None = None) -> Place:
    """Where the model lives that `deepvqe_hub.load` would load; nothing is read or downloaded.

    Args:
        source: a known name, a path or a repository, see `deepvqe_hub.load`; a known name goes before a folder, and a
            folder before a repository.
        revision: of a repository.

    Raises:
        FileNotFoundError: nothing is where it says; `deepvqe_hub.hub.WeightsMissingError` for a known name without
            weights.
        ValueError: it names nothing, or is an address; a revision of what is no repository, or beside another one.
    """
    check_kind(source)
    entry = None
    if isinstance(source, str):
        source, revision = _at_revision(source, revision)
        entry = registry.find(source)
    name, path = os.fspath(source), expanded(source)
    if entry is not None and entry.repo_id is not None:
        return Place("repository", entry.repo_id, None, entry, revision)
    if entry is not None:
        place = Place("shipped", name, entry.folder, entry)
    elif path.is_dir():
        place = Place("folder", str(path), path)
    elif "://" in name:
        raise ValueError(f"{name} is an address; of a repository of the Hub give owner/name, or download the file")
    elif path.is_file() or _names_a_file(source):
        place = Place("file", str(path), path)
    elif "/" in name:
        return Place("repository", name, revision=revision)
    else:
        raise ValueError(unknown_name(name))
    refuse_revision(revision, str(place))
    if entry is not None and not entry.embedded:
        raise WeightsMissingError(_no_weights(name))
    if place.kind == "file" and not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return place


def check_kind(source: object) -> None:
    """Raise ValueError for what is neither a path nor a string, or an empty one."""
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"what to load is named by a string or a path, not by {type(source).__name__}")
    if source == "":
        raise ValueError("the name of the model to load is empty")


def refuse_revision(revision: str | None, where: str) -> None:
    """Raise ValueError for the revision of what is no repository there."""
    if revision is not None:
        raise ValueError(f"revision is for repositories of the Hub; {where} has none")


def unknown_name(name: str) -> str:
    """What to say of a name that is none of ours, and no path or repository either."""
    close = difflib.get_close_matches(name.lower(), registry.ENTRIES, 1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{name!r} is neither a file, a folder nor a known model{hint} Known: {', '.join(registry.ENTRIES)}"


def _no_weights(name: str) -> str:
    have = [entry.name for entry in registry.ENTRIES.values() if entry.available]
    own = f'the folder of that name: "./{name}"' if Path(name).is_dir() else "a folder, file or Hub repository"
    return (
        f"no weights for {name} ship with this release; there are some for: {', '.join(have) or 'none'}. "
        f'Random ones: EnhancementModel.from_config("{name}"); your own: load {own}'
    )


def _at_revision(source: str, revision: str | None) -> tuple[str, str | None]:
    """`"owner/name@v1"`, or a known name so, as two; a path is left as it is, whatever stands in it."""
    name, at, tail = source.partition("@")
    known = registry.find(name) is not None or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)
    if not (at and tail and known) or Path(source).exists() or Path(tail).suffix.lower() in formats.SUFFIXES:
        return source, revision
    if revision not in (None, tail):
        raise ValueError(f"{source} names one revision, revision={revision!r} another; give one of them")
    return name, tail


def _names_a_file(source: str | os.PathLike[str]) -> bool:
    """Whether it can only be a path here, there or not, and no repository of the Hub."""
    name = os.fspath(source)
    return (
        not isinstance(source, str)
        or is_path(name)
        or name.endswith("/")
        or name.count("/") > 1
        or Path(name).suffix.lower() in formats.SUFFIXES
    )


def is_path(name: str) -> bool:
    """Whether a name begins, or on Windows is put together, as that of a file here and of nothing on the Hub."""
    drive, _ = os.path.splitdrive(name)
    return name.startswith((".", "/", "~")) or drive != "" or (os.sep != "/" and os.sep in name)
