"""deepvqe export."""

import pytest

from deepvqe_hub.cli import main

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_export(tmp_path, capsys):
    from deepvqe_hub.onnx import OnnxStream

    path = tmp_path / "s.onnx"
    command = ["export", "deepvqe-s", str(path), "--quantize", "--waveform", "--frames", "2"]
    assert main(command) == 0
    assert "MB" in capsys.readouterr().out
    stream = OnnxStream(path)
    assert (stream.frames, stream.batch_size, stream.latency) == (2, 1, 0.048)
    assert main(command) == 2
    assert "force" in capsys.readouterr().err
    assert main(["export", "deepvqe-s", str(tmp_path / "x.onnx"), "--frames", "0"]) == 2
    assert main(["export", str(path), str(tmp_path / "x.onnx")]) == 2
    assert "only an EnhancementModel can be exported, and this is OnnxModel" in capsys.readouterr().err
