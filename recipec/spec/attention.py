"""How rows share one forward pass; changes speed and memory, never the numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, component, param

WORTH = 1.1
"""Least ideal speed-up for which `auto` takes a forest: the measured one is at least 0.9 of the ideal one."""


class Attention(Component):
    """Base class of attention types."""

    slot: ClassVar[str] = "attention"


@component("attention", impl="recipec.runtime.attention.dense:DenseAttention")
class Dense(Attention):
    """Rows padded to one width: every model can do it.

    References:
        Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017.
    """

    type: Literal["dense"] = "dense"


@component("attention", impl="recipec.runtime.attention.packed:PackedAttention")
class Packed(Attention):
    """Rows end to end in one sequence without padding, each seeing only itself.

    References:
        Krell et al., `Efficient Sequence Packing <https://arxiv.org/abs/2107.02027>`_, 2021.
    """

    type: Literal["packed"] = "packed"


@component("attention", impl="recipec.runtime.attention.auto:AutoAttention")
class Auto(Attention):
    """Let the compiler choose by the operations that it predicts, or the first rows where those decide, and say why.

    `trie` where that saves a tenth and the model certifies, else `packed`, else `dense`; the numbers are the same.

    References:
        recipec, `docs/attention.md`.
    """

    type: Literal["auto"] = "auto"


@component("attention", impl="recipec.runtime.attention.trie_attention:TrieAttention")
class Trie(Attention):
    """All rows of a forward pass merged into a forest of their prefixes: each unique token is computed once.

    Exact for every model that certifies: log-probabilities and gradients are those of the rows alone.

    References:
        Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025.
    """

    type: Literal["trie"] = "trie"
    kernel: Literal["auto", "flash", "sdpa", "flex", "eager"] = param(
        "auto", "Kernel under the same result; `auto` takes the fastest that can, layer by layer."
    )


@component("attention", requires=("by_prompt_R",), impl="recipec.runtime.attention.trie_attention:SharedPrefix")
class SharedPrefix(Attention):
    """One shared prompt a group, then its answers: the trie's two-level form.

    References:
        Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025.
    """

    type: Literal["shared_prefix"] = "shared_prefix"
    kernel: Literal["auto", "flash", "sdpa", "flex", "eager"] = param(
        "auto", "Kernel under the same result; `auto` takes the fastest that can, layer by layer."
    )
