"""What must stay in one split, told from the names of files: a speaker, a recording, a room."""

from __future__ import annotations

import re
from pathlib import Path


def group_of(path: Path, kind: str) -> str:
    """The speaker, recording or room of a file.

    Args:
        path: relative to the folder of its kind.
        kind: "speech", "noise" or "rooms".

    Returns:
        A name that all files of the group have in common; where nothing in the name tells, the file is its own group.

    Raises:
        ValueError: there is no such kind.
    """
    ways = {"speech": _speaker, "noise": _recording, "rooms": _room}
    if kind not in ways:
        raise ValueError(f"kind must be one of {', '.join(ways)}, not {kind!r}")
    return ways[kind](path.parent, path.stem)


def _speaker(folder: Path, stem: str) -> str:
    # DNS3 file names hold the reader: book_00000_chp_0009_reader_06709_0.wav
    _, found, reader = stem.partition("reader_")
    if found:
        return f"reader_{reader.split('_')[0]}"
    first = re.split("[-_]", stem)[0]
    if first in folder.parts:  # LibriSpeech has chapters below the speaker: 84/121123/84-121123-0000.flac
        return Path(*folder.parts[: folder.parts.index(first) + 1]).as_posix()
    if folder.parts:
        return folder.as_posix()
    return first if re.search(r"\d", first) else stem  # VoiceBank has no folders: p226_001.wav


def _recording(folder: Path, stem: str) -> str:
    if re.fullmatch(r"ch\d+", stem) and folder.parts:  # DEMAND has the channels of a recording in a folder
        return folder.as_posix()
    # Parts of a recording: 007_wind.flac of effects_prepare.py, door_Freesound_validated_342694_0.wav of DNS3
    part = re.fullmatch(r"\d{3,4}_(?P<name>.+)|(?P<id>.*Freesound\D*\d+)_\d+", stem)
    return (folder / (part["name"] or part["id"] if part else stem)).as_posix()


def _room(folder: Path, stem: str) -> str:
    if folder.parts and stem.startswith(folder.name):  # positions in a room of SLR26: Room001/Room001-00001.wav
        return folder.as_posix()
    if folder.name.startswith("real_rirs"):  # those of SLR28, of a few rooms that their names tell in many ways
        return folder.as_posix()
    room = re.match(r".*room[-_]?\d+", stem, re.IGNORECASE)  # largeroom1_far.wav
    return (folder / (room[0] if room else stem)).as_posix()
