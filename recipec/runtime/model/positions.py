"""The longest sequence of a model in which each token is computed as in any shorter one."""

from __future__ import annotations

from typing import Any

_SWITCHING = {"longrope", "su"}


def longest_row(config: Any) -> int | None:
    """Return the number of positions of a model's configuration up to where it is one function; None without a bound.

    >>> from transformers import LlamaConfig
    >>> longest_row(LlamaConfig(max_position_embeddings=64))
    64
    """
    text = config.get_text_config(decoder=True)
    longest = getattr(text, "max_position_embeddings", None)
    return longest if longest is None or (switch := switches_after(config)) is None else min(int(longest), switch)


def switches_after(config: Any) -> int | None:
    """Return the length after which rope scaling takes other factors for all tokens of a row, the first ones too.

    A row's log-probabilities then depend on the longest row of its batch, and those of a sampler on when it wrote them.

    References:
        Ding et al., `LongRoPE <https://arxiv.org/abs/2402.13753>`_, 2024.
    """
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None)
    parts = [rope, *rope.values()] if isinstance(rope, dict) else []
    switching = [part for part in parts if isinstance(part, dict) and part.get("rope_type") in _SWITCHING]
    lengths = [
        one.get("original_max_position_embeddings") or text.original_max_position_embeddings for one in switching
    ]
    return min(map(int, lengths), default=None)
