"""Learning rates as a function of the step alone, so that a resumed run needs no scheduler state; and time limits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up to `peak`, then half a cosine down to `peak * floor`.

    Args:
        peak: highest learning rate.
        warmup_steps: optimiser steps until it is reached.
        floor: final rate as a share of `peak`.
    """

    peak: float
    warmup_steps: int
    floor: float = 0.01

    def __call__(self, step: int, total_steps: int) -> float:
        """Learning rate of optimiser step `step`, counted from 0, of `total_steps`; afterwards the floor."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps))
        return self.peak * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2)


class Clock:
    """The time that a run takes, what it took before an interruption included.

    Args:
        minutes: that it may take; 0 is no limit.
    """

    def __init__(self, minutes: float = 0.0):
        self.limit = 60.0 * minutes
        self.start()

    def start(self, seconds: float = 0.0) -> None:
        """Begin to count, with `seconds` already taken."""
        self.began = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """Seconds taken so far."""
        return time.monotonic() - self.began

    @property
    def over(self) -> bool:
        """Whether the limit is reached."""
        return 0 < self.limit <= self.seconds

    def total_steps(self, step: int, planned: int) -> int:
        """Steps of the whole run, given that `step` are done: the planned ones, or at this pace up to the limit."""
        if not self.limit:
            return planned
        return max(step + 1, round(step * self.limit / max(self.seconds, 1e-3)))
