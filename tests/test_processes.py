"""Pools of processes: what becomes of the workers when the process that began them dies."""

import os
import signal
import subprocess
import sys
import time

import pytest

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
