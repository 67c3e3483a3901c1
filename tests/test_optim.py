"""The optimizer of the recipes for small machines."""

import copy

import pytest
import torch
from torch import nn

from deepvqe_hub.optim import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_all_directions_become_alike(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))  # singular values far apart
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.4 and values.max() < 1.3
    assert torch.allclose(orthogonal(100 * matrix), orthogonal(matrix), atol=0.02)  # bfloat16


def test_steps_are_as_long_as_those_of_adamw():
    torch.manual_seed(0)
    for layer in (nn.Conv2d(6, 12, (4, 3)), nn.Conv2d(4, 24, (1, 2)), nn.Linear(30, 24)):
        before, rate = layer.weight.detach().clone(), 0.01
        layer.weight.grad = 1e-3 * torch.randn_like(layer.weight)
        Muon(layer.parameters(), lr=rate).step()
        step = (layer.weight - before).square().mean().sqrt()
        assert 0.15 * rate < step < 0.25 * rate


def test_matrices_go_by_momentum_and_decay():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 10))
    expected, momentum = weight.detach().clone(), torch.zeros(6, 10)
    optimizer = Muon([weight], lr=0.01, weight_decay=0.1)
    for _ in range(4):
        weight.grad = torch.randn(6, 10)
        optimizer.step()
        momentum = torch.lerp(weight.grad, momentum, 0.95)
        step = 0.2 * 10**0.5 * orthogonal(torch.lerp(weight.grad, momentum, 0.95))
        expected = 0.999 * expected - 0.01 * step
    assert torch.allclose(weight, expected, atol=1e-4)


def test_vectors_go_by_adamw():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizers = Muon([ours], **options), torch.optim.AdamW([theirs], betas=(0.9, 0.95), **options)
    for _ in range(5):
        grad = torch.randn(7) * torch.logspace(-9, 0, 7)  # some as small as eps
        for param, optimizer in zip((ours, theirs), optimizers, strict=True):
            param.grad = grad.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_goes_on_from_a_checkpoint():
    torch.manual_seed(0)
    model, inputs = nn.GRU(4, 6), torch.randn(9, 2, 4)
    optimizer = Muon(model.parameters(), lr=0.01)

    def train(model, optimizer):
        optimizer.zero_grad()
        model(inputs)[0].square().sum().backward()
        optimizer.step()

    train(model, optimizer)
    other = copy.deepcopy(model)
    resumed = Muon(other.parameters(), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for pair in ((model, optimizer), (other, resumed)):
        train(*pair)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
