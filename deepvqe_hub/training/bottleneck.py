"""The bottleneck of a trained network learns, by itself, to leave behind what it has heard before."""

from __future__ import annotations

import copy

import torch
from torch import nn

from deepvqe_hub.enhancement import EnhancementModel
from deepvqe_hub.models import DeepVQE
from deepvqe_hub.training.distributed import world


class SceneMatching(nn.Module):
    """How far a bottleneck is, in a signal of several scenes, from what it gives for each scene from silence on.

    The convolutions of a DeepVQE remember a second in all, and its alignment another. The GRU alone remembers earlier
    scenes for longer, so what they spoil of the next ones is spoilt there. It learns from a copy of itself that begins
    anew with each scene. That takes the encoder, without gradients, and no decoder.

    Args:
        network: what is to be trained; its bottleneck, as it is now, is the one to learn from.
    """

    def __init__(self, network: DeepVQE):
        super().__init__()
        self.teacher = copy.deepcopy(network.bottle).requires_grad_(False)

    def forward(
        self, model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None, *, scenes: int
    ) -> torch.Tensor:
        """Mean squared difference over the variance of what is to be given.

        Args:
            model: gradients reach the bottleneck of its network.
            noisy, farend: (batch, samples), scenes of the same number of whole frames one after the other.
            scenes: how many of them.
        """
        network, samples = model.network, noisy.shape[1]
        with torch.no_grad():
            frames = samples // model.stft.hop_length
            spec, far = (None if x is None else model.stft.analyse(x)[:, :, :frames] for x in (noisy, farend))
            x = network.encode(spec, far, fresh_state(network, spec))[-1]
            each = x.unflatten(2, (scenes, -1)).transpose(1, 2).flatten(0, 1)
            target = self.teacher(each, fresh_state(network, each))
            target = target.unflatten(0, (-1, scenes)).transpose(1, 2).flatten(2, 3).float()
        given = network.bottle(x, fresh_state(network, x)).float()
        return (given - target).square().mean() / target.var()


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
