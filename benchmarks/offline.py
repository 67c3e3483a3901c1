"""Whole signals with PyTorch on one thread: ours against a plain model with the same weights, and ours in bfloat16.

taskset -c 0 python benchmarks/offline.py --seconds 2 4 16
"""

from __future__ import annotations

import argparse
import copy

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
    half = copy.deepcopy(ours).bfloat16()
    for seconds in args.seconds:
        wave = torch.randn(1, round(16000 * seconds)) * 0.1
        with torch.inference_mode():
            reference = plain(wave)
            difference = (ours(wave) - reference).abs().max().item()
            error = 20 * torch.log10((half(wave) - reference).norm() / reference.norm()).item()
            calls = {
                "plain": lambda w=wave: plain(w),
                "ours": lambda w=wave: ours(w),
                "ours, bfloat16": lambda w=wave: half(w),
            }
            times = in_turn(calls, args.rounds, 1)
        print(f"\n{seconds:g} s, largest difference {difference:.1e}; bfloat16 differs at {error:.1f} dB")
        results[str(seconds)] = table(times)
    save(args.json, results)


if __name__ == "__main__":
    main()
