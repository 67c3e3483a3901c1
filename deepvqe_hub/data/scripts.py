"""What the scripts of the recipes do: `*_prepare.py` lists the data, `testset_prepare.py` writes fixed mixtures."""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import soundfile
from torch import Tensor

from deepvqe_hub.data.manifests import read_pools, write_manifests
from deepvqe_hub.data.scanning import scan

SAMPLE_RATE = 16000
"""Rate of the fixed mixtures in Hz."""
Scenes = Iterator[tuple[dict[str, Tensor], dict[str, str]]]
"""Signals `(time,)` by the folder that they go to, and what `meta.csv` says of them."""


def prepare_data(description: str) -> None:
    """Run `write_manifests` as the command line says.

    Args:
        description: of the script, for `--help`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder")
    parser.add_argument("save_folder")
    parser.add_argument("--shards", action="store_true", help="pack the clips into tar shards")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_manifests(args.data_folder, args.save_folder, shards=args.shards)


def prepare_testset(scenes: Callable[..., Scenes], description: str, items: int, snr_db: tuple[float, float]) -> None:
    """Write fixed mixtures of the split `test` as files, as the command line says.

    Args:
        scenes: `scenes(speech, noise, rooms, segment_seconds=, size=, seed=, snr_db=)` makes them.
        description: of the script, for `--help`.
        items, snr_db: how many, and the range of their signal-to-noise ratios in dB, unless the command line says.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("material", type=Path, help="folder of a *_prepare.py, or one with clean/test and noise/test")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--items", type=int, default=items, help=f"mixtures (default: {items})")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each (default: 10)")
    default = " ".join(f"{value:g}" for value in snr_db)
    parser.add_argument("--snr", type=float, nargs=2, default=snr_db, metavar="DB", help=f"range (default: {default})")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.items < 1:
        parser.error(f"--items must be at least 1, got {args.items}")
    if args.snr[0] > args.snr[1]:
        parser.error(f"--snr takes the lower end first, got {args.snr[0]:g} {args.snr[1]:g}")
    if args.output.exists():
        parser.error(f"{args.output} is there already and stays as it is; name a new folder")
    try:
        pools = _pools(args.material)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"no material in {args.material}: {error}")
    options = {"segment_seconds": args.seconds, "size": args.items, "seed": args.seed, "snr_db": tuple(args.snr)}
    try:
        found = scenes(*pools, **options)
    except ValueError as error:
        parser.error(str(error))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.output.parent, prefix=".testset-") as unfinished:
        made = Path(unfinished, "testset")
        made.mkdir()
        _write(found, made)
        made.rename(args.output)
    print(f"{args.output}: {args.items} mixtures of {args.seconds:g} s")


def _pools(folder: Path) -> tuple:
    """Speech, noise and rooms of the split."""
    read = scan if (folder / "clean").is_dir() else read_pools
    return read(folder, "test", sample_rate=SAMPLE_RATE)


def _write(scenes: Scenes, folder: Path) -> None:
    """A folder of FLAC files for each signal, with equal names, and `meta.csv`."""
    with open(folder / "meta.csv", "w", newline="", encoding="utf-8") as file:
        table = None
        for index, (signals, conditions) in enumerate(scenes):
            row = {"file": f"{index:04d}.flac", **conditions}
            if table is None:
                table = csv.DictWriter(file, row)
                table.writeheader()
            for name, wave in signals.items():
                (folder / name).mkdir(exist_ok=True)
                soundfile.write(folder / name / row["file"], wave.numpy(), SAMPLE_RATE)
            table.writerow(row)
