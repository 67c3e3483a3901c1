"""Which files belong together: audio files of a folder, and their counterparts in another one."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from deepvqe_hub.folders import AUDIO_SUFFIXES, audio_files

# What data sets append to the same name for the signals of one recording
_ENDINGS = {
    "noisy": "mic|microphone|noisy",
    "farend": "lpb|loopback|farend",
    "reference": "nearend|clean|ref|reference|target",
    "enhanced": "enh|enhanced",
}
_ROLE = re.compile(rf"[-_. ]({'|'.join(_ENDINGS.values())})$", re.I)
_FILEID = re.compile(r"fileid_\d+")


def find_audio(where: str | Path) -> dict[str, Path]:
    """All audio files in a folder and its subfolders, sorted: relative path with "/" -> path. A file is itself.

    Raises:
        FileNotFoundError: there is no such folder or file, or no audio file in it.
    """
    where = Path(where)
    if where.is_file():
        return {where.name: where}
    if not where.exists():
        raise FileNotFoundError(f"{where} does not exist")
    found = {path.relative_to(where).as_posix(): path for path in audio_files(where)}
    if not found:
        raise FileNotFoundError(f"{where} holds no audio file ({', '.join(AUDIO_SUFFIXES)})")
    return dict(sorted(found.items()))


def keys(name: str) -> list[str]:
    """What a file may be called elsewhere, surest first.

    The relative path without suffix; the stem; the stem without a final `_mic`, `_lpb`, `_clean`, ... (AEC
    challenge) or only its `fileid_N` (DNS challenge).
    """
    name = unicodedata.normalize("NFC", name)  # as in tables; macOS may keep an accent apart from its letter
    path = PurePosixPath(name.replace("\\", "/"))
    if path.suffix.lower() in AUDIO_SUFFIXES:
        path = path.with_suffix("")
    fileid = _FILEID.search(path.name)
    short = fileid.group() if fileid else _ROLE.sub("", path.name)
    return [f"{kind}:{key}" for kind, key in (("path", path), ("stem", path.name), ("short", short))]


class Counterparts:
    """Finds, for the name of a file, the entry of another collection that belongs to it: of that name, else by `keys`.

    Args:
        entries: name (relative path) and value of each.
        what: the collection, for an error message.
    """

    def __init__(self, entries: Iterable[tuple[str, object]], what: str):
        self.what = what
        self._index = defaultdict(list)
        for name, value in entries:
            for key in (f"name:{name}", *keys(name)):
                self._index[key].append((name, value))

    def __contains__(self, key: str) -> bool:
        return key in self._index

    def find(self, name: str):
        """The entry, or None.

        Raises:
            ValueError: several entries fit equally well.
        """
        for key in (f"name:{name}", *keys(name)):
            matches = self._index.get(key, ())
            if len(matches) > 1:
                names = ", ".join(match for match, _ in matches[:3])
                raise ValueError(
                    f"{name} fits {len(matches)} entries of {self.what} ({names}): "
                    "give them the relative path of the file they belong to"
                )
            if matches:
                return matches[0][1]
        return None


def called(path: Path, what: str) -> bool:
    """Whether the name of a file says that it is the "noisy", "farend", ... signal of a recording (`x_lpb`)."""
    return re.search(rf"[-_. ]({_ENDINGS[what]})$", path.stem, re.I) is not None


def find_pairs(names: Iterable[str], where: str | Path, what: str) -> dict[str, Path | None]:
    """Find for each name the audio file in `where` that belongs to it, see `Counterparts`, or None.

    Several may have one in common, such as `x/a.wav` and `y/a.wav`, but not one with the very path of one of them.

    Args:
        names: relative paths.
        where: folder, or a file for a single name.
        what: what the files are: "noisy", "farend" or "reference". Where some are called so (`x_lpb`), as in a folder
            that holds all signals of a recording, what is called otherwise (`x_mic`) is none of them.

    Raises:
        FileNotFoundError: `where` does not exist, or holds no audio file.
        ValueError: a file has several counterparts.
    """
    names = list(names)
    found = find_audio(where)
    if Path(where).is_file() and len(names) == 1:
        return {names[0]: Path(where)}
    if any(called(path, what) for path in found.values()):
        found = {n: path for n, path in found.items() if called(path, what) or not _ROLE.search(path.stem)}
    counterparts = Counterparts(found.items(), str(where))
    pairs = {name: counterparts.find(name) for name in names}
    # What has the very path of one file is not that of another one, whose own is missing; a.wav and a.flac are as one.
    places = {name: keys(name)[0] for name in names}
    owners = {pairs[name]: place for name, place in places.items() if place in counterparts}
    for name, path in pairs.items():
        if owners.get(path, places[name]) != places[name]:
            pairs[name] = None
    return pairs


def pair_files(names: Iterable[str], where: str | Path, what: str) -> dict[str, Path]:
    """`find_pairs`, of which none may be missing.

    Raises:
        FileNotFoundError: as `find_pairs`, or a file has no counterpart of its own.
        ValueError: a file has several.
    """
    pairs = find_pairs(names, where, what)
    missing = [name for name, path in pairs.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"no {what} file in {where} for {len(missing)} of {len(pairs)} files ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): files are matched by relative path without suffix, then by stem"
        )
    return pairs
