"""Manifests of a folder laid out like the DNS Challenge data: SpeechBrain-style JSON files, or tar shards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

from deepvqe_hub.atomic import atomic_write
from deepvqe_hub.data.clips import Clip, find_clips
from deepvqe_hub.data.grouping import group_of
from deepvqe_hub.data.pools import AnyPool, AudioPool
from deepvqe_hub.data.rooms import RoomPool
from deepvqe_hub.data.shards import write_shards
from deepvqe_hub.data.threads import each
from deepvqe_hub.folders import AUDIO_SUFFIXES, audio_files

logger = logging.getLogger(__name__)

KINDS = {"speech": "clean", "noise": "noise", "rooms": "impulse_responses"}
"""Kinds of clips, and the folders that hold them."""
SPLITS = ("train", "valid", "test")
RECORD = "prepared.json"
"""File in a prepared folder that says what it was made of, written last."""
BROKEN = "broken.txt"
"""File in a prepared folder that lists what could not be opened, one path a line."""


def write_manifests(
    data_folder: str | Path,
    save_folder: str | Path,
    *,
    valid_share: float = 0.03,
    test_share: float = 0.03,
    shards: bool = False,
) -> Path:
    """List the clips of each split in `save_folder` as `{train,valid,test}_{speech,noise,rooms}.json`.

    Where `clean/`, `noise/` and `impulse_responses/` hold folders `train`, `valid` and `test` the splits
    are taken as they are; otherwise whole speakers, recordings and rooms are assigned by a hash of their name, so that
    none is ever in two splits and, but for very small corpora, the assignment does not depend on what else is there.

    Args:
        data_folder: folder with `clean`, `noise` and, for reverberation, `impulse_responses`; or a folder that
            this function has written, which is taken as it is, be its manifests edited since.
        save_folder: where the manifests go. They are left as they are if they are complete and list the same files, of
            the same sizes, of the same `data_folder`, and all that could not be opened still cannot; otherwise they
            are made anew.
        valid_share, test_share: share of speakers and recordings, where the folder has no splits of its own.
        shards: pack the clips into tar shards, `save_folder/train_speech/shard-000000.tar` and so on, in place of
            the manifests; such a folder can be moved.

    Returns:
        The folder for `read_pools`. Files that cannot be opened are left out and listed in its `broken.txt`.

    Raises:
        FileNotFoundError: a folder is missing; the message says which and where to get it.
        ValueError: a folder without audio, too few speakers or recordings for a split, one folder for both, or a folder
            by this function that was not copied whole.
        OSError: the disk is full. Manifests that were there stay, shards do not.
    """
    data_folder, save_folder = Path(data_folder), Path(save_folder)
    if save_folder.resolve() == data_folder.resolve():
        raise ValueError(f"{save_folder} holds the data; give another folder for what is made of them")
    if (data_folder / RECORD).is_file():
        _check_whole(data_folder)
        return data_folder
    tree = {kind: _files(data_folder, kind) for kind in KINDS}
    contents = "\n".join(sorted(each(partial(_signature, data_folder), chain.from_iterable(tree.values()))))
    record = {
        "data_folder": str(data_folder.resolve()),
        "files": {kind: len(paths) for kind, paths in tree.items()},
        "contents": hashlib.sha256(os.fsencode(contents)).hexdigest(),
        "shares": [valid_share, test_share],
        "shards": shards,
    }
    if _up_to_date(save_folder, record):
        return save_folder
    found = {
        kind: _split(data_folder / KINDS[kind], kind, valid_share, test_share) if paths else ({}, [])
        for kind, paths in tree.items()
    }  # all, before anything that was prepared earlier goes
    clips = {f"{split}_{kind}": splits.get(split, {}) for kind, (splits, _) in found.items() for split in SPLITS}
    broken = [path for _, unreadable in found.values() for path in unreadable]
    with ExitStack() as replacing:  # the disk may be full; of shards there may not be room for two sets
        for name, those in clips.items():
            hours = sum(clip.duration for clip in those.values()) / 3600
            logger.info("%s: %d files, %.2f hours", name.replace("_", " "), len(those), hours)
            if not shards:
                part = replacing.enter_context(atomic_write(save_folder / f"{name}.json", overwrite=True))
                _write(part, {key: _entry(clip) for key, clip in those.items()})
        (save_folder / RECORD).unlink(missing_ok=True)  # until all is written again nothing vouches for what is here
        for name in clips:
            if shards:
                (save_folder / f"{name}.json").unlink(missing_ok=True)
            for shard in (save_folder / name).glob("shard-*.tar"):
                shard.unlink()
    if shards:
        packed = (write_shards(those, save_folder / name) for name, those in clips.items() if those)
        written = list(chain.from_iterable(packed))
    else:
        written = [save_folder / f"{name}.json" for name in clips]
    (save_folder / BROKEN).unlink(missing_ok=True)
    if broken:
        (save_folder / BROKEN).write_bytes(os.fsencode("\n".join(broken) + "\n"))
        logger.warning("%d unreadable files left out, listed in %s", len(broken), save_folder / BROKEN)
    names = [path.relative_to(save_folder).as_posix() for path in written]
    with atomic_write(save_folder / RECORD, overwrite=True) as part:
        _write(part, record | {"written": [_signature(save_folder, name) for name in names]})
    return save_folder


def read_pools(
    folder: str | Path, split: str, *, balance: float = 1.0, **options
) -> tuple[AudioPool, AudioPool, RoomPool | None]:
    """Pools of one split of a folder by `write_manifests`, from manifests or shards.

    Args:
        folder: the folder.
        split: "train", "valid" or "test".
        balance: of speakers, see `AudioPool`.
        options: `sample_rate` and `cache` of all pools.

    Returns:
        `(speech, noise, rooms)`: two `AudioPool`s and a `RoomPool`, or `None` without room responses.

    Raises:
        FileNotFoundError: the folder has neither manifest nor shards of speech or noise.
        ValueError: a manifest or shard that cannot be read.
    """

    def read(kind: str, pool: type[AnyPool], **more) -> AnyPool | None:
        manifest, packed = Path(folder, f"{split}_{kind}.json"), Path(folder, f"{split}_{kind}")
        if any(packed.glob("*.tar")):
            return pool.from_shards(packed, **options, **more)
        if manifest.is_file() and manifest.stat().st_size > len("{}"):
            return pool.from_manifest(manifest, **options, **more)
        if kind == "rooms":
            return None
        raise FileNotFoundError(f"neither {manifest} nor shards in {packed}; run the preparation without skip_prep")

    return read("speech", AudioPool, balance=balance), read("noise", AudioPool), read("rooms", RoomPool)


def _files(data_folder: Path, kind: str) -> list[str]:
    """Relative paths of all audio files of a kind; listing names is quick, opening a million files is not."""
    folder = data_folder / KINDS[kind]
    paths = [path.relative_to(data_folder).as_posix() for path in audio_files(folder)]
    if paths:
        return paths
    if kind == "rooms":
        logger.warning("no room responses in %s: training without reverberation", folder)
        return []
    if not data_folder.is_dir():
        raise FileNotFoundError(f"no data_folder {data_folder}; give the folder that holds clean/ and noise/")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}. data_folder must hold clean/, noise/ and impulse_responses/; the DNS Challenge data "
            "(github.com/microsoft/DNS-Challenge, download-dns-challenge-3.sh) unpack so into datasets/"
        )
    raise ValueError(f"no audio files ({', '.join(AUDIO_SUFFIXES)}) below {folder}; is the download complete?")


def _signature(data_folder: Path, path: str) -> str:
    """Name and size of a file, which changes when it is repaired or replaced; not its time, which copies change."""
    try:
        return f"{path}:{(data_folder / path).stat().st_size}"
    except OSError:  # a link that leads nowhere
        return path


def _read_record(folder: Path) -> tuple[dict, list[str]]:
    """What a prepared folder says that it was made of, and the files in it that are not as they were written.

    Raises:
        OSError, ValueError: it says nothing.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    written = {line.rpartition(":")[0]: line for line in record.get("written", [])}
    return record, [name for name, line in written.items() if _signature(folder, name) != line]


