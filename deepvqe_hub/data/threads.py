"""Many files looked at in the time of a few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

THREADS = 8


def each(function: Callable[[Item], Found], items: Iterable[Item], threads: int = THREADS) -> list[Found]:
    """`[function(item) for item in items]`, several at the same time, as a network file system lets each of them wait.

    Raises:
        Whatever `function` raises.
    """
    items = list(items)
    with ThreadPoolExecutor(threads) as workers:
        # An item alone would be too little for a thread: hundreds of thousands of them wait in memory, a kilobyte each.
        # Many would be too much: Ctrl-C, or an error, ends the work when those begun are done.
        size = min(16, len(items) // (8 * threads) + 1)
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        found = workers.map(lambda part: [function(item) for item in part], parts)
        return [one for part in found for one in part]


def ahead(function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """As `each`, one after the other, and no more of them in memory than there are threads: for what is large."""
    waiting = deque()
    with ThreadPoolExecutor(THREADS) as workers:
        for item in items:
            waiting.append(workers.submit(function, item))
            if len(waiting) == THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
