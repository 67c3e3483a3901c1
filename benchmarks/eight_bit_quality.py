"""What 8 bits cost in quality: mean DNSMOS of the float32 and the 8-bit graph on a folder of noisy speech.

python benchmarks/eight_bit_quality.py deepvqe-s path/to/noisy --limit 60
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import find, read_mono, save

import deepvqe_hub
from deepvqe_hub.metrics.mos import dnsmos_p835
from deepvqe_hub.onnx import OnnxModel, export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="only so many files")
    parser.add_argument("--json")
    args = parser.parse_args()
    model = deepvqe_hub.load(args.model)
    names = find(args.folder, args.limit)
    with tempfile.TemporaryDirectory() as folder:
        graphs = {
            name: OnnxModel(export(model, Path(folder) / f"{quantize}.onnx", quantize=quantize))
            for name, quantize in (("float32", False), ("8 bit", True))
        }
        scores, errors = {name: [] for name in ("noisy", *graphs)}, []
        for name in names:
            noisy = read_mono(args.folder / name, model.sample_rate)
            waves = {"noisy": noisy} | {way: graph(noisy) for way, graph in graphs.items()}
            for way, wave in waves.items():
                scores[way].append(dnsmos_p835(wave, model.sample_rate))
            power = np.square(waves["float32"]).mean() + 1e-12
            errors.append(10 * np.log10(np.square(waves["8 bit"] - waves["float32"]).mean() / power + 1e-12))
    means = {name: {key: float(np.mean([s[key] for s in rows])) for key in rows[0]} for name, rows in scores.items()}
    for name, values in means.items():
        print(f"{name:8s} " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    print(f"{len(names)} files; difference of 8 bit from float32: {-np.mean(errors):.1f} dB below the signal")
    save(args.json, {"dnsmos": means, "files": len(names), "difference_db": float(np.mean(errors))})


if __name__ == "__main__":
    main()
