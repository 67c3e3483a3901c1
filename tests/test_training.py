"""The parts of training, without audio files."""

import copy

import pytest
import torch

from deepvqe_hub import EnhancementModel
from deepvqe_hub.hub import save_folder

pytest.importorskip("speechbrain")

from deepvqe_hub.training.transfer import init_from

TINY = {
    "channels": [4, 6, 6],
    "decoder_channels": [6, 4],
    "encoder_residual": [False] * 3,
    "decoder_residual": [False] * 3,
    "hidden": 8,
}
FAREND = {"farend_channels": [2, 3], "align_hidden": 2, "dmax": 4}


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return EnhancementModel("DeepVQE", {**TINY, **options})


def test_init_from_same_model_copies_everything():
    source, model = tiny(1), tiny(2)
    report = init_from(model, source)
    assert not (report["widened"] or report["fresh"] or report["unused"])
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_echo_canceller_starts_as_the_noise_suppressor(lively):
    """Equal outputs at first, whatever the far end plays; the additional inputs can learn."""
    source, model = lively(tiny(1)), lively(tiny(2, **FAREND))
    report = init_from(model, source)
    assert report["widened"] == ["network.enblock3.conv.weight"]
    assert all("farblock" in name or "align" in name for name in report["fresh"])
    noisy, farend = torch.randn(2, 1, 8000) * 0.1
    with torch.no_grad():
        assert torch.allclose(model(noisy, farend), source(noisy), atol=1e-6)
    model(noisy, farend).square().sum().backward()
    assert model.network.enblock3.conv.weight.grad[:, 6:].abs().max() > 0


def test_init_from_folder(tmp_path):
    source, model = tiny(1), tiny(2)
    save_folder(source, tmp_path / "model")
    init_from(model, tmp_path / "model")
    assert torch.equal(model.network.bottle.fc.weight, source.network.bottle.fc.weight)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"options": {**TINY, "hidden": 9}}, "gru"), ({"stft": {"window": "hann"}}, "stft")],
)
def test_init_from_says_what_does_not_fit(change, word):
    config = {"network": "DeepVQE", "options": TINY} | change
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=word):
        init_from(model, EnhancementModel(**config))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_init_from_warns_of_options_that_change_the_meaning(caplog):
    init_from(tiny(), tiny(upsampling="concat"))
    assert "upsampling" in caplog.text
