"""A GPU: signals in batches, ours against a plain model with the same weights, and live streams side by side.

python benchmarks/gpu.py deepvqe deepvqe-s
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from common import random_model, save
from plain_model import PlainDeepVQE

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def milliseconds(calls: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median wall time of each call, with all work of the device in it, in turn."""
    synchronize = torch.accelerator.synchronize if torch.accelerator.is_available() else lambda: None
    times = {name: [] for name in calls}
    for _ in range(rounds + 2):
        for name, call in calls.items():
            synchronize()
            before = time.perf_counter()
            call()
            synchronize()
            times[name].append(time.perf_counter() - before)
    return {name: float(np.median(values[2:])) * 1e3 for name, values in times.items()}


def offline(name: str, args) -> list[dict]:
    """Seconds of audio a second, of a batch of whole signals."""
    wave, rows = torch.randn(args.batch, round(16000 * args.seconds), device=args.device) * 0.1, []
    model, calls, errors = random_model(name), {}, {}
    reference = model(wave[:1].cpu())
    if name == "deepvqe":
        plain = PlainDeepVQE().eval()
        plain.load_state_dict(model.network.state_dict())
        plain.to(args.device)
        calls["plain, float32"] = lambda: plain(wave)
    for label, dtype in PRECISIONS.items():
        ours = copy.deepcopy(model).to(args.device, dtype)
        if dtype != torch.float32:
            ours.to(memory_format=torch.channels_last)
        calls[f"ours, {label}"] = lambda ours=ours: ours(wave)
    for label, call in calls.items():
        error = (call()[:1].cpu() - reference).norm() / reference.norm()
        errors[label] = 20 * float(error.log10())
    for label, time_ms in milliseconds(calls, args.rounds).items():
        speed = args.batch * args.seconds / time_ms * 1e3
        rows.append({"model": name, "what": label, "ms": time_ms, "audio_per_second": speed, "error_db": errors[label]})
        print(f"| `{name}` | {label} | {time_ms:.1f} | {speed:.0f} | {errors[label]:.0f} |", flush=True)
    return rows


def live(name: str, args) -> list[dict]:
    """Milliseconds of a frame for so many streams at once."""
    model, rows = random_model(name).to(args.device), []
    for size in args.streams:
        stream, chunk = model.stream(size), torch.randn(size, model.stft.hop_length, device=args.device) * 0.1
        step = milliseconds({"": lambda s=stream, c=chunk: s(c)}, args.rounds * 4)[""]
        rows.append({"model": name, "streams": size, "ms": step})
        print(f"| `{name}` | {size} | {step:.2f} |", flush=True)
    return rows


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["deepvqe", "deepvqe-s"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 32, 256, 1024])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json")
    args = parser.parse_args()
    print("| model | | ms a batch | s of audio a second | differs from the CPU (dB) |\n|---|---|---|---|---|")
    results = {"offline": [row for name in args.models for row in offline(name, args)]}
    print("\n| model | streams | ms a frame |\n|---|---|---|")
    results["live"] = [row for name in args.models for row in live(name, args)]
    save(args.json, results)


if __name__ == "__main__":
    main()
