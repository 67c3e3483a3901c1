"""Loss of audio codecs, put on mixtures in memory."""

from __future__ import annotations

import io

import soundfile
import torch
from torch import Tensor

CODECS = (("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"))
"""Codecs by number, counted from 1; libsndfile's default rates at 16 kHz mono are 38 and 31 kbit/s."""


def transcode(signal: Tensor, codec: Tensor, sample_rate: int = 16000) -> Tensor:
    """Encode and decode the rows of a batch, `(batch, time), (batch,) -> (batch, time)`.

    Both codecs come back with the same length and without delay. Works on the CPU and brings the result
    back to the device of `signal`.

    Args:
        codec: 0 leaves a row alone, k takes `CODECS[k - 1]`.
    """
    numbers = codec.int().tolist()
    if not any(numbers):
        return signal
    signal = signal.clone()
    for row, number in enumerate(numbers):
        if number:
            name, subtype = CODECS[number - 1]
            memory = io.BytesIO()
            soundfile.write(memory, signal[row].cpu().numpy(), sample_rate, format=name, subtype=subtype)
            memory.seek(0)
            decoded = torch.from_numpy(soundfile.read(memory, dtype="float32")[0])
            # Coding noise may pass full scale, and encoders may pad the end.
            decoded = decoded[: signal.shape[1]].clamp(-0.99, 0.99)
            signal[row] = 0
            signal[row, : len(decoded)] = decoded.to(signal)
    return signal
