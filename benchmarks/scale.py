"""How cost grows: streams side by side, minutes of audio, the age of a stream, and the alignment's memory.

    taskset -c 0 python benchmarks/scale.py streams deepvqe-s
    python benchmarks/scale.py files deepvqe-s --minutes 1 10 60
    taskset -c 0 python benchmarks/scale.py age deepvqe-aec-s --minutes 60
    python benchmarks/scale.py align

"files" streams generated audio in blocks through the model, so memory must not depend on the length.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time

import numpy as np
import torch
from common import in_turn, random_model, save

from deepvqe_hub.machine import peak_memory


def streams(args) -> list[dict]:
    """Real-time streams that one core carries, for batches of several sizes."""
    from streaming import call, exported

    rng, rows = np.random.default_rng(0), []
    print("| streams | exported graph, ms a frame | streams a core | PyTorch, ms a frame | streams a core |")
    print("|---|---|---|---|---|")
    for model in (random_model(name) for name in args.models):
        hop = model.stft.hop_length / model.sample_rate * 1e3
        for size in args.sizes:
            graph, stream = call(exported(model, batch_size=size), rng), model.stream(batch_size=size)
            chunk = torch.randn(size, model.stft.hop_length) * 0.1
            times = in_turn({"onnx": graph, "torch": lambda s=stream, c=chunk: s(c)}, args.rounds, 3)
            row = {"streams": size} | {name: float(np.median(values)) for name, values in times.items()}
            rows.append(row)
            cells = [f"{row[k]:.2f} | {size * hop / row[k]:.0f}" for k in ("onnx", "torch")]
            print(f"| {size} | {' | '.join(cells)} |", flush=True)
    return rows


def one_file(name: str, minutes: float) -> dict:
    """Time and memory for one signal, block by block as files are read."""
    torch.set_num_threads(1)
    model, rng = random_model(name), np.random.default_rng(0)
    stream, rate, taken, given = model.stream(), model.sample_rate, 0, 0
    before = time.process_time()
    while taken < minutes * 60 * rate:
        block = torch.from_numpy(rng.standard_normal(4 * rate).astype(np.float32) * np.float32(0.05))
        given += len(stream(block))
        taken += len(block)
    given += len(stream.flush())
    assert given == taken
    seconds = time.process_time() - before
    return {"minutes": minutes, "seconds": seconds, "per_minute": seconds / minutes, "peak_mb": peak_memory()}


def files(args) -> list[dict]:
    rows = []
    print("| minutes | seconds | seconds a minute | peak MB |\n|---|---|---|---|")
    for minutes in args.minutes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # of its own, for the peak
            row = pool.apply(one_file, (args.models[0], minutes))
        rows.append(row)
        cells = (f"{row['minutes']:g}", f"{row['seconds']:.1f}", f"{row['per_minute']:.2f}", row["peak_mb"])
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return rows


def age(args) -> list[dict]:
    """Time of a frame and memory as a stream of an exported graph grows old, in ten parts of its life."""
    from deepvqe_hub.onnx import OnnxStream, export

    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        stream = OnnxStream(export(random_model(args.models[0]), f"{folder}/model.onnx"))
    frames = round(max(args.minutes) * 60 * stream.sample_rate / stream.hop_length / 10)
    print("| minutes | p50 ms | p99 ms | peak MB |\n|---|---|---|---|")
    for part in range(1, 11):
        times = np.empty(frames)
        for index in range(frames):
            waves = rng.standard_normal((1 + stream.farend, stream.hop_length), np.float32) * np.float32(0.05)
            before = time.thread_time()
            stream(*waves)
            times[index] = time.thread_time() - before
        p50, p99 = np.percentile(times * 1e3, [50, 99])
        minutes = part * frames * stream.hop_length / stream.sample_rate / 60
        rows.append({"minutes": minutes, "p50_ms": p50, "p99_ms": p99, "peak_mb": peak_memory()})
        print(f"| {minutes:.0f} | {p50:.3f} | {p99:.3f} | {rows[-1]['peak_mb']} |", flush=True)
    return rows


def naive_align(block, mic: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    """The alignment with all delayed copies of the far end built, (batch, channels, dmax, frames, bins)."""
    from torch.nn import functional as F

    queries, keys = block.pconv_mic(mic) * block.bins**-0.5, block.pconv_ref(far)
    frames, bins = mic.shape[2:]

    def unfold(x):
        x = F.unfold(F.pad(x, (0, 0, block.dmax - 1, 0)), (block.dmax, 1))
        return x.view(mic.shape[0], -1, block.dmax, frames, bins)

    similarity = (queries[:, :, None] * unfold(keys)).sum(-1).transpose(2, 3)
    weights = block.conv(F.pad(similarity, (0, 0, 4, 0))).softmax(-1)  # (batch, 1, frames, dmax)
    return (unfold(far) * weights.transpose(2, 3)[..., None]).sum(2)


def one_align(kind: str, seconds: float, dmax: int) -> dict:
    from deepvqe_hub.models.align import AlignBlock

    torch.set_num_threads(1)
    torch.manual_seed(0)
    block, frames = AlignBlock(128, 128, 32, 65, dmax), round(seconds * 62.5)
    block.key = "align"
    mic, far = torch.randn(2, 1, 128, frames, 65).unbind(0)
    state = {f"align.{name}": torch.zeros(1, *shape) for name, shape in block.state_shapes().items()}
    base = peak_memory()
    before = time.process_time()
    with torch.inference_mode():
        out = naive_align(block, mic, far) if kind == "naive" else block(mic, far, state)[0]
    spent = time.process_time() - before
    return {"form": kind, "seconds": spent, "memory_mb": peak_memory() - base, "sum": out.double().abs().sum().item()}


def align(args) -> list[dict]:
    rows = []
    print(f"{args.seconds:g} s of audio, delays up to {args.dmax} frames\n")
    print("| form | s | MB above its inputs |\n|---|---|---|")
    for kind in ("naive", "ours"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(one_align, (kind, args.seconds, args.dmax))
        rows.append(row)
        print(f"| {kind} | {row['seconds']:.2f} | {row['memory_mb']:.0f} |", flush=True)
    if abs(rows[0]["sum"] / rows[1]["sum"] - 1) > 1e-4:
        raise SystemExit("the two forms differ")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(kinds := {"streams": streams, "files": files, "age": age, "align": align}))
    parser.add_argument("models", nargs="*", default=["deepvqe-s"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 10])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--dmax", type=int, default=100)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    save(args.json, {args.what: kinds[args.what](args)})


if __name__ == "__main__":
    main()
