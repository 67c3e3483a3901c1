"""Real-time voice quality enhancement in PyTorch: DeepVQE for noise, reverberation and echo.

>>> import deepvqe_hub
>>> model = deepvqe_hub.load("deepvqe-s")
>>> clean = model(noisy)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from deepvqe_hub._lazy import lazy
from deepvqe_hub._version import __version__

if TYPE_CHECKING:  # the same names, where editors and type checkers find them
    from deepvqe_hub import data as data
    from deepvqe_hub import demo as demo
    from deepvqe_hub import files as files
    from deepvqe_hub import hub as hub
    from deepvqe_hub import losses as losses
    from deepvqe_hub import metrics as metrics
    from deepvqe_hub import models as models
    from deepvqe_hub import onnx as onnx
    from deepvqe_hub import optim as optim
    from deepvqe_hub import pipelines as pipelines
    from deepvqe_hub import plots as plots
    from deepvqe_hub import protocols as protocols
    from deepvqe_hub import resampling as resampling
    from deepvqe_hub import stft as stft
    from deepvqe_hub import training as training
    from deepvqe_hub.enhancement import EnhancementModel as EnhancementModel
    from deepvqe_hub.enhancer import Enhancer as Enhancer
    from deepvqe_hub.files import enhance as enhance
    from deepvqe_hub.files import enhance_file as enhance_file
    from deepvqe_hub.hub import list_models as list_models
    from deepvqe_hub.hub import load as load
    from deepvqe_hub.stft import STFT as STFT
    from deepvqe_hub.streaming import Stream as Stream

# Public names and the modules they come from, imported on first use: asking for the version costs nothing.
_EXPORTS = {
    "load": "deepvqe_hub.hub",
    "list_models": "deepvqe_hub.hub",
    "EnhancementModel": "deepvqe_hub.enhancement",
    "Stream": "deepvqe_hub.streaming",
    "STFT": "deepvqe_hub.stft",
    "enhance": "deepvqe_hub.files",
    "enhance_file": "deepvqe_hub.files",
    "Enhancer": "deepvqe_hub.enhancer",
}
_SUBMODULES = (
    *("data", "demo", "files", "hub", "losses", "metrics", "models"),
    *("onnx", "optim", "pipelines", "plots", "protocols", "resampling", "stft", "training"),
)

# Those that need a package of an extra; asked for by name, they say what is missing.
_NEEDS = {"Enhancer": "speechbrain", "training": "speechbrain", "plots": "matplotlib"}


def _there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # something stands in for it, as in tests and when documentation is built
        return False


# `from deepvqe_hub import *` brings none of them: SpeechBrain takes seconds to import and allows TF32 everywhere.
__all__ = ["__version__", *(name for name in (*_EXPORTS, *_SUBMODULES) if name not in _NEEDS)]
__getattr__ = lazy(__name__, _EXPORTS, _SUBMODULES)


def __dir__():
    return sorted([*__all__, *(name for name, package in _NEEDS.items() if _there(package))])
