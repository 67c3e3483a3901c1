"""Networks on complex spectra: no audio files, no downloads, no training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from deepvqe_hub.models.deepvqe import DeepVQE
from deepvqe_hub.models.dpcrn import DPCRN
from deepvqe_hub.models.tf_gridnet import TFGridNet

__all__ = ["DPCRN", "NETWORKS", "DeepVQE", "TFGridNet", "all_options"]

NETWORKS: dict[str, type[nn.Module]] = {network.__name__: network for network in (DeepVQE, DPCRN, TFGridNet)}
"""What the `network` of a config may be; one of your own joins by `NETWORKS["Name"] = Name`."""


def all_options(network: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """The `given` options of a network, as in a config, and the defaults of all others; sequences are lists."""
    parameters = inspect.signature(type(network)).parameters.items()
    defaults = {name: value.default for name, value in parameters if value.default is not value.empty}
    options = {**defaults, **given}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
