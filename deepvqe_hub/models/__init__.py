"""Networks on complex spectra: no audio files, no downloads, no training."""

from deepvqe_hub.models.deepvqe import DeepVQE

__all__ = ["DeepVQE"]
