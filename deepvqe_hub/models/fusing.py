"""Frozen copies of networks that compute the same in fewer operations: batch norms fused into convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

Module = TypeVar("Module", bound=nn.Module)
_REWRITERS = (prune.BasePruningMethod, SpectralNorm, WeightNorm)  # hooks that set a weight before each call


def fused_copy(network: Module) -> Module:
    """A frozen copy with every batch norm fused into its convolution, by the method `fuse_norms` of its blocks.

    What others have put in the place of a convolution keeps its norm.
    """
    network = copy.deepcopy(network, deepcopy_memo(network)).eval().requires_grad_(False)
    for module in network.modules():
        remove_reparametrizations(module)
    for module in network.modules():
        if hasattr(module, "fuse_norms"):
            module.fuse_norms()
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # those of a copy lie apart, which cuDNN would mend at every call
    return network


def split_norm(norm: nn.BatchNorm2d | None) -> tuple[nn.BatchNorm2d | None, Callable[[torch.Tensor], torch.Tensor]]:
    """Split a norm into what `fused_weights` takes into the weights before it, and what is left to do after them.

    In evaluation mode all of it is fused, which makes one pass of two; in training mode the batch decides, so none is.
    """
    return (None, norm) if norm is not None and norm.training else (norm, lambda x: x)


def fused_weights(
    conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of `conv` followed by `norm` in evaluation mode; its own where there is no norm.

    Where the norm comes after a rearrangement of channels into bins (`SubpixelConv2d`) it has fewer channels
    than the convolution; each of its channels then scales every group of the convolution's.
    """
    if norm is None:
        return conv.weight, conv.bias
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    groups = conv.out_channels // scale.numel()
    scale, shift = scale.repeat(groups), shift.repeat(groups)
    per_output = (1, -1, 1, 1) if conv.transposed else (-1, 1, 1, 1)
    return conv.weight * scale.view(per_output), conv.bias * scale + shift


def fuse_norm(conv: nn.Module, norm: nn.BatchNorm2d | None) -> nn.BatchNorm2d | None:
    """Fuse `norm`, where there is one, into the weights of `conv` for good; returns what is left of it.

    That is None, unless something else stands in the place of the convolution, such as an adapter around it.
    """
    if norm is None or not isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
        return norm
    weight, bias = fused_weights(conv, norm)
    conv.weight, conv.bias = nn.Parameter(weight.detach(), False), nn.Parameter(bias.detach(), False)
    return None


def deepcopy_memo(network: nn.Module) -> dict[int, object]:
    """A memo for `copy.deepcopy`: hooks stay what they are, and computed tensors lose their graph.

    A hook may keep what cannot be copied, and its owner reads the original; weights are computed, for example, in a
    GRU that is parametrized, and under `torch.func.functional_call`.
    """
    memo = {}
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, dict):
                value = list(value.values())
            for item in value if isinstance(value, list) else [value]:
                if name.endswith("hooks"):
                    memo[id(item)] = item
                elif isinstance(item, torch.Tensor) and not item.is_leaf:
                    memo[id(item)] = item.detach().clone()
    for module in network.modules():  # one that is a hook, too, is still a part
        memo.pop(id(module), None)
    return memo


def remove_reparametrizations(module: nn.Module) -> None:
    """Replace pruning and parametrizations, such as weight norm, by the values that they give.

    `torch.nn.utils.parametrize` removes them from the class, which a copy shares with what it was copied from.
    """
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, _REWRITERS):
            hook.remove(module)
            del module._forward_pre_hooks[key]
    if not parametrize.is_parametrized(module):
        return
    values = {name: getattr(module, name).detach() for name in module.parametrizations}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value, False))
