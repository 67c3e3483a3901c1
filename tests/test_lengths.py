"""Lengths of padded batches, for PyTorch models and exported graphs."""

import numpy as np
import pytest
import torch
from tiny import FAREND, OPTIONS

from deepvqe_hub import EnhancementModel


@pytest.fixture(params=["torch", "onnx"])
def model(request, tmp_path):
    model = EnhancementModel(options=OPTIONS | FAREND).eval()
    if request.param == "torch":
        return model
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from deepvqe_hub.onnx import OnnxModel, export

    return OnnxModel(export(model, tmp_path / "m.onnx"))


def test_lengths_in_the_place_of_the_far_end_are_named(model):
    wave, lengths = torch.zeros(2, 8000), torch.tensor([1.0, 0.5])
    with pytest.raises(ValueError, match=r"farend \(2,\) and noisy \(2, 8000\) differ.*model\(noisy, lengths=lengths"):
        model(wave, lengths)
    with pytest.raises(ValueError, match=r"differ in shape$"):
        model(wave, torch.zeros(3))


def test_a_far_end_in_the_place_of_lengths_is_named(model):
    """Where lengths come second, as in `Enhancer.enhance_batch`."""
    wave = torch.zeros(2, 8000)
    with pytest.raises(ValueError, match=r"lengths \(2, 8000\) and noisy \(2, 8000\) do not fit.*by name: farend=$"):
        model(wave, lengths=wave)
    for given in (wave, wave[0]):
        with pytest.raises(ValueError, match=r"do not fit; they must be \(batch,\) and \(batch, time\)$"):
            model(given, lengths=torch.ones(3))


@torch.inference_mode()
def test_lengths_too_coarse_for_samples_are_refused(model):
    wave, lengths = torch.zeros(2, 160000), torch.tensor([1.0, 0.70331])
    for kind in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=r"lengths in .*float.* too coarse.*compute them in float32"):
            model(wave, lengths=lengths.to(kind))
    with pytest.raises(ValueError, match="too coarse"):
        model(wave, lengths=lengths.numpy().astype(np.float16))
    wave += 0.1 * torch.randn(160000)
    for given in (lengths, lengths.double(), lengths.tolist(), lengths.numpy()):
        enhanced = model(wave, lengths=given)
        assert not enhanced[1, 112530:].any() and enhanced[1, 112000:112530].all()
