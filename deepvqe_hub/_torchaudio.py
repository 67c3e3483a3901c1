"""What to say of a torchaudio that does not fit torch: its last release declares no torch, so pip takes any."""

from __future__ import annotations

import torch


def remedies() -> str:
    """What was found, and what makes a pair that works, a line each."""
    return (
        f"Found torch {torch.__version__} (CUDA {torch.version.cuda or 'none'}). If torchaudio does not fit:\n"
        "    pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'       a pair known to work\n"
        "    install both anew from PyTorch's package index for one and the same CUDA version, or for the CPU\n"
    )
