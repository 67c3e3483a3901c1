"""Grow a trained DeepVQE: a larger network that starts as the function which a smaller one has learnt.

T. Chen, I. Goodfellow, J. Shlens, "Net2Net: Accelerating learning via knowledge transfer", ICLR 2016, has the idea; the
rule for width is that of T. Wei et al., "Network morphism", ICML 2016. The small network's channels become the first
channels of the large one. Additional channels compute something from the start, at random, but nobody listens: their
weights into the old channels are zero, and learn from the first step on. A far end is such additional channels, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from deepvqe_hub.models.causal import SubpixelConv2d
from deepvqe_hub.models.deepvqe import Bottleneck, DeepVQE, EncoderBlock, ResidualBlock


@torch.no_grad()
def grow(large: DeepVQE, small: DeepVQE, spec: torch.Tensor | None = None, farend: torch.Tensor | None = None) -> None:
    """Let `large` compute what `small` computes: its additional channels, residual blocks and level are at rest.

    Wider, with more residual blocks or with a far end, it is the same function. One level deeper, it is nearly so: what
    enters and leaves the small bottleneck now passes an encoder and a decoder block, which shift it to where ELU is
    straight.

    Args:
        large: changed in place; its additional channels keep the random weights that they have.
        small: has as many levels, or one less.
        spec, farend: some seconds of what the networks are for, (batch, bins, frames, 2), from which additional batch
            norms take their first statistics; needed for an additional level.

    Raises:
        ValueError: as `check_growth`, or an additional level and no `spec`.
    """
    check_growth(large, small)
    deeper = large.depth > small.depth
    if deeper and spec is None:
        raise ValueError("an additional level needs an example of the input, spec")
    parts, old = dict(large.named_modules()), dict(small.named_modules())
    for name, module in old.items():
        if isinstance(module, nn.Conv2d):
            rows, columns = _places(name, large, small)
            _put(parts[name].weight, module.weight, rows, columns)
            _put(parts[name].bias, module.bias, rows)
    for name, module in parts.items():
        block = name.rpartition(".")[0]
        new = name not in old and (small.farend or not name.startswith("farblock"))  # a new far end need not rest
        if isinstance(module, ResidualBlock) and new:
            channels = _old_channels(block, small)
            module.bn.weight[:channels] = 0.0  # x + ELU(0)
            module.bn.bias[:channels] = 0.0

    # Where in the large bottleneck the features of the small one are; a feature is a channel at a bin.
    features = torch.arange(small.bottle.fc.out_features)
    if deeper:
        channel, position = features // small.bottle.bins, features % small.bottle.bins
        features = (channel + position % 2 * small.bottle.channels) * large.bottle.bins + position // 2
    _put_bottleneck(large.bottle, small.bottle, features)
    hooks = _deepen(large, small) if deeper else []
    if spec is not None:
        _take_statistics(large, spec, farend)
    for hook in hooks:
        hook.remove()
    for name, module in old.items():
        if isinstance(module, nn.BatchNorm2d):
            for key in ("weight", "bias", "running_mean", "running_var"):
                _put(getattr(parts[name], key), getattr(module, key), torch.arange(module.num_features))


def check_growth(large: DeepVQE, small: DeepVQE) -> None:
    """Raise a ValueError that says all of what keeps `large` from growing out of `small`."""
    problems = []
    for name in ("bins", "compression"):
        ours, theirs = getattr(large, name), getattr(small, name)
        if ours != theirs:
            problems.append(f"{name} {theirs} where this one has {ours}")
    if type(large.ccm) is not type(small.ccm) or large.deblock1.activation != small.deblock1.activation:
        problems.append("another kind of mask")
    if small.farend and large.farend and (small.align is None) != (large.align is None):
        problems.append("another kind of alignment")
    orders = [getattr(network.deblock1.deconv, "order", "transposed") for network in (large, small)]
    if orders[0] != orders[1]:
        problems.append(f'upsampling "{orders[1]}" where this one has "{orders[0]}"')
    if large.depth - small.depth not in (0, 1):
        problems.append(f"{small.depth} levels where this one has {large.depth}: one can be added at a time")
    elif large.depth > small.depth and (orders[0] != "interleave" or large.bottle.channels < 2 * small.bottle.channels):
        problems.append('one level less, which needs twice its channels in the bottleneck and upsampling "interleave"')
    if orders[0] == "transposed" and not problems:
        problems.append("transposed convolutions, which cannot grow")
    sizes = dict(large.named_parameters())
    for name, value in small.named_parameters():
        ours, theirs = sizes.get(name, torch.empty(0)).shape, value.shape
        if len(ours) != len(theirs) or ours[2:] != theirs[2:] or any(a < b for a, b in zip(ours, theirs)):
            problems.append(f"{name} {tuple(theirs)} where this one has {tuple(ours) if name in sizes else 'none'}")
    if problems:
        raise ValueError(f"a network cannot grow out of one that has {'; '.join(problems)}")


def _old_channels(block: str, small: DeepVQE) -> int:
    """Channels that the residual block of an encoder or decoder block has of `small`."""
    try:
        module = small.get_submodule(block)
    except AttributeError:  # of the additional level, where bins are halved and channels doubled
        return 2 * small.bottle.channels
    return module.bn.num_features if isinstance(module, EncoderBlock) else module.skip_conv.out_channels


def _places(name: str, large: DeepVQE, small: DeepVQE) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the outputs and inputs of a convolution are among those of the large network."""
    new, old = large.get_submodule(name), small.get_submodule(name)
    rows, columns = torch.arange(old.out_channels), torch.arange(old.in_channels)
    if isinstance(small.get_submodule(name.rpartition(".")[0]), SubpixelConv2d):  # two groups of outputs
        half = old.out_channels // 2
        rows = rows % half + rows // half * (new.out_channels // 2)
    if name == "enblock3.conv" and small.farend:  # the far end stands behind the microphone
        mic = small.enblock2.bn.num_features
        columns = torch.where(columns < mic, columns, columns - mic + large.enblock2.bn.num_features)
    return rows, columns


