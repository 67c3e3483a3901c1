"""Pools of processes: what becomes of the workers when the process that began them dies, and when a pool ends early."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from deepvqe_hub.processes import worker_pool

SCRIPT = """
import os, time
from deepvqe_hub.processes import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as submit:
        print(submit(os.getpid).result(), flush=True)
        submit(time.sleep, 60).result()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_workers_end_with_a_process_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    for _ in range(600):
        if not alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker goes on without anybody to work for")


def test_more_processes_than_a_pool_has_on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with worker_pool(100):
        pass


def test_a_pool_that_ends_early_leaves_the_workers_of_others_alone():
    with contextlib.ExitStack() as later:
        with pytest.raises(ZeroDivisionError), worker_pool(1) as submit:
            assert submit(abs, -1).result() == 1
            other = later.enter_context(worker_pool(1))  # as another thread may begin one meanwhile
            assert other(abs, -2).result() == 2
            raise ZeroDivisionError
        assert other(abs, -3).result() == 3


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:  # gone meanwhile, or a system without /proc
        return not os.path.exists("/proc")
