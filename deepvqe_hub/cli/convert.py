"""Convert a checkpoint from one format to another, with a report.

Read are checkpoint folders, names and Hub repositories as `deepvqe_hub.load` takes them, .tar files of the reference
implementation, .gguf files of deepvqe-ggml and .h5 files of DPCRN's authors. Written is, by the name of OUT,

  a folder   this package's own format, for the Hugging Face Hub and SpeechBrain
  .tar       the reference implementation's, for models of its shape
  .gguf      deepvqe-ggml's, 32-bit, for models of its shape
  .onnx      a streaming graph; `deepvqe export` has more options

  deepvqe convert deepvqe_trained_on_DNS3.tar deepvqe-dns3
  deepvqe convert deepvqe.gguf deepvqe-aec --temperature 0.1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deepvqe_hub.atomic import check_free, without_new_folders
from deepvqe_hub.cli import CommandError
from deepvqe_hub.cli._arguments import FORCE, MODEL


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="IN", help=MODEL)
    add("output", metavar="OUT", help="folder, or file ending in .tar, .gguf or .onnx")
    add("--window", help="for a .tar: window it was trained with, sqrt_hann or hann (default: sqrt_hann)")
    add("--padding", help="for a .tar: around a signal, zeros or reflect (default: reflect for hann, else zeros)")
    add("--temperature", type=float, help="for a .gguf: softmax temperature it was trained to (default: 1)")
    add("--half", action="store_true", help="for a folder: store matrices in half precision")
    add("--name", help="for a folder: title of the model card (default: that of OUT)")
    add("--license", help="for a folder: licence of the weights, as the Hub calls it (default: IN's)")
    add("--force", action="store_true", help=FORCE)
    add("--verbose", action="store_true", help="report every tensor")


def run(args: argparse.Namespace) -> int:
    from deepvqe_hub.hub import load, save_folder
    from deepvqe_hub.hub.checkpoint import UNKNOWN_LICENSE, build
    from deepvqe_hub.hub.formats import read_file
    from deepvqe_hub.hub.writers import WRITERS

    options = {
        key: getattr(args, key) for key in ("window", "padding", "temperature") if getattr(args, key) is not None
    }
    output = Path(args.output)
    write = WRITERS.get(output.suffix.lower())
    if write is None and output.suffix in (".pt", ".pth", ".bin", ".safetensors", ".h5"):
        raise CommandError(f"{output}: cannot write {output.suffix}; a folder, {', '.join(WRITERS)} can be written")
    for name in ("half", "name", "license"):
        if write is not None and getattr(args, name):
            raise CommandError(f"--{name} is for a checkpoint folder, and {output} is a file")
    if write is not None:
        check_free(output, overwrite=args.force)
    if Path(args.input).is_file():
        checkpoint = read_file(args.input, **options)
        model = build(checkpoint, args.input)
        _report(checkpoint, model, args)
    else:
        model = load(args.input, **options)
        print(f"{args.input}: {_size(model)}")
    notes = []
    with without_new_folders(output):
        if write is not None:
            notes = write(model, output)
        else:
            card = {"name": args.name or output.name} | ({"license": args.license} if args.license else {})
            save_folder(model, output, card, half=args.half, overwrite=args.force)
            if not args.license and model.license == UNKNOWN_LICENSE:
                notes = ["licence of the weights: unknown; state it with --license"]
    for note in notes:
        print(f"  {note}")
    print(f"{output}: written")
    return 0


def _report(checkpoint, model, args: argparse.Namespace) -> None:
    print(f"{args.input}: {checkpoint.format}, {_size(model)}")
    ours = {name for name in checkpoint.tensors if not name.endswith("num_batches_tracked")}
    renamed = {name: theirs for name, theirs in checkpoint.names.items() if name.removeprefix("network.") != theirs}
    made = sorted(ours - set(checkpoint.names))
    print(f"  {len(checkpoint.names)} tensors mapped, {len(renamed)} of them renamed, {len(made)} made")
    if args.verbose:
        for name, theirs in checkpoint.names.items():
            print(f"  {theirs} -> {name} {tuple(checkpoint.tensors[name].shape)}")
        for name in made:
            print(f"  (made) -> {name} {tuple(checkpoint.tensors[name].shape)}")
    for note in checkpoint.notes:
        print(f"  {note}")


def _size(model) -> str:
    return f"{type(model.network).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"
