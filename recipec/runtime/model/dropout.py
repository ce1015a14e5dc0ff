"""Dropout and other noise of a model in training, by the names that families give it in their configurations."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from transformers import PreTrainedConfig

_NOISE = ("layerdrop", "drop_path", "jitter_noise")
"""What changes which parts of a model run: it is always off, as log-probabilities are those of the whole model."""
_WORDS = ("drop", "jitter_noise")
_NO_NOISE = {"phimoe": "router_jitter_noise"}
"""Names that say noise, of what a family computes with outside of training, too."""


def rates(config: PreTrainedConfig) -> Iterator[tuple[MutableMapping[str, Any], str, float]]:
    """Yield every rate of dropout or noise in a configuration, at any depth: what holds it, its name and its value.

    >>> from transformers import LlamaConfig
    >>> [(name, rate) for _, name, rate in rates(LlamaConfig(attention_dropout=0.1))]
    [('attention_dropout', 0.1)]
    """
    kept = _NO_NOISE.get(config.model_type)
    yield from (rate for rate in _within(vars(config)) if rate[1] != kept)


def set_rates(config: PreTrainedConfig, dropout: float) -> None:
    """Let a model be built with this dropout, and without other noise."""
    for holder, name, _ in list(rates(config)):
        rate = 0.0 if any(word in name for word in _NOISE) else dropout
        holder[name] = rate or type(holder[name])(0)  # MPT takes whole numbers alone in one place


def _within(holder: MutableMapping[str, Any]) -> Iterator[tuple[MutableMapping[str, Any], str, float]]:
    for name, value in holder.items():
        if isinstance(value, PreTrainedConfig):
            yield from rates(value)
        elif isinstance(value, dict):
            yield from _within(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and any(w in str(name) for w in _WORDS):
            yield holder, str(name), float(value)
