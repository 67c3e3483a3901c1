"""Real-time voice quality enhancement in PyTorch: DeepVQE for noise, reverberation and echo.

>>> import deepvqe_hub
>>> model = deepvqe_hub.load("deepvqe-s")
>>> clean = model(noisy)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib

from deepvqe_hub._version import __version__

# Public names and the modules they come from, imported on first use: asking for the version costs nothing.
_EXPORTS = {
    "load": "deepvqe_hub.hub",
    "list_models": "deepvqe_hub.hub",
    "EnhancementModel": "deepvqe_hub.enhancement",
    "Stream": "deepvqe_hub.enhancement",
    "STFT": "deepvqe_hub.stft",
    "enhance": "deepvqe_hub.files",
    "enhance_file": "deepvqe_hub.files",
    "Enhancer": "deepvqe_hub.enhancer",
}
_SUBMODULES = ("data", "hub", "losses", "metrics", "models", "onnx", "pipelines", "stft")

__all__ = [*_EXPORTS, *_SUBMODULES, "__version__"]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
