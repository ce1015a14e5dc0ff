"""Linear layers by oneDNN give what torch's own give."""

import copy

import pytest
import torch
from torch import nn

from recipec.runtime.model.cpu_linear import Linear, onednn_works, prepacked_weights, use_onednn

pytestmark = pytest.mark.skipif(not onednn_works(), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (700,), (4, 90), (2, 3, 50)])
def test_values_and_gradients_are_those_of_torch(bias, shape):
    """Output and every gradient agree to rounding, for few rows and many, with and without a bias."""
    torch.manual_seed(0)
    plain = nn.Linear(96, 130, bias=bias)
    ours = copy.deepcopy(plain)
    use_onednn(ours)
    ours_model = nn.Sequential(ours)
    use_onednn(ours_model)
    found = []
    for layer in (plain, ours_model):
        x = torch.randn(*shape, 96, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = layer(x)
        (y.sin() * torch.arange(130)).sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for expected, got in zip(*found, strict=True):
        assert torch.linalg.norm(got - expected) <= 3e-6 * torch.linalg.norm(expected)


def test_large_products_go_another_way_and_small_ones_do_not(monkeypatch):
    """The other library is called beyond a million multiplications only, and not under autocast or in bfloat16."""
    calls = []
    monkeypatch.setattr("recipec.runtime.model.cpu_linear._multiply", lambda x, w, _: calls.append(len(x)) or x @ w.t())
    layer = nn.Sequential(nn.Linear(128, 128, bias=False))
    use_onednn(layer)
    layer(torch.zeros(8, 128))
    assert not calls
    layer(torch.zeros(64, 128))
    assert calls == [64]
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.zeros(64, 128))
    layer.bfloat16()(torch.zeros(64, 128, dtype=torch.bfloat16))
    assert calls == [64]


def test_frozen_weights_keep_no_input():
    """Where only the input needs a gradient it is right, and the input is not kept for the weight's sake."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(128, 128))
    use_onednn(layer)
    x = torch.randn(100, 128, requires_grad=True)
    expected = torch.autograd.grad(nn.functional.linear(x, layer[0].weight).sum(), x)[0]
    layer.requires_grad_(requires_grad=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        found = layer(x)
    assert kept == [(128, 128)]
    assert torch.autograd.grad(found.sum(), x)[0] == pytest.approx(expected, abs=1e-5)


def test_copies_have_weights_of_their_own():
    """A deep copy computes with its own weights; names in the state are unchanged."""
    model = nn.Sequential(nn.Linear(128, 128))
    names = list(model.state_dict())
    use_onednn(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight.zero_()
    x = torch.randn(100, 128)
    assert not torch.equal(model(x), other(x))
    assert list(model.state_dict()) == names
    assert type(other[0]) is Linear


def test_laid_out_weights_are_given_back():
    """Inside, products agree to rounding; afterwards, after an error too, a changed weight counts again."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 700), nn.ReLU(), nn.Linear(700, 256, bias=False), nn.Linear(256, 4))
    x = torch.randn(8, 1, 256)
    with torch.no_grad():
        expected = model(x)
        with prepacked_weights(model, 8, 64):
            assert sorted("forward" in m.__dict__ for m in model if isinstance(m, nn.Linear)) == [False, True, True]
            assert model(x) == pytest.approx(expected, abs=1e-5)
            assert model(x[:3]) == pytest.approx(expected[:3], abs=1e-5)
        with pytest.raises(ZeroDivisionError), prepacked_weights(model, 8, 64):
            raise ZeroDivisionError
        model[0].weight.zero_()
        model[0].bias.zero_()
        assert not torch.equal(model(x), expected)
        assert not any("forward" in m.__dict__ for m in model)


def test_equal_calls_give_equal_bits():
    """Forward and backward are repeatable to the bit."""
    layer = nn.Sequential(nn.Linear(256, 256))
    use_onednn(layer)
    found = []
    for _ in range(2):
        layer.zero_grad()
        x = torch.linspace(-1, 1, 300 * 256).reshape(300, 256).requires_grad_()
        layer(x).sin().sum().backward()
        found.append((x.grad, layer[0].weight.grad.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
