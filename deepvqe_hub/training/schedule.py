"""Learning rates as a function of the step alone, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up to ``peak``, then half a cosine down to ``peak * floor``.

    Args:
        peak: highest learning rate.
        warmup_steps: optimiser steps until it is reached.
        floor: final rate as a share of ``peak``.
    """

    peak: float
    warmup_steps: int
    floor: float = 0.01

    def __call__(self, step: int, total_steps: int) -> float:
        """Learning rate of optimiser step ``step``, counted from 0, of ``total_steps``; afterwards the floor."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps))
        return self.peak * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2)
