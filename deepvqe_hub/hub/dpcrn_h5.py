"""Reads the Keras weights of the DPCRN authors, github.com/Le-Xiaohuai-speech/DPCRN_DNS3 (HDF5).

Only arrays are read; the description of the model that such a file may hold is not looked at.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deepvqe_hub._optional import need
from deepvqe_hub.hub.checkpoint import MAX_BYTES, Checkpoint
from deepvqe_hub.hub.errors import CheckpointError

CONFIG = {
    "network": "DPCRN",
    "options": {"bins": 201, "layout": "keras"},
    "stft": {"win_length": 400, "hop_length": 200, "window": "sine", "padding": "none"},
    "sample_rate": 16000,
    "format_version": 1,
}
_LAYERS = 5


def read(path: Path) -> Checkpoint:
    """Read an `.h5` of the DPCRN authors.

    Raises:
        CheckpointError: the file is something else or damaged.
        ImportError: the package `h5py` is missing.
    """
    arrays = read_arrays(path)
    try:
        state = keras_state_dict(arrays)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:  # the latter two for arrays of other dimensions
        raise CheckpointError(f"{path} is not a checkpoint of the DPCRN authors: {error}") from error
    return Checkpoint(
        config=CONFIG,
        tensors={f"network.{name}": tensor for name, tensor in state.items()},
        format="Keras checkpoint of the DPCRN authors",
        names={f"network.{name}": name for name in state},
        notes=["as in the authors' code the signal's first half window fades in"],
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an HDF5 file, by its path inside; at most as many numbers as the largest model has."""
    h5py = need("h5py", "reading HDF5 files")
    arrays, size = {}, 0

    def visit(name: str, item) -> None:
        nonlocal size
        if isinstance(item, h5py.Dataset):
            size += item.nbytes
            if item.dtype.kind != "f" or size > MAX_BYTES or item.external or item.is_virtual:
                raise CheckpointError(f"{path}: {name} is no array of weights ({item.dtype}, {item.nbytes:,} bytes)")
            arrays[name] = np.asarray(item)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except CheckpointError:
        raise
    except Exception as error:  # h5py reports a damaged or odd file in many ways
        raise CheckpointError(f"{path} is not a readable HDF5 file: {error}") from error
    return arrays


def keras_state_dict(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The state dict of `DPCRN(bins=201, layout="keras")` from the arrays of the authors' file.

    Args:
        arrays: by their path in the file, such as `"model0_conv_1/model0_conv_1/kernel:0"`.

    Raises:
        KeyError: an array is missing.
        ValueError: there are others.
    """
    source, state = dict(arrays), {}
    _conv_stack(source, state, "encoder", "conv", "bn", slopes=range(_LAYERS), norms=_LAYERS)
    _conv_stack(source, state, "decoder", "dconv", "dbn", slopes=range(_LAYERS, 2 * _LAYERS - 1), norms=_LAYERS - 1)
    _layer_norm(source, state, "input_ln", "layer_normalization/layer_normalization")
    for b in range(2):
        # Keras numbers layers of a kind through the whole model, in the order of their making.
        block = f"dprnn_block{_number(b)}/dprnn_block{_number(b)}"
        both = f"{block}/bidirectional{_number(b)}"
        ours = f"dprnns.{b}"
        _lstm(source, state, f"{ours}.intra_rnn", f"{both}/forward_lstm{_number(2 * b)}", "l0")
        _lstm(source, state, f"{ours}.intra_rnn", f"{both}/backward_lstm{_number(2 * b)}", "l0_reverse")
        _lstm(source, state, f"{ours}.inter_rnn", f"{block}/lstm{_number(2 * b + 1)}", "l0")
        for i, path in enumerate(("intra", "inter")):
            _dense(source, state, f"{ours}.{path}_fc", f"{block}/dense{_number(2 * b + i)}")
            _layer_norm(source, state, f"{ours}.{path}_ln", f"{block}/layer_normalization{_number(2 * b + i + 1)}")
    if source:
        raise ValueError(f"unknown arrays: {', '.join(sorted(source)[:5])}")
    return state


def _take(arrays: dict[str, np.ndarray], layer: str, name: str) -> torch.Tensor:
    """Take one of the arrays out, as a tensor, so that unknown ones are left in the end."""
    key = f"{layer}/{name}:0"
    if key not in arrays:
        raise KeyError(f"{key} is missing")
    return torch.from_numpy(np.ascontiguousarray(arrays.pop(key), dtype=np.float32))


def _number(i: int) -> str:
    return f"_{i}" if i else ""


def _conv_stack(source: dict, state: dict, ours: str, conv: str, norm: str, *, slopes: range, norms: int) -> None:
    for i in range(_LAYERS):
        layer = f"model0_{conv}_{i + 1}/model0_{conv}_{i + 1}"
        # (frames, bins, in, out), or (frames, bins, out, in) if transposed: PyTorch has both the other way round, too.
        state[f"{ours}.conv_list.{i}.weight"] = _take(source, layer, "kernel").permute(3, 2, 0, 1).contiguous()
        state[f"{ours}.conv_list.{i}.bias"] = _take(source, layer, "bias")
    for i in range(norms):
        layer = f"model0_{norm}_{i + 1}/model0_{norm}_{i + 1}"
        for name, keras in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            state[f"{ours}.bn_list.{i}.{name}"] = _take(source, layer, keras)
        state[f"{ours}.bn_list.{i}.num_batches_tracked"] = torch.tensor(0)
    for i, number in enumerate(slopes):
        layer = f"p_re_lu{_number(number)}"
        state[f"{ours}.act_list.{i}.weight"] = _take(source, f"{layer}/{layer}", "alpha").flatten()


def _lstm(source: dict, state: dict, ours: str, layer: str, suffix: str) -> None:
    """Gates are in the same order; PyTorch has a second bias."""
    state[f"{ours}.weight_ih_{suffix}"] = _take(source, layer, "kernel").T.contiguous()
    state[f"{ours}.weight_hh_{suffix}"] = _take(source, layer, "recurrent_kernel").T.contiguous()
    state[f"{ours}.bias_ih_{suffix}"] = _take(source, layer, "bias")
    state[f"{ours}.bias_hh_{suffix}"] = torch.zeros_like(state[f"{ours}.bias_ih_{suffix}"])


def _dense(source: dict, state: dict, ours: str, layer: str) -> None:
    state[f"{ours}.weight"] = _take(source, layer, "kernel").T.contiguous()
    state[f"{ours}.bias"] = _take(source, layer, "bias")


def _layer_norm(source: dict, state: dict, ours: str, layer: str) -> None:
    """Keras stored the axes swapped, (channels, bins), but applies the numbers in memory order as (bins, channels)."""
    for name, keras in (("weight", "gamma"), ("bias", "beta")):
        array = _take(source, layer, keras)
        state[f"{ours}.{name}"] = array.reshape(array.shape[1], array.shape[0])
