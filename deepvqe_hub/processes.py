"""Work in several processes, and ways to end it early."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor


@contextlib.contextmanager
def worker_pool(processes: int, initializer: Callable | None = None, initargs: tuple = ()) -> Iterator:
    """A pool of processes that start anew ("spawn"); gives its `submit`.

    Whatever ends the block early, such as Ctrl-C, ends the processes at once, with what they are doing. So does the
    end of this process, even by SIGKILL: they would go on writing where somebody else works by now.
    """
    if sys.platform == "win32":
        processes = min(processes, 61)  # more than these ProcessPoolExecutor refuses there
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start, (initializer, initargs))

    def submit(function: Callable, *args, **options):
        with handled(signal.SIG_IGN, "SIGINT", "SIGHUP"):  # inherited: these are this process's to handle
            return pool.submit(function, *args, **options)

    try:
        yield submit
    except BaseException:
        for worker in list(pool._processes.values()):  # what terminate_workers of Python 3.14 does
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(initializer: Callable | None, initargs: tuple) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)  # unfinished outputs are removed, where there is a handler for it


@contextlib.contextmanager
def handled(handler, *names: str) -> Iterator[None]:
    """Another handler for signals that are not ignored, as by nohup, where Python allows it: in the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        there = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has no SIGHUP
        before = {n: signal.signal(n, handler) for n in there if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def terminated_cleanly():
    """Let a request to terminate, or a closed terminal, unwind as Ctrl-C does: unfinished outputs are removed."""
    return handled(lambda number, _: sys.exit(128 + number), "SIGTERM", "SIGHUP")
