"""The table of single-file formats: how each is told, and which module reads it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path

from deepvqe_hub.hub.checkpoint import Checkpoint
from deepvqe_hub.hub.errors import CheckpointError
from deepvqe_hub.onnx import is_graph


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        title: for messages.
        magic: its first bytes.
        suffixes: usual endings of its name.
        module: module with `read(path, **options) -> Checkpoint`, imported when needed; None if we refuse it.
        remedy: for a refused format, what to do instead.
    """

    title: str
    magic: bytes
    suffixes: tuple[str, ...]
    module: str | None = None
    remedy: str = ""


FORMATS = (
    Format(
        "torch.save archive", b"PK\x03\x04", (".tar", ".pt", ".pth", ".ckpt", ".bin"), "deepvqe_hub.hub.reference_tar"
    ),
    Format("GGUF file", b"GGUF", (".gguf",), "deepvqe_hub.hub.gguf_file"),
    Format(
        "bare pickle",
        b"\x80",
        (".pkl", ".pickle"),
        remedy="it may hold code; load it where you trust it and save it again with torch.save",
    ),
    Format("HDF5 file", b"\x89HDF", (".h5", ".hdf5"), "deepvqe_hub.hub.dpcrn_h5"),
)
SUFFIXES = (*(suffix for known in FORMATS for suffix in known.suffixes), ".safetensors", ".onnx", ".json", ".zip")
"""Endings that mark a string as the name of a file."""


def read_file(path: str | Path, **options) -> Checkpoint:
    """Read a single-file checkpoint of another project.

    Args:
        path: the file; its first bytes, not its name, say what it is.
        options: of that format; see `read` in `deepvqe_hub.hub.reference_tar` and
            `deepvqe_hub.hub.gguf_file`.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: an unknown or refused format, or a damaged file.
        ValueError: an option that the format does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(512)
    known = next((known for known in FORMATS if head.startswith(known.magic)), None)
    if known is None:
        raise CheckpointError(f"{path} is {_guess(path, head)}; known are folders of ours, {_known()}")
    if known.module is None:
        raise CheckpointError(f"{path} is a {known.title}: {known.remedy}")
    read = importlib.import_module(known.module).read
    accepted = [name for name in inspect.signature(read).parameters if name != "path"]
    unknown = [name for name in options if name not in accepted]
    if unknown:
        raise ValueError(f"a {known.title} takes the options {', '.join(accepted)}, not {', '.join(unknown)}")
    return read(path, **options)


def _known() -> str:
    return " and ".join(f"{known.title}s ({known.suffixes[0]})" for known in FORMATS if known.module)


def _guess(path: Path, head: bytes) -> str:
    if not head:
        return "an empty file"
    if is_graph(path):
        return "an ONNX graph, run by deepvqe_hub.onnx.OnnxStream and not loaded into PyTorch"
    if path.suffix == ".safetensors":
        return "only the weights; load the folder that holds its config.json as well"
    if head[257:262] == b"ustar":
        return "a tar archive of files; unpack it and load what is inside"
    return "in no format that this package reads"
