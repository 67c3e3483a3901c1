"""Reads the tensors in a file by `torch.save`, whoever wrote it.

`torch.load(weights_only=True)` runs no code, but some of what it lets pass takes as much memory as a few bytes ask for:
a bytearray of any length, a set of the elements of a tensor that stands still in memory. So the pickle is gone through
with inert placeholders first, with which nothing but a dict of tensors and plain values can be made. What trainers keep
beyond these (numpy's numbers and random states, an argparse.Namespace, a Path) `weights_only=True` refuses, too.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from pickle import BYTEARRAY8
from typing import ClassVar

import torch

from deepvqe_hub.hub.checkpoint import MAX_BYTES
from deepvqe_hub.hub.errors import CheckpointError, first_line


def load_tensors(path: Path) -> dict:
    """The dict in a file by `torch.save`: tensors and plain values only.

    Raises:
        CheckpointError: the file is something else, is damaged, is larger than `MAX_BYTES`, or holds more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    # torch.save stores without compression; an archive that would grow in memory is not one of its.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(f"{path} is a compressed archive, not a file written by torch.save")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise CheckpointError(f"{path} holds more than {MAX_BYTES:,} bytes")
    try:
        # By the reader of torch.load, which finds records by rules of its own (in names it ignores case).
        with open(path, "rb") as file:
            record = torch._C.PyTorchFileReader(file).get_record("data.pkl")
        _DryRun(io.BytesIO(record)).load()
    except RuntimeError as error:  # the archive, not the pickle
        raise CheckpointError(f"{path} is not a file written by torch.save: {first_line(error)}") from error
    except Exception as error:
        reason = f"Unsupported opcode {error}" if isinstance(error, KeyError) else first_line(error, "Unsupported")
        raise CheckpointError(
            f"{path} holds more than tensors and is not loaded: {reason}. Ask whoever trained it for a file of the "
            "weights alone: torch.save(model.state_dict(), path)"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports a damaged archive in many ways
        raise CheckpointError(f"{path} is not a file written by torch.save: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content


class _Inert:
    """Something of PyTorch, such as a tensor or a storage, with which nothing can be done."""

    __slots__ = ()


class _Empty(OrderedDict):
    """An `OrderedDict` that does not begin with the elements of anything, with the attribute that a state dict has."""

    def __init__(self):
        super().__init__()

    def __setstate__(self, state: dict):
        if set(state) - {"_metadata"}:
            raise pickle.UnpicklingError("Unsupported attributes of a dict")


def _made(*parts: object) -> _Inert:
    return _Inert()


def _small(elements: object) -> _Inert:
    """A copy of a few elements; of many, a few bytes could ask for any number of copies."""
    if type(elements) not in (tuple, list, dict) or len(elements) > 64:
        raise pickle.UnpicklingError("Unsupported number of elements")
    return _Inert()


class _DryRun(pickle._Unpickler):  # in Python, as the one in C reserves memory for the numbers of memos
    dispatch: ClassVar = {code: step for code, step in pickle._Unpickler.dispatch.items() if code != BYTEARRAY8[0]}

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return _Empty
        if (module, name) in (("torch", "Size"), ("collections", "Counter")):  # shapes; what some schedules keep
            return _small
        if (module, name) in (("torch", "device"), ("torch.serialization", "_get_layout")):
            return _made
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return _made
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return _Inert()
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _Inert()
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")

    def persistent_load(self, identity: object) -> _Inert:
        return _Inert()
