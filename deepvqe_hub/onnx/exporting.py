"""Writing a model as a streaming ONNX graph."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import torch

from deepvqe_hub._optional import need
from deepvqe_hub._version import __version__
from deepvqe_hub.atomic import atomic_write, check_free
from deepvqe_hub.enhancement import EnhancementModel, uncompiled
from deepvqe_hub.onnx.description import FORMAT_VERSION, MAX_BATCH_SIZE, MAX_FRAMES, signal_inputs

TOLERANCE = 1e-4  # RMS difference from PyTorch that export accepts in float32, relative to the signal
TOLERANCE_8BIT = 0.1  # on random numbers; a coarse check that the graph is the network


def export(
    model: EnhancementModel,
    path: str | os.PathLike[str],
    *,
    frames: int = 1,
    quantize: bool = False,
    waveform: bool = False,
    batch_size: int = 1,
    overwrite: bool = False,
) -> Path:
    """Write one streaming step of `model` as an ONNX file, and check it against PyTorch.

    The graph takes `noisy` (and `farend`) and every state, and returns `enhanced` and every state for the next
    call; states start as zeros. Shapes and settings are JSON in the file's metadata under `deepvqe_hub`, enough to
    run the graph.

    Args:
        model: a model whose network streams, in any precision; the graph is float32.
        path: the file to write; its folder is made if need be. It appears whole or not at all.
        frames: frames a call <T>, 1 to 64. More of them run faster each and wait for one another.
        quantize: 8-bit weights and activations in the matrix products; activations are scaled in each call, so no
            calibration is needed.
        waveform: put the spectral front end into the graph. `noisy` and `enhanced` are then (batch, T * hop_length)
            samples, the output `win_length - hop_length` samples late; otherwise spectra (batch, bins, T, 2).
        batch_size: streams side by side.
        overwrite: replace an existing file.

    Returns:
        `path`.

    Raises:
        ImportError: without onnx, which writes the graph, or onnxruntime, which checks it; the text names the remedy.
        FileExistsError: if the file exists, without `overwrite`; for a device or a pipe.
        ValueError: for a network that cannot stream, numbers out of range, 8 bits for a network that is traced, or a
            name that does not end in ".onnx".
        RuntimeError: if the graph does not give the model's numbers.
    """
    path, model = Path(path), uncompiled(model)
    if not isinstance(model, EnhancementModel):
        hint = "; give its model" if isinstance(getattr(model, "model", None), EnhancementModel) else ""
        raise ValueError(f"only an EnhancementModel can be exported, and this is {type(model).__name__}{hint}")
    if not model.network.streams:
        raise ValueError(
            f"{type(model.network).__name__} looks at the whole signal and cannot be exported as a stream; "
            "export a causal model, such as deepvqe-s"
        )
    for name, value, most in (("frames", frames, MAX_FRAMES), ("batch_size", batch_size, MAX_BATCH_SIZE)):
        if isinstance(value, bool) or not (isinstance(value, int) and 1 <= value <= most):
            raise ValueError(f"{name} must be a whole number from 1 to {most}, not {value!r}")
    if path.suffix.lower() != ".onnx":  # by which others, and we, know a graph
        raise ValueError(f"the name of a graph ends in .onnx, and {path.name} does not")
    check_free(path, overwrite=overwrite)

    if next(model.parameters()).dtype != torch.float32:
        model = copy.deepcopy(model).float()  # the graph computes in float32, whatever the weights are kept in
    with torch.autocast(next(model.parameters()).device.type, enabled=False):  # whatever the caller computes in
        graph = build(model, frames=frames, quantize=quantize, waveform=waveform, batch_size=batch_size)
        with atomic_write(path, overwrite=overwrite) as part:
            part.write_bytes(graph.SerializeToString())
            check(model, part, TOLERANCE_8BIT if quantize else TOLERANCE)
    return path


def build(model: EnhancementModel, *, frames=1, quantize=False, waveform=False, batch_size=1):
    """The graph as an `onnx.ModelProto`; arguments as for `export`, but the model is float32."""
    need("onnx", "writing ONNX graphs", "onnx")  # which the modules below import
    from deepvqe_hub.onnx.builder import Graph
    from deepvqe_hub.onnx.frontend import analyse, rows, spectrum, synthesise
    from deepvqe_hub.onnx.network import StepWriter
    from deepvqe_hub.onnx.tracing import trace

    network, stft = model.network.for_inference().cpu(), dataclasses.asdict(model.stft)
    written = StepWriter.covers(network)
    if quantize and not written:
        raise ValueError(f"this {type(network).__name__} is exported by tracing, in float32; leave out quantize")
    graph = Graph()
    step = StepWriter(graph, network, batch_size, frames, quantize) if written else None
    bins, hop = model.stft.bins, model.stft.hop_length
    shape = (batch_size, frames * hop) if waveform else (batch_size, bins, frames, 2)
    inputs = []
    for name in signal_inputs(network.farend):
        x = graph.input(name, shape)
        x = analyse(graph, x, name, stft, batch_size, frames) if waveform else rows(graph, x, bins, batch_size, frames)
        inputs.append(x)
    y = step.write(*inputs) if step else trace(graph, network, inputs, bins, batch_size, frames)
    y = synthesise(graph, y, stft, batch_size, frames) if waveform else spectrum(graph, y, bins, batch_size, frames)
    graph.output(y, "enhanced", shape)
    description = {
        "format_version": FORMAT_VERSION,
        "input": "waveform" if waveform else "spectrum",
        "frames": frames,
        "batch_size": batch_size,
        "quantized": quantize,
        "farend": network.farend,
        "sample_rate": model.sample_rate,
        "stft": stft,
        "states": [dataclasses.asdict(state) for state in graph.states],
        "config": model.config,
    }
    return graph.model(type(network).__name__, __version__, {"deepvqe_hub": json.dumps(description)})


def check(model: EnhancementModel, path: Path, tolerance: float) -> None:
    """Run the file on noise and compare with the model, or raise RuntimeError."""
    from deepvqe_hub.onnx.streams import OnnxStream

    stream = OnnxStream(path)
    past = getattr(getattr(model.network, "align", None), "dmax", 0)  # so long until its rings are full
    frames = max(12, past + 2 * stream.frames + 3)
    samples = model.stft.win_length + model.stft.hop_length * frames + 7
    rng = np.random.default_rng(0)
    noisy, farend = rng.standard_normal((2, stream.batch_size, samples), np.float32) * np.float32(0.1)
    far = (farend,) if model.farend else ()
    cut = samples // 2 + 1
    got = [stream(*(w[:, part] for w in (noisy, *far))) for part in (slice(0, cut), slice(cut, None))]
    got = np.concatenate([*got, stream.flush().reshape(stream.batch_size, -1)], 1)
    network = model.network.folded()  # which the graph was not made from
    device = next(network.parameters()).device
    with torch.inference_mode():
        specs = [model.stft.analyse(torch.from_numpy(w).to(device)) for w in (noisy, *far)]
        wanted = model.stft.synthesise(network(*specs)[0], samples).cpu().numpy()
    # A trained model takes most of the noise away, and what is left is small beside the rounding of what went in.
    power = max(np.square(wanted).mean(), 0.1 * np.square(noisy).mean())
    error = float(np.sqrt(np.square(got - wanted).mean() / power))
    if not error <= tolerance:
        raise RuntimeError(
            f"the exported graph differs from the model by {error:.1e} (relative RMS), nothing was written"
        )
