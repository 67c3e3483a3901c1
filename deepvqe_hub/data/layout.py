"""Corpora by their folders."""

from __future__ import annotations

from pathlib import Path

from .pools import AudioPool
from .rooms import RoomPool


def scan(root: str | Path, split: str | None = "train", *, sample_rate: int = 16000, cache: bool = False):
    """Pools of a folder laid out like the DNS challenge data.

    Args:
        root: folder with `clean/`, `noise/` and, if there are rooms, `impulse_responses/`.
        split: sub-folder of each (`train`, `valid`, `test`), with audio files at any depth or tar shards;
            `None` takes everything below the three.
        sample_rate: rate in Hz.
        cache: keep everything decoded in memory.

    Returns:
        `(speech, noise, rooms)`: two `AudioPool`s and a `RoomPool` or `None`.

    Raises:
        ValueError: a folder is missing or empty. For a corpus without split folders make manifests
            and use `AudioPool.from_manifest`, so that training and validation do not share files.
    """
    root = Path(root)
    found = {}
    for name in ("clean", "noise", "impulse_responses"):
        folder = root / name if split is None else root / name / split
        if not folder.is_dir():
            if name == "impulse_responses":
                found[name] = None
                continue
            raise ValueError(
                f"no folder {folder}; pass split=None to use all of {root / name}, or build pools with "
                "AudioPool.from_manifest"
            )
        kind = RoomPool if name == "impulse_responses" else AudioPool
        make = kind.from_shards if any(folder.glob("*.tar")) else kind.from_folder
        found[name] = make(folder, sample_rate=sample_rate, cache=cache)
    return found["clean"], found["noise"], found["impulse_responses"]
