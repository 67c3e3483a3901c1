"""States from which a GRU does not come to rest in digital silence: found, kept and trained away."""

from __future__ import annotations

import torch
from torch import nn

SIGNALS = 64  # whose states are kept
SETTLED = 60  # frames of silence before a state is one of them
FRAMES = 80  # of silence in each call
LAST = 30  # of them, in which a nudge must have shrunk
NUDGE = 1e-3  # of a state within ±1; what becomes of it is far above the roundings of float32


class Rest(nn.Module):
    """What a nudge of a GRU's state grows to in digital silence.

    There the GRU gets the same frame over and over. Unless it has learnt to come to rest then, it may swing on and
    magnify each rounding, in which a stream and the whole signal differ. Few states are such, and each is rare, so
    those that were found are kept: in every call :data:`SIGNALS` states go on through silence, each beside a nudged
    copy, and where the nudge shrank most, the states at the end of other scenes take their place.

    Args:
        silences: what a bottleneck gets in some silences, over and over: (silences, channels, 1, bins).
        hidden: units of its GRU.
    """

    def __init__(self, silences: torch.Tensor, hidden: int):
        super().__init__()
        self.register_buffer("silences", silences)
        self.register_buffer("heard", torch.arange(SIGNALS, device=silences.device) % len(silences))  # by each signal
        self.register_buffer("states", silences.new_zeros(SIGNALS, hidden))
        self.register_buffer("growth", silences.new_full((SIGNALS,), -torch.inf))

    def forward(self, bottle: nn.Module, ended: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Decades by which nudges have grown in the last frames, plus 0.1, where that is positive, on average.

        Args:
            bottle: a bottleneck; gradients reach it.
            ended: (scenes, hidden), states of its GRU at the end of scenes.
            generator: what silences and nudges are drawn by.
        """
        self.renew(bottle, ended, generator)
        nudge = NUDGE * torch.randn(self.states.shape, generator=generator).to(self.states)
        y, states = in_silence(
            bottle, self.silences[self.heard].repeat(2, 1, 1, 1), torch.cat([self.states, self.states + nudge]), FRAMES
        )
        given, nudged = y.chunk(2)
        decades = (given - nudged).square().mean((1, 3)).clamp(min=1e-18).log10() / 2
        growth = decades[:, -LAST:] - decades[:, :1].detach()
        self.states.copy_(states[:SIGNALS].detach())
        self.growth.copy_(growth.detach().mean(1))
        return (growth + 0.1).relu().mean()

    @torch.no_grad()
    def renew(self, bottle: nn.Module, ended: torch.Tensor, generator: torch.Generator) -> None:
        """Put the states at the end of scenes in place of those from which the GRU rests best."""
        ended = ended[:SIGNALS]
        rested = self.growth.topk(len(ended), largest=False).indices
        self.heard[rested] = torch.randint(len(self.silences), (len(ended),), generator=generator).to(self.heard)
        self.states[rested] = in_silence(bottle, self.silences[self.heard[rested]], ended, SETTLED)[1]


def in_silence(
    bottle: nn.Module, still: torch.Tensor, states: torch.Tensor, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a bottleneck gives for a frame that is repeated, (batch, channels, frames, bins), and its GRU's states."""
    name = f"{bottle.gru.key}.hidden"
    state = {name: states}
    return bottle(still.expand(-1, -1, frames, -1), state), state[name]
