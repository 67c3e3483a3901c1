"""States from which a GRU does not come to rest are found, kept and trained away."""

import copy

import pytest
import torch
from tiny import OPTIONS

pytest.importorskip("speechbrain")

from small_runs import fit

from deepvqe_hub import EnhancementModel
from deepvqe_hub.training import EchoBrain, EnhancementBrain, rest
from deepvqe_hub.training.bottleneck import after, encode, silence
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


def scenes(model, count, seed=0):
    """What a bottleneck gets after some scenes, and states of its GRU."""
    noise = torch.randn(count, 2048, generator=seeded(seed)) * 0.1
    return after(model, noise, generator=seeded(seed)), torch.rand(count, 8, generator=seeded(seed)) * 2 - 1


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def instability_by_hand(bottle, still, states, generator):
    """Decades by which the outputs of each state and of its perturbed copy part in silence, frame by frame."""
    perturbation = rest.PERTURBATION * torch.randn(states.shape, generator=generator)
    states, decades = [{KEY: states}, {KEY: states + perturbation}], []
    for _ in range(rest.FRAMES):
        one, other = (bottle(still[:, :, None], state) for state in states)
        decades.append((one - other).square().mean((1, 2, 3)).log10() / 2)
    decades = torch.stack(decades, 1)
    return decades[:, -rest.LAST :] - decades[:, :1], states[0][KEY]


def test_unrest_is_what_perturbations_grow_to(model, restless, monkeypatch):
    restless.double()  # or roundings would grow, too, as they do even so in the course of 80 frames
    monkeypatch.setattr(rest, "FRAMES", 40)
    pool, before, (quiet, ended) = Rest(restless), Rest(restless), [x.double() for x in scenes(model, 5)]
    unrest = pool(restless, quiet, ended, seeded())
    before.renew(restless, quiet, ended)
    taken = before.instability == 0
    still = before.still[taken].unflatten(1, quiet.shape[1::2])
    instability, states = instability_by_hand(restless, still, before.states[taken], seeded())
    assert unrest.item() == pytest.approx((instability + 0.1).relu().mean().item(), rel=1e-4) and unrest > 0.1
    assert torch.equal(pool.instability.isfinite(), taken) and taken.sum() == 5
    assert torch.allclose(pool.instability[taken], instability.mean(1), atol=1e-3)
    assert torch.allclose(pool.states[taken], states, atol=1e-6)
    unrest.backward()
    assert restless.gru.weight_hh_l0.grad.abs().sum() > 0
    with torch.no_grad():
        restless.gru.weight_hh_l0 *= 0  # one that soon forgets
    assert Rest(restless)(restless, quiet, ended, seeded()) == 0


def test_what_rests_makes_room(model):
    """For states that have gone on through what followed their scene."""
    bottle = model.network.bottle
    pool, (quiet, ended) = Rest(bottle), scenes(model, 3)
    pool.instability.copy_(torch.arange(rest.SIGNALS).flip(0) - 30.0)
    before = copy.deepcopy(pool)
    pool.renew(bottle, quiet, ended)
    for name in ("states", "still", "instability"):
        assert torch.equal(getattr(pool, name)[:-3], getattr(before, name)[:-3])
    state = {KEY: ended}
    with torch.no_grad():
        bottle(quiet, state)
    assert torch.allclose(pool.states[-3:], state[KEY].flip(0), atol=1e-5) and state[KEY].any()
    assert torch.equal(pool.still[-3:], quiet[:, :, -1].flatten(1).flip(0))
    pool.renew(bottle, *scenes(model, rest.SIGNALS + 1))  # more than there is room for
    assert (pool.instability == 0).all()


def test_goes_on_as_saved(model, restless):
    pool, again = Rest(restless), Rest(restless)
    pool(restless, *scenes(model, 4), seeded(1))
    again.load_state_dict(pool.state_dict())
    later = [some(restless, *scenes(model, 4, 1), seeded(2)).item() for some in (pool, again)]
    assert later[0] == later[1] != pool(restless, *scenes(model, 4, 1), seeded(3)).item()


def test_a_restless_gru_learns_to_rest(model, restless):
    pool = Rest(restless)
    optimizer = torch.optim.Adam(restless.parameters(), lr=0.01)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        losses.append(pool(restless, *scenes(model, 6, step % 3), seeded(step)))
        losses[-1].backward()
        optimizer.step()
    assert max(losses[:5]) > 0.2 and max(losses[-10:]) < 0.01


def test_after_a_scene_comes_its_own_silence(model):
    """As in the whole signal; at last the same frame over and over."""
    scene = torch.randn(2, 2 * 16000 // 256 * 256) * 0.1
    quiet = after(model, scene, generator=seeded())
    wave = torch.cat([scene, silence(scene, quiet.shape[2] * 256, seeded())], 1)
    with torch.no_grad():
        whole = encode(model, wave)
    assert torch.allclose(quiet, whole[:, :, -quiet.shape[2] :], atol=1e-5)
    assert torch.allclose(quiet[:, :, -2:-1], quiet[:, :, -1:], atol=1e-5)
    assert not torch.allclose(quiet[:, :, :1], quiet[:, :, -1:], atol=1e-3)


def test_silence_is_zero_or_another_value_at_which_a_converter_rests():
    levels = silence(torch.zeros(400, 7), 3, seeded())
    assert levels.shape == (400, 3) and torch.equal(levels[:, 0], levels[:, 2])
    assert 150 < (levels[:, 0] == 0).sum() < 250
    sounding = levels[levels > 0]
    assert 1e-5 < sounding.min() < 2e-5 and 0.05 < sounding.max() <= 0.1


@pytest.mark.parametrize("kind", [EnhancementBrain, EchoBrain])
def test_in_a_run(tmp_path, kind):
    brain, losses = fit(tmp_path / "run", kind, bottleneck_only=True)
    assert len(losses) == 4 and brain.matching.rest.instability.isfinite().sum() == 16  # scenes of four batches
