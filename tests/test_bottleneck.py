"""The loss that teaches a bottleneck to forget the scene before."""

import pytest
import torch

pytest.importorskip("speechbrain")

from small_runs import tiny

from deepvqe_hub.training.bottleneck import UNREST_WEIGHT, SceneMatching, after, encode, only_bottleneck_learns
from deepvqe_hub.training.rest import Rest


def test_scene_matching_is_for_the_bottleneck(lively):
    """Nothing is amiss with one scene, something with two, and gradients reach the bottleneck alone."""
    model = lively(tiny(4))
    matching, noisy = SceneMatching(model.network), torch.randn(2, 4096) * 0.1
    only_bottleneck_learns(model.network)
    mismatch = matching(model, noisy, scenes=2)
    assert matching(model, noisy, scenes=1).item() < 1e-12
    mismatch.backward()
    learns = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learns == {name for name, _ in model.named_parameters() if "bottle" in name}
    expected = matched_by_hand(model, noisy)
    assert mismatch.item() == pytest.approx(expected + UNREST_WEIGHT * unrest(model, noisy, call=1), rel=1e-4)
    assert expected > 1e-6
    with torch.no_grad():
        model.network.bottle.fc.bias += 0.1
    assert matching(model, noisy, scenes=1).item() > 1e-4  # it learns from the bottleneck as that was


@torch.no_grad()
def matched_by_hand(model, noisy):
    """The mismatch of two scenes of eight frames, frame by frame: the GRU that teaches forgets before the second."""
    network, signals = model.network, len(noisy)
    x = network.encode(model.stft.analyse(noisy)[:, :, :16], None, network.initial_state(signals))[-1]
    state, given, target = network.initial_state(signals), [], []
    for i, frame in enumerate(x.split(1, 2)):
        if i in (0, 8):
            fresh = network.initial_state(signals)
        given.append(network.bottle(frame, state))
        target.append(network.bottle(frame, fresh))
    given, target = torch.cat(given, 2), torch.cat(target, 2)
    return float((given - target).square().mean() / target.var())


def unrest(model, noisy, call):
    """In the silence after each of two scenes of eight frames."""
    network, scenes = model.network, noisy.unflatten(1, (2, -1)).flatten(0, 1)
    with torch.no_grad():
        state = network.initial_state(len(scenes))
        network.bottle(encode(model, scenes), state)
    generator = torch.Generator().manual_seed(call)
    quiet = after(model, scenes, generator=generator)
    return Rest(network.bottle)(network.bottle, quiet, state["bottle.gru.hidden"], generator).item()


def test_scene_matching_goes_on_as_saved(lively):
    """What it keeps and draws is part of its state; also where the rest is computed in bfloat16."""
    model = lively(tiny(4))
    with torch.no_grad():
        model.network.bottle.gru.weight_hh_l0 *= 20  # a GRU that does not rest
    matching, again, noisy = SceneMatching(model.network), SceneMatching(model.network), torch.randn(2, 4096) * 0.1
    drawn = []
    matching.rest.register_forward_pre_hook(lambda _, args: drawn.append(args[1]))
    first = matching(model, noisy, scenes=2)
    again.load_state_dict(matching.state_dict())
    with torch.no_grad():
        second = matching(model, noisy, scenes=2)
        assert second != first and again(model, noisy, scenes=2) == second
        assert not torch.equal(*drawn)  # other silences
    kinds = []
    matching.rest.register_forward_pre_hook(
        lambda _, args: kinds.append((args[1].dtype, torch.is_autocast_enabled("cpu")))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matching(model, noisy, scenes=2).isfinite()
    assert kinds == [(torch.float32, False)]  # bfloat16 would round a perturbation away
