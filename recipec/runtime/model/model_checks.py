"""What a loaded model must fulfil: counts that can be built, and logits that are numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recipec.diagnostics.errors import model as errors, objective as objective_errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import first_line
from recipec.runtime.model.positions import longest_row

_MOST_GROWTH = 64
"""Most characters that a tokenizer may write for one; steps one after another multiply."""
_OF_CHARSMAP = 18
"""Characters of the longest form that NFKC has for one, U+FDFA."""
_MOST = {"num_labels": 1 << 16, "num_hidden_layers": 1 << 12, "n_layer": 1 << 12, "num_layers": 1 << 12}


def check_counts(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse counts for which the library would build without end."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key, most in _MOST.items():
            if isinstance(part.get(key), int) and part[key] > most:
                raise RecipeError(errors.unreadable(str(file), f"`{key}` is {part[key]}"))


def check_growth(file: Path, tokenizer: Mapping[str, Any]) -> None:
    """Refuse a normalizer or decoder that makes texts so long that the library ends the process.

    Raises:
        RecipeError: RC735.
    """
    for part in ("normalizer", "decoder"):
        if _growth(tokenizer.get(part)) > _MOST_GROWTH:
            problem = f"its {part} may write more than {_MOST_GROWTH} characters for one"
            raise RecipeError(errors.unreadable(str(file), problem))


def _growth(step: Any) -> int:
    """Return how many characters a step writes for one, at most.

    >>> _growth({"type": "Sequence", "normalizers": [{"type": "Replace", "content": "\u2581"}, {"type": "NFC"}]})
    1
    """
    if not isinstance(step, Mapping):
        return 1
    inner = step.get("normalizers") or step.get("decoders")
    if isinstance(inner, list):
        return math.prod(map(_growth, inner))
    written = [len(text) for key in ("content", "prepend") if isinstance(text := step.get(key), str)]
    return max(1, *written, _OF_CHARSMAP if step.get("type") == "Precompiled" else 1)


def first_logits(model: nn.Module, tokens: torch.Tensor, name: str) -> torch.Tensor:
    """Return the logits of tokens [1, T], in float32, of a model that computes something.

    Raises:
        RecipeError: RC723, it does not run, or its weights or its logits are not finite.
    """
    try:
        logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits[0].float()
    except Exception as error:  # sizes that a family does not check fail in the middle of it
        raise RecipeError(errors.damaged_weights(name, f"the model does not run: {first_line(error)}")) from error
    if bool(torch.isfinite(logits).all()):
        return logits
    bad = [key for key, value in model.named_parameters() if not bool(torch.isfinite(value).all())]
    problem = f"{len(bad)} have values that are not finite, {bad[0]} first" if bad else "they give logits of NaN"
    raise RecipeError(errors.damaged_weights(name, problem))


@torch.no_grad()
def check_noise(model: Any, name: str) -> None:
    """Refuse a model that computes other logits in training, though all its dropout is off.

    Raises:
        RecipeError: RC894; RC723, it does not run.
    """
    count = min(8, longest_row(model.config) or 8)
    tokens = torch.arange(count, device=next(model.parameters()).device)[None]
    tokens %= model.config.get_text_config().vocab_size
    with torch.random.fork_rng(devices=[]):
        trained, sampled = (first_logits(model.train(training), tokens, name) for training in (True, False))
    if not torch.allclose(trained, sampled, rtol=1e-4, atol=1e-4):
        raise RecipeError(objective_errors.noise_in_training(name, float((trained - sampled).abs().max())))
