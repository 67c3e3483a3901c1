"""The models that this package knows by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from deepvqe_hub.enhancement import EnhancementModel

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
"""Checkpoint folders that ship inside the package, each called as its model."""


@dataclass(frozen=True)
class Entry:
    """A known model.

    Args:
        name: what `deepvqe_hub.load` takes.
        preset: configuration, for `EnhancementModel.from_config`.
        description: one line.
        license: of the weights.
        repo_id: repository on the Hugging Face Hub, for weights that do not ship inside the package.
        file: name of the file there, for weights in another project's format.
        source: whose weights these are.
    """

    name: str
    preset: str
    description: str
    license: str = "apache-2.0"
    repo_id: str | None = None
    file: str | None = None
    source: str = "this project"

    @property
    def folder(self) -> Path:
        """Where the weights are, if they ship with this release."""
        return WEIGHTS_FOLDER / self.name

    @property
    def embedded(self) -> bool:
        """Whether the weights ship with this release, in `folder`."""
        return (self.folder / "model.safetensors").is_file()

    @property
    def available(self) -> bool:
        """Whether there are weights anywhere."""
        return self.embedded or self.repo_id is not None

    def info(self) -> ModelInfo:
        """What is to be known of it; sizes are counted on a model without memory."""
        from deepvqe_hub.models.complexity import count_model

        model = self.skeleton()
        size = count_model(model)
        return ModelInfo(
            name=self.name,
            parameters=size.parameters,
            macs_per_second=size.macs_per_second,
            sample_rate=model.sample_rate,
            farend=model.farend,
            streams=model.network.streams,
            weights=self.weights,
            available=self.available,
            license=self.license,
            source=self.source,
            description=self.description,
        )

    @property
    def weights(self) -> str:
        """Where the weights come from, in words."""
        if self.embedded:
            return "in the package"
        if self.repo_id:
            return f"Hugging Face Hub: {self.repo_id}"
        return "none yet"

    def skeleton(self) -> EnhancementModel:
        """The model without memory: shapes and settings alone."""
        with torch.device("meta"):
            return EnhancementModel.from_config(self.folder / "config.json" if self.embedded else self.preset)


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("deepvqe-s", "deepvqe-s", "small: noise suppression and dereverberation"),
        Entry("deepvqe", "deepvqe-paper", "full size: noise suppression and dereverberation"),
        Entry("deepvqe-aec-s", "deepvqe-aec-s", "small: echo cancellation, noise suppression, dereverberation"),
        Entry("deepvqe-aec", "deepvqe-aec", "full size: echo cancellation, noise suppression, dereverberation"),
        Entry("dpcrn", "dpcrn", "noise suppression with a dual-path recurrent network"),
        Entry("dpcrn-light", "dpcrn-light", "the same with half the bins between the encoder and the decoder"),
        Entry("tf-gridnet", "tf-gridnet", "noise suppression offline; sees the whole signal"),
        Entry(
            "deepvqe-aec-gguf",
            "deepvqe-aec-gguf",
            "full size with delays up to 0.5 s: echo cancellation, noise suppression",
            repo_id="richiejp/deepvqe-aec-gguf",
            file="deepvqe.gguf",
            source="deepvqe-ggml by Richard Palethorpe, trained on the DNS Challenge data (CC BY 4.0)",
        ),
    )
}

HUB_ENTRIES: dict[tuple[str, bool], tuple[str, ...]] = {
    ("DeepVQE", False): ("deepvqe_s", "deepvqe"),
    ("DeepVQE", True): ("deepvqe_aec_s", "deepvqe_aec"),
    ("DPCRN", False): ("dpcrn_light", "dpcrn"),
    ("TFGridNet", False): ("tf_gridnet",),
}
"""Entry points of `hubconf.py` that take checkpoints of a network, without or with a far end."""


def find(name: str) -> Entry | None:
    """The entry of a name, or of a Hub repository that no folder here is called as; None if there is none."""
    if name in ENTRIES or Path(name).is_dir():
        return ENTRIES.get(name)
    return next((entry for entry in ENTRIES.values() if entry.repo_id == name), None)


@dataclass(frozen=True)
class ModelInfo:
    """A row of `list_models`.

    Args:
        name: what `deepvqe_hub.load` takes.
        parameters: trainable numbers.
        macs_per_second: multiply-adds for a second of audio.
        sample_rate: in Hz.
        farend: whether it takes a loudspeaker signal.
        streams: whether it runs live.
        weights: where they come from: "in the package", "Hugging Face Hub: …", "none yet".
        available: whether `deepvqe_hub.load` finds weights (for the Hub, given a network).
        license: of the weights.
        source: whose weights.
        description: one line.
    """

    name: str
    parameters: int
    macs_per_second: float
    sample_rate: int
    farend: bool
    streams: bool
    weights: str
    available: bool
    license: str
    source: str
    description: str


def list_models() -> list[ModelInfo]:
    """The table of known models. Sizes are counted on models without memory, not typed.

    Example:
        >>> [row.name for row in deepvqe_hub.list_models() if row.farend]  # doctest: +SKIP
        ['deepvqe-aec-s', 'deepvqe-aec', 'deepvqe-aec-gguf']
    """
    return [entry.info() for entry in ENTRIES.values()]
