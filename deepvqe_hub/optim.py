"""An optimizer that PyTorch does not have for convolutions: Muon, momentum whose update is made orthogonal.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, for the method; J. Liu et al., "Muon
is scalable for LLM training", arXiv 2502.16982, section 2.2, for a step of the length of AdamW's whatever the shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.optimizer import ParamsT

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from Jordan et al.
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon for everything that is a matrix, AdamW for biases and norms.

    `torch.optim.Muon` takes matrices alone; here a convolution is the matrix (out_channels, in_channels * kernel).

    Args:
        params: parameters, as for any optimizer.
        lr: learning rate; several times that of AdamW is good.
        weight_decay: decoupled, as in AdamW.
        momentum: of the matrices, in Nesterov's form.
        betas, eps: of AdamW.

    Raises:
        ValueError: for an `lr`, `weight_decay` or `eps` below 0, or `momentum` or `betas` outside 0..1, 1 not
            included.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ):
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more, and finite, not {value}")
        if not all(0 <= value < 1 for value in (momentum, *betas)) or len(betas) != 2:
            raise ValueError(f"momentum and two betas must lie from 0 to below 1, not {momentum}, {betas}")
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; returns what `closure` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Parameters of one shape go together: on a GPU many small products take as long as they are many.
            alike: dict[tuple[int, ...] | None, list[torch.Tensor]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    alike.setdefault(param.flatten(1).shape if param.ndim > 1 else None, []).append(param)
            for shape, params in alike.items():
                changes = self._orthogonal(params, group) if shape else self._adam(params, group)
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, changes, alpha=-group["lr"])
        return loss

    def _orthogonal(self, params: list[torch.Tensor], group: dict) -> list[torch.Tensor]:
        """Changes of matrices that have one shape when flattened."""
        for param in params:
            if not self.state[param]:
                self.state[param]["momentum"] = torch.zeros_like(param)
        grads, momenta = [param.grad for param in params], [self.state[param]["momentum"] for param in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        matrices = torch.stack([grad.flatten(1) for grad in torch._foreach_lerp(grads, momenta, group["momentum"])])
        # The elements of an orthogonal (m, n) have the RMS max(m, n)^-0.5, those of AdamW's steps about 0.2.
        updates = orthogonal(matrices) * (0.2 * max(matrices.shape[1:]) ** 0.5)
        return [update.reshape(param.shape) for update, param in zip(updates, params)]

    def _adam(self, params: list[torch.Tensor], group: dict) -> list[torch.Tensor]:
        """Changes of biases and norms."""
        for param in params:
            if not self.state[param]:
                zeros = {"mean": torch.zeros_like(param), "square": torch.zeros_like(param)}
                self.state[param] |= {"step": torch.zeros(()), **zeros}
        grads, states = [param.grad for param in params], [self.state[param] for param in params]
        means, squares = [state["mean"] for state in states], [state["square"] for state in states]
        torch._foreach_add_([state["step"] for state in states], 1)
        counts = [state["step"].item() for state in states]
        torch._foreach_lerp_(means, grads, 1 - group["betas"][0])
        torch._foreach_lerp_(squares, torch._foreach_mul(grads, grads), 1 - group["betas"][1])
        deviations = torch._foreach_sqrt(torch._foreach_div(squares, [1 - group["betas"][1] ** n for n in counts]))
        torch._foreach_add_(deviations, group["eps"])
        return torch._foreach_div(torch._foreach_div(means, [1 - group["betas"][0] ** n for n in counts]), deviations)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Roughly the nearest orthogonal matrices to (…, m, n), by Newton-Schulz steps: singular values from 0.7 to 1.2.

    In bfloat16, which is enough for it (Jordan et al.) and several times as fast on CPUs and GPUs that have it.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16().reshape(-1, *x.shape[-2:])  # one batch dimension
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrix.shape).to(matrix.dtype)
