"""A network of a few hundred weights, for tests of what stands around networks."""

import torch

OPTIONS = {
    "channels": [4, 6, 6],
    "decoder_channels": [6, 4],
    "encoder_residual": [False] * 3,
    "decoder_residual": [False] * 3,
    "hidden": 8,
}
CONFIG = {"network": "DeepVQE", "options": OPTIONS}
FAREND = {"farend_channels": [2, 3], "align_hidden": 2}

RESIDUAL_OPTIONS = {
    "channels": [4, 6, 8],
    "decoder_channels": [8, 4],
    "encoder_residual": [False, True, False],
    "decoder_residual": [True, False, True],
    "hidden": 8,
}
RESIDUAL_FAREND = {"farend_channels": [4, 6], "align_hidden": 4, "dmax": 5}


def same_weights(one, two) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
