"""The bottleneck of a trained network learns, by itself, to leave behind what it has heard before."""

from __future__ import annotations

import copy

import torch
from torch import nn

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.training.distributed import world

UNREST_WEIGHT = 0.02  # makes it about as large as the difference when a trained network begins
NUDGE = 1e-3  # of a state within ±1; what becomes of it is far above the roundings of float32
STILL_SECONDS = 3.6  # of silence, after which nothing but the GRU remembers the scene
REST_FRAMES = 250  # that follow


class SceneMatching(nn.Module):
    """How far a bottleneck is, in a signal of several scenes, from what it gives for each scene from silence on.

    The convolutions of a DeepVQE remember a second in all, and its alignment another. The GRU alone remembers earlier
    scenes for longer, so what they spoil of the next ones is spoilt there. It learns from a copy of itself that begins
    anew with each scene. That takes the encoder, without gradients, and no decoder.

    In digital silence the GRU gets the same frame over and over. Unless it has learnt to come to rest then, it may
    swing on and magnify each rounding, in which a stream and the whole signal differ. So every other call is about
    that: :meth:`unrest`.

    Args:
        network: what is to be trained; its bottleneck, as it is now, is the one to learn from.
    """

    def __init__(self, network: DeepVQE):
        super().__init__()
        self.teacher = copy.deepcopy(network.bottle).requires_grad_(False)
        self.register_buffer("calls", torch.tensor(0))  # what is drawn depends on it, also after a resume

    def forward(
        self, model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None, *, scenes: int
    ) -> torch.Tensor:
        """Mean squared difference over the variance of what is to be given; in every other call a share of the unrest.

        Args:
            model: gradients reach the bottleneck of its network.
            noisy, farend: (batch, samples), scenes of the same number of whole frames one after the other.
            scenes: how many of them.
        """
        network, waves = model.network, [x for x in (noisy, farend) if x is not None]
        self.calls += 1
        if scenes > 1 and self.calls % 2 == 0:
            return UNREST_WEIGHT * self.unrest(model, *(wave[:, : wave.shape[1] // scenes] for wave in waves))
        with torch.no_grad():
            x = encode(model, *waves)
            each = x.unflatten(2, (scenes, -1)).transpose(1, 2).flatten(0, 1)
            target = self.teacher(each, fresh_state(network, each))
            target = target.unflatten(0, (-1, scenes)).transpose(1, 2).flatten(2, 3).float()
        given = network.bottle(x, fresh_state(network, x)).float()
        return (given - target).square().mean() / target.var()

    def unrest(self, model: EnhancementModel, *scene: torch.Tensor) -> torch.Tensor:
        """What a nudge of the GRU's state at the end of a scene grows to in the silence after it.

        In decades, above a hundredth of what it was, and on average over the last :data:`REST_FRAMES`.
        """
        network, generator = model.network, torch.Generator().manual_seed(int(self.calls))
        samples = round(STILL_SECONDS * model.sample_rate)
        with torch.no_grad():
            x = encode(model, *(torch.cat([wave, silence(wave, samples, generator)], 1) for wave in scene))
            heard, rest = x.tensor_split([scene[0].shape[1] // model.stft.hop_length], dim=2)
            state = fresh_state(network, x)
            network.bottle(heard, state)
            rest = torch.cat([rest, rest[:, :, -1:].expand(-1, -1, REST_FRAMES, -1)], 2)
            nudged = {name: x + NUDGE * torch.randn(x.shape, generator=generator).to(x) for name, x in state.items()}
        apart = (network.bottle(rest, state) - network.bottle(rest, nudged)).float()
        decades = apart.square().mean((1, 3)).clamp(min=1e-16).log10() / 2
        return (decades[:, -REST_FRAMES:] - decades[:, :1].detach() + 2).relu().mean()


def encode(model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
    """What the bottleneck gets in the whole frames of signals."""
    network, frames = model.network, noisy.shape[1] // model.stft.hop_length
    spec, far = (None if x is None else model.stft.analyse(x)[:, :, :frames] for x in (noisy, farend))
    return network.encode(spec, far, fresh_state(network, spec))[-1]


def silence(like: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Samples of zero or, as converters may rest elsewhere, of a constant from 1e-5 to 0.1: (batch, samples)."""
    level = 10 ** (-1 - 4 * torch.rand(len(like), 1, generator=generator))
    level *= torch.rand(len(like), 1, generator=generator) < 0.5
    return level.to(like).expand(-1, samples)


def fresh_state(network: DeepVQE, like: torch.Tensor) -> dict[str, torch.Tensor]:
    return network.initial_state(len(like), device=like.device, dtype=like.dtype)


def only_bottleneck_learns(network: DeepVQE) -> None:
    network.requires_grad_(False)
    network.bottle.requires_grad_(True)


def check_matching(hparams: dict, model: EnhancementModel) -> None:
    """Raise ValueError for settings with which ``bottleneck_only`` cannot work."""
    rate, hop = hparams["sample_rate"], model.stft.hop_length
    samples = round(hparams["segment_seconds"] * rate)
    frames = f"segment_seconds must be whole frames of {hop} samples, such as {-(-samples // hop) * hop / rate:g}"
    for fault, remedy in (
        (not isinstance(model.network, DeepVQE), "it is for DeepVQE; choose a preset of that network"),
        (not hparams["init_from"], "it is for trained weights; name them with --init_from"),
        (hparams["chain"] < 2, "it needs scenes that follow one another; give --chain 2 or more"),
        (samples % hop, frames),
        (world()[1] > 1, "it takes one process"),
    ):
        if fault:
            raise ValueError(f"--bottleneck_only: {remedy}")
