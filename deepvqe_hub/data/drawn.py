"""Data sets whose items are drawn at random, and yet the same every time."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset


class DrawnItems(Dataset):
    """A data set whose item `i` is a function of `(seed, epoch, i)` and of nothing else, such as the number of workers.

    Args:
        size: items per epoch.
        seed: two seeds give two unrelated data sets.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        # Shared memory: workers that stay alive over epochs see set_epoch, too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw other items from now on; call it before each pass over the loader."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The number given to `set_epoch`, at first 0."""
        return int(self._epoch)

    def __len__(self) -> int:
        return self.size

    def generator(self, index: int) -> np.random.Generator:
        """What item `index` of this epoch is drawn with.

        Raises:
            IndexError: there is no such item.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"item {index} of {self.size}")
        return np.random.default_rng([self.seed, self.epoch, index])
