"""Parameters and multiply-adds, against figures counted by hand from the layer tables of the papers."""

import pytest

from deepvqe_hub import EnhancementModel
from deepvqe_hub.models.complexity import count_model, count_network


@pytest.mark.parametrize(
    ("preset", "parameters", "frames", "macs"),
    [
        ("deepvqe", 7_509_996, 63, 8_011_487_232),
        ("deepvqe-aec", 7_975_063, 1, 152_531_072),
        ("deepvqe-aec-s", 589_103, 1, 10_385_448),
        ("dpcrn", 819_919, 63, 3_068_311_680),
        ("dpcrn-light", 787_151, 63, 1_602_599_040),
        ("tf-gridnet", 1_601_984, 63, 22_223_507_544),
    ],
)
def test_figures(preset, parameters, frames, macs):
    model = EnhancementModel.from_config(preset)
    complexity = count_model(model)
    assert complexity.parameters == parameters
    assert count_network(model.network, frames) == macs
    assert complexity.macs_per_second == (macs / frames * 62.5 if model.network.streams else macs)


def test_leaves_the_model_alone():
    model = EnhancementModel.from_config("deepvqe-s")
    count_model(model)
    assert model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
