"""Attention backends: how sequences share a forward pass; they change speed and memory, not results."""

from typing import ClassVar, Literal

from recipec.component import Component, component, param

WORTH = 1.1
"""Smallest predicted speed-up for which `auto` selects `trie`; measured ones are at least 0.9 of the prediction."""


class Attention(Component):
    """Base class of attention types."""

    slot: ClassVar[str] = "attention"
    shares: ClassVar[Literal["", "prefixes", "prompts"]] = ""
    """What sequences of one forward pass share: nothing, any common prefix, or the prompt of their group."""

    def needs_gpu(self) -> bool:
        """Whether it cannot train on a CPU."""
        return False


@component("attention", impl="recipec.runtime.attention.dense:DenseAttention")
class Dense(Attention):
    """Padded batches; works with every model.

    References:
        Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017.
    """

    type: Literal["dense"] = "dense"


@component("attention", impl="recipec.runtime.attention.packed:PackedAttention")
class Packed(Attention):
    """Sequence packing: sequences are concatenated without padding, and each attends only to itself.

    References:
        Krell et al., `Efficient Sequence Packing <https://arxiv.org/abs/2107.02027>`_, 2021.
    """

    type: Literal["packed"] = "packed"


@component("attention", impl="recipec.runtime.attention.auto:AutoAttention")
class Auto(Attention):
    """Select the fastest backend that is exact for the model, and report why.

    The choice is made from the FLOPs that the compiler predicts or, where these do not decide, from the first batch:
    `trie` if it saves at least a tenth and passes certification for the model, else `packed`, else `dense`.
    Results are the same.

    References:
        recipec, `docs/attention.md`.
    """

    type: Literal["auto"] = "auto"


class PrefixSharing(Attention):
    """Base class of types that compute tokens once for several sequences."""

    kernel: Literal["auto", "flash", "sdpa", "flex", "eager"] = param(
        "auto", "Attention kernel; all give the same result. `auto` selects the fastest available kernel per layer."
    )

    def needs_gpu(self) -> bool:
        """Whether `kernel` is `flex`, which has no backward pass on a CPU."""
        return self.kernel == "flex"


@component("attention", impl="recipec.runtime.attention.trie_attention:TrieAttention")
class Trie(PrefixSharing):
    """Prefix-tree attention: sequences are merged by their common prefixes, and each unique token is computed once.

    Exact for every model that passes certification: log-probabilities and gradients equal those of separate sequences.

    References:
        Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025.
    """

    shares: ClassVar[Literal["", "prefixes", "prompts"]] = "prefixes"

    type: Literal["trie"] = "trie"


@component("attention", requires=("by_prompt_R",), impl="recipec.runtime.attention.trie_attention:SharedPrefix")
class SharedPrefix(PrefixSharing):
    """Prefix sharing of one prompt per group: a prefix tree of two levels.

    References:
        Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025.
    """

    shares: ClassVar[Literal["", "prefixes", "prompts"]] = "prompts"

    type: Literal["shared_prefix"] = "shared_prefix"
