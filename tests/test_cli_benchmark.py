"""deepvqe benchmark."""

import json

import pytest

from deepvqe_hub.cli import main


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


def test_errors(capsys):
    assert main(["benchmark", "--models", "none"]) == 2
    assert "deepvqe-s" in capsys.readouterr().err
    assert main(["benchmark", "--threads", "0"]) == 2