def _check_whole(folder: Path) -> None:
    """Raise ValueError for a prepared folder without all its files, of which manifests may have been edited."""
    try:
        _, changed = _read_record(folder)
    except ValueError:
        changed = [RECORD]
    for name in changed:
        edited = name != RECORD and name.endswith(".json") and (folder / name).is_file()
        if not edited:
            raise ValueError(f"{folder} lacks {name} as it was written: copy it again, or prepare the data anew")
        logger.warning("%s was edited after it was written, and is taken as it is", folder / name)
    logger.info("%s is prepared already", folder)


def _up_to_date(save_folder: Path, record: dict) -> bool:
    try:
        before, lost = _read_record(save_folder)
    except (OSError, ValueError):
        return False
    changed = [name for name in record if before.get(name) != record[name]]
    if changed:
        logger.warning("%s was made with other %s; making it anew", save_folder, " and ".join(changed))
    elif lost:
        logger.warning("%s lacks %s as it was written; making it anew", save_folder, lost[0])
    elif repaired := _repaired(save_folder):  # as sizes do not tell, of a disk that was away or a lack of permission
        lost = [repaired]
        logger.warning("%s could not be opened and now can; making %s anew", repaired, save_folder)
    else:
        logger.info("%s is up to date with %s", save_folder, record["data_folder"])
    return not (changed or lost)


