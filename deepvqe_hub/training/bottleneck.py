"""The bottleneck of a trained network learns, by itself, to leave behind what it has heard before."""

from __future__ import annotations

import copy

import torch
from torch import nn

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.training.rest import Rest, go_on

UNREST_WEIGHT = 2.0  # makes it about as large as the difference when a tenth of the states grow
LEAD_SECONDS = 1.0  # of a scene, of which the encoder may remember something in the silence after it
STILL_SECONDS = 2.0  # of silence, after which it gives the same frame over and over


class SceneMatching(nn.Module):
    """How far a bottleneck is, in a signal of several scenes, from what it gives for each scene from silence on.

    The convolutions of a DeepVQE remember a second in all, and its alignment another. The GRU alone remembers earlier
    scenes for longer, so what they spoil of the next ones is spoilt there. It learns from a copy of itself that begins
    anew with each scene. That takes the encoder, without gradients, and no decoder. Added to it is how far the GRU is
    from rest in the digital silence that may follow a scene, by `Rest`.

    Args:
        network: what is to be trained; its bottleneck, as it is now, is the one to learn from.
    """

    def __init__(self, network: DeepVQE):
        super().__init__()
        self.teacher = copy.deepcopy(network.bottle)
        self.rest = Rest(network.bottle)
        self.register_buffer("calls", torch.tensor(0))  # what is drawn depends on it, also after a resume

    def forward(
        self, model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None, *, scenes: int
    ) -> torch.Tensor:
        """Mean squared difference over the variance of what is to be given, and, with several scenes, the unrest.

        Args:
            model: gradients reach the bottleneck of its network.
            noisy, farend: (batch, samples), scenes of the same number of whole frames one after the other.
            scenes: how many of them.
        """
        bottle, waves = model.network.bottle, [x for x in (noisy, farend) if x is not None]
        with torch.no_grad():
            x = encode(model, *waves)
            each = x.unflatten(2, (scenes, -1)).transpose(1, 2).flatten(0, 1)
            target, ended = go_on(self.teacher, each)
            target = target.unflatten(0, (-1, scenes)).transpose(1, 2).flatten(2, 3).float()
        given = go_on(bottle, x)[0].float()
        loss = (given - target).square().mean() / target.var()
        self.calls += 1
        if scenes > 1:
            generator = torch.Generator().manual_seed(int(self.calls))
            waves = [wave.unflatten(1, (scenes, -1)).flatten(0, 1) for wave in waves]
            quiet = after(model, *waves, generator=generator)
            with torch.autocast(x.device.type, enabled=False):  # it would round perturbations away
                loss = loss + UNREST_WEIGHT * self.rest(bottle, quiet.float(), ended.float(), generator)
        return loss


@torch.no_grad()
def after(model: EnhancementModel, *scenes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What the bottleneck gets when scenes, (batch, samples), are followed by digital silence."""
    hop = model.stft.hop_length
    lead, still = (round(seconds * model.sample_rate / hop) for seconds in (LEAD_SECONDS, STILL_SECONDS))
    waves = (torch.cat([scene[:, -lead * hop :], silence(scene, still * hop, generator)], 1) for scene in scenes)
    return encode(model, *waves)[:, :, -still:]


def encode(model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
    """What the bottleneck gets in the whole frames of signals: (batch, samples) to (batch, channels, frames, bins)."""
    network, frames = model.network, noisy.shape[1] // model.stft.hop_length
    spec, far = (None if x is None else model.stft.analyse(x)[:, :, :frames] for x in (noisy, farend))
    state = network.initial_state(len(spec), device=spec.device, dtype=spec.dtype)
    return network.encode(spec, far, state)[-1]


def silence(like: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Samples of zero or, as converters may rest elsewhere, of a constant from 1e-5 to 0.1: (batch, samples)."""
    level = 10 ** (-1 - 4 * torch.rand(len(like), 1, generator=generator))
    level *= torch.rand(len(like), 1, generator=generator) < 0.5
    return level.to(like).expand(-1, samples)


def only_bottleneck_learns(network: DeepVQE) -> None:
    """Leave gradients to the bottleneck alone."""
    network.requires_grad_(False)
    network.bottle.requires_grad_(True)
