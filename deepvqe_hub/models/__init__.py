"""Networks on complex spectra: no audio files, no downloads, no training."""

from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.dpcrn import DPCRN

__all__ = ["DPCRN", "DeepVQE"]
