"""Waveform in, waveform out: `EnhancementModel`."""

from __future__ import annotations

import copy
import inspect
import json
import math
import operator
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from deepvqe_hub.limits import (
    BLOCK_SECONDS,
    MAX_MODEL_RATE,
    MIN_RATE,
    check_farend,
    check_format_version,
    check_layout,
    check_same_shape,
    ends_of,
)
from deepvqe_hub.models import NETWORKS
from deepvqe_hub.presets import PRESETS
from deepvqe_hub.resampling import ResampledStream
from deepvqe_hub.stft import STFT, Analysis
from deepvqe_hub.streaming import ArrayStream, Stream, as_batch, check_wave, loudest, precision

if TYPE_CHECKING:
    from typing_extensions import Self

Kind = TypeVar("Kind")

FORMAT_VERSION = 1
GPU_SECONDS = 320  # of all signals of a batch together; a GPU is at its best with much at once
MAX_PARAMETERS = 1 << 28
MAX_SPECTRUM = 1 << 19  # bins of all frames of a second together; those of the presets have 16,062


class EnhancementModel(nn.Module, PyTorchModelHubMixin):
    """Speech enhancement from waveform to waveform: a spectral front end around one network.

    Built by `deepvqe_hub.load` with trained weights, or by `from_config` with random ones. Threads may share one in
    evaluation mode.

    Args:
        network: class name of the network in `deepvqe_hub.models`.
        options: keyword arguments of the network.
        stft: keyword arguments of `deepvqe_hub.stft.STFT`.
        sample_rate: of input and output, in Hz.
        format_version: of the config, to tell checkpoints of a later release.

    Attributes:
        license: of the weights, for the model card: "apache-2.0" for a model made here; for a loaded one what came with
            the weights, or "unknown".
    """

    license = "apache-2.0"

    if TYPE_CHECKING:  # what nn.Module leaves open

        def __call__(
            self, noisy: torch.Tensor, farend: torch.Tensor | None = None, lengths: torch.Tensor | None = None
        ) -> torch.Tensor: ...

    def __init__(
        self,
        network: str = "DeepVQE",
        options: dict[str, Any] | None = None,
        stft: dict[str, Any] | None = None,
        sample_rate: int = 16000,
        format_version: int = FORMAT_VERSION,
    ):
        super().__init__()
        check_format_version(format_version, FORMAT_VERSION, "the checkpoint")
        if type(format_version) is not int or format_version < 1:
            raise ValueError(f"format_version {format_version!r} does not exist")
        if not (isinstance(sample_rate, int) and MIN_RATE <= sample_rate <= MAX_MODEL_RATE):
            raise ValueError(
                f"sample_rate must be a whole number from {MIN_RATE} to {MAX_MODEL_RATE} Hz, not {sample_rate!r}"
            )
        if not isinstance(network, str) or network not in NETWORKS:
            raise ValueError(f"unknown network {network!r}; this release has {', '.join(NETWORKS)}")
        options, stft = copy.deepcopy((options or {}, stft or {}))  # the model's own to keep
        self.stft = STFT(**stft)
        bins, hop = self.stft.bins, self.stft.hop_length
        if bins * sample_rate > MAX_SPECTRUM * hop:  # memory for a second of audio, however few the parameters
            raise ValueError(
                f"win_length {self.stft.win_length} and hop_length {hop} at {sample_rate} Hz ask for "
                f"{bins * sample_rate // hop:,} spectral bins a second; the limit is {MAX_SPECTRUM:,}"
            )
        options = {"bins": bins, **options}
        _check_sizes(options)
        with torch.device("meta"):  # what a stranger's config asks for is counted before it is allocated
            size = sum(p.numel() for p in NETWORKS[network](**options).parameters())
        if size > MAX_PARAMETERS:
            raise ValueError(f"the config asks for {size:,} parameters; the limit is {MAX_PARAMETERS:,}")
        self.network: Any = NETWORKS[network](**options)  # which may be one of the user's own
        if self.network.bins != bins:
            raise ValueError(f"{self.network.bins} bins in the options, but {bins} in the spectra of the stft")
        self.sample_rate = sample_rate
        self.config: dict[str, Any] = {
            "network": network,
            "options": options,
            "stft": stft,
            "sample_rate": sample_rate,
            "format_version": format_version,
        }

    @classmethod
    def from_config(cls, config: str | Path | Mapping[str, Any]) -> Self:
        """A model with fresh random weights, from the name of a preset, a `config.json` or its contents as a dict.

        Raises:
            ValueError: neither a preset nor a file, no JSON, or a config that describes no model.
        """
        if isinstance(config, str) and config in PRESETS:
            config = PRESETS[config]
        elif isinstance(config, (str, Path)):
            path = Path(os.path.expanduser(config))
            if not path.is_file():
                raise ValueError(f"{str(config)!r} is neither a file nor a preset: {', '.join(PRESETS)}")
            try:
                config = json.loads(path.read_text(encoding="utf-8-sig"))
            except ValueError as error:  # no UTF-8, no JSON
                raise ValueError(f"{config} is no JSON file: {error}") from error
        try:
            return cls(**config)
        except TypeError as error:
            raise ValueError(f"the config does not describe an EnhancementModel: {error}") from error

    # The Hub's mixin on its own loads non-strictly and falls back to pickles; these say what happens instead.

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        **options: Any,
    ) -> Self:
        """A model with trained weights, strictly, in evaluation mode: `deepvqe_hub.load` for this class.

        Args:
            pretrained_model_name_or_path: a folder, a Hub repository "owner/name", the name of a model that ships, or
                whatever else `deepvqe_hub.load` takes.
            revision: branch, tag or commit of a Hub repository.
            map_location: device for the model.
            strict: True, as there is no other way.
            **options: the others of `deepvqe_hub.load`: for the Hub `token`, `cache_dir`, `local_files_only`,
                `force_download` and `file`; for a `.tar` `window` and `padding`; for a `.gguf` `temperature`.

        Raises:
            FileNotFoundError, ValueError: as `deepvqe_hub.load`.
        """
        if not strict:
            raise ValueError("weights are loaded strictly or not at all; leave strict out")
        from deepvqe_hub.hub.loading import load_as, on_device

        source = pretrained_model_name_or_path
        return on_device(load_as(cls, source, revision, options), map_location, source)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        model_card_kwargs: Mapping[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        half: bool = False,
        config: Mapping[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write a checkpoint folder; files of an earlier call are replaced, a model card that is there is kept.

        Args:
            save_directory: the folder.
            model_card_kwargs: what the card says, see `deepvqe_hub.hub.card.model_card`.
            push_to_hub: also upload the folder as it then is, its card in place of one on the Hub.
            repo_id: where to, by default the folder's name; with push_to_hub_kwargs, see `push_to_hub`.
            half: store matrices in half precision.
            config: taken for the mixin's sake: None, or the model's own.

        Returns:
            The URL of the commit, if there is one.

        Raises:
            ValueError: for another `config` than the model's.
            TypeError: an option that `push_to_hub` does not have, or one of its without it.
        """
        from deepvqe_hub.hub.folder import save_folder
        from deepvqe_hub.hub.upload import upload

        if config is not None and config != self.config:
            raise ValueError("config differs from the model's, which is what is saved; leave config out")
        known = inspect.signature(upload).parameters if push_to_hub else ()
        unknown = [name for name in push_to_hub_kwargs if name not in known]
        if unknown:
            without = "" if push_to_hub else " without push_to_hub=True"
            raise TypeError(
                f"save_pretrained has no option {', '.join(unknown)}{without}; "
                "what the model card says goes into model_card_kwargs"
            )
        card = dict(model_card_kwargs or {})
        if push_to_hub:
            repo_id = repo_id or Path(save_directory).name
            card = {"repo_id": repo_id, **card}
        folder = save_folder(self, save_directory, card, half=half, overwrite=True, keep_card=True)
        return upload(folder, repo_id, **push_to_hub_kwargs) if push_to_hub else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        config: Mapping[str, Any] | None = None,
        commit_message: str = "Upload DeepVQE checkpoint",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        allow_patterns: list[str] | str | None = None,
        ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
        half: bool = False,
    ) -> str:
        """Upload the checkpoint folder to "owner/name", which is made if need be; returns the URL of the commit.

        A model card that is in the repository is kept, unless `model_card_kwargs` say what a new one is to state:
        people edit them there.

        Args:
            repo_id: the repository.
            config: taken for the mixin's sake: None, or the model's own.
            commit_message, private, token, branch, create_pr: as in `huggingface_hub`.
            allow_patterns, ignore_patterns: of the names of files, such as "*.json": what is uploaded, what is not.
            delete_patterns: files of the repository that the same commit removes, unless it uploads or keeps them.
            model_card_kwargs: what the card says, see `deepvqe_hub.hub.card.model_card`.
            half: store matrices in half precision.
        """
        with tempfile.TemporaryDirectory() as parent:
            return self.save_pretrained(
                Path(parent) / "model",
                push_to_hub=True,
                repo_id=repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                branch=branch,
                create_pr=create_pr,
                allow_patterns=allow_patterns,
                ignore_patterns=ignore_patterns,
                delete_patterns=delete_patterns,
                keep_card=not model_card_kwargs,
                model_card_kwargs=model_card_kwargs,
                half=half,
                config=config,
            )

    def generate_model_card(self, **card: Any) -> ModelCard:
        """The card that `save_pretrained` writes; `card` as for `deepvqe_hub.hub.card.model_card`."""
        from deepvqe_hub.hub.card import model_card

        return ModelCard(model_card(self, card))

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds: how long a sample waits at most until it comes out of a stream.

        Infinite for a network that needs the whole signal.
        """
        return self.stft.win_length / self.sample_rate if self.network.streams else math.inf

    @property
    def farend(self) -> bool:
        """Whether the model takes a loudspeaker signal and cancels its echo."""
        return self.network.farend

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return self.stft.hop_length

    @property
    def finds_delay(self) -> bool:
        """Whether the model aligns the far end, so that `delay` can tell where the echo is."""
        return getattr(self.network, "finds_delay", False)  # a network of one's own need not say

    def forward(
        self, noisy: torch.Tensor, farend: torch.Tensor | None = None, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Enhance whole signals.

        Args:
            noisy: microphone signal, (..., time), floating point, nominally within ±1, at `sample_rate`.
            farend: loudspeaker signal of the same shape for echo-cancelling models; None is silence.
            lengths: for a padded batch (batch, time), relative lengths in 0..1 in single precision or better, as in
                SpeechBrain; what lies beyond is ignored and comes out as zeros.

        Returns:
            The enhanced signal in the shape and type of `noisy`, aligned with it sample by sample.

        Without gradients (`torch.inference_mode()`) a long signal goes in blocks through a network that streams, in
        constant memory beside the signals themselves; with them, and in training mode, whose batch norms want it whole,
        everything is kept (`deepvqe-s`: 18 MB a second). A model given to `torch.compile` takes it whole, too.

        Raises:
            ValueError: for integers, NaN, Inf or numbers beyond 1e30 (100 for a model in float16), or shapes that do
                not fit (of the numbers nothing is checked in a program of `torch.export`).
        """
        if lengths is not None:
            return self._padded(noisy, farend, lengths)
        dtype = precision(self.network)
        wave = as_batch(noisy, "noisy", dtype)
        check_layout(noisy, "noisy")
        far = None if farend is None else as_batch(farend, "farend", dtype)
        check_same_shape(noisy, farend)
        if noisy.numel() == 0:
            return noisy.clone()
        check_farend(self, farend)
        # A program written down for others computes the signal whole, as its blocks are loops in Python; so does a
        # compiled model, as the copy of the network that runs blocks would be compiled anew with every call. This is
        # asked first, because the compiler gives up where it sees Python go through the modules.
        whole = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if whole or torch.is_grad_enabled() or not self.network.streams or _in_training(self.network):
            enhanced = self._at_once(wave, far)
        else:
            enhanced = self._in_blocks(wave, far)
        return enhanced.reshape(noisy.shape).to(noisy.dtype)

    def _padded(self, noisy: torch.Tensor, farend: torch.Tensor | None, lengths: torch.Tensor) -> torch.Tensor:
        """A batch of signals of different lengths, each as if it were alone."""
        check_wave(noisy, "noisy")
        ends = ends_of(lengths, noisy)
        if farend is not None:
            check_wave(farend, "farend")
        check_same_shape(noisy, farend)
        if self.network.streams and self.stft.padding != "reflect":  # what follows silence changes nothing before it
            valid = torch.arange(noisy.shape[1], device=noisy.device) < torch.tensor(ends, device=noisy.device)[:, None]
            # Not by multiplication, as NaN times zero is NaN.
            noisy, farend = (None if wave is None else wave.where(valid, 0) for wave in (noisy, farend))
            return self(noisy, farend).where(valid, 0)
        rows = [
            self(row[None, :end], None if farend is None else farend[i, None, :end])
            for i, (row, end) in enumerate(zip(noisy, ends))
        ]
        return torch.cat([F.pad(row, (0, noisy.shape[1] - row.shape[1])) for row in rows])

    def _at_once(self, wave: torch.Tensor, far: torch.Tensor | None) -> torch.Tensor:
        return Stream(self, self.network).process(wave, far, last=True)

    def _in_blocks(self, wave: torch.Tensor, far: torch.Tensor | None) -> torch.Tensor:
        block = block_seconds(wave) * self.sample_rate
        if wave.shape[1] <= block:
            return self._at_once(wave, far)
        stream = Stream(self, self.network.for_inference())
        enhanced, done = torch.empty_like(wave), 0
        for start in range(0, wave.shape[1], block):
            part = slice(start, start + block)
            out = stream.process(wave[:, part], None if far is None else far[:, part], last=part.stop >= wave.shape[1])
            enhanced[:, done : done + out.shape[1]] = out
            done += out.shape[1]
        return enhanced

    @overload
    def stream(self, batch_size: int = 1, sample_rate: None = None) -> Stream: ...

    @overload
    def stream(self, batch_size: int = 1, sample_rate: int | None = None) -> Stream | ResampledStream: ...

    def stream(self, batch_size: int = 1, sample_rate: int | None = None) -> Stream | ResampledStream:
        """A live stream, or `batch_size` of them side by side, with the weights as they are now.

        Args:
            batch_size: how many signals go through side by side, 1 or more.
            sample_rate: of input and output, 1000 to 768000 Hz; None is the model's. At another one, such as the 48000
                of a microphone, chunks are resampled there and back without a seam; see
                `deepvqe_hub.resampling.ResampledStream`.

        Raises:
            ValueError: for a network that needs the whole signal, a `batch_size` below one, or a `sample_rate` out of
                range or with too little in common with the model's.
        """
        if not hasattr(batch_size, "__index__") or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number, 1 or more, not {batch_size!r}")
        if not self.network.streams:
            raise ValueError(
                f"{type(self.network).__name__} looks at the whole signal and cannot stream; "
                "load a causal model, such as deepvqe-s"
            )
        stream = Stream(self, self.network.for_inference(), operator.index(batch_size))
        if sample_rate is None or sample_rate == self.sample_rate:
            return stream
        array = ArrayStream(self, stream)
        return ResampledStream(
            array, sample_rate, torch.empty(0, device=array.device), loudest(precision(stream.network))
        )

    @torch.no_grad()
    def delay(self, noisy: torch.Tensor, farend: torch.Tensor, memory: float = 0.8) -> torch.Tensor:
        """Estimated delay of the echo in seconds for each frame: two of (..., time) -> (..., frames).

        The most probable delay of the alignment's distribution, averaged over the frames so far: the delay stays where
        it was while no echo is heard, and a jump is followed in about half a second. How many frames there are says
        `delay_distribution`.

        Args:
            memory: time constant of the average in seconds; 0 takes each frame by itself.

        Raises:
            ValueError: for a `memory` below 0, and as `delay_distribution`.
        """
        if not memory >= 0:
            raise ValueError(f"memory is {memory} s; it must be 0 or more")
        hop = self.stft.hop_length / self.sample_rate  # seconds
        decay = math.exp(-hop / memory) if memory else 0.0
        total, delays = 0.0, []
        for weights in self.delay_distribution(noisy, farend).float().unbind(-2):
            total = total * decay + weights
            delays.append(total.argmax(-1))
        return torch.stack(delays, dim=-1) * hop

    @torch.no_grad()
    def delay_distribution(self, noisy: torch.Tensor, farend: torch.Tensor) -> torch.Tensor:
        """Probability of each echo delay: two of (..., time) -> (..., frames, dmax).

        Entry d is a delay of d * hop_length samples. There is a frame for each hop_length samples begun, and
        win_length / hop_length - 1 more at the end (with `padding="none"` no more): one for the default front end.
        The signals go through in blocks, without gradients, and by the statistics of evaluation whatever the mode.

        Raises:
            ValueError: for a model that does not find delays (`finds_delay`), signals that are empty or differ in
                shape, and numbers that `forward` refuses.
        """
        if not self.finds_delay:
            why = "was built without alignment" if self.farend else "has no far end"
            raise ValueError(f"this model {why}, so it estimates no delay; load an echo-cancelling model")
        dtype = precision(self.network)
        waves = as_batch(noisy, "noisy", dtype), as_batch(farend, "farend", dtype)
        check_layout(noisy, "noisy")
        check_same_shape(noisy, farend)
        if noisy.numel() == 0:
            raise ValueError(f"noisy is empty, of shape {tuple(noisy.shape)}; there is no delay in it")
        signals, samples = waves[0].shape
        network, analyses = self.network.for_inference(), [Analysis(self.stft) for _ in waves]
        state = network.initial_state(signals, device=waves[0].device, dtype=dtype)
        block, parts = block_seconds(waves[0]) * self.sample_rate, []
        for start in range(0, samples, block):
            end = start + block
            specs = [analyse(wave[:, start:end], last=end >= samples) for analyse, wave in zip(analyses, waves)]
            if specs[0].shape[2]:  # a window may be longer than a block
                parts.append(network.delay(*(spec.to(dtype) for spec in specs), state))
        distribution = torch.cat(parts, dim=1)
        return distribution.reshape(*noisy.shape[:-1], *distribution.shape[-2:])


def uncompiled(model: Kind) -> Kind:
    """What is inside a model that was given to `torch.compile`, or `model` itself."""
    return getattr(model, "_orig_mod", model)


def block_seconds(wave: torch.Tensor) -> int:
    """How much of a batch (batch, time) goes through a network in one go."""
    return BLOCK_SECONDS if wave.device.type == "cpu" else max(BLOCK_SECONDS, GPU_SECONDS // wave.shape[0])


def _in_training(network: nn.Module) -> bool:
    """Whether the batch decides somewhere in the network."""
    norms = nn.modules.batchnorm._BatchNorm
    return network.training or any(module.training for module in network.modules() if isinstance(module, norms))


def _check_sizes(options: Mapping) -> None:
    for name, value in options.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(n, int) and not isinstance(n, bool) and n < 1 for n in numbers):
            raise ValueError(f"{name} must be 1 or more, not {value}")
