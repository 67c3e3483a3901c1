"""deepvqe benchmark."""

import json
import os
import sys

import numpy as np
import pytest

from deepvqe_hub.cli import CommandError, main
from deepvqe_hub.cli._measure import apart
from deepvqe_hub.machine import description, peak_memory


def test_table_and_json(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "speed.json"
    command = ["benchmark", "--models", "deepvqe-s", "--backends", "torch", "onnx", "--threads", "1", "--seconds", "1"]
    assert main([*command, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| deepvqe-s") for line in lines) == 2
    report = json.loads(path.read_text())
    assert report["machine"]["cpu"] and len(report["results"]) == 2
    for result in report["results"]:
        assert 0 < result["step_ms_p50"] <= result["step_ms_p99"]
        assert result["offline_rtf"] > 0 and result["stream_rtf"] > 0 and result["peak_mb"] > 10


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system may count otherwise")
def test_memory_is_that_of_the_process_alone():
    big = np.ones(40_000_000)
    assert peak_memory() > 320 and big[-1] == 1
    assert apart(peak_memory) < 300


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to cores")
def test_cores_are_those_that_may_be_used():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert description()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_errors(tmp_path, capsys):
    (tmp_path / "old.json").write_text("mine")
    old = tmp_path / "old.json"
    for path, words in ((old, "exists"), (tmp_path, "is a folder"), (old / "no" / "new.json", "cannot write")):
        assert main(["benchmark", "--json", str(path)]) == 2
        captured = capsys.readouterr()
        assert words in captured.err and not captured.out  # before any work
    assert (tmp_path / "old.json").read_text() == "mine"
    assert main(["benchmark", "--models", "none"]) == 2
    assert "deepvqe-s" in capsys.readouterr().err
    for count in ("0", "1000000"):
        with pytest.raises(SystemExit, match="2"):
            main(["benchmark", "--threads", count])
        assert "from 1 to 1024" in capsys.readouterr().err
    for arguments in (["--seconds", "inf"], ["--seconds", "nan"], ["--frames", "65"], ["--frames", "64"]):
        assert main(["benchmark", "--models", "deepvqe-s", *arguments]) == 2
        assert "must be from" in capsys.readouterr().err


def test_a_process_that_dies_ends_the_measurement():
    with pytest.raises(CommandError, match="measuring 9 died"):
        apart(os._exit, 9)
