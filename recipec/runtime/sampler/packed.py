"""Faster matrix products while decoding on a CPU: oneDNN with weights laid out for it once a call.

A decoding step multiplies a few rows by every weight of the model.  The library behind ``torch.nn.functional.linear``
rearranges the weight each time; oneDNN takes one that was rearranged before, and its kernels do not mind who made the
processor.  Results differ from the usual ones by rounding alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_WORTH = 4  # tokens: for fewer, laying out costs more than it saves


@contextmanager
def packed_linears(model: nn.Module, rows: int, tokens: int) -> Iterator[None]:
    """Let the model's linear layers run on weights laid out for ``rows`` rows; ``tokens`` steps are to be expected.

    Only plain float32 layers on a CPU are touched, and everything is as before afterwards.  While it lasts the
    weights are in memory twice, and must not change.
    """
    touched = [m for m in model.modules() if _suits(m)] if tokens >= _WORTH and _works() else []
    try:
        for module in touched:
            module.forward = _packed(module, rows)
        yield
    finally:
        for module in touched:
            module.__dict__.pop("forward", None)


def _suits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and "forward" not in module.__dict__  # someone else has hooked it
    )


def _packed(module: Any, rows: int) -> Callable[[Tensor], Tensor]:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), rows)  # noqa: SLF001 - has no public name
    multiply, bias = torch.ops.mkldnn._linear_pointwise.default, module.bias  # noqa: SLF001
    return lambda rows_RI: multiply(rows_RI, laid_out, bias, "none", [], "")


@functools.cache
def _works() -> bool:
    """Whether this build of torch has the two operations and they give what they should."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    layer = nn.Linear(24, 40)
    grid_RI = torch.linspace(-1, 1, 72).reshape(3, 24)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 960).reshape(40, 24).sin())
        try:
            found = _packed(layer, 2)(grid_RI)
        except (AttributeError, RuntimeError):
            return False
        return torch.allclose(found, layer(grid_RI), atol=1e-4)
