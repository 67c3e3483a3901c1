"""Audio far beyond ±1, which is most likely 16-bit samples as floating point, is computed and warned of."""

import warnings

import numpy as np
import pytest
import soundfile
import torch
from tiny import OPTIONS

import deepvqe_hub
from deepvqe_hub import EnhancementModel, enhance
from deepvqe_hub.cli import main

WORDS = r"beyond ±8.*divide 16-bit samples by 32768"


@pytest.fixture
def model():
    return EnhancementModel(options=OPTIONS).eval()


@pytest.fixture(params=["model", "stream", "enhance", "onnx", "another rate"])
def call(request, model, tmp_path):
    """A way into a model, for an array."""
    if request.param == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        from deepvqe_hub.onnx import OnnxStream, export

        return OnnxStream(export(model, tmp_path / "m.onnx"))
    return {
        "model": lambda wave: model(torch.from_numpy(wave)),
        "stream": lambda wave: model.stream()(torch.from_numpy(wave)),
        "enhance": lambda wave: enhance(model, wave, 16000),
        "another rate": model.stream(sample_rate=8000),
    }[request.param]


def test_samples_that_were_not_scaled(call):
    wave = np.sin(np.arange(4000, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(7 * wave)  # loud, and within what mixing may give
    with pytest.warns(UserWarning, match=WORDS):
        call(20000 * wave)


def test_said_once_for_a_file(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(deepvqe_hub.__dict__, "load", lambda name, device=None: model)
    wave = 20000 * np.sin(np.arange(100_000, dtype=np.float32))  # several blocks
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    assert main(["enhance", str(tmp_path / "a.wav"), "-o", str(tmp_path / "b.wav"), "--quiet"]) == 0
    said = capsys.readouterr().err
    assert said.count("beyond ±8") == 1 and f"warning: {tmp_path / 'a.wav'}: audio" in said
