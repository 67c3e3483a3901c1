"""Training that starts from the weights of another model."""

import copy

import pytest
import torch

from deepvqe_hub import EnhancementModel
from deepvqe_hub.hub import save_folder

pytest.importorskip("speechbrain")

from small_runs import tiny
from tiny import FAREND, OPTIONS

from deepvqe_hub.training import init_from


def test_init_from_same_model_copies_everything():
    source, model = tiny(1), tiny(2)
    init_from(model, source)
    assert model.state_dict().keys() == source.state_dict().keys()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_echo_canceller_starts_as_the_noise_suppressor(lively):
    """Equal outputs at first, whatever the far end plays; the additional inputs can learn."""
    source, model = lively(tiny(1)), lively(tiny(2, **FAREND, dmax=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    init_from(model, source)
    trained = source.state_dict()
    widened = {name for name in trained if trained[name].shape != before[name].shape}
    assert widened == {"network.enblock3.conv.weight"}
    assert not model.network.enblock3.conv.weight[:, 6:].any()  # zeros for new inputs
    for name, value in model.state_dict().items():
        if name not in trained:  # fresh: random as they were
            assert ("farblock" in name or "align" in name) and torch.equal(value, before[name])
        elif name not in widened:
            assert torch.equal(value, trained[name])
    noisy, farend = torch.randn(2, 1, 8000) * 0.1
    with torch.no_grad():
        assert torch.allclose(model(noisy, farend), source(noisy), atol=1e-6)
    model(noisy, farend).square().sum().backward()
    assert model.network.enblock3.conv.weight.grad[:, 6:].abs().max() > 0


def test_larger_model_starts_as_the_smaller_one(lively):
    """Here a level deeper, which takes an example of what it will hear."""
    larger = {"channels": [5, 8, 8, 14], "decoder_channels": [12, 9, 6], "hidden": 9}
    residual = {"encoder_residual": [True] * 4, "decoder_residual": [True] * 4}
    source, model = lively(tiny(1)), lively(tiny(2, **larger, **residual))
    noisy = torch.randn(4, 16000) * 0.1
    init_from(model, source, lambda: {"noisy": noisy, "clean": noisy})
    with torch.no_grad():
        assert torch.allclose(model(noisy), source(noisy), atol=1e-4)


def test_init_from_folder(tmp_path):
    source, model = tiny(1), tiny(2)
    save_folder(source, tmp_path / "model")
    init_from(model, tmp_path / "model")
    assert torch.equal(model.network.bottle.fc.weight, source.network.bottle.fc.weight)


def test_init_from_graph_is_refused(tmp_path):
    onnx = pytest.importorskip("deepvqe_hub.onnx")
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"m\.onnx"):
        init_from(tiny(), onnx.export(tiny(), tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"options": {**OPTIONS, "hidden": 9}}, "gru"),
        ({"stft": {"window": "hann"}}, "stft"),
        ({"sample_rate": 8000}, "sample_rate 8000"),
    ],
)
def test_init_from_says_what_does_not_fit(change, word):
    config = {"network": "DeepVQE", "options": OPTIONS} | change
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=word):
        init_from(model, EnhancementModel(**config))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_init_from_warns_of_options_that_change_the_meaning(caplog):
    init_from(tiny(), tiny(upsampling="concat"))
    assert "upsampling" in caplog.text
    caplog.clear()
    init_from(tiny(**FAREND, dmax=4), tiny(**FAREND, dmax=6))  # of more delays the weights are as they were
    assert not caplog.text
