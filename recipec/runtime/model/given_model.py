"""A policy around a causal language model that is in memory already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.weight_layout import WeightLayout

_separable: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a model's head can be computed apart from its decoder; tested once."""


class GivenModel(CausalLm):
    """It has no tokenizer and saves nothing; ``use`` gives it an attention."""

    def __init__(self, model: Any, cache: Path, temperature: float = 1.0) -> None:
        """Keep the model unchanged: its weights, its device and its trainable parameters."""
        self.device = next(model.parameters()).device
        self.context = StageContext(Path(), cache, 0, "", temperature, self.device)
        self.origin = Origin("directory", type(model).__name__)
        self.model, self.peft_model, self.calls = model, None, 0
        self.layout = WeightLayout(model)
        self.temperature = temperature
        if model not in _separable:
            training = {module: module.training for module in model.modules()}
            _separable[model] = self._head_separable()
            for module, was in training.items():
                module.training = was
        self.separable = _separable[model]

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """Use the caller's random state for dropout."""
        yield
