"""Write a model as a streaming ONNX graph, checked against PyTorch.

  deepvqe export deepvqe-s deepvqe-s.onnx                 spectra in, spectra out, one frame a call
  deepvqe export deepvqe-s deepvqe-s.onnx --waveform      samples in, samples out
  deepvqe export deepvqe-s s.onnx --quantize --frames 2   8 bits, two frames a call

States are inputs and outputs of the graph; their names and shapes, and all settings, are in the file's metadata.
deepvqe_hub.onnx.OnnxStream runs the file without PyTorch.
"""

from __future__ import annotations

import argparse

from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import FORCE, MODEL


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL)
    add("output", metavar="OUT.onnx", help="file to write")
    add("--revision", help="branch, tag or commit, another way to say MODEL@revision")
    add("--frames", type=int, default=1, metavar="N", help="frames a call: faster each, later all (default: 1)")
    add("--batch-size", type=int, default=1, metavar="N", help="streams side by side (default: 1)")
    add("--quantize", action="store_true", help="8-bit weights and activations")
    add("--waveform", action="store_true", help="put the spectral front end into the graph")
    add("--force", action="store_true", help=FORCE)


def run(args: argparse.Namespace) -> int:
    import deepvqe_hub
    from deepvqe_hub.onnx import export

    model = deepvqe_hub.load(args.model, revision=args.revision)
    options = {name: getattr(args, name) for name in ("frames", "quantize", "waveform", "batch_size")}
    try:
        path = export(model, args.output, overwrite=args.force, **options)
    except RuntimeError as error:
        raise CommandError(str(error)) from error
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, gives the model's output")
    return 0
