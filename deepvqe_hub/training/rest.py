"""States from which a GRU does not come to rest in digital silence: found, kept and trained away."""

from __future__ import annotations

import torch
from torch import nn

SIGNALS = 64  # whose states are kept
FRAMES = 80  # of silence in each call
LAST = 30  # of them, in which a perturbation must have shrunk
PERTURBATION = 1e-3  # of a state within ±1; what becomes of it is far above the roundings of float32


class Rest(nn.Module):
    """What a perturbation of a GRU's state grows to in digital silence.

    There the GRU gets the same frame over and over. Unless it has learnt to come to rest then, it may swing on and
    magnify each rounding, in which a stream and the whole signal differ. Few states are such, and each is rare, so
    those that were found are kept: in every call `SIGNALS` states go on through silence, each beside a perturbed
    copy, and where the perturbation shrank most, states that come from other scenes take their place.

    Args:
        bottle: a bottleneck that is like those to come.
    """

    def __init__(self, bottle: nn.Module):
        super().__init__()
        like = bottle.fc.weight
        self.register_buffer("states", like.new_zeros(SIGNALS, bottle.gru.hidden_size))
        self.register_buffer("still", like.new_zeros(SIGNALS, bottle.fc.out_features))  # the frame of each silence
        # Decades by which the perturbation of each state has grown; -inf where none is kept yet.
        self.register_buffer("instability", like.new_full((SIGNALS,), -torch.inf))

    def forward(
        self, bottle: nn.Module, quiet: torch.Tensor, ended: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Decades by which perturbations have grown in the last frames, plus 0.1, where that is positive, on average.

        Args:
            bottle: a bottleneck; gradients reach it.
            quiet: (scenes, channels, frames, bins), what it gets after some scenes, until silence has lasted.
            ended: (scenes, hidden), states of its GRU at the end of these scenes.
            generator: what perturbations are drawn by.
        """
        self.renew(bottle, quiet, ended)
        taken = self.instability.isfinite().nonzero()[:, 0]
        states = self.states[taken]
        still = self.still[taken].unflatten(1, (quiet.shape[1], 1, quiet.shape[3])).expand(-1, -1, FRAMES, -1)
        perturbation = PERTURBATION * torch.randn(states.shape, generator=generator).to(states)
        y, later = go_on(bottle, torch.cat([still, still]), torch.cat([states, states + perturbation]))
        given, perturbed = y.chunk(2)
        decades = (given - perturbed).square().mean((1, 3)).clamp(min=1e-18).log10() / 2
        instability = decades[:, -LAST:] - decades[:, :1].detach()
        self.states[taken] = later[: len(taken)].detach()
        self.instability[taken] = instability.detach().mean(1)
        return (instability + 0.1).relu().mean()

    @torch.no_grad()
    def renew(self, bottle: nn.Module, quiet: torch.Tensor, ended: torch.Tensor) -> None:
        """Put the states that other scenes lead to in place of those from which the GRU rests best."""
        quiet, ended = quiet[:SIGNALS], ended[:SIGNALS]
        rested = self.instability.topk(len(ended), largest=False).indices
        self.states[rested] = go_on(bottle, quiet, ended)[1]
        self.still[rested] = quiet[:, :, -1].flatten(1)
        self.instability[rested] = 0.0  # taken


def go_on(bottle: nn.Module, x: torch.Tensor, states: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """What a bottleneck gives for (batch, channels, frames, bins), and the states of its GRU after them.

    Args:
        states: (batch, hidden), those before; None is a beginning.
    """
    name = f"{bottle.gru.key}.hidden"
    state = {name: x.new_zeros(len(x), bottle.gru.hidden_size) if states is None else states}
    return bottle(x, state), state[name]
