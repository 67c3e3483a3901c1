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
