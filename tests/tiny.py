"""A network of a few hundred weights, for tests of what stands around networks."""

CONFIG = {
    "network": "DeepVQE",
    "options": {
        "channels": [4, 6, 6],
        "decoder_channels": [6, 4],
        "encoder_residual": [False] * 3,
        "decoder_residual": [False] * 3,
        "hidden": 8,
    },
}
