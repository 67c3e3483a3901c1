"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well and is removed when it does not.

    The folder is made. A link stays, and what it leads to is written; a file that is replaced hands on its permissions.

    Args:
        path: the file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        IsADirectoryError, FileExistsError: see `check_free`, at the beginning or the end of the block.
        OSError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    target = _behind_link(make_parent(path))
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    part = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        part.touch()
    except OSError as error:  # naming the file that was asked for
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error
    try:
        if mode is not None:  # what is private stays so meanwhile
            part.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)
        with named_when_full(path):
            yield part
        check_free(path, overwrite=overwrite)
        if mode is not None:
            part.chmod(mode)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def named_when_full(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name `path` in the error of a full disk within the block, which says of itself only that there is no space."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        raise OSError(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def make_parent(path: str | os.PathLike[str]) -> Path:
    """`path`, the folder made that it lies in, or that a link there leads to.

    Raises:
        NotADirectoryError: a file is in the way.
    """
    path = Path(path)
    try:
        _behind_link(path).parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"{path.parent} cannot be made, as a part of that path is a file; name another output"
        ) from error
    return path


@contextmanager
def without_new_folders(path: str | os.PathLike[str]) -> Iterator[None]:
    """Remove, where the block fails, the folders that it made for `path`; those that another filled meanwhile stay."""
    made = [folder for folder in Path(path).parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _behind_link(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise where a file may not be written.

    Args:
        overwrite: whether an existing file may be replaced.

    Raises:
        IsADirectoryError: a folder is there.
        FileExistsError: a device or a pipe is there, or a file that may not be replaced.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it, or another")
    if path.exists() and not path.is_file():  # a device, say: replacing would remove it
        raise FileExistsError(f"{path} is not a regular file; name another output")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True (--force) to replace it")


def check_writable(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise, before hours of work, what `write_files` would raise after them; nothing is made yet."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"two results would go to the same file: {paths[0]}")
    for path in paths:
        if str(path) == "-":  # which enhance takes for standard output
            raise ValueError("results cannot go to - as standard output; name a file")
        check_free(path, overwrite=overwrite)
        there = next(folder for folder in path.resolve().parents if folder.exists())
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def write_files(contents: Mapping[Path, str], overwrite: bool) -> None:
    """Write text files, each whole or not at all, and none if one cannot be written; their folders are made.

    Raises:
        OSError: see `check_free`, or a folder cannot be made or written to.
        ValueError: two of them are the same file.
    """
    check_writable(list(contents), overwrite)
    with ExitStack() as parts:
        for path, text in contents.items():
            part = parts.enter_context(atomic_write(path, overwrite=overwrite))
            part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may be no text
