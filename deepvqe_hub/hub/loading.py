"""`load`: every way to get a model with trained weights."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import torch

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.hub import formats, registry
from deepvqe_hub.hub.checkpoint import build
from deepvqe_hub.hub.download import Repository
from deepvqe_hub.hub.errors import CheckpointError, HubError, NotCachedError, WeightsMissingError
from deepvqe_hub.hub.folder import CONFIG, README, WEIGHTS, expanded, read_folder
from deepvqe_hub.onnx import is_graph

if TYPE_CHECKING:
    from deepvqe_hub.onnx.model import OnnxModel

_HUB_OPTIONS = ("token", "cache_dir", "local_files_only", "force_download")


@overload
def load(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: Literal["torch"] | None = None,
    **options,
) -> EnhancementModel: ...
@overload
def load(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: Literal["onnx"],
    **options,
) -> OnnxModel: ...
@overload
def load(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: str | None,
    **options,
) -> EnhancementModel | OnnxModel: ...
def load(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    backend: str | None = None,
    **options,
) -> EnhancementModel | OnnxModel:
    """A model with trained weights, in evaluation mode. Nothing that is loaded is executed.

    Args:
        name_or_path: one of

            * a name of `list_models`, such as `"deepvqe-s"`;
            * a checkpoint folder (`"./deepvqe-s"` if it is called like a model);
            * a repository of the Hugging Face Hub, `"owner/name"` (a folder of that name goes first), or
              `"owner/name@revision"`, which is the way to say it on the command line;
            * a `.tar` of the reference implementation, github.com/Xiaobin-Rong/deepvqe;
            * a `.gguf` of github.com/richiejp/deepvqe-ggml (needs the extra `gguf`);
            * an `.h5` of github.com/Le-Xiaohuai-speech/DPCRN_DNS3 (needs h5py);
            * a `.onnx` written by `deepvqe_hub.onnx.export`.
        revision: branch, tag or commit of a Hub repository; pin one where results must not change.
        device: where to put the model, by default the CPU.
        backend: "torch", or "onnx" for a `deepvqe_hub.onnx.OnnxModel`: the same call on onnxruntime, with
            the options `threads` and `quantize`. By default that of the file.
        **options: for the Hub `token`, `cache_dir`, `local_files_only`, `force_download`, and `file`
            to choose one of several in another format; for a `.tar` `window` and `padding`, see
            `deepvqe_hub.hub.reference_tar.read`; for a `.gguf` `temperature`, see
            `deepvqe_hub.hub.gguf_file.read`.

    Returns:
        The model, float32, `model.sample_rate` Hz; with onnxruntime a `deepvqe_hub.onnx.OnnxModel`. What both have is
        `deepvqe_hub.protocols.Model`. Type checkers, who cannot tell a `.onnx` by its name, are told by `backend`.

    Raises:
        FileNotFoundError: no such file, or one of the kinds of `deepvqe_hub.hub.HubError` and
            `deepvqe_hub.hub.WeightsMissingError`.
        ValueError: an unknown name, option or device; `deepvqe_hub.hub.CheckpointError` for a damaged or foreign
            file.
        ImportError: what reads the format is not installed.

    Example:
        >>> model = deepvqe_hub.load("deepvqe-s")  # doctest: +SKIP
        >>> clean = model(noisy)  # doctest: +SKIP
    """
    check_kind(name_or_path)
    if backend is None:
        backend = "onnx" if is_graph(name_or_path) else "torch"
    if backend == "onnx":
        if device is not None and not str(device).startswith("cpu"):
            raise ValueError(f"onnxruntime is used on the CPU, not on {device}; for others see OnnxModel(providers=)")
        return _load_onnx(name_or_path, revision, options)
    if backend != "torch":
        raise ValueError(f'backend must be "torch" or "onnx", not {backend!r}')
    return on_device(load_as(EnhancementModel, name_or_path, revision, options), device, name_or_path)


def on_device(model: EnhancementModel, device: str | torch.device | None, name: str | os.PathLike) -> EnhancementModel:
    """`model` on `device`, where it is for None; a ValueError that calls it `name` for one that is not there."""
    try:
        return model if device is None else model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"cannot put {name} on device {device}: {error}") from error


def load_as(
    cls: type[EnhancementModel], source: str | os.PathLike, revision: str | None, options: dict
) -> EnhancementModel:
    """`load` for a subclass: what `EnhancementModel.from_pretrained` does."""
    check_kind(source)
    if isinstance(source, str):
        source, revision = at_revision(source, revision)
    name = os.fspath(source)
    entry = registry.find(name) if isinstance(source, str) else None
    if entry is not None and entry.repo_id is None:
        refuse(options, revision, f"the model {name}")
        if not entry.embedded:
            raise WeightsMissingError(no_weights(name))
        return read_folder(entry.folder, f"the model {name}", cls)
    path = expanded(name)
    if entry is None and path.is_dir():
        refuse(options, revision, f"the folder {path}")
        return read_folder(path, cls=cls)
    if "://" in name:
        raise ValueError(f"{name} is an address; of a repository of the Hub give owner/name, or download the file")
    if entry is None and (path.is_file() or names_a_file(source)):
        if revision is not None:
            raise ValueError(f"revision is for repositories of the Hub; {path} is a file")
        if path.name == CONFIG and path.is_file():
            raise CheckpointError(f"{path} is only the config; load the folder that holds its {WEIGHTS} as well")
        options = {key: value for key, value in options.items() if key not in _HUB_OPTIONS}
        return build(formats.read_file(path, **options), str(path), cls)
    if entry is None and "/" not in name:
        raise ValueError(unknown_name(name))
    return _from_hub(entry, name, revision, options, cls)


def _load_onnx(source: str | os.PathLike, revision: str | None, options: dict) -> OnnxModel:
    from deepvqe_hub.onnx import OnnxModel, export

    threads, quantize = options.pop("threads", 1), options.pop("quantize", False)
    if is_graph(source):
        source = expanded(source)
        refuse(options | ({"quantize": True} if quantize else {}), revision, f"the exported graph {source}")
        try:
            return OnnxModel(source, threads=threads)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    model = load_as(EnhancementModel, source, revision, options)
    with tempfile.TemporaryDirectory(prefix="deepvqe-") as folder:
        path = export(model, Path(folder) / "model.onnx", quantize=quantize)
        return OnnxModel(path.read_bytes(), threads=threads)


def _from_hub(entry: registry.Entry | None, name: str, revision: str | None, options: dict, cls):
    asked = {key: options.pop(key) for key in _HUB_OPTIONS if key in options}
    repository = Repository(entry.repo_id if entry else name, revision, **asked)
    file = options.pop("file", entry.file if entry else None)
    if file is None:
        try:
            repository.file(CONFIG)
        except (CheckpointError, NotCachedError) as error:  # perhaps in another project's format
            file = _foreign_file(repository, error)
        else:
            refuse(options, None, str(repository))
            folder = repository.folder(CONFIG, WEIGHTS)
            with contextlib.suppress(CheckpointError, HubError):  # a repository need not have a card
                repository.file(README)  # lies in the same folder; names the licence
            return read_folder(folder, str(repository), cls)
    model = build(formats.read_file(repository.file(file), **options), f"{repository.repo_id}/{file}", cls)
    model.licence = entry.licence.lower() if entry else model.licence
    return model


def _foreign_file(repository: Repository, error: Exception) -> str:
    """The GGUF file in a repository, of several the one that is not quantised; if there is none, `error`."""
    try:
        names = [name for name in repository.names() if name.endswith(".gguf")]
    except (FileNotFoundError, ValueError):
        names = []
    full = [name for name in names if not re.search(r"q\d", name.lower())]
    for choice in (names, full):
        if len(choice) == 1:
            return choice[0]
    if names:
        raise CheckpointError(f"{repository} has several checkpoints, choose one with file=: {', '.join(names)}")
    raise error


def at_revision(source: str, revision: str | None) -> tuple[str, str | None]:
    """`"owner/name@v1"`, or a known name so, as two; a path is left as it is, whatever stands in it."""
    name, at, tail = source.partition("@")
    known = registry.find(name) is not None or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)
    if not (at and tail and known) or Path(source).exists() or Path(tail).suffix.lower() in formats.SUFFIXES:
        return source, revision
    if revision not in (None, tail):
        raise ValueError(f"{source} names one revision, revision={revision!r} another; give one of them")
    return name, tail


def check_kind(source: object) -> None:
    """Raise ValueError for what is neither a path nor a string, or an empty one."""
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"what to load is named by a string or a path, not by {type(source).__name__}")
    if source == "":
        raise ValueError("the name of the model to load is empty")


def refuse(options: dict, revision: str | None, where: str) -> None:
    """Raise ValueError for a revision, or options that are not of the Hub, of what is no repository there."""
    unknown = [key for key in options if key not in _HUB_OPTIONS]
    if unknown:
        raise ValueError(f"{where} takes no option {', '.join(unknown)}")
    if revision is not None:
        raise ValueError(f"revision is for repositories of the Hub; {where} has none")


def names_a_file(source: str | os.PathLike) -> bool:
    """Whether it can only be a path here, there or not, and no repository of the Hub."""
    name = os.fspath(source)
    return (
        not isinstance(source, str)
        or name.startswith((".", "/", "~"))
        or (os.sep != "/" and os.sep in name)
        or name.count("/") > 1
        or Path(name).suffix.lower() in formats.SUFFIXES
    )


def no_weights(name: str) -> str:
    """What to say of a known name for which there are none."""
    have = [entry.name for entry in registry.ENTRIES.values() if entry.available]
    own = f'the folder of that name: "./{name}"' if Path(name).is_dir() else "a folder, file or Hub repository"
    return (
        f"no weights for {name} ship with this release; there are some for: {', '.join(have) or 'none'}. "
        f'Random ones: EnhancementModel.from_config("{name}"); your own: load {own}'
    )


def unknown_name(name: str) -> str:
    """What to say of a name that is none of ours, and no path or repository either."""
    close = difflib.get_close_matches(name.lower(), registry.ENTRIES, 1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{name!r} is neither a file, a folder nor a known model{hint} Known: {', '.join(registry.ENTRIES)}"
