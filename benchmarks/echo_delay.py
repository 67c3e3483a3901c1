"""How often a model finds the echo's delay to a frame, on recordings whose delay is known.

    python benchmarks/echo_delay.py deepvqe-aec-s path/to/echo_test

The folder, such as one of recipes/AEC/testset_prepare.py, holds mic/ and farend/ with files of the same names, and
meta.csv with the columns file (or id) and delay_ms; rows without a delay are left out. Counted are the frames after the
first second in which the far end is active: no more than 30 dB below its mean level. The echo of some of them has not
come yet, or cannot be heard.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from common import read_mono, save

import deepvqe_hub


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json")
    args = parser.parse_args()
    model = deepvqe_hub.load(args.model)
    with open(args.folder / "meta.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["delay_ms"]]
    hits = {"tracked": [], "each frame by itself": []}
    for row in rows:
        mic, far = (
            read(args.folder / side, row.get("file") or row["id"], model.sample_rate) for side in ("mic", "farend")
        )
        size = min(len(mic), len(far))
        for way, memory in zip(hits, (0.8, 0.0)):
            estimate = model.delay(mic[:size], far[:size], memory=memory)
            right = (estimate - float(row["delay_ms"]) / 1e3).abs() <= model.stft.hop_length / model.sample_rate
            hits[way].append(right[active(far[:size], len(right), model)].float().mean().item())
    means = {way: float(np.mean(shares)) for way, shares in hits.items()}
    for way, share in means.items():
        print(f"{way:22s} {share:6.1%} of far-end active frames, {min(hits[way]):6.1%} in the worst file")
    print(f"{len(rows)} files")
    save(args.json, {"within_a_frame": means, "files": len(rows)})


def read(folder: Path, name: str, rate: int) -> torch.Tensor:
    (path,) = folder.glob(f"{Path(name).stem}.*")
    return torch.from_numpy(read_mono(path, rate))


def active(far: torch.Tensor, frames: int, model: deepvqe_hub.EnhancementModel) -> torch.Tensor:
    """Frames after the first second in which the far end is active, (frames,)."""
    hop = model.stft.hop_length
    power = torch.nn.functional.pad(far, (0, frames * hop - len(far))).unflatten(0, (frames, hop)).square().mean(1)
    found = power > 1e-3 * power[power > 0].mean()
    found[: model.sample_rate // hop + 1] = False
    return found


if __name__ == "__main__":
    main()
