"""How far a stream and the whole signal are apart after a microphone was muted.

Each file, then samples of exactly zero (or a constant), then the next file; a stream in chunks and one call.

    python benchmarks/silence.py deepvqe-s noisy
    python benchmarks/silence.py deepvqe-aec-s mic --farend farend
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import find, read_mono, save

import deepvqe_hub


def signal(folder: Path, names: tuple[Path, Path], rate: int, rest: torch.Tensor, samples: int) -> torch.Tensor:
    first, second = (torch.from_numpy(read_mono(folder / name, rate)) for name in names)
    return torch.cat([first[:samples], rest, second[:samples]])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("noisy", type=Path)
    parser.add_argument("--farend", type=Path)
    parser.add_argument("--silence", type=float, default=5.0, help="seconds")
    parser.add_argument("--level", type=float, default=0.0, help="value of the samples meanwhile")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each file")
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--chunk", type=int, default=1024, help="samples")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = deepvqe_hub.load(args.model)
    names = find(args.noisy, args.files)
    samples = int(args.seconds * model.sample_rate)
    rest = torch.full((int(args.silence * model.sample_rate),), args.level)
    apart = []
    for pair in zip(names, [*names[1:], names[0]]):
        folders = [folder for folder in (args.noisy, args.farend) if folder]
        waves = [signal(folder, pair, model.sample_rate, rest, samples) for folder in folders]
        stream = model.stream()
        chunks = [stream(*chunk) for chunk in zip(*(wave.split(args.chunk) for wave in waves))]
        apart.append(float((torch.cat([*chunks, stream.flush()]) - model(*waves)).abs().max()))
    apart = torch.tensor(apart)
    beyond = int((apart > 1e-5).sum())
    print(f"{args.model}: {beyond} of {len(apart)} signals more than 1e-5 apart, {apart.max():.0e} at most", flush=True)
    save(args.json, {"model": args.model, "files": len(apart), "beyond": beyond, "largest": float(apart.max())})


if __name__ == "__main__":
    main()
