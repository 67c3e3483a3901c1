"""Write fixed mixtures of the split ``test`` as files, to compare models on or to send to others.

    python dns3_prepare.py /path/to/datasets prepared
    python testset_prepare.py prepared testset --items 60
    deepvqe evaluate testset/noisy --reference testset/clean --metadata testset/meta.csv --model deepvqe-s

The material is what ``dns3_prepare.py`` has found for the split, or a folder with ``clean/test``, ``noise/test`` and
(optional) ``impulse_responses/test``. ``noisy/`` and ``clean/`` get FLAC files of equal names at 16 kHz, ``meta.csv``
their signal-to-noise ratios and whether there is a room; all of it appears at once, or nothing. The same material and
seed give the same mixtures, whichever way it is given.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import soundfile
from torch.utils.data import default_collate

from deepvqe_hub.data import NoisySpeech, mix, scan
from deepvqe_hub.data.manifests import read_pools

RATE = 16000
# Speech and noise in every file, at levels that are usual, and nothing broken.
CONDITIONS = {
    "level_dbfs": (-35.0, -20.0),
    **dict.fromkeys(("band_p", "clip_p", "mute_p", "noise_only_p", "clean_only_p"), 0.0),
}


def pools(folder: Path):
    """Speech, noise and rooms of the split."""
    if (folder / "clean").is_dir():
        return scan(folder, "test", sample_rate=RATE)
    return read_pools(folder, "test", sample_rate=RATE)


def write(data: NoisySpeech, folder: Path) -> None:
    """``noisy/``, ``clean/`` and ``meta.csv`` of all items of ``data``."""
    for name in ("noisy", "clean"):
        (folder / name).mkdir()
    with open(folder / "meta.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "snr_db", "room"])
        for index in range(len(data)):
            item = data[index]
            name = f"{index:04d}.flac"
            for kind, wave in zip(("noisy", "clean"), mix(default_collate([item]), RATE)):
                soundfile.write(folder / kind / name, wave[0].numpy(), RATE)
            room = item["room"][0].count_nonzero() > 1  # without one it is an impulse
            table.writerow([name, f"{item['snr_db']:.1f}", "yes" if room else "no"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("material", type=Path, help="folder of dns3_prepare.py, or one with clean/test and noise/test")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--items", type=int, default=60, help="mixtures (default: 60)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each (default: 10)")
    parser.add_argument("--snr", type=float, nargs=2, default=(-5.0, 20.0), metavar="DB", help="range (default: -5 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.items < 1:
        parser.error(f"--items must be at least 1, got {args.items}")
    if args.output.exists():
        parser.error(f"{args.output} is there already and stays as it is; name a new folder")
    try:
        material = pools(args.material)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"no material in {args.material}: {error}")
    options = {"segment_seconds": args.seconds, "size": args.items, "seed": args.seed, "snr_db": tuple(args.snr)}
    data = NoisySpeech(*material, sample_rate=RATE, **options, **CONDITIONS)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.output.parent, prefix=".testset-") as unfinished:
        made = Path(unfinished, "testset")
        made.mkdir()
        write(data, made)
        made.rename(args.output)
    print(f"{args.output}: {args.items} mixtures of {args.seconds:g} s")


if __name__ == "__main__":
    main()
