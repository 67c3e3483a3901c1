"""Whole signals with PyTorch on one thread: ours against a plain model with the same weights.

taskset -c 0 python benchmarks/offline.py --seconds 2 4 16
"""

from __future__ import annotations

import argparse

import torch
from common import in_turn, random_model, save, table
from plain_model import PlainDeepVQE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", nargs="+", type=float, default=[4, 16])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ours, plain, results = random_model("deepvqe"), PlainDeepVQE().eval(), {}
    plain.load_state_dict(ours.network.state_dict())
    for seconds in args.seconds:
        wave = torch.randn(1, round(16000 * seconds)) * 0.1
        with torch.inference_mode():
            difference = (ours(wave) - plain(wave)).abs().max().item()
            calls = {"plain": lambda w=wave: plain(w), "ours": lambda w=wave: ours(w)}
            times = in_turn(calls, args.rounds, 1)
        print(f"\n{seconds:g} s, largest difference {difference:.1e}")
        results[str(seconds)] = table(times)
    save(args.json, results)


if __name__ == "__main__":
    main()
