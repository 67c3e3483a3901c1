"""Manifests of a folder laid out like the DNS Challenge data: SpeechBrain-style JSON files for each split."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from .clips import find_clips

logger = logging.getLogger(__name__)

KINDS = {"speech": "clean", "noise": "noise", "rooms": "impulse_responses"}
SPLITS = ("train", "valid", "test")


def write_manifests(data_folder, save_folder, valid_share: float = 0.03, test_share: float = 0.03) -> None:
    """Write ``{train,valid,test}_{speech,noise,rooms}.json`` to ``save_folder``; a complete set is left as it is.

    Where ``clean/``, ``noise/`` and ``impulse_responses/`` hold folders ``train``, ``valid`` and ``test`` the splits are
    taken as they are; otherwise whole speakers and whole recordings are assigned by a hash of their name, so that none
    is ever in two splits and the assignment does not depend on what else is there.

    Args:
        data_folder: folder with ``clean``, ``noise`` and, for reverberation, ``impulse_responses``.
        save_folder: where the manifests go.
        valid_share, test_share: share of speakers and recordings, where the folder has no splits of its own.

    Files that cannot be read are listed in ``broken.txt`` and left out.

    Raises:
        FileNotFoundError: a folder is missing; the message says which and where to get it.
    """
    data_folder, save_folder = Path(data_folder), Path(save_folder)
    save_folder.mkdir(parents=True, exist_ok=True)
    wanted = [save_folder / f"{split}_{kind}.json" for split in SPLITS for kind in KINDS]
    if all(path.is_file() for path in wanted):
        logger.info("%s holds all manifests; delete them to make them anew", save_folder)
        return
    broken = []
    for kind, name in KINDS.items():
        folder = data_folder / name
        if not folder.is_dir():
            if kind == "rooms":
                logger.warning("no folder %s: training without reverberation", folder)
                for split in SPLITS:
                    _write(save_folder / f"{split}_{kind}.json", {})
                continue
            raise FileNotFoundError(
                f"no folder {folder}. data_folder must hold clean/, noise/ and impulse_responses/, as the DNS "
                "Challenge data (github.com/microsoft/DNS-Challenge) unpack"
            )
        manifests = {split: {} for split in SPLITS}
        for clip in find_clips(folder):
            path = Path(clip.path).relative_to(folder)
            if clip.duration <= 0:
                broken.append(clip.path)
                continue
            given = path.parts[0] in SPLITS
            group = clip.speaker.removeprefix(f"{path.parts[0]}/") if given else _group(path, kind)
            split = path.parts[0] if given else _assign(group, valid_share, test_share)
            manifests[split][path.with_suffix("").as_posix()] = {
                "wav": str(Path(clip.path).resolve()),
                "duration": round(clip.duration, 4),
                "speaker": group,
            }
        for split, manifest in manifests.items():
            if not manifest:
                raise ValueError(f"{folder}: no {split} files; the folder is too small for valid_share and test_share")
            _write(save_folder / f"{split}_{kind}.json", manifest)
            hours = sum(entry["duration"] for entry in manifest.values()) / 3600
            logger.info("%s %s: %d files, %.2f hours", split, kind, len(manifest), hours)
    if broken:
        (save_folder / "broken.txt").write_text("\n".join(broken) + "\n")
        logger.warning("%d unreadable files left out, listed in %s", len(broken), save_folder / "broken.txt")


def _group(path: Path, kind: str) -> str:
    """What must stay in one split: a speaker's folder, a recording, a room."""
    if kind == "speech" and len(path.parts) > 1:
        # DNS3 file names hold the reader: book_00000_chp_0009_reader_06709_0.wav
        _, found, reader = path.stem.partition("reader_")
        return f"reader_{reader.split('_')[0]}" if found else path.parent.as_posix()
    return path.with_suffix("").as_posix()


def _assign(group: str, valid_share: float, test_share: float) -> str:
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "valid" if place < valid_share else "test" if place < valid_share + test_share else "train"


def _write(path: Path, manifest: dict) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(manifest, indent=1))
    os.replace(temporary, path)
