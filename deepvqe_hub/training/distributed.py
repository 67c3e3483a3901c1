"""Several processes that together do what one would do."""

from __future__ import annotations

import torch
from speechbrain.utils.distributed import is_distributed_initialized
from torch import distributed, nn


def rank() -> int:
    """Number of this process; 0 outside of `torchrun`."""
    return distributed.get_rank() if is_distributed_initialized() else 0


def world_size() -> int:
    """Number of all processes; 1 outside of `torchrun`."""
    return distributed.get_world_size() if is_distributed_initialized() else 1


def share(items: int, batch: int = 1, chain: int = 1) -> list[int]:
    """The items of this process: every n-th, so that the k-th batches of all processes are together the k-th of one.

    Args:
        items: size of the data set.
        batch: items that a process takes at once; what does not fill a batch on every process is left out, because a
            process with a batch more would wait for the others for ever.
        chain: so many items stay side by side, and every n-th of these groups is taken; `batch` is a multiple.
    """
    processes = world_size()
    starts = range(rank() * chain, items - items % (batch * processes), processes * chain)
    return [start + i for start in starts for i in range(chain)]


def gather(lists: dict[str, list[float]]) -> dict[str, list[float]]:
    """Join lists of numbers of all processes; every process gets them all."""
    if world_size() == 1:
        return lists
    parts = [None] * world_size()
    distributed.all_gather_object(parts, lists)
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [value for part in parts for value in part.get(name, [])] for name in names}


class MeanOverProcesses(torch.autograd.Function):
    """Mean of a tensor over all processes; its gradient, too, collects what all processes make of it."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return _mean(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _mean(gradient)


def _mean(x: torch.Tensor) -> torch.Tensor:
    x = x.contiguous().clone()
    distributed.all_reduce(x)
    return x / distributed.get_world_size()


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, equally large, on any device; PyTorch's own needs a GPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        over, shape = (0, 2, 3), (1, -1, 1, 1)
        mean = MeanOverProcesses.apply(x.float().mean(over))
        centred = x - mean.view(shape)
        variance = MeanOverProcesses.apply(centred.float().square().mean(over))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * distributed.get_world_size()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replace every `BatchNorm2d` inside `module`, keeping its tensors."""
        for parent in list(module.modules()):
            for name, norm in parent.named_children():
                if type(norm) is nn.BatchNorm2d:
                    new = cls(norm.num_features, norm.eps, norm.momentum).to(norm.weight.device)
                    new._parameters.update(norm._parameters)
                    new._buffers.update(norm._buffers)
                    parent.add_module(name, new)
        return module
