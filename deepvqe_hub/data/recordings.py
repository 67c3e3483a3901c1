"""Ready-made echo mixtures in the layout of the AEC Challenge's synthetic set."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepvqe_hub.data.clips import as_clips
from deepvqe_hub.data.drawn import DrawnItems
from deepvqe_hub.data.pools import ATTEMPTS, AudioPool
from deepvqe_hub.folders import AUDIO_SUFFIXES

FOLDERS = {
    "mic": "nearend_mic_signal",
    "farend": "farend_speech",
    "clean": "nearend_speech",
}
"""Signals of an item and the folders that hold them."""


class EchoRecordings(DrawnItems):
    """Aligned stretches of microphone, far end and near end.

    The files of a scene share `fileid_N` in their names. `meta.csv`, if there is one, gives
    `nearend_scale`, the factor that brings the near-end file to its level in the microphone signal
    (1 without the table), and `split`.

    Args:
        root: folder with `nearend_mic_signal/`, `farend_speech/` and `nearend_speech/`.
        segment_seconds: length of an item, begun at random; `None` gives whole files from their start.
        split: only rows of `meta.csv` with this value in the column `split`; `None` takes all.
        seed: item `i` is a function of `(seed, epoch, i)`.
        sample_rate: in Hz; files at another rate are resampled.
        cache: keep decoded files in memory (16-bit).

    An item is a dict of float32 `(time,)` tensors `mic`, `farend`, `clean`; short files are filled with zeros at the
    end. A scene that is not in all three folders is left out, with a warning, and one with an unreadable file is
    replaced by the next one, with a warning, too.

    Raises:
        FileNotFoundError: one of the three folders is missing.
        ValueError: there is no scene in them, or none of `split`, or `meta.csv` cannot be read; or two files of a
            folder have one `fileid_N`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        segment_seconds: float | None = 4.0,
        split: str | None = None,
        seed: int = 0,
        sample_rate: int = 16000,
        cache: bool = False,
    ):
        root = Path(root)
        files = {name: _by_id(root / folder) for name, folder in FOLDERS.items()}
        every, table = set().union(*files.values()), _read_table(root / "meta.csv")
        if split is not None:
            every = {number for number in every if table.get(number, {}).get("split") == split}
        ids = every.intersection(*files.values())
        if not ids:
            raise ValueError(
                f"no scene in {root}{'' if split is None else f' with split {split!r} in meta.csv'}: expected "
                f"files that share fileid_N in {', '.join(FOLDERS.values())}"
            )
        if len(ids) < len(every):
            warnings.warn(
                f"{len(every) - len(ids)} of {len(every)} scenes in {root} are left out, such as fileid_"
                f"{min(every - ids)}, which is not in all of {', '.join(FOLDERS.values())}",
                stacklevel=2,
            )
        self.ids = sorted(ids)
        self.scale = [float(table.get(number, {}).get("nearend_scale") or 1.0) for number in self.ids]
        self.pools = {
            name: AudioPool(as_clips(found[number] for number in self.ids), sample_rate, cache)
            for name, found in files.items()
        }
        self.samples = None if segment_seconds is None else round(segment_seconds * sample_rate)
        self.sample_rate = sample_rate
        super().__init__(len(self.ids), seed)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = self.generator(index)
        for attempt in range(min(ATTEMPTS, len(self))):
            row = (index + attempt) % len(self)
            length = max(int(pool.clips[row].duration * self.sample_rate) for pool in self.pools.values())
            samples = length if self.samples is None else self.samples
            start = int(rng.random() * max(0, length - samples))
            parts = {name: pool.read(row, start, samples) for name, pool in self.pools.items()}
            if all(part is not None for part in parts.values()):
                parts["clean"] = parts["clean"] * np.float32(self.scale[row])
                padded = {name: np.pad(part, (0, samples - len(part))) for name, part in parts.items()}
                return {name: torch.from_numpy(part) for name, part in padded.items()}
        raise ValueError(f"{ATTEMPTS} scenes in a row could not be read; the warnings name the files")


def splits_of(root: str | Path) -> set[str]:
    """Values of the column `split` of `root/meta.csv`; none without table or column.

    Raises:
        ValueError: the column `fileid` holds something that is no number.
    """
    return {row["split"] for row in _read_table(Path(root, "meta.csv")).values() if row.get("split")}


def _by_id(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; give the folder that holds {', '.join(FOLDERS.values())}")
    found = {}
    for path in sorted(folder.iterdir()):
        match = re.search(r"fileid_(\d+)", path.name)
        if match and path.suffix.lower() in AUDIO_SUFFIXES:
            other = found.setdefault(int(match[1]), path)
            if other is not path:  # two sets in one folder, perhaps, whose scenes would be taken for one another's
                raise ValueError(f"{folder} holds {match[0]} twice: {other.name} and {path.name}; keep sets apart")
    return found


def _read_table(path: Path) -> dict[int, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            return {int(row["fileid"]): row for row in csv.DictReader(file)}
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{path}: a whole number is expected in the column fileid of every line") from error
