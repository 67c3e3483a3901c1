"""States from which a GRU does not come to rest are found, kept and trained away."""

import copy

import pytest
import torch
from tiny import OPTIONS

pytest.importorskip("speechbrain")

from small_runs import fit

from deepvqe_hub import EnhancementModel
from deepvqe_hub.training import EchoBrain, EnhancementBrain, rest
from deepvqe_hub.training.bottleneck import silence, still_frames
from deepvqe_hub.training.rest import Rest

KEY = "bottle.gru.hidden"


@pytest.fixture
def model(lively):
    torch.manual_seed(6)
    return lively(EnhancementModel("DeepVQE", OPTIONS))


@pytest.fixture
def restless(model):
    """A bottleneck with a GRU that swings on."""
    with torch.no_grad():
        model.network.bottle.gru.weight_hh_l0 *= 10
    return model.network.bottle


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def growth_by_hand(bottle, pool, generator):
    """Decades by which the outputs of each state of a pool and of its nudged copy part, frame by frame."""
    states = [pool.states, pool.states + rest.NUDGE * torch.randn(pool.states.shape, generator=generator)]
    decades = []
    for _ in range(rest.FRAMES):
        states = [{KEY: state} for state in states]
        one, other = (bottle(pool.silences[pool.heard], state) for state in states)
        decades.append((one - other).square().mean((1, 2, 3)).log10() / 2)
        states = [state[KEY] for state in states]
    decades = torch.stack(decades, 1)
    return decades[:, -rest.LAST :] - decades[:, :1], states[0]


def test_unrest_is_what_nudges_grow_to(model, restless):
    pool, ended = Rest(still_frames(model), 8), torch.rand(5, 8) * 2 - 1
    before = copy.deepcopy(pool)
    unrest = pool(restless, ended, seeded())
    generator = seeded()
    before.renew(restless, ended, generator)
    growth, states = growth_by_hand(restless, before, generator)
    assert unrest.item() == pytest.approx((growth + 0.1).relu().mean().item(), rel=0.01) and unrest > 0.1
    assert torch.allclose(pool.growth, growth.mean(1), atol=0.01) and torch.allclose(pool.states, states, atol=1e-4)
    unrest.backward()
    assert restless.gru.weight_hh_l0.grad.abs().sum() > 0


def test_what_rests_makes_room(model):
    """For states that have gone on through silence for a while, from where scenes ended."""
    bottle, pool, ended = model.network.bottle, Rest(still_frames(model), 8), torch.rand(3, 8) * 2 - 1
    pool.growth.copy_(torch.arange(rest.SIGNALS).flip(0) - 30.0)
    before = copy.deepcopy(pool)
    pool.renew(bottle, ended, seeded())
    assert torch.equal(pool.states[:-3], before.states[:-3]) and torch.equal(pool.heard[:-3], before.heard[:-3])
    states = {KEY: ended.flip(0)}
    with torch.no_grad():
        for _ in range(rest.SETTLED):
            bottle(pool.silences[pool.heard[-3:]], states)
    assert torch.allclose(pool.states[-3:], states[KEY], atol=1e-5) and states[KEY].any()
    pool.renew(bottle, torch.rand(rest.SIGNALS + 1, 8), seeded())  # more than there is room for
    assert not torch.equal(pool.states[:1], before.states[:1])


def test_goes_on_as_saved(model, restless):
    pool, again = Rest(still_frames(model), 8), Rest(still_frames(model), 8)
    ended = torch.rand(2, 4, 8)
    pool(restless, ended[0], seeded(1))
    again.load_state_dict(pool.state_dict())
    later = [some(restless, ended[1], seeded(2)).item() for some in (pool, again)]
    assert later[0] == later[1] != pool(restless, ended[1], seeded(3)).item()


def test_a_restless_gru_learns_to_rest(model, restless, monkeypatch):
    monkeypatch.setattr(rest, "SIGNALS", 16)
    pool, ended = Rest(still_frames(model), 8), torch.rand(6, 8) * 2 - 1
    optimizer = torch.optim.Adam(restless.parameters(), lr=0.01)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        losses.append(pool(restless, ended, seeded(step)))
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > 0.2 and max(losses[-10:]) < 0.01


def test_still_frames_are_what_silence_comes_to(model):
    """In evaluation mode, whatever the model's, and half of them of zeros."""
    frames = still_frames(model)
    assert frames.shape[0] >= 64 and torch.equal(frames, still_frames(copy.deepcopy(model).train()))
    with torch.no_grad():
        spec = model.stft.analyse(torch.zeros(1, 16000))
        x = model.network.encode(spec, None, model.network.initial_state(1))[-1][:, :, -2:-1]
    zeros = (frames - x).abs().amax((1, 2, 3)) < 1e-5
    assert 0.3 < zeros.float().mean() < 0.7


def test_silence_is_zero_or_another_value_at_which_a_converter_rests():
    levels = silence(torch.zeros(400, 7), 3, seeded())
    assert levels.shape == (400, 3) and torch.equal(levels[:, 0], levels[:, 2])
    assert 150 < (levels[:, 0] == 0).sum() < 250
    sounding = levels[levels > 0]
    assert 1e-5 < sounding.min() < 2e-5 and 0.05 < sounding.max() <= 0.1


@pytest.mark.parametrize("kind", [EnhancementBrain, EchoBrain])
def test_in_a_run(tmp_path, kind):
    brain, losses = fit(tmp_path / "run", kind, bottleneck_only=True)
    pool = brain.matching.rest
    assert len(losses) == 4 and pool.growth.isfinite().all() and len(pool.states.unique(dim=0)) > 16
