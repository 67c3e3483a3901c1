"""Pretrained bundles and a transform, in the manner of torchaudio.

>>> from deepvqe_hub.pipelines import DEEPVQE_S
>>> model = DEEPVQE_S.get_model()  # doctest: +SKIP
>>> clean = model(noisy)  # (..., time) at DEEPVQE_S.sample_rate  # doctest: +SKIP

`Enhance` stands between the transforms of torchaudio:

>>> features = torch.nn.Sequential(Enhance(model), torchaudio.transforms.MelSpectrogram(16000))  # doctest: +SKIP
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn

from deepvqe_hub._optional import IMPORT_ERRORS, torchaudio_remedies
from deepvqe_hub.enhancement import EnhancementModel, uncompiled
from deepvqe_hub.hub import ModelInfo, load, registry
from deepvqe_hub.hub.card import PAPERS
from deepvqe_hub.hub.resolving import unknown_name
from deepvqe_hub.presets import PRESETS

if TYPE_CHECKING:
    from deepvqe_hub.onnx.model import OnnxModel

__all__ = [
    "DEEPVQE",
    "DEEPVQE_AEC",
    "DEEPVQE_AEC_GGUF",
    "DEEPVQE_AEC_S",
    "DEEPVQE_S",
    "DPCRN",
    "DPCRN_LIGHT",
    "TF_GRIDNET",
    "Enhance",
    "EnhancementBundle",
]


class EnhancementBundle:
    """A known model with its weights and what one needs to know to use it, after `torchaudio.pipelines`.

    The bundles of this module are made ready; `help` text of one, with its training data, is `BUNDLE.__doc__`.

    Args:
        name: of the model, as in `deepvqe_hub.list_models`.

    Example:
        >>> from deepvqe_hub.pipelines import DEEPVQE_S
        >>> DEEPVQE_S.sample_rate
        16000
        >>> print(DEEPVQE_S.__doc__)  # doctest: +SKIP
    """

    def __init__(self, name: str):
        if name not in registry.ENTRIES:
            raise ValueError(unknown_name(name))
        self._entry = registry.ENTRIES[name]
        self.__doc__ = (
            f"{name}: {self._entry.description}.\n\n"
            f"Training data: {self.training_data}\n\n"
            f"Paper: {', '.join(PAPERS[PRESETS[self._entry.preset]['network']])}.\n\n"
            f"Weights: {self._entry.weights}, by {self._entry.source}. Licence: {self._entry.license}."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """What `deepvqe_hub.load` takes."""
        return self._entry.name

    @property
    def sample_rate(self) -> int:
        """Sample rate of what the model takes and gives, in Hz."""
        return self._entry.skeleton().sample_rate

    @property
    def farend(self) -> bool:
        """Whether the model takes a loudspeaker signal and cancels its echo."""
        return self._entry.skeleton().farend

    @property
    def training_data(self) -> str:
        """What the weights were trained on, as their model card says; a sentence in its place if there is none."""
        if not self._entry.embedded:
            return "as their authors say." if self._entry.repo_id else "no weights ship with this release."
        card = self._entry.folder / "README.md"
        _, _, section = (card.read_text(encoding="utf-8") if card.is_file() else "").partition("\n## Training\n")
        return " ".join(section.partition("\n## ")[0].split()) or "the model card does not say."

    @property
    def info(self) -> ModelInfo:
        """The model's row of `deepvqe_hub.list_models`: size, cost, licence, ..."""
        return self._entry.info()

    @overload
    def get_model(
        self, *, device: str | torch.device | None = None, backend: Literal["torch"] | None = None, **options: Any
    ) -> EnhancementModel: ...
    @overload
    def get_model(
        self, *, device: str | torch.device | None = None, backend: Literal["onnx"], **options: Any
    ) -> OnnxModel: ...
    def get_model(
        self, *, device: str | torch.device | None = None, backend: str | None = None, **options: Any
    ) -> EnhancementModel | OnnxModel:
        """The model with trained weights, in evaluation mode.

        Args:
            device: where to put it, by default the CPU.
            backend: "onnx" for a `deepvqe_hub.onnx.OnnxModel`.
            **options: of `deepvqe_hub.load`, such as `revision` for weights from the Hub.

        Returns:
            A `torch.nn.Module`: (..., time) to (..., time), floating point within ±1, at `sample_rate`; with
            onnxruntime the same call without gradients.

        Raises:
            WeightsMissingError: (a FileNotFoundError) if no weights ship with this release.
        """
        return load(self.name, device=device, backend=backend, **options)