def _put(new: torch.Tensor, old: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor | None = None) -> None:
    """`old` into `new`, where it shall be, and zeros beside it."""
    new[rows] = 0.0
    new[rows if columns is None else (rows[:, None], columns)] = old.to(new)


def _put_bottleneck(new: Bottleneck, old: Bottleneck, features: torch.Tensor) -> None:
    units = torch.arange(old.gru.hidden_size)
    gates = torch.cat([units + gate * new.gru.hidden_size for gate in range(3)])
    _put(new.gru.weight_ih_l0, old.gru.weight_ih_l0, gates, features)
    _put(new.gru.weight_hh_l0, old.gru.weight_hh_l0, gates, units)
    _put(new.gru.bias_ih_l0, old.gru.bias_ih_l0, gates)
    _put(new.gru.bias_hh_l0, old.gru.bias_hh_l0, gates)
    _put(new.fc.weight, old.fc.weight, features, units)
    _put(new.fc.bias, old.fc.bias, features)


def _deepen(large: DeepVQE, small: DeepVQE) -> list:
    """Let even and odd bins pass the additional level, each in channels of their own.

    Its batch norms get their weights in the next pass in training mode, by the hooks that are returned.
    """
    encoder, decoder = (large.get_submodule(f"{kind}{large.depth}") for kind in ("enblock", "deblock"))
    after = large.get_submodule(f"deblock{small.depth}")
    width = small.bottle.channels
    channels, both = torch.arange(width), torch.arange(2 * width)

    encoder.conv.weight[both] = 0.0
    encoder.conv.weight[channels, channels, -1, 1] = 1.0  # of three bins, an even one and its neighbours
    encoder.conv.weight[channels + width, channels, -1, 2] = 1.0
    encoder.conv.bias[both] = 0.0

    conv = decoder.deconv.conv
    groups = torch.cat([channels, channels + conv.out_channels // 2])
    conv.weight[groups] = 0.0
    conv.weight[groups, both, -1, 1] = 1.0
    conv.bias[groups] = 0.0
    decoder.skip_conv.weight[both] = 0.0
    decoder.skip_conv.bias[both] = 0.0

    def undo_in_gru(shift: torch.Tensor) -> None:
        features = shift.new_zeros(large.bottle.channels, large.bottle.bins)
        features[: 2 * width] = shift[:, None]
        large.bottle.gru.bias_ih_l0 -= large.bottle.gru.weight_ih_l0 @ features.flatten()

    def undo_after(shift: torch.Tensor) -> None:
        after.skip_conv.bias[:width] -= shift

    return [_straighten(encoder.bn, 2 * width, undo_in_gru), _straighten(decoder.bn, width, undo_after)]


def _straighten(norm: nn.BatchNorm2d, channels: int, undo: Callable[[torch.Tensor], None]):
    """Let `norm` only shift its first channels, to where they are positive and ELU lets them pass."""

    def hook(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        x = inputs[0][:, :channels]
        shift = 1 - x.amin((0, 2, 3))
        norm.weight[:channels] = (x.var((0, 2, 3), correction=0) + norm.eps).sqrt()
        norm.bias[:channels] = x.mean((0, 2, 3)) + shift
        undo(shift)

    return norm.register_forward_pre_hook(hook)


def _take_statistics(network: DeepVQE, spec: torch.Tensor, farend: torch.Tensor | None) -> None:
    """Let all batch norms remember those of one pass."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    training, momentum = [module.training for module in network.modules()], [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(spec, farend)
    for norm, usual in zip(norms, momentum):
        norm.momentum = usual
    for module, mode in zip(network.modules(), training):
        module.training = mode
