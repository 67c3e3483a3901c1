"""Networks on complex spectra: no audio files, no downloads, no training."""

from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.dpcrn import DPCRN
from deepvqe_hub.models.tf_gridnet import TFGridNet

__all__ = ["DPCRN", "NETWORKS", "DeepVQE", "TFGridNet"]

NETWORKS = {network.__name__: network for network in (DeepVQE, DPCRN, TFGridNet)}
"""What the ``network`` of a config may be; one of your own joins by ``NETWORKS["Name"] = Name``."""
