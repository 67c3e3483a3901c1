"""The SpeechBrain interface: `Enhancer`, and what a checkpoint folder's `hyperparams.yaml` builds.

Imports speechbrain, which imports torchaudio; everything else in this package does without either.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors
from torch import nn

from deepvqe_hub._optional import IMPORT_ERRORS, no_speechbrain
from deepvqe_hub.enhancement import EnhancementModel, uncompiled
from deepvqe_hub.files.disk import enhance_to_mono
from deepvqe_hub.hub.download import Repository
from deepvqe_hub.hub.errors import CheckpointError, GatedRepositoryError, RepositoryMissingError
from deepvqe_hub.hub.folder import WEIGHTS, YAML
from deepvqe_hub.hub.folder import load_weights as _load_weights
from deepvqe_hub.hub.resolving import is_path, resolve
from deepvqe_hub.streaming import Stream

try:
    from speechbrain.dataio.preprocess import AudioNormalizer
    from speechbrain.inference.interfaces import Pretrained
    from speechbrain.utils.data_utils import split_path
    from speechbrain.utils.fetching import FetchConfig, FetchFrom, FetchSource, LocalStrategy, fetch, guess_source
    from speechbrain.utils.parameter_transfer import PARAMFILE_EXT, Pretrainer
except IMPORT_ERRORS as error:
    text = no_speechbrain("deepvqe_hub.Enhancer", "speechbrain", error)
    raise ImportError(f"{text}deepvqe_hub.load and the command line need neither.") from error

__all__ = ["Enhancer", "FolderPretrainer", "SpeechBrainModel", "load_weights"]


class Enhancer(Pretrained):
    """Speech enhancement and echo cancellation as a SpeechBrain `Pretrained`.

    `from_hparams` takes what every SpeechBrain interface takes (`savedir`, `run_opts`, `freeze_params`,
    `fetch_config`, ...) and, like them, **evaluates the repository's** `hyperparams.yaml`, **which can run code**:
    use it on sources you trust. `from_pretrained` gives the same object from data alone.

    Unless `freeze_params=False` the parameters are frozen, and the modules stay in evaluation mode even where
    something around them, such as a `Brain`, is trained. Otherwise `train` and gradients reach them. The input
    gets gradients in either case. Threads may share a frozen one.

    Example:
        >>> enhancer = Enhancer.from_hparams(
        ...     source="owner/some-deepvqe", savedir="pretrained/some-deepvqe"
        ... )  # doctest: +SKIP
        >>> enhancer.enhance_file("noisy.wav", output_filename="clean.wav")  # doctest: +SKIP
    """

    MODULES_NEEDED = ["enhance_model"]  # noqa: RUF012, the name and type that Pretrained reads

    @classmethod
    def from_hparams(cls, source: str | os.PathLike[str], hparams_file: str = YAML, **kwargs: Any) -> Enhancer:
        """What every `Pretrained` has; `source` may also be the name of a model that ships with this package.

        Args:
            source: folder, Hub repository, URL (then `savedir` is needed), or a name such as "deepvqe-s". For
                `"owner/name@v1"` the `fetch_config` gets the revision "v1".
            hparams_file: what is evaluated there.
            **kwargs: `savedir`, `run_opts`, `freeze_params`, `fetch_config`, `overrides`, ... of
                `speechbrain.inference.interfaces.Pretrained.from_hparams`. Give each model a `savedir` of its
                own: what lies there is used, whatever `source` says.

        Raises:
            FileNotFoundError: for a path where nothing is, or one of the kinds of `deepvqe_hub.hub.HubError`.
            WeightsMissingError: (a FileNotFoundError) for a known name without weights, such as "dpcrn".
            ValueError: for a name that is neither known nor a folder, or that stands for another project's format; for
                the revision of what is no repository, or one that `fetch_config` contradicts.
            CheckpointError: (a ValueError) for a folder or repository without `hparams_file`.
        """
        if not isinstance(source, FetchSource):
            source = _located(source, kwargs)
        place, name = guess_source(source)
        folders = [folder for folder in (name, kwargs.get("savedir")) if folder is not None]
        if place == FetchFrom.LOCAL and not any(Path(folder, hparams_file).is_file() for folder in folders):
            raise CheckpointError(_without(name, hparams_file))
        if os.name == "nt":  # where SpeechBrain's links to files take a privilege that few have
            kwargs.setdefault("local_strategy", LocalStrategy.COPY)
        with _explained(name, hparams_file, kwargs):
            return super().from_hparams(source, hparams_file, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | EnhancementModel,
        *,
        device: str | torch.device | None = None,
        run_opts: dict[str, Any] | None = None,
        freeze_params: bool = True,
        **options: Any,
    ) -> Enhancer:
        """An enhancer without reading any YAML.

        Args:
            source: anything that `deepvqe_hub.load` takes, or a model.
            device: where to put the model, by default where SpeechBrain would; short for `run_opts={"device": ...}`.
            run_opts: of SpeechBrain, such as `{"device": "cuda", "precision": "bf16"}`.
            freeze_params: False to train the parameters and batch norms.
            **options: of `deepvqe_hub.load`, such as `revision`.

        Raises:
            FileNotFoundError, ValueError, ImportError: as `deepvqe_hub.load`.
            RuntimeError: for a device that PyTorch does not have.
        """
        if isinstance(uncompiled(source), EnhancementModel):
            model = source
        else:
            from deepvqe_hub.hub import load

            if options.pop("backend", "torch") != "torch":
                raise ValueError('an Enhancer runs on PyTorch; for onnxruntime deepvqe_hub.load(..., backend="onnx")')
            model = load(source, backend="torch", **options)
        if device is not None:
            run_opts = {**(run_opts or {}), "device": str(device)}
        return cls(
            modules={"enhance_model": SpeechBrainModel(model)},
            hparams={
                "sample_rate": model.sample_rate,
                "audio_normalizer": AudioNormalizer(sample_rate=model.sample_rate, mix="avg-to-mono"),
            },
            run_opts=run_opts,
            freeze_params=freeze_params,
        )

    def _prepare_modules(self, freeze_params: bool) -> None:  # every way of making one comes by here
        super()._prepare_modules(freeze_params)
        self._frozen = freeze_params

    def train(self, mode: bool = True) -> Enhancer:
        """Set the mode; what is frozen stays in evaluation mode, or its batch norms would go on learning."""
        super().train(mode)
        if self._frozen:
            self.mods.eval()
        return self

    @property
    def model(self) -> EnhancementModel:
        """The model inside."""
        module = self.mods["enhance_model"]
        return getattr(module, "module", module).model  # `module` again where SpeechBrain made it data-parallel

    @property
    def sample_rate(self) -> int:
        """Sample rate of what goes in and comes out, in Hz; `load_audio` and `enhance_file` resample to it."""
        return self.model.sample_rate

    def enhance_batch(
        self, noisy: torch.Tensor, lengths: torch.Tensor | None = None, farend: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Enhance a batch.

        Args:
            noisy: microphone signals, (batch, time), within ±1 at `sample_rate`.
            lengths: relative lengths (batch,), 0 to 1, of padded signals; the rest is ignored and becomes zeros.
            farend: loudspeaker signals in the shape of `noisy`, for echo-cancelling models.

        Returns:
            Enhanced signals in the shape of `noisy`, on the model's device.

        Raises:
            ValueError: as `deepvqe_hub.EnhancementModel`, for signals or lengths that do not fit.
        """
        # Asked of the parameters, because `.to()` moves them but leaves Pretrained's own note of the device.
        device = next(self.mods.parameters()).device
        noisy, farend = _to(noisy, device), _to(farend, device)
        wanted = getattr(noisy, "requires_grad", False) or any(p.requires_grad for p in self.mods.parameters())
        # Where nothing can be trained, the model may work in blocks, in constant memory.
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()), self.inference_ctx:
            enhanced, _ = self.mods.enhance_model(noisy, lengths, farend)
        return enhanced

    def enhance_file(
        self,
        filename: str | os.PathLike[str],
        output_filename: str | os.PathLike[str] | None = None,
        farend: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Enhance a file: mixed down to mono, at the model's sample rate, without gradients.

        Read, enhanced and written block by block: of a long file only the returned signal is in memory.

        Args:
            filename: path, URL or file in a Hub repository, as in `load_audio`.
            output_filename: where to write the result as 16-bit audio; the ending of the name says the format: .wav,
                .flac, .ogg, .opus, .mp3 or another of libsndfile's. It is replaced if it exists, as in SpeechBrain's
                interfaces, appears when it is complete, and its folder is made if need be.
            farend: loudspeaker signal that was played meanwhile; cut or zero-padded to the length of the first, with a
                warning.
            **kwargs: of `load_audio`.

        Returns:
            The enhanced signal, (time,), on the model's device.

        Raises:
            FileNotFoundError, AudioFileError, ValueError: as `deepvqe_hub.enhance_file`.
        """
        source, far = (None if path is None else _fetched(str(path), **kwargs) for path in (filename, farend))
        with self.inference_ctx:
            enhanced = enhance_to_mono(self.model, source, output_filename, far)
        return torch.from_numpy(enhanced).to(next(self.mods.parameters()).device)

    def enhance_stream(
        self, chunks: Iterable[torch.Tensor], farend: Iterable[torch.Tensor] | None = None
    ) -> Iterator[torch.Tensor]:
        """Enhance live audio.

        Args:
            chunks: of any length, (time,) or (batch, time), at `sample_rate`.
            farend: as many chunks of the loudspeaker signal, of the same shapes.

        Yields:
            Enhanced audio as it becomes ready, maybe nothing for a chunk; joined, as long as the chunks together.

        Raises:
            ValueError: as `deepvqe_hub.Stream`, and where there are not as many chunks of either signal.
        """
        stream: Stream | None = None
        device = next(self.mods.parameters()).device
        pairs = ((chunk, None) for chunk in chunks) if farend is None else zip(chunks, farend, strict=True)
        for chunk, far in pairs:
            if stream is None:
                stream = self.model.stream(chunk.shape[0] if getattr(chunk, "ndim", 1) == 2 else 1)
            with self.inference_ctx:  # not around the yields, where others compute
                ready = stream(_to(chunk, device), _to(far, device))
            if ready.shape[-1]:
                yield ready
        if stream is not None:
            with self.inference_ctx:
                rest = stream.flush()
            yield rest

    def forward(
        self, noisy: torch.Tensor, lengths: torch.Tensor | None = None, farend: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same as `enhance_batch`."""
        return self.enhance_batch(noisy, lengths, farend)


class SpeechBrainModel(nn.Module):
    """An `EnhancementModel` with the call that SpeechBrain's `WaveformEnhancement` expects: it returns a pair.

    Args:
        model: a model; or
        config: its config, for random weights that a `Pretrainer` then fills.
    """

    def __init__(self, model: EnhancementModel | None = None, config: dict[str, Any] | None = None):
        super().__init__()
        self.model = EnhancementModel.from_config(config) if model is None else model

    def forward(
        self, noisy: torch.Tensor, lengths: torch.Tensor | None = None, farend: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, time) -> enhanced (batch, time), and the lengths."""
        return self.model(noisy, farend, lengths), lengths


class FolderPretrainer(Pretrainer):
    """A `Pretrainer` that takes `model.safetensors` from where `hyperparams.yaml` came from.

    SpeechBrain's own needs the place spelled out in the YAML, so a copied folder would load the original's weights.
    From the `savedir` of an earlier call it takes `model.ckpt`, as SpeechBrain calls the same file there.

    Args:
        folder: another place, a folder or a Hub repository.
    """

    def __init__(self, folder: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.folder = folder

    def collect_files(self, default_source=None, *args, **kwargs):
        source = self.folder or default_source
        if source is None:
            raise ValueError("set pretrained_path to the folder or Hub repository with the weights")
        place, folder = guess_source(source)
        without = place == FetchFrom.LOCAL and not Path(folder, WEIGHTS).exists()
        for name in self.loadables:
            saved = f"{name}{PARAMFILE_EXT}"  # what SpeechBrain calls the weights in a savedir, which may be the source
            file = saved if without and Path(folder, saved).is_file() else WEIGHTS
            self.paths.setdefault(name, FetchSource(place, f"{folder}/{file}"))
        with _explained(folder, WEIGHTS, kwargs):
            return super().collect_files(default_source, *args, **kwargs)


def load_weights(module: SpeechBrainModel | EnhancementModel, path: str | os.PathLike[str]) -> None:
    """A `custom_hooks` function for `Pretrainer`: loads a safetensors file strictly, whatever its name."""
    _load_weights(getattr(module, "model", module), path)


def _located(source: str | os.PathLike[str], options: dict) -> str:
    """What SpeechBrain finds `source` by; a revision in its name moves to the `fetch_config` among `options`."""
    if isinstance(source, str) and source.startswith(("http:", "https:")):
        return source
    config = options.get("fetch_config", FetchConfig())
    place = resolve(source, config.revision)
    if place.kind == "file" or (place.entry is not None and place.entry.file is not None):
        raise ValueError(_without(source, YAML))
    if place.revision != config.revision:
        options["fetch_config"] = replace(config, revision=place.revision)
    return place.name if place.path is None else str(place.path)


@contextmanager
def _explained(source: str, file: str, options: dict) -> Iterator[None]:
    """The Hub's errors about a file of the repository `source` as `deepvqe_hub.load` gives them."""
    try:
        yield
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        config = options.get("fetch_config", FetchConfig())
        repository = Repository(source, config.revision, local_files_only=not config.allow_network)
        if isinstance(error, errors.RemoteEntryNotFoundError) and file != WEIGHTS:
            raise CheckpointError(_without(repository, file)) from error
        ours = repository.explained(error, file)
        if isinstance(ours, (RepositoryMissingError, GatedRepositoryError)) and not config.token:
            ours = type(ours)(f"{ours}. SpeechBrain sends no token without fetch_config=FetchConfig(token=True)")
        raise ours from error


def _without(source: object, file: str) -> str:
    return f"{source} has no {file}; load it with Enhancer.from_pretrained"


def _to(wave, device: torch.device):
    """A tensor on `device`; anything else as it is, for the model to name."""
    return wave.to(device) if isinstance(wave, torch.Tensor) else wave


def _fetched(path: str, savedir: str | os.PathLike[str] | None = None) -> str:
    """Where the file is, downloaded if need be, as `Enhancer.load_audio` does."""
    path = os.path.expanduser(path)
    if os.path.exists(path):
        return path
    if is_path(path):
        raise FileNotFoundError(f"{path}: no such file")
    source, name = split_path(path)
    return str(fetch(name, source=source, savedir=savedir))
