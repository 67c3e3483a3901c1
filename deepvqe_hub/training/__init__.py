"""What the recipes share: the training loop on SpeechBrain's ``Brain``, its settings, checkpoints and publishing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub.training.brain import EnhancementBrain as EnhancementBrain
    from deepvqe_hub.training.checkpoints import SafeCheckpointer as SafeCheckpointer
    from deepvqe_hub.training.echo import EchoBrain as EchoBrain
    from deepvqe_hub.training.echo import with_recordings as with_recordings
    from deepvqe_hub.training.hparams import load_hparams as load_hparams
    from deepvqe_hub.training.publishing import publish as publish
    from deepvqe_hub.training.recipe import train as train
    from deepvqe_hub.training.schedule import WarmupCosine as WarmupCosine
    from deepvqe_hub.training.transfer import init_from as init_from

# Imported on first use, so that reading the log of a run does not load SpeechBrain.
_EXPORTS = {
    "EchoBrain": "deepvqe_hub.training.echo",
    "EnhancementBrain": "deepvqe_hub.training.brain",
    "SafeCheckpointer": "deepvqe_hub.training.checkpoints",
    "WarmupCosine": "deepvqe_hub.training.schedule",
    "init_from": "deepvqe_hub.training.transfer",
    "load_hparams": "deepvqe_hub.training.hparams",
    "publish": "deepvqe_hub.training.publishing",
    "train": "deepvqe_hub.training.recipe",
    "with_recordings": "deepvqe_hub.training.echo",
}

__all__ = [
    "EchoBrain",
    "EnhancementBrain",
    "SafeCheckpointer",
    "WarmupCosine",
    "init_from",
    "load_hparams",
    "publish",
    "train",
    "with_recordings",
]


def _remedy(error: object) -> str:
    from deepvqe_hub._torchaudio import remedies

    return (
        f"deepvqe_hub.training needs speechbrain and torchaudio, and they cannot be imported: {error}\n"
        "If speechbrain is missing:\n"
        "    pip install 'deepvqe-hub[train]'\n"
        f"{remedies()}"
    )


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepvqe_hub._torchaudio import IMPORT_ERRORS

    try:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    except IMPORT_ERRORS as error:
        raise ImportError(_remedy(error)) from error


if importlib.util.find_spec("speechbrain") is None:  # said here, before the names that need it are asked for
    raise ImportError(_remedy("No module named 'speechbrain'"))
