"""Where weights come from: the package itself, the Hugging Face Hub, folders, and other projects' checkpoints."""

from deepvqe_hub.hub.errors import (
    CheckpointError,
    DownloadError,
    FormatVersionError,
    GatedRepositoryError,
    HubError,
    NotCachedError,
    RepositoryMissingError,
    RevisionMissingError,
    WeightsMissingError,
)
from deepvqe_hub.hub.folder import save_folder
from deepvqe_hub.hub.loading import load
from deepvqe_hub.hub.registry import ModelInfo, list_models

__all__ = [
    "CheckpointError",
    "DownloadError",
    "FormatVersionError",
    "GatedRepositoryError",
    "HubError",
    "ModelInfo",
    "NotCachedError",
    "RepositoryMissingError",
    "RevisionMissingError",
    "WeightsMissingError",
    "list_models",
    "load",
    "save_folder",
]
