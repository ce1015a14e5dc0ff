"""Attention of one new token where several query heads share a key head: the shared keys are not copied.

With a single query position the heads that share a key head may as well be positions of one head,
since nothing is causal among them: the same products, without repeating keys and values for every head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from recipec.runtime.attention import packed

_KNOWN = {"is_causal", "sliding_window", "position_ids", "use_cache", "output_attentions", "output_hidden_states"}


@contextmanager
def grouped_queries(model: Any, config: Any) -> Iterator[None]:
    """Let a model that attends by torch's own attention do so while single tokens are read."""
    before = config._attn_implementation  # noqa: SLF001 - the library has no getter
    swap = before in {"sdpa", packed.NAME} and getattr(model, "_supports_attention_backend", False)
    if swap:
        name = f"recipec_grouped_{before}"
        AttentionInterface.register(name, functools.partial(_attend, ALL_ATTENTION_FUNCTIONS[before]))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
        config._attn_implementation = name  # noqa: SLF001
    try:
        yield
    finally:
        if swap:
            config._attn_implementation = before  # noqa: SLF001


def _attend(
    usual: Callable[..., tuple[Tensor, None]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """Attend as the model's usual function does; what is not the plain case is left to it."""
    rows, heads, width, size = query.shape
    shared = key.shape[1]
    options = {name for name, value in extra.items() if value is not None}
    plain = width == 1 and shared < heads and heads % shared == 0 and not dropout and options <= _KNOWN
    if not plain or (attention_mask is not None and attention_mask.shape[1] != 1):
        return usual(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **extra)
    together = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, shared, heads // shared, size), key, value, attn_mask=attention_mask, scale=scaling
    )
    return together.reshape(rows, 1, heads, value.shape[-1]), None
