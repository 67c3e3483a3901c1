"""The named configurations: what `EnhancementModel.from_config("deepvqe-s")` builds."""

from __future__ import annotations

_SMALL = {
    "channels": [16, 40, 56, 24],
    "decoder_channels": [40, 32, 32],
    "encoder_residual": [False, False, False, False],
    "decoder_residual": [False, True, True, False],
    "hidden": 176,
}

PRESETS: dict[str, dict] = {
    "deepvqe": {
        # As trained by the reference implementation, whose checkpoints load into it.
        "network": "DeepVQE",
        "options": {"upsampling": "concat", "mask_activation": True},
    },
    # The same network as the paper has it.
    "deepvqe-paper": {"network": "DeepVQE", "options": {}},
    "deepvqe-s": {"network": "DeepVQE", "options": _SMALL},
    "deepvqe-aec": {"network": "DeepVQE", "options": {"farend_channels": [32, 128], "align_hidden": 32}},
    # As trained by deepvqe-ggml.
    "deepvqe-aec-gguf": {
        "network": "DeepVQE",
        "options": {"farend_channels": [32, 128], "align_hidden": 32, "dmax": 32, "upsampling": "concat"},
    },
    "deepvqe-aec-s": {
        "network": "DeepVQE",
        "options": {**_SMALL, "farend_channels": [8, 24], "align_hidden": 16},
    },
    # Strides as in the paper; the light one is that of the public PyTorch implementation.
    "dpcrn": {"network": "DPCRN", "options": {}},
    "dpcrn-light": {"network": "DPCRN", "options": {"strides": [2, 2, 2, 1, 1]}},
    "tf-gridnet": {"network": "TFGridNet", "options": {"normalize": True}},
}
