"""The alignment against its definition, written with explicit loops over delays."""

import math

import pytest
import torch
import torch.nn.functional as F

from deepvqe_hub import EnhancementModel
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.models.align import BLOCK, AlignBlock, band, unband

MIC, FAR, HIDDEN, BINS = 5, 7, 3, 6


def block(dmax=9):
    align = AlignBlock(MIC, FAR, HIDDEN, BINS, dmax).eval()
    align.key = "align"
    return align, {f"align.{name}": torch.zeros(2, *shape) for name, shape in align.state_shapes().items()}


def definition(align, mic, far):
    """Cross-attention over delays: projections, inner products over bins, 5x3 convolution, softmax, weighted sum."""
    dmax, frames = align.dmax, mic.shape[2]
    queries, keys = align.pconv_mic(mic), align.pconv_ref(far)

    def delayed(x, d):  # silence before the first frame
        return F.pad(x, (0, 0, d, 0))[:, :, :frames]

    longest_first = list(reversed(range(dmax)))
    similarity = torch.stack([(queries * delayed(keys, d)).sum(3) / math.sqrt(BINS) for d in longest_first], dim=3)
    weights = F.conv2d(F.pad(similarity, (1, 1, 4, 0)), align.conv.weight, align.conv.bias).softmax(3)
    aligned = sum(weights[..., i, None] * delayed(far, d) for i, d in enumerate(longest_first))
    return aligned, weights[:, 0]


@torch.inference_mode()
@pytest.mark.parametrize(("frames", "dmax"), [(1, 9), (BLOCK, 9), (BLOCK + 1, 63), (3 * BLOCK - 5, 100), (12, 1)])
def test_definition(frames, dmax, error):
    align, state = block(dmax)
    mic, far = torch.randn(2, MIC, frames, BINS), torch.randn(2, FAR, frames, BINS)
    aligned, weights = align(mic, far, state)
    expected_aligned, expected_weights = definition(align, mic, far)
    assert error(weights, expected_weights) < 1e-5
    assert error(aligned, expected_aligned) < 1e-5
    assert torch.allclose(weights.sum(-1), torch.ones(2, frames))


@torch.inference_mode()
@pytest.mark.parametrize("size", [1, 2, 7, 70])
def test_streaming(size, error):
    align, state = block(dmax=20)
    mic, far = torch.randn(2, MIC, 150, BINS), torch.randn(2, FAR, 150, BINS)
    whole, _ = align(mic, far, dict(state))
    parts = [align(m, f, state)[0] for m, f in zip(mic.split(size, 2), far.split(size, 2))]
    assert error(torch.cat(parts, 2), whole) < 1e-5


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 5), (5, 1), (4, 6), (6, 4)])
def test_band(rows, width):
    matrix = torch.arange(2 * rows * (rows + width - 1), dtype=torch.float).view(2, rows, -1)
    lined_up = band(matrix, width)
    for t in range(rows):
        assert torch.equal(lined_up[:, t], matrix[:, t, t : t + width])
    on_band = unband(torch.ones(2, rows, width))
    assert on_band.shape == matrix.shape
    assert torch.equal(unband(lined_up), matrix * on_band)


@torch.inference_mode()
def test_finds_a_delay():
    """With projections that pass features through, the most probable delay is the true one."""
    align, state = block(dmax=12)
    align.pconv_mic = align.pconv_ref = torch.nn.Identity()
    align.conv.weight.zero_()
    align.conv.weight[0, :, 4, 1] = 5.0
    far = torch.randn(2, HIDDEN, 60, BINS)
    align.far_channels = HIDDEN
    state |= {"align.features": torch.zeros(2, HIDDEN, 11, BINS)}
    mic = F.pad(far, (0, 0, 4, 0))[:, :, :60]
    aligned, weights = align(mic, far, state)
    most_probable = align.dmax - 1 - weights[:, 15:].argmax(-1)
    assert (most_probable == 4).float().mean() > 0.95
    assert (aligned - mic)[:, :, 15:].square().mean() < 0.2 * mic.square().mean()


@torch.inference_mode()
def test_delay_of_a_network():
    network = DeepVQE(33, [4, 6, 8], [6, 4], [True] * 3, [True] * 3, 10, farend_channels=[4, 6], dmax=9).eval()
    spec = torch.randn(2, 33, 20, 2)
    distribution = network.delay(spec, torch.randn_like(spec))
    assert distribution.shape == (2, 20, 9)
    assert torch.allclose(distribution.sum(-1), torch.ones(2, 20))


def test_delay_of_channels_last_is_refused():
    model = EnhancementModel.from_config("deepvqe-aec-s").eval()
    with pytest.raises(ValueError, match="transpose"):
        model.delay(torch.randn(1600, 2), torch.randn(1600, 2))


@torch.inference_mode()
def test_delay_goes_on_from_a_state(error):
    network = DeepVQE(33, [4, 6, 8], [6, 4], [True] * 3, [True] * 3, 10, farend_channels=[4, 6], dmax=9).eval()
    spec, far = torch.randn(2, 2, 33, 20, 2)
    state = network.initial_state(2)
    parts = [network.delay(*pieces, state) for pieces in zip(spec.split(7, 2), far.split(7, 2))]
    assert error(torch.cat(parts, 1), network.delay(spec, far)) < 1e-5
