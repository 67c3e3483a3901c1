"""What a long stream costs in quality: each signal by itself, and all of them one after the other in one signal.

Voice, noise, level and room change with every file, as in a long call, and the network still remembers the last ones.

    python benchmarks/continuous.py deepvqe-s noisy clean
    python benchmarks/continuous.py deepvqe-aec-s mic nearend --farend farend
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import find, read_mono, save

import deepvqe_hub
from deepvqe_hub.metrics import evaluate_tensors


def read(folder: Path, names: list[Path], rate: int, hop: int) -> list[torch.Tensor]:
    """The files as whole frames, so that these lie alike in both runs."""
    waves = (torch.from_numpy(read_mono(folder / name, rate)) for name in names)
    return [wave[: len(wave) // hop * hop] for wave in waves]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("noisy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--farend", type=Path)
    parser.add_argument("--metrics", nargs="+", default=["pesq_wb", "stoi", "si_sdr"])
    parser.add_argument("--json")
    args = parser.parse_args()
    model = deepvqe_hub.load(args.model)
    names = find(args.noisy)
    folders = [args.noisy, args.clean, *([args.farend] if args.farend else [])]
    noisy, clean, *far = (read(folder, names, model.sample_rate, model.stft.hop_length) for folder in folders)
    outputs = {
        "alone": [model(*waves) for waves in zip(noisy, *far)],
        "in one signal": model(*(torch.cat(waves) for waves in (noisy, *far))).split([len(w) for w in noisy]),
    }
    means = {}
    for way, enhanced in outputs.items():
        rows = [evaluate_tensors(*pair, model.sample_rate, args.metrics) for pair in zip(enhanced, clean)]
        means[way] = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
        print(f"{way:14s} " + "  ".join(f"{name} {value:.3f}" for name, value in means[way].items()), flush=True)
    save(args.json, {"model": args.model, "files": len(names), "means": means})


if __name__ == "__main__":
    main()
