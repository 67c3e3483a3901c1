"""An optimizer that PyTorch does not have for convolutions: Muon, momentum whose update is made orthogonal.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, for the method; J. Liu et al., "Muon
is scalable for LLM training", arXiv 2502.16982, section 2.2, for a step of the length of AdamW's whatever the shape.
"""

from __future__ import annotations

import torch

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
    """

    def __init__(self, params, lr=1e-3, weight_decay=0.0, momentum=0.95, betas=(0.9, 0.95), eps=1e-8):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """One step; returns what ``closure`` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    update = self._orthogonal if param.ndim > 1 else self._adam
                    change = update(param.grad, self.state[param], group)
                    param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=group["lr"])
        return loss

    @staticmethod
    def _orthogonal(grad: torch.Tensor, state: dict, group: dict) -> torch.Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(grad)
        momentum = state["momentum"].lerp_(grad, 1 - group["momentum"])
        matrix = grad.lerp(momentum, group["momentum"]).flatten(1)
        # The elements of an orthogonal (m, n) have the RMS max(m, n)^-0.5, those of AdamW's steps about 0.2.
        return (orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)).reshape(grad.shape)

    @staticmethod
    def _adam(grad: torch.Tensor, state: dict, group: dict) -> torch.Tensor:
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(grad), "square": torch.zeros_like(grad)}
        state["step"] += 1
        first, second = (1 - beta ** state["step"].item() for beta in group["betas"])
        mean = state["mean"].lerp_(grad, 1 - group["betas"][0])
        square = state["square"].lerp_(grad.square(), 1 - group["betas"][1])
        return mean / first / ((square / second).sqrt() + group["eps"])


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Roughly the orthogonal matrix nearest to (m, n): singular values between 0.7 and 1.2, by Newton-Schulz steps.

    In bfloat16, which is enough for it (Jordan et al.) and several times as fast on CPUs and GPUs that have it.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
