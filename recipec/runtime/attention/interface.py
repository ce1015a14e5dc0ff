"""The attention function that a model's layers call, and the choice of a kernel for each layer.

The prefix tree reaches the layers by a context variable, since some families do not pass on additional arguments.
Outside a pass over a prefix tree a bound model attends as before, also in generation with its caches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import recurrent_layers
from recipec.runtime.attention.handover import SharedTokens
from recipec.runtime.attention.kernels import flash, flash_merge, flex, reference, varlen
from recipec.runtime.attention.kernels.reference import Layer
from recipec.runtime.attention.layer_params import Unsupported, layer_params
from recipec.runtime.attention.prefix_tree import PrefixTree

Kernel = Literal["auto", "flash", "sdpa", "flex", "eager"]
_STOCK = ("sdpa", "eager")


@dataclass(slots=True)
class TreeForward:
    """One forward pass over a prefix tree, including its recomputation in the backward pass."""

    trie: PrefixTree
    kernel: Kernel = "auto"
    shared: SharedTokens | None = None
    """Tokens that earlier passes have computed, if passes hand over."""
    calls: int = 0
    plan: dict[torch.device, tuple[flash.Call, ...]] = field(default_factory=dict)
    rows: dict[torch.device, recurrent_layers.Rows] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of tokens that go through the layers."""
        return self.trie.size if self.shared is None else len(self.shared.own)

    def calls_on(self, device: torch.device) -> tuple[flash.Call, ...]:
        """Return the variable-length calls, which are planned once for all layers."""
        if device not in self.plan:
            self.plan[device] = varlen.calls(self.trie, device)
        return self.plan[device]

    def rows_on(self, device: torch.device) -> recurrent_layers.Rows:
        """Return the sequences for recurrent layers, which are the same for all of them."""
        if device not in self.rows:
            self.rows[device] = recurrent_layers.rows_of(self.trie, device)
        return self.rows[device]


_tree_pass: ContextVar[TreeForward | None] = ContextVar("tree_pass", default=None)
_stock_calls: ContextVar[list[str] | None] = ContextVar("stock_calls", default=None)


@torch.no_grad()
def install(model: Any) -> tuple[int, int]:
    """Replace the attention function and the recurrent layers of ``model``.

    In a pass over a prefix tree they compute the tree; without one they compute as before.

    Returns:
        The number of calls of the attention interface in a forward pass, and of recurrent layers.
    """
    before = str(model.config._attn_implementation)  # noqa: SLF001 - the library has no getter
    if before not in {_name(stock) for stock in _STOCK}:
        with suppress(ValueError):  # a family without attention
            model.set_attn_implementation(_name(before if before in _STOCK else "sdpa"))
    num_recurrent_layers = recurrent_layers.install(model, _rows)
    device = next(model.parameters()).device
    token = _stock_calls.set([])
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        model(input_ids=torch.tensor([[3, 4]], device=device), use_cache=False)
        calls = len(_stock_calls.get() or ())
    finally:
        _stock_calls.reset(token)
        for module, was in training.items():
            module.training = was
    return calls, num_recurrent_layers


def _rows(device: torch.device) -> recurrent_layers.Rows | None:
    tree_pass = _tree_pass.get()
    return None if tree_pass is None else tree_pass.rows_on(device)


@contextmanager
def activate(tree_pass: TreeForward, model: nn.Module) -> Iterator[None]:
    """Let every attention layer compute the prefix tree, also when activations are recomputed."""
    token = _tree_pass.set(tree_pass)
    wrapped: list[tuple[Any, Any]] = []
    try:
        for module in model.modules():
            inner = getattr(module, "_gradient_checkpointing_func", None)
            if inner is not None and getattr(module, "gradient_checkpointing", False) and module.training:
                wrapped.append((module, inner))
                module._gradient_checkpointing_func = _with_tree_context(inner, tree_pass)  # type: ignore[assignment]  # noqa: SLF001
        yield
    finally:
        for module, inner in wrapped:
            module._gradient_checkpointing_func = inner  # noqa: SLF001
        _tree_pass.reset(token)


