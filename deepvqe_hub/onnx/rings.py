"""The past in a streaming graph: rings, in which a call overwrites in place what is oldest, so that nothing moves.

A ring has room for a whole number of calls, its places; call n writes to place n % places. Where a call finds what it
needs depends on that place alone, so all indices are constants, a table for each place, of which a call picks its own.
"""

from __future__ import annotations

import numpy as np

from deepvqe_hub.onnx.builder import Graph


class Rings:
    """Rings of a graph that go round together.

    Args:
        graph: where they are written.
        clock: name of the state that says where this call is.
        reach: frames that a frame looks at, itself and those before it.
        frames: frames a call.

    Attributes:
        places: calls until the rings are full; as few as hold what all frames of a call look at.
    """

    def __init__(self, graph: Graph, clock: str, reach: int, frames: int):
        self.graph, self.places = graph, -(-(reach - 1) // frames) + 1
        place = graph.remember(clock, (1,), np.int64)
        following = graph.op("Add", place, graph.constant([1], np.int64))
        graph.update(clock, graph.op("Mod", following, graph.constant([self.places], np.int64)))
        self._place = graph.reshape(place)  # a scalar
        self._chosen = {}

    def here(self, tables: np.ndarray) -> str:
        """The one of `tables`, (places, ...), for the place of this call."""
        tables = self.graph.constant(tables)
        if tables not in self._chosen:
            self._chosen[tables] = self.graph.op("Gather", tables, self._place, axis=0)
        return self._chosen[tables]

    def write(self, name: str, x: str, shape: tuple[int, ...], zeros: int = 0) -> str:
        """Put the new rows `x` of `shape`, (*lead, rows, width), into the ring `name`.

        Args:
            zeros: rows at the end of the ring that stay zeros.

        Returns:
            The ring, (*lead, places * rows + zeros, width).
        """
        g, (*lead, rows, width) = self.graph, shape
        ring = g.remember(name, (*lead, self.places * rows + zeros, width), in_place=True)
        where = np.moveaxis(np.indices((self.places, *lead, rows)), 0, -1)  # (place, *lead, row) of each new row
        where[..., -1] += where[..., 0] * rows  # its row in the ring
        where = self.here(where[..., 1:])
        return g.update(name, g.op("ScatterND", ring, where, g.reshape(x, *shape) if lead else x))
