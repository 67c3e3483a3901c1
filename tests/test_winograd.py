import pytest
import torch
import torch.nn.functional as F

from deepvqe_hub import EnhancementModel
from deepvqe_hub.models import winograd


@torch.inference_mode()
@pytest.mark.parametrize("frames", [4, 5, 6, 7, 35])
@pytest.mark.parametrize("stride, margin", [(1, 1), (2, 1), (2, 0)])
def test_it_is_a_convolution(frames, stride, margin, error):
    generator = torch.Generator().manual_seed(frames)
    x, weight = torch.randn(2, 8, frames, 11, generator=generator), torch.randn(6, 8, 4, 3, generator=generator)
    bias = torch.randn(6, generator=generator)
    y = winograd.conv2d(x, weight, bias, (1, stride), (0, margin))
    exact = F.conv2d(x.double(), weight.double(), bias.double(), (1, stride), (0, margin))
    assert y.shape == exact.shape
    assert error(y, exact) < 1e-6


def test_gradients_and_half_precision_go_the_usual_way():
    x, weight = torch.zeros(1, 64, 40, 3), torch.zeros(64, 64, 4, 3)
    assert not winograd.pays(x, weight)
    with torch.no_grad():
        assert winograd.pays(x, weight)
        assert not winograd.pays(x[:, :, :20], weight)
        assert not winograd.pays(x.bfloat16(), weight.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert not winograd.pays(x, weight)


@torch.inference_mode()
@pytest.mark.parametrize("preset", ["deepvqe", "deepvqe-aec"])
def test_recordings_equal_streams(preset, error, monkeypatch):
    network = EnhancementModel.from_config(preset).eval().network
    spec = torch.randn(1, network.bins, 70, 2, generator=torch.Generator().manual_seed(0))
    calls, conv2d = [], winograd.conv2d
    monkeypatch.setattr(winograd, "conv2d", lambda *args: calls.append(0) or conv2d(*args))
    whole, _ = network(spec)
    assert len(calls) > 15
    state, parts = None, []
    for part in spec.split([20, 50], dim=2):
        enhanced, state = network(part, state=state)
        parts.append(enhanced)
    assert error(torch.cat(parts, 2), whole) < 1e-5
