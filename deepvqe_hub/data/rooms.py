"""Room impulse responses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from deepvqe_hub.data.clips import Clip
from deepvqe_hub.data.pools import ATTEMPTS, Pool

DIRECT_INDEX = 32
"""Sample of the direct path in every room response that a `RoomPool` returns."""
DIRECT_GAIN = 0.5
"""Value of the direct path in every room response that a `RoomPool` returns."""


class RoomPool(Pool):
    """Room impulse responses, three to a room: near-end talker, loudspeaker, noise source.

    Files hold three channels in that order; a file with fewer repeats its last one. Each channel is
    returned with the direct path at sample `DIRECT_INDEX` and of value `DIRECT_GAIN`; a response that is
    not so already is shifted and scaled by its strongest sample.

    Args:
        clips: `Clip`s or paths.
        sample_rate: rate in Hz.
        cache: keep decoded responses in memory (float32; 0.17 MB each for 0.9 s at 16 kHz).
        seconds: length of the returned responses.

    Raises:
        ValueError: there are no clips, or a path in place of several.
    """

    def __init__(
        self,
        clips: Iterable[Clip | str | Path],
        sample_rate: int = 16000,
        cache: bool = False,
        seconds: float = 0.9,
    ):
        super().__init__(clips, sample_rate, cache)
        self.samples = int(seconds * sample_rate)

    def _pack(self, audio: np.ndarray) -> np.ndarray:
        room = np.zeros((3, self.samples), np.float32)
        for channel in range(3):
            response = audio[min(channel, len(audio) - 1)]
            if not response.any():
                raise OSError("holds only zeros")
            if len(response) <= DIRECT_INDEX or abs(response[DIRECT_INDEX] - DIRECT_GAIN) > 1e-2:
                peak = int(np.argmax(np.abs(response)))
                response = response * (DIRECT_GAIN / response[peak])
                response = np.concatenate([np.zeros(DIRECT_INDEX, np.float32), response])[peak:]
            count = min(len(response), self.samples)
            room[channel, :count] = response[:count]
        return room

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One random room, float32 `(3, samples)`.

        Raises:
            ValueError: too many files in a row cannot be read.
        """
        for _ in range(ATTEMPTS):
            index = int(rng.integers(len(self.clips)))
            room = self._load(index)
            if not self.cache and room is not None:
                del self._cached[index]
            if room is not None:
                return room.copy()  # whoever changes an item must not change the cache
        raise ValueError(f"{ATTEMPTS} room responses in a row could not be read; the warnings name them")
