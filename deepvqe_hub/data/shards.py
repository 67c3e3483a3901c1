"""Many small recordings in few tar files, as WebDataset reads them.

A shard is a plain POSIX tar with two members a clip, `key.flac` (or another of `folders.AUDIO_SUFFIXES`)
and `key.json` (`duration` in seconds, `speaker`). The encoded bytes are those of the original file. Pools read
shards at random by remembering where each member begins.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import warnings
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from deepvqe_hub.data.clips import Clip, noted, read_manifest, timed
from deepvqe_hub.data.threads import ahead, each
from deepvqe_hub.folders import AUDIO_SUFFIXES

MOST_AHEAD = 1 << 24
"""Bytes of a file that is read before its turn."""


def write_shards(
    manifest: str | Path | dict[str, Clip],
    folder: str | Path,
    *,
    clips_per_shard: int = 1000,
    prefix: str = "shard",
) -> list[Path]:
    """Pack the clips of a manifest into `folder/shard-000000.tar` and so on.

    Args:
        manifest: JSON manifest (see `read_manifest`), or clips by key.
        folder: made if missing; it must not hold shards of the same prefix.
        clips_per_shard: a shard is closed after so many.
        prefix: beginning of the file names.

    Returns:
        The shards written. Clips that cannot be opened are left out with a warning naming them. Times and
        owners are zeroed, so that the same clips give the same bytes.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: the folder holds shards of that prefix, or no clip can be read.
    """
    clips = manifest if isinstance(manifest, dict) else read_manifest(manifest)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob(f"{prefix}-*.tar")):
        raise ValueError(f"{folder} already holds {prefix}-*.tar; choose an empty folder or another prefix")
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard must be at least 1, got {clips_per_shard}")
    shards, members = [], _members(clips)
    for first in members:
        shards.append(folder / f"{prefix}-{len(shards):06d}.tar")
        with tarfile.open(shards[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, clip, encoded in chain([first], islice(members, clips_per_shard - 1)):
                suffix = Path(clip.name or clip.path).suffix.lower()
                note = {"duration": clip.duration, "speaker": clip.speaker}
                _add(tar, key + suffix, encoded)
                _add(tar, key + ".json", json.dumps(note).encode())
    if not shards:
        raise ValueError("no clip could be read; the warnings name them")
    return shards


def _members(clips: dict[str, Clip]) -> Iterator[tuple[str, Clip, bytes]]:
    """Keys, clips and bytes of all that can be opened, each file read once: an hour is much for a second time."""
    keys = set()
    for name, clip, loaded in zip(clips, clips.values(), ahead(_loaded_ahead, clips.values())):
        clip, encoded = loaded or _loaded(clip)
        if not clip.duration:
            warnings.warn(f"leaving unreadable or empty audio file {clip} out of the shards", stacklevel=3)
            continue
        key = shard_key(name)
        if key in keys:  # names that differ in what a key cannot hold
            key = f"{key[-73:]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        keys.add(key)
        yield key, clip, encoded


def _loaded_ahead(clip: Clip) -> tuple[Clip, bytes] | None:
    """`_loaded` of a small file; None for a large one, of which several at a time would fill the memory."""
    try:
        size = os.stat(clip.path).st_size if clip.size is None else clip.size
    except OSError:
        size = 0
    return _loaded(clip) if size <= MOST_AHEAD else None


def _loaded(clip: Clip) -> tuple[Clip, bytes]:
    """The clip with its duration, 0 where it cannot be opened, and its bytes."""
    try:
        encoded = clip.encoded()
    except OSError:
        encoded = b""
    return clip.measured(encoded), encoded


def find_shard_clips(folder: str | Path) -> list[Clip]:
    """Clips of all `*.tar` in a folder (or of one tar), in order.

    Audio is not read, but for shards made by others: without `key.json` the length comes from the audio, and the
    speaker is the shard.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are no shards in it, or one that cannot be read.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    shards = [folder] if folder.is_file() else sorted(folder.glob("*.tar"))
    if not shards:
        raise ValueError(f"no shards (*.tar) in {folder}")
    return [clip for found in each(_clips_in, shards) for clip in found]


def _clips_in(shard: Path) -> list[Clip]:
    audio: dict[str, tarfile.TarInfo] = {}
    notes: dict[str, dict] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                # WebDataset's rule: the key ends at the first dot of the base name.
                head, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{head}/{stem}"
                if suffix == "json":
                    notes[key] = json.load(tar.extractfile(member))
                elif f".{suffix.lower()}" in AUDIO_SUFFIXES:
                    audio[key] = member
    except (tarfile.TarError, json.JSONDecodeError) as error:
        raise ValueError(f"{shard} is not a readable shard: {error}; write or download it again") from error
    clips = []
    for key, member in audio.items():
        note = notes.get(key)
        note = note if isinstance(note, dict) else {}
        place = {"offset": member.offset_data, "size": member.size, "name": f"{shard}:{member.name}"}
        clips.append(timed(Clip(str(shard), *noted(note, shard.stem), **place)))
    return clips


def shard_key(name: str) -> str:
    """A manifest key as a member name: slashes, dots and blanks become underscores, at most 90 characters."""
    return re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[-90:]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