class Enhance(nn.Module):
    """Speech enhancement as a transform: waveform in, waveform of the same length out.

    Can be exported by `torch.export` for a fixed input shape, alone or inside a `Sequential`, if its network can
    (DeepVQE and TF-GridNet can); it is not scriptable by `torch.jit`. Gradients flow; inside
    `torch.inference_mode()` long signals take constant memory where the network streams. The model is put into
    evaluation mode; call `train()` to fine-tune it.

    Args:
        model: a model, or what `deepvqe_hub.load` takes, such as a name.
        sample_rate: of the waveforms, in Hz, by default the model's. Others are resampled to the model's rate and back
            with torchaudio, which removes what lies above half the model's rate.

    Shapes:
        waveform: (..., time), floating point, nominally within ±1.
        farend: loudspeaker signal of the same shape and rate, for echo-cancelling models; None is silence.
        output: the shape of `waveform`, aligned with it.

    Raises:
        ValueError: for integers, NaN, Inf or numbers beyond 1e30, or shapes that do not fit (not checked in an
            exported program).
        ImportError: for another rate than the model's, where torchaudio cannot be imported; names the remedies.

    Example:
        >>> transform = torch.nn.Sequential(
        ...     torchaudio.transforms.Resample(44100, 16000),
        ...     Enhance("deepvqe-s"),
        ...     torchaudio.transforms.MelSpectrogram(16000),
        ... )  # doctest: +SKIP
    """

    def __init__(self, model: EnhancementModel | str | os.PathLike[str] = "deepvqe-s", sample_rate: int | None = None):
        super().__init__()
        try:
            wanted = None if sample_rate is None else operator.index(sample_rate)
        except TypeError:
            wanted = 0
        if wanted is not None and wanted <= 0:
            raise ValueError(f"sample_rate must be a positive whole number of Hz, not {sample_rate!r}")
        given = isinstance(uncompiled(model), EnhancementModel)
        if not given and not isinstance(model, (str, os.PathLike)):
            raise ValueError(f"model must be a PyTorch model or the name of one, not {type(model).__name__}")
        self.model = (model if given else load(model, backend="torch")).eval()
        self.sample_rate = wanted or self.model.sample_rate
        if self.sample_rate != self.model.sample_rate:
            _resample()  # a broken torchaudio is better known now than at the first waveform

    def forward(self, waveform: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
        waves = [waveform] if farend is None else [waveform, farend]
        fit = all(isinstance(w, torch.Tensor) and w.is_floating_point() and w.dim() for w in waves)
        fit = fit and all(wave.shape == waveform.shape for wave in waves)
        if not fit or (not torch.compiler.is_exporting() and waveform.numel() == 0):
            return self.model(waveform, farend)  # which says what is wrong; torchaudio cannot resample nothing either
        wave = self._to(waveform, self.sample_rate, self.model.sample_rate)
        far = None if farend is None else self._to(farend, self.sample_rate, self.model.sample_rate)
        return self._to(self.model(wave, far), self.model.sample_rate, self.sample_rate)[..., : waveform.shape[-1]]

    def extra_repr(self) -> str:
        return f"sample_rate={self.sample_rate}"

    @staticmethod
    def _to(wave: torch.Tensor, source: int, target: int) -> torch.Tensor:
        return wave if source == target else _resample()(wave, source, target)


def _resample():
    try:
        from torchaudio.functional import resample
    except IMPORT_ERRORS as error:
        raise ImportError(
            f"Enhance resamples with torchaudio, which cannot be imported: {error}\n"
            f"{torchaudio_remedies()}"
            "    give waveforms at model.sample_rate, or use deepvqe_hub.enhance: neither needs torchaudio"
        ) from error
    return resample


DEEPVQE_S = EnhancementBundle("deepvqe-s")
"""Small DeepVQE: noise suppression and dereverberation; streams."""
DEEPVQE = EnhancementBundle("deepvqe")
"""DeepVQE in full size: noise suppression and dereverberation; streams."""
DEEPVQE_AEC_S = EnhancementBundle("deepvqe-aec-s")
"""Small DeepVQE with a far end: echo cancellation, noise suppression and dereverberation; streams."""
DEEPVQE_AEC = EnhancementBundle("deepvqe-aec")
"""DeepVQE in full size with a far end: echo cancellation, noise suppression and dereverberation; streams."""
DPCRN = EnhancementBundle("dpcrn")
"""DPCRN: noise suppression; streams."""
DPCRN_LIGHT = EnhancementBundle("dpcrn-light")
"""DPCRN with fewer bins between its layers: noise suppression; streams."""
TF_GRIDNET = EnhancementBundle("tf-gridnet")
"""TF-GridNet: noise suppression of whole recordings; does not stream."""
DEEPVQE_AEC_GGUF = EnhancementBundle("deepvqe-aec-gguf")
"""The DeepVQE with a far end of the project deepvqe-ggml, from the Hugging Face Hub; streams."""
