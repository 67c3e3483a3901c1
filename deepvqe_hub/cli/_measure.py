"""The measurements behind `benchmark` and `compare`, each in a process of its own for its memory's sake."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace

from deepvqe_hub.cli import CommandError
from deepvqe_hub.machine import peak_memory
from deepvqe_hub.processes import worker_pool

BACKENDS = ("torch", "onnx", "onnx-8bit")
MAX_SECONDS = 3600  # of audio: it is kept in memory


@dataclass(frozen=True)
class Trial:
    """What to measure: a name, with random weights whose speed is that of trained ones, or what `load` takes."""

    model: str
    backend: str
    threads: int
    seconds: float
    frames: int = 1


def apart(function, *arguments):
    """`function(*arguments)` in a new process."""
    with worker_pool(1) as submit:
        try:
            return submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise CommandError(f"the process measuring {arguments[0]} died, perhaps for want of memory") from error


def open_model(name: str):
    """The model in evaluation mode; of a known name the network that has its weights, with random ones."""
    import deepvqe_hub
    from deepvqe_hub.hub.registry import ENTRIES

    if name in ENTRIES:
        return deepvqe_hub.EnhancementModel.from_config(ENTRIES[name].preset).eval()
    return deepvqe_hub.load(name)


def describe(name: str) -> dict:
    """Parameters and multiply-adds a second of a model or an exported graph, and whether it runs live."""
    from deepvqe_hub.hub.checkpoint import build_blank
    from deepvqe_hub.models.complexity import count_model
    from deepvqe_hub.onnx import OnnxModel, is_graph

    model = build_blank(OnnxModel(name).config, name) if is_graph(name) else open_model(name)
    return {**count_model(model)._asdict(), "farend": model.farend, "streams": model.network.streams}


def prepare(trial: Trial, path: str) -> str | None:
    """Write the exported graph that the trial needs to `path`; returns why there is none, if so."""
    from deepvqe_hub.onnx import export

    try:
        quantize = trial.backend == "onnx-8bit"
        export(open_model(trial.model), path, frames=trial.frames, quantize=quantize, overwrite=True)
    except (ValueError, ImportError, RuntimeError) as error:
        return str(error)
    return None


def measure(trial: Trial, path: str | None) -> dict:
    """Speed of streaming and of a whole file. Torch is not imported for an exported graph, which is at `path`.

    Returns the fields of the trial, with the `frames` of a graph, and `step_ms_p50`, `step_ms_p99`: one call of
    `frames` frames, front end included; `stream_rtf`, `offline_rtf`: computing time over audio time;
    `peak_mb`: most memory of the process.
    """
    import numpy as np

    if path is None:
        import torch

        torch.set_num_threads(trial.threads)
        torch.manual_seed(0)
        model = open_model(trial.model)
        stream = model.stream() if model.network.streams else None
        offline, convert = torch.no_grad()(model.forward), torch.from_numpy
    else:
        from deepvqe_hub.onnx import OnnxModel

        offline = model = OnnxModel(path, threads=trial.threads)
        stream, convert = model.stream(), np.asarray
    rate, result = model.sample_rate, asdict(trial)
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(round(trial.seconds * rate)).astype(np.float32) * np.float32(0.05) for _ in range(2)]
    waves = [convert(w) for w in (waves if model.farend else waves[:1])]
    if stream is not None:
        result["frames"] = getattr(stream, "frames", trial.frames)
        times, block = [], result["frames"] * model.hop_length
        for start in range(0, len(waves[0]) - block + 1, block):
            chunks = [w[start : start + block] for w in waves]
            before = time.perf_counter()
            stream(*chunks)
            times.append(time.perf_counter() - before)
        p50, p99 = np.percentile(times[len(times) // 10 :], [50, 99]) * 1e3  # the first warm up
        result |= {"step_ms_p50": round(float(p50), 3), "step_ms_p99": round(float(p99), 3)}
        result["stream_rtf"] = round(float(p50) / 1e3 / (block / rate), 4)
    offline(*(w[:rate] for w in waves))
    before = time.perf_counter()
    offline(*waves)
    result["offline_rtf"] = round((time.perf_counter() - before) / trial.seconds, 4)
    return result | {"peak_mb": peak_memory()}


def measure_cost(model: str, seconds: float, live: str) -> dict:
    """Speed and memory of a model with PyTorch, and of its live frames with the backend `live`; one thread.

    An exported graph, by its path, is measured on its own. Here `step_ms_p50` and `step_ms_p99` are of one frame,
    whatever the frames of a call.
    """
    from deepvqe_hub.onnx import is_graph

    if is_graph(model):
        result = apart(measure, Trial(model, "onnx", 1, seconds), model)
        return result | {key: round(result[key] / result["frames"], 3) for key in ("step_ms_p50", "step_ms_p99")}
    trial = Trial(model, "torch", 1, seconds)
    result = apart(measure, trial, None)
    if live == "torch" or "step_ms_p50" not in result:
        return result
    with tempfile.TemporaryDirectory() as folder:
        trial, path = replace(trial, backend=live), f"{folder}/model.onnx"
        if problem := apart(prepare, trial, path):
            raise ValueError(f"{model} cannot be exported: {problem}")
        exported = apart(measure, trial, path)
    return result | {key: exported[key] for key in ("step_ms_p50", "step_ms_p99", "stream_rtf")}
