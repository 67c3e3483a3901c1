"""Writes models in other projects' formats; the counterpart of `reference_tar` and `gguf_file`.

A writer refuses a model that the other project could not run, and writes its file whole or not at all. It returns what
the file does not say but a reader must know, in sentences, if there is anything.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch

from deepvqe_hub._optional import need
from deepvqe_hub.atomic import atomic_write
from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.hub.gguf_file import CUBE_ROOTS, PREFIXES
from deepvqe_hub.models import DeepVQE, all_options
from deepvqe_hub.presets import PRESETS


def write_tar(model: EnhancementModel, path: str | Path) -> list[str]:
    """Write `{"model": state_dict}` as the reference implementation saves it, without a word on the front end.

    Raises:
        ValueError: the model's shape is not that of preset `deepvqe`, or its front end none of that project's.
    """
    stft = {key: getattr(model.stft, key) for key in ("window", "padding")}
    known = stft["window"] in ("sqrt_hann", "hann") and stft["padding"] in ("zeros", "reflect")
    _same_function(model, PRESETS["deepvqe"] | {"stft": stft if known else {}}, path)
    state = {name: tensor.cpu() for name, tensor in model.network.state_dict().items()}
    content = io.BytesIO()  # in memory first: of a full disk torch.save says only where it was in the file
    torch.save({"model": state}, content)
    with atomic_write(path, overwrite=True) as part:
        part.write_bytes(content.getbuffer())
    if stft == {"window": "sqrt_hann", "padding": "zeros"}:
        return []
    return [f"the file does not say it: read it with --window {stft['window']} --padding {stft['padding']}"]


def write_gguf(model: EnhancementModel, path: str | Path) -> list[str]:
    """Write a 32-bit GGUF file as deepvqe-ggml exports it, batch norms folded.

    Raises:
        ValueError: the model computes something that project does not: another front end, an interleaving decoder.
        ImportError: the package `gguf` is missing.
    """
    preset = PRESETS["deepvqe-aec-gguf"]
    given = _options(model)
    dmax = given.get("dmax", 1)  # another network has none, and is refused
    options = preset["options"] | {"dmax": dmax}
    _same_function(model, preset | {"options": options, "sample_rate": model.sample_rate}, path)
    gguf = need("gguf", "writing GGUF files", "gguf")
    prefixes = {ours: theirs for theirs, ours in PREFIXES.items()}
    tensors = {}
    for name, tensor in model.network.folded().state_dict().items():
        ours = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        tensors[prefixes.get(ours, "") + name[len(ours) :]] = tensor.float().cpu().numpy()
    for i in range(2, 6):  # the norms after the sub-pixel convolutions, which are already in these
        tensors[f"dec{i}.bn.scale"] = torch.ones(tensors[f"dec{i}.deconv.conv.bias"].size // 2).numpy()
        tensors[f"dec{i}.bn.bias"] = torch.zeros(tensors[f"dec{i}.deconv.conv.bias"].size // 2).numpy()
    for name, value in CUBE_ROOTS.items():
        tensors[name] = torch.tensor(value).numpy()

    with atomic_write(path, overwrite=True) as part:
        writer = gguf.GGUFWriter(part, "deepvqe")
        numbers = {
            "version": 1,
            "n_fft": model.stft.win_length,
            "hop_length": model.stft.hop_length,
            "n_freq_bins": model.stft.bins,
            "sample_rate": model.sample_rate,
            "dmax": dmax,
            "align_hidden": model.network.align.hidden,
            **_listed("mic_channels", [2, *given["channels"]]),
            **_listed("far_channels", [2, *given["farend_channels"]]),
        }
        for key, value in numbers.items():
            writer.add_uint32(f"deepvqe.{key}", value)
        writer.add_float32("deepvqe.power_law_c", model.network.compression)
        writer.add_bool("deepvqe.bn_folded", True)
        writer.add_bool("deepvqe.quantized", False)
        for name, value in tensors.items():
            writer.add_tensor(name, value)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        except OSError as error:
            if error.errno is not None:  # numpy's has none, and only says how many numbers it wrote
                raise
            raise OSError(f"{path}: writing failed: {error}; is the disk full?") from error
    return []


def write_onnx(model: EnhancementModel, path: str | Path) -> list[str]:
    """Write a streaming graph, see `deepvqe_hub.onnx.export`."""
    from deepvqe_hub.onnx import export

    export(model, path, overwrite=True)
    return []


WRITERS: dict[str, Callable[[EnhancementModel, str | Path], list[str]]] = {
    ".tar": write_tar,
    ".gguf": write_gguf,
    ".onnx": write_onnx,
}
"""Writer by ending of the file's name."""


def _same_function(model: EnhancementModel, config: dict, path: str | Path) -> None:
    """Refuse a model that differs from `config` in its network's options, its front end or its sample rate."""
    with torch.device("meta"):
        twin = EnhancementModel.from_config(config)
    mine, other = _options(model), _options(twin)
    differ = sorted(key for key in mine if mine[key] != other.get(key))
    front, theirs = ({**vars(each.stft), "sample_rate": each.sample_rate} for each in (model, twin))
    differ += [f"{key} ({front[key]}, not {theirs[key]})" for key in front if front[key] != theirs[key]]
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (model, twin)]
    if not isinstance(model.network, DeepVQE) or shapes[0] != shapes[1]:
        differ.append("the shapes of its weights")
    if differ:
        raise ValueError(f"{path}: this model cannot be written in that format, it differs in {', '.join(differ)}")


def _options(model: EnhancementModel) -> dict:
    return all_options(model.network, model.config["options"])


def _listed(key: str, values: list[int]) -> dict[str, int]:
    return {f"{key}.{i}": value for i, value in enumerate(values)} | {f"{key}.count": len(values)}
