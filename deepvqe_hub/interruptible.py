"""What live streams do about calls that fail half-way or overlap: `Interruptible`. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Interruptible:
    """A stream that refuses to go on after a call that failed half-way, until `reset`, and two calls at a time.

    Ctrl-C or a full memory stops a call anywhere: its samples are then in some of the stream's parts and not in others,
    and whatever came later would be out of place.
    """

    _failed = _running = False

    def reset(self) -> None:
        """Forget the past: the next chunk is the beginning of a new signal. Subclasses forget theirs as well."""
        self._failed = self._running = False

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """Around all that takes samples in and can fail. What a caller gave is checked before."""
        if self._running:
            raise RuntimeError(
                "this stream is in the middle of a call, of another thread perhaps, and takes its signal in order; "
                "give each signal a stream of its own"
            )
        if self._failed:
            raise RuntimeError(
                "an earlier call of this stream failed half-way, so the rest of its signal would be out of place; "
                "reset() begins a new one"
            )
        self._failed = self._running = True
        try:
            yield
            self._failed = False
        finally:
            self._running = False
