"""What the benchmarks share: models in which every part matters, recordings, and timing of competitors in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from deepvqe_hub import EnhancementModel
from deepvqe_hub.folders import audio_files


def random_model(name: str) -> EnhancementModel:
    """A preset with random weights and norms that do something."""
    torch.manual_seed(0)
    model = EnhancementModel.from_config(name).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model


def find(folder: Path, limit: int | None = None) -> list[Path]:
    """Names, relative to `folder`, of the sound files at any depth in it, sorted, at most `limit` of them."""
    names = sorted(path.relative_to(folder) for path in audio_files(folder))[:limit]
    if not names:
        raise SystemExit(f"there are no sound files in {folder}")
    return names


def read_mono(path: Path, rate: int) -> np.ndarray:
    """A sound file of one channel at `rate` Hz, float32 (time,)."""
    wave, found = soundfile.read(path, dtype="float32", always_2d=True)
    if found != rate or wave.shape[1] != 1:
        raise SystemExit(f"{path} has {wave.shape[1]} channel(s) at {found} Hz; one channel at {rate} Hz is needed")
    return wave[:, 0]


def in_turn(calls: dict[str, Callable[[], None]], rounds: int = 60, block: int = 5) -> dict[str, np.ndarray]:
    """Milliseconds of each call; competitors take turns of `block` calls, so that what disturbs one disturbs all.

    The processor time of the calling thread is counted, which leaves out other programs on a busy machine; so there
    must be one thread.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(block):
                before = time.thread_time()
                call()
                times[name].append(time.thread_time() - before)
    return {name: np.array(values[block:]) * 1e3 for name, values in times.items()}


def table(times: dict[str, np.ndarray], per: dict[str, int] | None = None) -> list[dict]:
    """Print p10, p50 and p99 of each, and the ratio to the first; `per` divides by frames a call."""
    rows, first = [], None
    print(f"| {'':24s} | p10 ms | p50 ms | p99 ms | ratio p10 | p50 |\n|---|---|---|---|---|---|")
    for name, values in times.items():
        low, middle, high = np.percentile(values / (per or {}).get(name, 1), [10, 50, 99])
        first = first or (low, middle)
        row = {"name": name, "p10": low, "p50": middle, "p99": high}
        row |= {"ratio_p10": low / first[0], "ratio_p50": middle / first[1]}
        rows.append(row)
        ratios = f"{row['ratio_p10']:9.2f} | {row['ratio_p50']:.2f}"
        print(f"| {name:24s} | {low:6.3f} | {middle:6.3f} | {high:6.3f} | {ratios} |", flush=True)
    return rows


def save(path: str | None, results: dict) -> None:
    """Write results with the machine named, where a path is given."""
    if path:
        from deepvqe_hub.machine import description

        Path(path).write_text(json.dumps({"machine": description(), **results}, indent=1) + "\n")
