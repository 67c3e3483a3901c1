"""Seconds of audio that a core, or a GPU, trains on in a second: forward, loss, backward and optimiser, not mixing.

    taskset -c 0 python benchmarks/training.py deepvqe-s dpcrn deepvqe tf-gridnet
    python benchmarks/training.py deepvqe --device cuda --batch 32 --channels-last --cuda-graphs

Mixing, which runs beside it in other processes: mixing.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from common import save

from deepvqe_hub import EnhancementModel
from deepvqe_hub.losses import SpeechLoss
from deepvqe_hub.optim import Muon


def step_seconds(name: str, args) -> np.ndarray:
    torch.manual_seed(0)
    model, loss = EnhancementModel.from_config(name).train().to(args.device), SpeechLoss()
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = {"AdamW": torch.optim.AdamW, "Muon": Muon}[args.optimizer](model.parameters())
    shape, times = (2 + model.farend, args.batch, round(args.seconds * model.sample_rate)), []
    clean, *inputs = torch.randn(shape, device=args.device) * 0.1
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    recorded = None
    if args.cuda_graphs:
        from deepvqe_hub.training.cuda_graphs import GraphedLoss  # and with it SpeechBrain, which allows TF32

        recorded = GraphedLoss(model, loss.to(args.device), dtype)
    for _ in range(args.steps + 2):
        before = time.perf_counter()
        optimizer.zero_grad()
        if recorded is None:
            with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
                enhanced = model(*inputs)
            loss(enhanced.float(), clean).backward()
        else:
            recorded(clean, *inputs)[0].backward()
        optimizer.step()
        if args.device != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - before)
    return np.array(times[2:])  # the first choose algorithms and fill caches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["deepvqe-s"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an item (default: 3)")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--optimizer", choices=("AdamW", "Muon"), default="AdamW")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--cuda-graphs", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| model | s a step (p50) | s of audio a second |\n|---|---|---|")
    for name in args.models:
        step = float(np.median(step_seconds(name, args)))
        rows.append({"model": name, "step_seconds": step, "audio_per_second": args.batch * args.seconds / step})
        print(f"| `{name}` | {step:.2f} | {rows[-1]['audio_per_second']:.1f} |", flush=True)
    save(args.json, {"training": rows})


if __name__ == "__main__":
    main()
