"""What the demo does with a recording, without the page around it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch

from deepvqe_hub.files import enhance_file
from deepvqe_hub.files.audio import Recording
from deepvqe_hub.files.samples import from_float
from deepvqe_hub.hub import load, registry

if TYPE_CHECKING:
    from deepvqe_hub.protocols import Model

MAX_SECONDS = 120
NO_LIMIT_DB = 60  # from here on the attenuation slider is no limit
SCORED_SECONDS = 20  # of a recording; DNSMOS takes longer than the enhancement


@dataclass(frozen=True)
class Take:
    """A recording after enhancement.

    Attributes:
        sample_rate: in Hz, that of the recording.
        audio: int16, (time, channels).
        picture: spectrograms before and after, uint8, (height, width, 3).
        report: Markdown: time taken, notes, DNSMOS if it is installed.
    """

    sample_rate: int
    audio: np.ndarray
    picture: np.ndarray
    report: str


class Studio:
    """Models, loaded when first used, and what is done with them.

    Args:
        models: names, folders, files or Hub repositories as `deepvqe_hub.load` takes them, the default first; by
            default all known models whose weights ship with the package or stand on the Hub, in a format that can be
            read here.
        device: where models run, by default the CPU.
        max_seconds: longest recording that is accepted.
        scores: whether to report DNSMOS, if it is installed.

    Raises:
        ValueError: for a length that is not positive, a single name in place of several, or if there is no model at
            all.
        ImportError: without matplotlib, which draws the spectrograms.
    """

    def __init__(
        self,
        models: Sequence[str] = (),
        *,
        device: str | torch.device | None = None,
        max_seconds: float = MAX_SECONDS,
        scores: bool = True,
    ):
        import deepvqe_hub.plots  # noqa: F401, whether it can draw is better known before a recording comes

        if isinstance(models, str):  # each letter of which would be a name
            raise ValueError(f"models must be a list of names, such as [{models!r}], not one name")
        if not max_seconds > 0:
            raise ValueError(f"max_seconds must be positive, not {max_seconds}")
        self.models = list(models) or [entry.name for entry in registry.ENTRIES.values() if _at_hand(entry)]
        if not self.models:
            raise ValueError("no weights ship with this release; name a model, such as a checkpoint folder")
        self.device, self.max_seconds, self.scores = device, max_seconds, scores
        self._loaded: dict[str, Model] = {}

    def model(self, name: str) -> Model:
        """The model of that name, one of `models`."""
        if name not in self.models:  # what the page offers, and nothing else that a request may name
            raise ValueError(f"unknown model {name!r}; this demo has {', '.join(self.models)}")
        if name not in self._loaded:
            self._loaded[name] = load(name, device=self.device)
        return self._loaded[name]

    def enhance(
        self,
        noisy: str | os.PathLike[str] | None,
        farend: str | os.PathLike[str] | None = None,
        model: str | None = None,
        mix: float = 1.0,
        attenuation_limit_db: float = NO_LIMIT_DB,
    ) -> Take:
        """Enhance one sound file.

        Args:
            noisy: the microphone's recording, at most `max_seconds` long.
            farend: what the loudspeaker played meanwhile, for echo-cancelling models.
            model: one of `models`, by default the first.
            mix: 1 gives the enhanced signal, 0 the recording, values between a blend.
            attenuation_limit_db: take away at most this much; 60 or more is no limit.

        Raises:
            ValueError: for anything that is wrong with the request, in words for the one who made it.
        """
        if noisy is None:
            raise ValueError("no recording yet: upload a sound file or record one")
        try:
            return self._enhance(
                Path(noisy), farend and Path(farend), model or self.models[0], mix, attenuation_limit_db
            )
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
            for path in filter(None, (noisy, farend)):  # uploads lie in folders that mean nothing to the user
                message = message.replace(os.fspath(path), Path(path).name)
            raise ValueError(message) from error

    def _enhance(self, noisy: Path, farend: Path | None, name: str, mix: float, attenuation_limit_db: float) -> Take:
        from matplotlib.image import imread

        from deepvqe_hub.plots import plot_enhancement

        with Recording(noisy) as recording:
            seconds = recording.duration
        if seconds > self.max_seconds:
            raise ValueError(
                f"{noisy.name} is {seconds:.0f} s long; this demo takes up to {self.max_seconds:g} s. "
                f"Longer ones on the command line: deepvqe enhance {noisy.name}"
            )
        model = self.model(name)
        if farend is not None and not model.farend:
            raise ValueError(f"{name} has no far-end input; choose an echo-cancelling model or remove the loudspeaker")
        limit = None if attenuation_limit_db >= NO_LIMIT_DB else attenuation_limit_db
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            output, picture = Path(folder, "enhanced.wav"), Path(folder, "spectrograms.png")
            started = time.perf_counter()
            enhance_file(model, noisy, output, farend, mix=mix, attenuation_limit_db=limit)
            elapsed = time.perf_counter() - started
            plot_enhancement(noisy, output, picture, model=model if farend else None, farend=farend)
            audio, rate = soundfile.read(output, dtype="float32", always_2d=True)  # as int16 a float file is not scaled
            audio = from_float(audio, np.dtype(np.int16))
            image = (imread(picture)[..., :3] * 255).round().astype(np.uint8)
            scores = _scores(noisy, output) if self.scores else ""
        lines = [f"{seconds:.1f} s of audio in {elapsed:.2f} s (real-time factor {elapsed / seconds:.3f}), {name}."]
        if model.farend and farend is None:
            lines.append("No loudspeaker signal: it is taken as silent, so no echo is removed.")
        for text in (str(note.message) for note in notes):
            if farend and str(farend) in text:  # such as how it was made to fit
                lines.append(text.replace(str(farend), farend.name).replace(str(noisy), noisy.name) + ".")
        return Take(rate, audio, image, "\n\n".join([*lines, scores]).strip())


def _at_hand(entry: registry.Entry) -> bool:
    """Whether there are weights, and what reads them is installed."""
    if entry.file is not None and entry.file.endswith(".gguf") and importlib.util.find_spec("gguf") is None:
        return False
    return entry.available


def _scores(noisy: Path, enhanced: Path) -> str:
    """A Markdown table of DNSMOS before and after; a remark in its place where it cannot be had."""
    if not all(importlib.util.find_spec(package) for package in ("speechmos", "onnxruntime")):
        return 'For quality scores (DNSMOS): `pip install "deepvqe-hub[mos]"`.'
    from deepvqe_hub.metrics import UnscorableError, dnsmos

    rows = []
    for title, path in (("before", noisy), ("after", enhanced)):
        with Recording(path) as recording:
            wave = np.concatenate([block.mean(1) for block in recording.blocks(SCORED_SECONDS)])
            try:
                scores = dnsmos(wave, recording.sample_rate)
            except UnscorableError as error:
                return f"No DNSMOS: {error}."
        rows.append(f"| {title} | " + " | ".join(f"{scores[key]:.2f}" for key in ("sig", "bak", "ovrl", "p808")) + " |")
    head = [f"| DNSMOS, first {SCORED_SECONDS} s | speech | background | overall | P.808 |", "|---|---|---|---|---|"]
    return "\n".join(head + rows)