def _with_tree_context(checkpoint: Callable[..., Any], tree_pass: TreeForward) -> Callable[..., Any]:
    """Make the prefix tree available when a layer is recomputed."""

    def checkpointed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls = tree_pass.calls

        def recompute(*inner: Any, **more: Any) -> Any:
            token = _tree_pass.set(tree_pass)
            tree_pass.calls = calls  # the number of a call tells which keys it is given
            try:
                return function(*inner, **more)
            finally:
                _tree_pass.reset(token)

        return checkpoint(recompute, *args, **kwargs)

    return checkpointed


def _name(stock: str) -> str:
    return f"recipec_trie_{stock}"


def _register(stock: str) -> None:
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        tree_pass = _tree_pass.get()
        if tree_pass is not None:
            return _attend(tree_pass, module, query, key, value, attention_mask, kwargs), None
        counted = _stock_calls.get()
        if counted is not None:
            counted.append(type(module).__name__)
        if stock == "sdpa":
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
        family = sys.modules[type(module).__module__]
        return family.eager_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]

    def mask(*args: Any, **kwargs: Any) -> Tensor | None:
        if _tree_pass.get() is not None:
            return None
        stock_mask: Tensor | None = (sdpa_mask if stock == "sdpa" else eager_mask)(*args, **kwargs)
        return stock_mask

    AttentionInterface.register(_name(stock), attend)
    AttentionMaskInterface.register(_name(stock), mask)


for _one in _STOCK:
    _register(_one)


def _attend(
    tree_pass: TreeForward,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    kwargs: dict[str, Any],
) -> Tensor:
    """Attend over ``[1, heads, tokens, width]``; return ``[1, tokens, heads, width]``."""
    tree_pass.calls += 1
    if query.shape[0] != 1 or query.shape[2] != tree_pass.size or key.shape[2] != tree_pass.size:
        raise Unsupported(
            f"a layer attends over {tuple(query.shape)} instead of the {tree_pass.size} tokens of the prefix tree"
        )
    if mask is not None:
        raise Unsupported("it makes its own mask")
    if (dropout := kwargs.pop("dropout", 0.0)) and dropout > 0:
        raise RecipeError(errors.shared_dropout(float(dropout)))
    layer = layer_params(module, query, kwargs)
    width = value.shape[-1]
    if tree_pass.shared is not None:
        key, value = tree_pass.shared.all_keys(tree_pass.calls - 1, key, value)
        query = tree_pass.shared.all_queries(query)
    # kernels need one width; zeros change neither the scores nor the used part of the values
    widest = -(-max(query.shape[-1], width) // 8) * 8
    q, k, v = (pad(t[0], (0, widest - t.shape[-1])) if t.shape[-1] < widest else t[0] for t in (query, key, value))
    out = _compute(tree_pass, q, k, v, layer)
    if tree_pass.shared is not None:
        out = out.index_select(1, tree_pass.shared.own_N)
    return out[..., :width].transpose(0, 1)[None].contiguous()


def _compute(tree_pass: TreeForward, q: Tensor, k: Tensor, v: Tensor, layer: Layer) -> Tensor:
    """Compute by a flash kernel if it supports the layer's soft-cap and window, else path by path."""
    if tree_pass.kernel == "flex":
        return flex.attend(q, k, v, tree_pass.trie, layer)
    if tree_pass.kernel in {"sdpa", "eager"}:
        return reference.by_mask(q, k, v, tree_pass.trie, layer, stock=tree_pass.kernel == "sdpa")
    depth = int(tree_pass.trie.position_N.max()) + 1
    plain = not layer.restricts(depth) and (layer.softcap is None or flash.caps(q.device))
    if q.is_cuda:
        able = varlen.supports(q, v, layer, depth)
    else:
        able = plain and q.dtype in flash_merge.DTYPES and flash_merge.works()
    if not able:
        if tree_pass.kernel == "flash":
            what = "a layer has a soft-cap, or a window shorter than the sequences" if not plain else str(q.dtype)
            raise RecipeError(errors.kernel_not_here("flash", f"{what}, on {q.device.type}"))
        return reference.by_path(q, k, v, tree_pass.trie, layer)
    if q.is_cuda:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
        cap = layer.softcap or 0.0
        return varlen.attend(q, k, v, tree_pass.calls_on(q.device), layer.scale, layer.sink_H, cap).transpose(0, 1)
    return flash_merge.attend(q, k, v, tree_pass.trie.tiling, layer.scale, layer.sink_H)
