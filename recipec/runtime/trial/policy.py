"""A policy that has a tokenizer, templates and limits, and no weights: it reads and writes text."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from recipec.component import Component
from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model import lora, weights
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin, folder_of


class _WithoutWeights(CausalLm):
    """Builds the model on the device ``meta``, which has shapes and no memory."""

    parent: ClassVar[CausalLm | None] = None
    """The policy of the stage that this one starts from, where it does not exist yet."""

    def _load(self) -> nn.Module:
        # outside of the context below, under which a package's weights could not be converted
        from_files = self.parent is None and self.origin.kind != "scratch"
        folder = folder_of(self.origin, self.context) if from_files else None
        with torch.device("meta"):
            if self.parent is not None:
                model = self._again(self.parent)
            elif folder is None:
                if self.spec.scratch is None:
                    raise RecipeError(errors.bad_shape("`from` is scratch and policy.scratch is missing"))
                model = self._new()
            else:
                # an adapter without its model is refused before it is decided on
                weights.inspect_folder(folder, sees=self.spec.sees)
                if (folder / lora.CONFIG).exists() != (self.origin.adapter is not None):
                    raise RecipeError(errors.adapter_undecided(self._named(), found=self.origin.adapter is None))
                model = self._read(folder, torch.float32)
            if self.spec.lora is not None:
                lora.add(model, self._targeted(model, self.spec.lora), 0)
        return model

    def _again(self, parent: Any) -> nn.Module:
        """Build the parent's model a second time, with the same tokenizer and image processor."""
        for name in {"tokenizer", "processor"} & set(vars(parent)):
            setattr(self, name, getattr(parent, name))
        model: nn.Module = type(parent.model)(deepcopy(parent.model.config))
        return model

    def _model_of(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        with torch.device("cpu"):  # the library refuses to read weights in the context of another one
            return weights.load_model(folder, dtype, say=self.context.say, empty=True)

    def _head_separable(self) -> bool:
        return False


def without_weights(spec: Component, context: StageContext, origin: Origin, parent: CausalLm | None) -> CausalLm | None:
    """Build the policy of a spec without weights; None for a policy of a package that is not a ``CausalLm``.

    ``parent`` is the policy of the stage that it starts from, if it starts from one.

    Raises:
        RecipeError: what the tokenizer, the description of the model or the targets of an adapter are refused for.
    """
    kind = spec.load()
    if not (isinstance(kind, type) and issubclass(kind, CausalLm)):
        return None
    unloaded: Any = type("WithoutWeights", (_WithoutWeights, kind), {"parent": parent})
    policy: CausalLm = unloaded(spec, context, origin)
    return policy
