"""A batch's loss and its gradients as CUDA graphs.

A step of a small network is thousands of short kernels, and a GPU waits for Python to start them. Recorded once, they
are started together. Shapes are fixed in a recording, so there is one for each shape of batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class GraphedLoss:
    """`loss(model(*waves), clean)` and auxiliary outputs of the model, replayed from recordings; gradients flow.

    What Python decides while a shape is first seen, such as which batch norms are in training, stays so. No earlier
    loss of the model may be alive then, as its gradients would run on a stream that is not recorded.

    Args:
        model: takes `waves`; its parameters get the gradients.
        loss: takes (batch, samples) estimate and target.
        dtype: of autocast; `torch.float32` is none.
        auxiliary: called after each forward pass; gives tensors with gradients that the pass made beside its output.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        dtype: torch.dtype,
        auxiliary: Callable[[], list[torch.Tensor]] = lambda: [],
    ):
        self.model, self.loss, self.dtype, self.auxiliary = model, loss, dtype, auxiliary
        self.recordings: dict[tuple[torch.Size, ...], Callable] = {}
        self.pool = torch.cuda.graph_pool_handle()  # no two recordings run at once, so they share their memory

    def __call__(self, clean: torch.Tensor, *waves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The loss, and the auxiliary outputs."""
        shapes = tuple(wave.shape for wave in (clean, *waves))
        if shapes not in self.recordings:
            examples = tuple(wave.clone() for wave in (clean, *waves))
            with torch.autocast("cuda", enabled=False):  # the recorded pass has its own
                self.recordings[shapes] = torch.cuda.make_graphed_callables(
                    _Pass(self), examples, allow_unused_input=True, pool=self.pool
                )
        return self.recordings[shapes](clean, *waves)


class _Pass(nn.Module):
    """What is recorded: a module, as its parameters are asked for; a new one each time, as its forward is replaced."""

    def __init__(self, graphed: GraphedLoss):
        super().__init__()
        self.model, self.loss = graphed.model, graphed.loss
        self.dtype, self.auxiliary = graphed.dtype, graphed.auxiliary

    def forward(self, clean: torch.Tensor, *waves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Weights in another precision must be computed in what is recorded, not be taken from before it.
        with torch.autocast("cuda", self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False):
            enhanced = self.model(*waves)
        return (self.loss(enhanced.float().reshape_as(clean), clean), *self.auxiliary())
