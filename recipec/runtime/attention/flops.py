r"""Floating-point operations of a forward and backward pass: the required ones, and a counter of executed ones.

The sequences of a pass, merged or not, have T tokens, A (query, key) pairs and M positions with logits.  With :math:`P`
parameters in the matrices of the layers, heads of W numbers over all layers, and a head of h x V,

.. math:: F = 2 P T + 4 W A + 2 h V M

is a forward pass.  The backward pass takes twice as many for a trained matrix, as many for a frozen one, and 2.5 times
as many for attention, because kernels recompute scores.  Recurrent layers process every token of every sequence.

References:
    Dao, `FlashAttention-2 <https://arxiv.org/abs/2307.08691>`_, 2023, for the 2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recipec.runtime.attention import recurrent_layers
from recipec.runtime.attention.prefix_tree import PrefixTree
from recipec.runtime.model.vision_families import family_of


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a model that determine its operations.

    Example: ``Sizes(trained=1_000, frozen=0, recurrent=0, width=64, head=6_400)``.
    """

    trained: int
    """Parameters of the layers' matrices that get a gradient."""
    frozen: int
    recurrent: int
    """Trained and frozen parameters inside recurrent layers."""
    width: int
    """Heads times their width, over all layers that attend."""
    head: int
    """Parameters of the head."""

    @property
    def linear(self) -> int:
        """Parameters that process each unique token once."""
        return self.trained + self.frozen - self.recurrent


def sizes(model: Any, shape: Callable[[Tensor], torch.Size] = lambda weight: weight.shape) -> Sizes:
    """Return the sizes of a model; a mixture of experts counts all experts, a vision-language model its decoder.

    ``shape`` is that of a weight of which a process has only a part.
    """
    family = family_of(model.config)
    layers_of = model if family is None else model.get_submodule(family.decoder)
    config = model.config.get_text_config()
    embedded = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = model.get_output_embeddings()
    embedded |= {id(p) for p in head.parameters()} if head is not None else set()
    matrices = [p for p in layers_of.parameters() if len(shape(p)) > 1 and id(p) not in embedded]
    states = recurrent_layers.mixers(model)
    inside = {id(p): shape(p).numel() for mixer in states for p in mixer.parameters() if len(shape(p)) > 1}
    layers = max(0, int(config.num_hidden_layers) - len(states))
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, getattr(config, "num_attention_heads", 1))
    return Sizes(
        trained=sum(shape(p).numel() for p in matrices if p.requires_grad),
        frozen=sum(shape(p).numel() for p in matrices if not p.requires_grad),
        recurrent=sum(inside.values()),
        width=int(width) * int(getattr(config, "num_attention_heads", 0) or 0) * layers,
        head=int(config.hidden_size) * int(config.vocab_size),
    )


def required(
    of: Sizes, tokens: int, pairs: int, logits: int, *, backward: bool, dense: int | None = None, head: bool = True
) -> float:
    """Return the operations that a pass requires.

    Args:
        of: Sizes of the model.
        tokens: Unique tokens of the pass.
        pairs: Its (query, key) pairs.
        logits: Number of positions with logits.
        backward: Whether there is a backward pass.
        dense: Tokens of all sequences, if they differ from the unique ones; recurrent layers process these.
        head: Whether the head is trained.

    >>> required(Sizes(100, 0, 0, 8, 50), tokens=10, pairs=55, logits=2, backward=False)
    3960.0
    """
    again = 2.0 if of.trained or not of.frozen else 1.0
    share = of.frozen / max(1, of.frozen + of.trained)
    matrices = again * (1 - share) + share if backward else 0.0
    operations = 2.0 * (of.linear * tokens + of.recurrent * (tokens if dense is None else dense)) * (1 + matrices)
    operations += 4.0 * of.width * pairs * (3.5 if backward else 1.0)
    return operations + 2.0 * of.head * logits * ((3.0 if head else 2.0) if backward else 1.0)


def of_tree(of: Sizes, tree: PrefixTree, scored_RT: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the operations of rows, each on its own, and of their prefix tree, forward and backward."""
    dense = required(of, tree.dense_tokens, tree.dense_pairs, int(scored_RT[:, 1:].sum()), backward=True)
    unique = tree.predictors(scored_RT)
    return dense, required(of, tree.size, tree.pairs, unique, backward=True, dense=tree.dense_tokens)


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count the operations made inside: ``get_total_flops()`` of what is yielded.

    This includes attention on a CPU and products by oneDNN, which torch does not count.  A causal kernel counts the
    pairs that it requires, so that the number does not depend on the kernel's block size.
    """
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        yield counter


def _formulas() -> dict[Any, Any]:
    formulas: dict[Any, Any] = {}
    aten = torch.ops.aten
    for name, formula in (
        ("_scaled_dot_product_flash_attention_for_cpu", _attended),
        ("_scaled_dot_product_flash_attention_for_cpu_backward", _attended_backward),
    ):
        if hasattr(aten, name):
            formulas[getattr(aten, name)] = formula
    with suppress(AttributeError):
        formulas[torch.ops.mkldnn._linear_pointwise] = _multiplied  # noqa: SLF001 - the only way to it
    return formulas


def _pairs(query: Any, key: Any, *, causal: bool) -> int:
    heads, queries, keys = query[0] * query[1], query[2], key[2]
    return int(heads * (queries * (queries + 1) // 2 if causal else queries * keys))


def _attended(query: Any, key: Any, value: Any, *more: Any, **named: Any) -> int:
    causal = more[1] if len(more) > 1 else named.get("is_causal", False)
    return 2 * int(query[-1] + value[-1]) * _pairs(query, key, causal=causal)


def _attended_backward(*arguments: Any, **__: Any) -> int:
    """Count five products: scores, their gradient, and the gradients of queries, keys and values."""
    query, key, value, causal = *arguments[1:4], arguments[7]
    return 2 * int(3 * query[-1] + 2 * value[-1]) * _pairs(query, key, causal=causal)


def _multiplied(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    rows = 1
    for size in x[:-1]:
        rows *= int(size)
    return 2 * rows * int(x[-1]) * int(weight[0])
