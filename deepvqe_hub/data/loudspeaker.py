"""Loudspeaker distortion and the delay of the echo path, batched and deterministic."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("linear", "soft", "sigmoid", "volterra")
"""Memoryless part of the loudspeaker model, by number."""
TAPS = 64
"""Length of the short filters before, inside and after the non-linearity (4 ms at 16 kHz)."""


def distort(signal: Tensor, second: Tensor, kind: Tensor, drive: Tensor, bias: Tensor) -> Tensor:
    """Non-linearity of a loudspeaker, `(batch, time) -> (batch, time)`.

    With `x` the input of peak 1, `d` the drive and `b` the bias:

    * linear: `x`
    * soft: `x / sqrt(1 + (d x)^2)`, a symmetric amplifier limit
    * sigmoid: `tanh(d u (1 + b sign(u))) / d` of `u = 1.5 x - 0.3 x^2`: the cone moves further one way,
      and both half waves bend differently (even and odd harmonics)
    * volterra: `x + b x z`, a second-order Volterra kernel of rank one; `z` is `second`, the input
      through another short filter, which gives the kernel its memory

    A short filter before and one after make it a Wiener, Hammerstein or Wiener-Hammerstein model.

    Args:
        signal, second: `x` and `z`.
        kind: `(batch,)`, index into `KINDS`.
        drive: `(batch,)`, > 0; 1 is mild and 5 strong.
        bias: `(batch,)`, -0.7…0.7.
    """
    kind, drive, bias = kind[:, None], drive[:, None], bias[:, None]
    soft = signal * (1 + (drive * signal).square()).rsqrt()
    bent = 1.5 * signal - 0.3 * signal.square()
    sigmoid = torch.tanh(drive * bent * (1 + bias * bent.sign())) / drive
    result = torch.where(kind == 1, soft, signal)
    result = torch.where(kind == 2, sigmoid, result)
    return torch.where(kind == 3, signal + bias * signal * second, result)


def delay_track(starts: Tensor, seconds: Tensor, drift_ppm: Tensor, time: Tensor) -> Tensor:
    """Delay in seconds at given times, `(batch, points)`, never below 0.

    Args:
        starts: `(batch, steps)`, when each step begins, in seconds, ascending; the first is 0.
        seconds: `(batch, steps)`, the delay of each step.
        drift_ppm: `(batch,)`, difference of the clocks, added as `drift_ppm * 1e-6 * time`.
        time: `(points,)`, in seconds.
    """
    step = (time[None, :, None] >= starts[:, None, :]).sum(-1) - 1
    return (seconds.gather(1, step) + drift_ppm[:, None] * 1e-6 * time).clamp(min=0)


def delayed(signal: Tensor, samples: Tensor) -> Tensor:
    """Signal read `samples` earlier, each `(batch, time)`; silence before the start.

    Whole numbers of samples are exact; between samples a cubic (four-point Lagrange) interpolates.
    """
    # Rounding keeps float32 times from turning a whole number of samples into two fractions.
    samples = (samples * 256).round() / 256
    whole = samples.floor()
    place = torch.arange(signal.shape[-1], device=signal.device) - whole.long()
    late = samples - whole  # 0…1 further back than `place`
    weights = (
        (place + 1, -late * (1 - late) * (2 - late) / 6),
        (place, (1 + late) * (1 - late) * (2 - late) / 2),
        (place - 1, (1 + late) * late * (2 - late) / 2),
        (place - 2, -(1 + late) * late * (1 - late) / 6),
    )
    result = torch.zeros_like(signal)
    last = signal.shape[-1] - 1
    for index, weight in weights:
        inside = (index >= 0) & (index <= last)
        result = result + signal.gather(1, index.clamp(0, last)) * weight * inside
    return result
