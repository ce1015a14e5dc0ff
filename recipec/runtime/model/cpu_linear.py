"""Matrix products in float32 on a CPU by oneDNN, where they are large enough to gain from it.

``torch.nn.functional.linear`` uses a library with kernels that are slow on processors of other makers:
oneDNN, which torch carries too, was measured about twice as fast there, forward and backward, and nowhere slower
beyond a million multiplications.  Results differ by rounding alone, and equal calls give equal bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_WORTH = 1 << 20  # multiplications: below, the call costs more than it saves; half, once the weight is laid out
_STEPS = 4  # products with a weight, before laying it out pays


class Linear(nn.Linear):
    """A linear layer that chooses its library by size; parameters, names and meaning are those of its parent."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """Multiply rows by the weight."""
        if not (_plain(input) and _plain(self.weight) and input.numel() * self.out_features >= _WORTH):
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if torch.is_grad_enabled():
            product: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return product
        return _multiply(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Let every linear layer of ``model`` choose its library; a model that later moves to a GPU is as it was there.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    >>> use_onednn(model)
    >>> isinstance(model[0], nn.Linear), model.state_dict().keys() == nn.Sequential(nn.Linear(3, 2)).state_dict().keys()
    (True, True)
    """
    if onednn_works():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear


@contextmanager
def prepacked_weights(model: nn.Module, rows: int, steps: int) -> Iterator[None]:
    """Let linear layers multiply ``rows`` rows, ``steps`` times, by weights rearranged once for that.

    While it lasts the weights are in memory twice, must not change, and get no gradient.
    """
    touched = [m for m in model.modules() if _suits(m, rows)] if steps >= _STEPS and onednn_works() else []
    try:
        for module in touched:
            module.forward = _laid_out(module, rows)
        yield
    finally:
        for module in touched:
            module.__dict__.pop("forward", None)


@functools.cache
def onednn_works() -> bool:
    """Whether this build of torch has the operations, and they give what they should."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    layer = nn.Linear(24, 40)
    grid_RI = torch.linspace(-1, 1, 72).reshape(3, 24)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 960).reshape(40, 24).sin())
        expected = layer(grid_RI)
        try:
            results = _multiply(grid_RI, layer.weight, layer.bias), _laid_out(layer, 2)(grid_RI)
        except (AttributeError, RuntimeError):
            return False
        return all(torch.allclose(one, expected, atol=1e-4) for one in results)


class _Product(torch.autograd.Function):
    """``x W^T + b`` and its two products backwards; transposed views are taken as they are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        by_x, by_weight, _ = ctx.needs_input_grad
        ctx.shape = x.shape
        ctx.save_for_backward(x if by_weight else None, weight if by_x else None)  # frozen weights keep no input
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_NO = grads[0].reshape(-1, grads[0].shape[-1])
        wanted = ctx.needs_input_grad
        return (
            _multiply(grad_NO, weight.t(), None).view(ctx.shape) if wanted[0] else None,
            _multiply(grad_NO.t(), x.reshape(-1, ctx.shape[-1]).t(), None) if wanted[1] else None,
            grad_NO.sum(0) if wanted[2] else None,
        )


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")  # noqa: SLF001
    return product


def _laid_out(module: Any, rows: int) -> Callable[[Tensor], Tensor]:
    weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)  # noqa: SLF001
    bias = module.bias
    return lambda input: _multiply(input, weight, bias)  # noqa: A006 - the parent's name


def _plain(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _suits(module: nn.Module, rows: int) -> bool:
    return (
        type(module) in {nn.Linear, Linear}
        and _plain(module.weight)  # type: ignore[arg-type]
        and 2 * rows * module.weight.numel() >= _WORTH  # type: ignore[operator]
        and "forward" not in module.__dict__  # someone else has hooked it
    )
