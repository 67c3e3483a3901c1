"""Pools from the folders of a corpus, without manifests."""

from __future__ import annotations

from pathlib import Path

from deepvqe_hub.data.manifests import KINDS
from deepvqe_hub.data.pools import AudioPool
from deepvqe_hub.data.rooms import RoomPool


def scan(
    root: str | Path, split: str | None = "train", *, sample_rate: int = 16000, cache: bool = False
) -> tuple[AudioPool, AudioPool, RoomPool | None]:
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
        FileNotFoundError: a folder is missing. For a corpus without split folders make manifests
            and use `AudioPool.from_manifest`, so that training and validation do not share files.
        ValueError: a folder is empty, or holds a shard that cannot be read.
    """
    root = Path(root)
    found = {}
    for kind, name in KINDS.items():
        folder = root / name if split is None else root / name / split
        if not folder.is_dir():
            if kind == "rooms":
                found[kind] = None
                continue
            raise FileNotFoundError(
                f"no folder {folder}; pass split=None to use all of {root / name}, or build pools with "
                "AudioPool.from_manifest"
            )
        pool, options = RoomPool if kind == "rooms" else AudioPool, {"sample_rate": sample_rate, "cache": cache}
        packed = any(folder.glob("*.tar"))
        found[kind] = pool.from_shards(folder, **options) if packed else pool.from_folder(folder, kind, **options)
    return found["speech"], found["noise"], found["rooms"]
