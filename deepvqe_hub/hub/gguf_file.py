"""Reads the GGUF files of deepvqe-ggml, github.com/richiejp/deepvqe-ggml: joint echo cancellation, F32 or Q8_0.

Their batch norms are folded into the convolutions, except those after the sub-pixel convolutions, which remain as scale
and bias. Here both become the statistics of our batch norms: identity for the first, scale and bias for the second.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deepvqe_hub._optional import need
from deepvqe_hub.hub.checkpoint import MAX_BYTES, Checkpoint
from deepvqe_hub.hub.errors import CheckpointError
from deepvqe_hub.models.mask import ComplexConvolvingMask

PREFIXES = {
    "mic_enc": "enblock",
    "far_enc": "farblock",
    "align.conv.1": "align.conv",  # 0 is the padding
    "bottleneck": "bottle",
    "dec": "deblock",
}
CUBE_ROOTS = dict(zip(("ccm.v_real", "ccm.v_imag"), ComplexConvolvingMask.roots))
_EPS = 1e-5  # of nn.BatchNorm2d; with variance 1 - eps a norm neither scales nor rounds


def read(path: Path, *, temperature: float = 1.0) -> Checkpoint:
    """Read a `.gguf` of deepvqe-ggml.

    Args:
        path: the file.
        temperature: of the softmax over echo delays to which the weights were trained. The file does not say; that
            project's runtime uses 1.0, its default training ends at 0.1. It is folded into the alignment.

    Raises:
        CheckpointError: the file is something else, damaged, or was exported without folded norms.
        ImportError: the package `gguf` is missing.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    meta, arrays = _read_arrays(path)
    if meta.get("general.architecture") != "deepvqe":
        raise CheckpointError(f"{path} is a GGUF file of {meta.get('general.architecture')!r}, not of deepvqe")
    if meta.get("deepvqe.version") != 1:
        raise CheckpointError(f"{path} has version {meta.get('deepvqe.version')} of deepvqe-ggml's format; known is 1")
    if not meta.get("deepvqe.bn_folded"):
        raise CheckpointError(
            f"{path} was exported without folding the batch norms, which loses their running statistics; "
            "export it again without --no-fold-bn"
        )
    for name, value in CUBE_ROOTS.items():
        found = arrays.pop(name, None)
        if found is None or found.shape != (3,) or not np.allclose(found, value, atol=1e-6):
            raise CheckpointError(f"{path}: {name} is not the constant {value}")

    names = {_our_name(theirs): theirs for theirs in arrays}
    # A copy each: the arrays are read-only views of the file.
    tensors = {ours: torch.from_numpy(arrays[theirs].astype(np.float32)) for ours, theirs in names.items()}
    for ours in ("network.align.conv.weight", "network.align.conv.bias"):
        if ours in tensors:
            tensors[ours] = tensors[ours] / temperature
    _add_norms(tensors)
    return Checkpoint(
        config=_config(meta, path),
        tensors=tensors,
        format="GGUF file of deepvqe-ggml",
        names=names,
        notes=[
            "batch norms were folded by the exporter; ours became identity, or its scale and bias",
            f"softmax temperature {temperature:g}, folded into align.conv: the file does not say",
        ],
    )


def _our_name(name: str) -> str:
    for theirs, ours in PREFIXES.items():
        if name.startswith(theirs):
            name = ours + name[len(theirs) :]
            break
    return "network." + name.replace(".bn.scale", ".bn.weight")


def _add_norms(tensors: dict[str, torch.Tensor]) -> None:
    """The batch norms, as identity where nothing is known of them but that they are folded."""
    for name in list(tensors):
        if not name.endswith("conv.bias") or "skip_conv" in name or "align" in name:
            continue
        norm = name.replace("deconv.conv.bias", "bn").replace("conv.bias", "bn")
        if "deconv" in name and f"{norm}.weight" not in tensors:
            continue  # the mask has no norm
        channels = tensors[name].numel() // (2 if "deconv" in name else 1)
        tensors.setdefault(f"{norm}.weight", torch.ones(channels))
        tensors.setdefault(f"{norm}.bias", torch.zeros(channels))
        tensors[f"{norm}.running_mean"] = torch.zeros(channels)
        tensors[f"{norm}.running_var"] = torch.full((channels,), 1 - _EPS)
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(0)


def _config(meta: dict, path: Path) -> dict:
    def get(key: str, kind: type = int):
        value = meta.get(f"deepvqe.{key}")
        if not isinstance(value, kind):
            raise CheckpointError(f"{path}: the metadata deepvqe.{key} must be of type {kind.__name__}, not {value!r}")
        return value

    def channels(key: str) -> list[int]:
        return [get(f"{key}.{i}") for i in range(1, min(get(f"{key}.count"), 16))]

    options = {
        "channels": channels("mic_channels"),
        "farend_channels": channels("far_channels"),
        "align_hidden": get("align_hidden"),
        "dmax": get("dmax"),
        "compression": round(get("power_law_c", float), 6),  # stored in single precision
        "upsampling": "concat",
        "mask_activation": False,
    }
    return {
        "network": "DeepVQE",
        "options": options,
        "stft": {"win_length": get("n_fft"), "hop_length": get("hop_length"), "window": "sqrt_hann"},
        "sample_rate": get("sample_rate"),
        "format_version": 1,
    }


def _read_arrays(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Metadata and tensors, 8-bit ones dequantised and in their original shape."""
    gguf = need("gguf", "reading GGUF files", "gguf")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_BYTES:,} bytes")

    class Reader(gguf.GGUFReader):
        """Reads plain values alone: an array may claim any length, and would be read past the end of the file."""

        def _get_field_parts(self, offset, kind):
            if kind == gguf.GGUFValueType.ARRAY:
                raise ValueError("its metadata hold an array, which deepvqe-ggml does not write")
            return super()._get_field_parts(offset, kind)

    supported = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0)
    try:
        reader = Reader(path)
        meta = {key: field.contents() for key, field in reader.fields.items()}
        arrays = {}
        if 4 * sum(int(tensor.n_elements) for tensor in reader.tensors) > MAX_BYTES:  # they may share bytes of the file
            raise CheckpointError(f"{path}: its tensors are larger than {MAX_BYTES:,} bytes")
        for tensor in reader.tensors:
            if tensor.tensor_type not in supported:
                raise CheckpointError(f"{path}: {tensor.name} is stored as {tensor.tensor_type.name}")
            shape = [int(n) for n in reversed(tensor.shape)]
            if f"deepvqe.shape.{tensor.name}.ndim" in meta:  # 8-bit tensors are stored flat
                key = f"deepvqe.shape.{tensor.name}"
                shape = [meta[f"{key}.{i}"] for i in range(meta[f"{key}.ndim"])]
            arrays[tensor.name] = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    except CheckpointError:
        raise
    except Exception as error:  # the reader indexes into the file without checks of its own
        raise CheckpointError(f"{path} is not a sound GGUF file: {error}") from error
    return meta, arrays
