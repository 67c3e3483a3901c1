"""A grown network computes what the smaller one did, and its additional weights can learn."""

import pytest
import torch

pytest.importorskip("speechbrain")

from deepvqe_hub.models import DeepVQE
from deepvqe_hub.training.growth import check_growth, grow

SMALL = {
    "bins": 33,
    "channels": [4, 6, 5],
    "decoder_channels": [6, 4],
    "encoder_residual": [False, False, True],
    "decoder_residual": [False, True, False],
    "hidden": 7,
}
WIDE = {
    "bins": 33,
    "channels": [6, 9, 11],
    "decoder_channels": [8, 7],
    "encoder_residual": [True] * 3,
    "decoder_residual": [True] * 3,
    "hidden": 12,
}
DEEP = WIDE | {
    "channels": [6, 9, 7, 10],
    "decoder_channels": [12, 8, 7],
    "encoder_residual": [True] * 4,
    "decoder_residual": [True] * 4,
}
FAREND = {"farend_channels": [2, 3], "align_hidden": 2, "dmax": 4}
MORE_FAREND = {"farend_channels": [3, 5], "align_hidden": 3, "dmax": 4}

CASES = {
    "wider": (SMALL, WIDE, 1e-6),
    "wider, with reference's layout": (
        SMALL | {"upsampling": "concat", "mask_activation": True},
        WIDE | {"upsampling": "concat", "mask_activation": True},
        1e-6,
    ),
    "a level deeper": (SMALL, DEEP, 1e-4),
    "wider, with a wider far end": (SMALL | FAREND, WIDE | MORE_FAREND, 1e-6),
    "deeper, with a wider far end": (SMALL | FAREND, DEEP | MORE_FAREND, 1e-4),
    "a far end where there was none": (SMALL, WIDE | MORE_FAREND, 1e-6),
}


@pytest.mark.parametrize("case", CASES)
def test_same_function(case, lively, error):
    old, new, tolerance = CASES[case]
    small, large = lively(DeepVQE(**old)), lively(DeepVQE(**new))
    spec, far = torch.randn(2, 8, 33, 60, 2)
    grow(large, small, spec, far if large.farend else None)
    assert not large.training
    norms = [module for module in large.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}  # as before it took statistics
    with torch.no_grad():
        wanted, _ = small(spec, far if small.farend else None)
        got, _ = large(spec, far if large.farend else None)
    assert error(got, wanted) < tolerance


@pytest.mark.parametrize("case", CASES)
def test_additional_weights_learn(case, lively):
    """No weight is at rest for good: after two steps every tensor has changed."""
    old, new, _ = CASES[case]
    small, large = lively(DeepVQE(**old)), lively(DeepVQE(**new))
    spec, far = torch.randn(2, 4, 33, 40, 2)
    grow(large, small, spec, far if large.farend else None)
    before = {name: value.clone() for name, value in large.named_parameters()}
    optimizer = torch.optim.Adam(large.train().parameters(), lr=0.01)
    for _ in range(2):
        out, _ = large(spec, far if large.farend else None)
        optimizer.zero_grad()
        (out - 0.5 * spec).square().mean().backward()
        optimizer.step()
    still = [name for name, value in large.named_parameters() if torch.equal(value, before[name])]
    assert not still
    new_channel = large.enblock1.conv.weight[-1] - before["enblock1.conv.weight"][-1]
    assert new_channel.abs().max() > 0


def test_wider_needs_no_example(lively, error):
    small, large = lively(DeepVQE(**SMALL)), lively(DeepVQE(**WIDE))
    grow(large, small)
    spec = torch.randn(2, 33, 30, 2)
    with torch.no_grad():
        assert error(large(spec)[0], small(spec)[0]) < 1e-6


def test_deeper_needs_an_example():
    with pytest.raises(ValueError, match="example"):
        grow(DeepVQE(**DEEP), DeepVQE(**SMALL))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"compression": 0.5}, "compression"),
        ({"bins": 65}, "bins"),
        ({"mask": "complex"}, "mask"),
        ({"mask_activation": True}, "mask"),
        ({"upsampling": "concat"}, "upsampling"),
        ({"hidden": 3}, "gru"),
        ({"channels": [6, 3, 11]}, "enblock2"),
        ({"decoder_residual": [True, False, True]}, "deblock2.resblock"),
        (DEEP | {"channels": [6, 9, 7, 9]}, "twice"),
    ],
)
def test_what_does_not_fit_is_said(change, word):
    small, large = DeepVQE(**SMALL), DeepVQE(**WIDE | change)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    with pytest.raises(ValueError, match=word):
        grow(large, small, torch.randn(2, 33, 30, 2))
    assert all(torch.equal(before[name], value) for name, value in large.state_dict().items())


@pytest.mark.parametrize("align", [True, False])
def test_another_alignment_is_refused(align):
    small, large = SMALL | FAREND | {"align": not align}, WIDE | MORE_FAREND | {"align": align}
    with pytest.raises(ValueError, match="another kind of alignment"):
        check_growth(DeepVQE(**large), DeepVQE(**small))


def test_transposed_convolutions_are_refused():
    small, large = (DeepVQE(**options, upsampling="transposed") for options in (SMALL, WIDE))
    with pytest.raises(ValueError, match="transposed convolutions, which cannot grow"):
        check_growth(large, small)


def test_a_far_end_is_not_lost():
    with pytest.raises(ValueError, match="farblock1"):
        check_growth(DeepVQE(**WIDE), DeepVQE(**SMALL | FAREND))
