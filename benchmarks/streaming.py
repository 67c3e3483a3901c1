"""One frame at a time: our exported graphs beside a graph exported the plain way, on one thread.

    taskset -c 0 python benchmarks/streaming.py deepvqe deepvqe-s

Graphs only, with inputs and states bound once; front ends are counted where they are inside ("waveform").
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from common import in_turn, random_model, save, table
from plain_graph import PlainGraph

from deepvqe_hub.onnx.exporting import build
from deepvqe_hub.onnx.runtime import Step

VARIANTS = {
    "float32": {},
    "8 bit": {"quantize": True},
    "float32, 2 frames": {"frames": 2},
    "float32, 4 frames": {"frames": 4},
    "8 bit, 2 frames": {"frames": 2, "quantize": True},
    "8 bit, 4 frames": {"frames": 4, "quantize": True},
    "float32, waveform": {"waveform": True},
}


class PlainStep:
    """The plain graph with its states bound once, like `deepvqe_hub.onnx.runtime.Step`."""

    def __init__(self, model):
        graph, pairs = PlainGraph(model).build()
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        shapes = {x.name: x.shape for x in self.session.get_inputs()}
        self.bindings, self.turn = [self.session.io_binding(), self.session.io_binding()], 0
        wrap = ort.OrtValue.ortvalue_from_numpy
        for name, output in pairs:
            arrays = [np.zeros(shapes[name], np.float32) for _ in range(2)]
            for turn, binding in enumerate(self.bindings):
                binding.bind_ortvalue_input(name, wrap(arrays[turn]))
                binding.bind_ortvalue_output(output, wrap(arrays[1 - turn]))
                if name == "spec":  # no state: the same input, and an output of its own
                    self.inputs = [arrays[0]]
                    binding.bind_ortvalue_input(name, wrap(arrays[0]))
                    binding.bind_ortvalue_output(output, wrap(arrays[1]))

    def __call__(self):
        self.session.run_with_iobinding(self.bindings[self.turn])
        self.turn ^= 1


def exported(model, **options) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(build(model, **options), path)
        return Step(path)


def call(step, rng):
    """Run with new noise in the inputs."""
    noise = [rng.standard_normal((16, *x.shape), np.float32) * np.float32(0.3) for x in step.inputs]
    turn = 0

    def run():
        nonlocal turn
        turn = (turn + 1) % 16
        for x, values in zip(step.inputs, noise, strict=True):
            x[...] = values[turn]
        step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["deepvqe", "deepvqe-s"], help="presets without a far end")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--torch", action="store_true", help="also the PyTorch stream, hop by hop with its front end")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng, results = np.random.default_rng(0), {}
    for name in args.models:
        model, echo = random_model(name), random_model(name.replace("deepvqe", "deepvqe-aec"))
        calls, per = {"plain graph": call(PlainStep(model), rng)}, {}
        for title, options in VARIANTS.items():
            calls[title], per[title] = call(exported(model, **options), rng), options.get("frames", 1)
        calls["echo, float32"] = call(exported(echo), rng)
        calls["echo, 8 bit"] = call(exported(echo, quantize=True), rng)
        if args.torch:
            stream, hop = model.stream(), torch.randn(256) * 0.1
            calls["PyTorch stream"] = lambda stream=stream, hop=hop: stream(hop)
        print(f"\n{name}")
        results[name] = table(in_turn(calls, args.rounds), per)
    save(args.json, results)


if __name__ == "__main__":
    main()
