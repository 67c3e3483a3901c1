"""``load(..., backend="onnx")``: the same call and the same numbers as with PyTorch."""

import pytest
import torch

import deepvqe_hub

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY = {
    "network": "DeepVQE",
    "options": {
        "channels": [4, 6, 8, 4],
        "decoder_channels": [6, 4, 4],
        "encoder_residual": [False] * 4,
        "decoder_residual": [False, True, True, False],
        "hidden": 12,
    },
}


def test_onnx_backend(tmp_path):
    model = deepvqe_hub.EnhancementModel.from_config(TINY).eval()
    model.save_pretrained(tmp_path / "tiny")
    graph = deepvqe_hub.load(tmp_path / "tiny", backend="onnx")
    noisy = torch.randn(2, 5000) * 0.1
    with torch.no_grad():
        assert torch.allclose(graph(noisy), model(noisy), atol=1e-5)
    stream = graph.stream()
    assert stream(noisy[0].numpy()).shape[0] + stream.flush().shape[0] == 5000
    with pytest.raises(ValueError, match="backend"):
        deepvqe_hub.load(tmp_path / "tiny", backend="tensorflow")


def test_framing_without_padding(tmp_path):
    config = {**TINY, "stft": {"win_length": 512, "hop_length": 256, "window": "sine", "padding": "none"}}
    model = deepvqe_hub.EnhancementModel.from_config(config).eval()
    graph = deepvqe_hub.onnx.OnnxModel(deepvqe_hub.onnx.export(model, tmp_path / "model.onnx"))
    noisy = torch.randn(3001) * 0.1
    with torch.no_grad():
        assert torch.allclose(graph(noisy), model(noisy), atol=1e-5)
