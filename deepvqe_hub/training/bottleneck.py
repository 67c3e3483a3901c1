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

    In digital silence the GRU gets the same frame over and over. Unless it has learnt to come to rest then, it may
    swing on and magnify each rounding. Faint noise keeps it from that, so in every other call the second scene is
    silence, for which it is to give what the copy gives for faint noise.

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
        """Mean squared difference over the variance of what is to be given.

        Args:
            model: gradients reach the bottleneck of its network.
            noisy, farend: (batch, samples), scenes of the same number of whole frames one after the other.
            scenes: how many of them.
        """
        network, waves = model.network, [x for x in (noisy, farend) if x is not None]
        with torch.no_grad():
            if scenes > 1 and self.calls % 2:
                silent, faint = silence(waves, scenes, seed=int(self.calls))
                x, meant = encode(model, *silent), encode(model, *faint)
                meant = torch.cat([meant, x[:, :, meant.shape[2] :]], 2)
            else:
                x = meant = encode(model, *waves)
            each = meant.unflatten(2, (scenes, -1)).transpose(1, 2).flatten(0, 1)
            target = self.teacher(each, fresh_state(network, each))
            target = target.unflatten(0, (-1, scenes)).transpose(1, 2).flatten(2, 3).float()
            self.calls += 1
        given = network.bottle(x, fresh_state(network, x)).float()
        return (given - target).square().mean() / target.var()


def encode(model: EnhancementModel, noisy: torch.Tensor, farend: torch.Tensor | None = None) -> torch.Tensor:
    """What the bottleneck gets in the whole frames of signals."""
    network, frames = model.network, noisy.shape[1] // model.stft.hop_length
    spec, far = (None if x is None else model.stft.analyse(x)[:, :, :frames] for x in (noisy, farend))
    return network.encode(spec, far, fresh_state(network, spec))[-1]


def silence(waves: list[torch.Tensor], scenes: int, *, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Signals with digital silence for their second scene; and two scenes of them, with faint noise in that silence.

    A converter may rest at another value than zero, so the silence of half of the batch is a constant.
    """
    generator, silent, faint = torch.Generator().manual_seed(seed), [], []
    for wave in waves:
        first, second, *others = wave.chunk(scenes, 1)
        level = 10 ** (-1 - 4 * torch.rand(len(wave), 1, generator=generator))  # 1e-5 to 0.1
        level[::2] = 0
        noise = 1e-6 * torch.randn(second.shape, generator=generator)
        silent.append(torch.cat([first, level.expand_as(noise).to(wave), *others], 1))
        faint.append(torch.cat([first, (level + noise).to(wave)], 1))
    return silent, faint


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
