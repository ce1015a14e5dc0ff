"""What a loaded model must fulfil: counts that can be built, and logits that are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError

_MOST_LABELS = 1 << 16


def check_counts(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse counts for which the library would build without end."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        labels = part.get("num_labels")
        if isinstance(labels, int) and labels > _MOST_LABELS:
            raise RecipeError(errors.unreadable(str(file), f"`num_labels` is {labels}"))


def check_layers(folder: Path, config: Any, tensors: int) -> None:
    """Refuse more layers than there are tensors, before they are built."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > tensors:
        problem = f"config.json describes {layers} layers, and there are {tensors} tensors"
        raise RecipeError(errors.damaged_weights(str(folder), problem))


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


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, or its name."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