def _repaired(save_folder: Path) -> str | None:
    """A file in `broken.txt` that can be opened."""
    try:
        paths = os.fsdecode((save_folder / BROKEN).read_bytes()).split("\n")[:-1]
    except FileNotFoundError:
        return None
    return next((clip.path for clip in each(Clip.measured, (Clip(path, 0.0) for path in paths)) if clip.duration), None)


def _split(
    folder: Path, kind: str, valid_share: float, test_share: float
) -> tuple[dict[str, dict[str, Clip]], list[str]]:
    """Clips of a folder by split and key, and the paths of those that cannot be opened."""
    given = [split for split in SPLITS if (folder / split).is_dir()] if (folder / "train").is_dir() else []
    splits: dict[str, dict[str, Clip]] = {split: {} for split in SPLITS}
    broken, groups, outside = [], {}, []
    for clip in find_clips(folder):
        path = Path(clip.path).relative_to(folder)
        split = path.parts[0] if given else None
        group = group_of(path.relative_to(split) if split in given else path, kind)
        if clip.duration <= 0:
            broken.append(str(Path(clip.path).absolute()))
        elif not given or (split == "train" and "valid" not in given):
            groups.setdefault(group, []).append((path, clip))
        elif split in given:
            _add(splits[split], path, clip, group)
        else:
            outside.append(clip.path)
    if outside:
        logger.warning(
            "%d files, such as %s, are in none of the folders %s and are left out",
            len(outside),
            outside[0],
            ", ".join(given),
        )
    test_share = 0.0 if "test" in given else test_share
    for group, split in _assign(groups, valid_share, test_share).items():
        for path, clip in groups[group]:
            _add(splits[split], path, clip, group)
    for split in ("train", "valid"):
        if not splits[split] and kind != "rooms":
            raise ValueError(
                f"{folder} gives no {split} files: {len(groups)} different speakers or recordings and {len(broken)} "
                "unreadable files; at least two are needed, one for training and one for validation. Give "
                "each speaker a folder, or make folders train and valid"
            )
    return splits, broken


def _add(manifest: dict[str, Clip], path: Path, clip: Clip, speaker: str) -> None:
    key = path.with_suffix("").as_posix()
    while key in manifest:  # the same name with two suffixes, or with one suffix more
        key += path.suffix
    # Absolute, but no link followed: what it leads to may have no suffix.
    manifest[key] = Clip(str(Path(clip.path).absolute()), clip.duration, speaker)


def _assign(groups, valid_share: float, test_share: float) -> dict[str, str]:
    """The split of each group, by the hash of its name; in a small corpus the nearest ones go to valid and test."""
    place = {group: int.from_bytes(hashlib.sha256(os.fsencode(group)).digest()[:8], "big") / 2**64 for group in groups}
    order = sorted(place, key=place.get)
    few = min(2, len(order) // 3)  # two talkers are needed for echo
    valid = max(sum(place[group] < valid_share for group in order), few or len(order) // 2)
    test = max(sum(place[group] < valid_share + test_share for group in order), valid + few) if test_share else valid
    return {
        **dict.fromkeys(order[:valid], "valid"),
        **dict.fromkeys(order[valid:test], "test"),
        **dict.fromkeys(order[test:], "train"),
    }


def _entry(clip: Clip) -> dict:
    return {"wav": clip.path, "duration": clip.duration, "speaker": clip.speaker}


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
