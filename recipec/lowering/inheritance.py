"""What crosses from stage to stage: the policy's spec, its adapter, and the policy as it entered as reference."""

from __future__ import annotations

from typing import Any

from recipec.component import Component
from recipec.spec.policy import CausalLm
from recipec.spec.recipe import Recipe, weights_kind


def policies(recipe: Recipe) -> dict[str, Component]:
    """Return every stage's policy: its own, or the one that crosses with ``from``.

    A stage that has a `policy` says all of it; one without keeps its parent's, but for what builds a new model.
    """
    found: dict[str, Component] = {}
    for name, stage in recipe.stages.items():
        at, own = name, stage.policy
        while (
            own is None
            and weights_kind(recipe.stages[at].from_) == "stage"
            and recipe.stages[at].from_ in recipe.stages
        ):
            at = recipe.stages[at].from_
            own = recipe.stages[at].policy
        policy = own or CausalLm()
        fresh = weights_kind(stage.from_) == "scratch"
        found[name] = policy if fresh or not hasattr(policy, "scratch") else policy.model_copy(update={"scratch": None})
    return found


def adapter_start(recipe: Recipe, name: str) -> str:
    """Say whether a stage trains no adapter (``none``), its parent's (``continue``) or a ``fresh`` one."""
    if recipe.stages[name].adapter == "continue":
        return "continue"
    return "fresh" if getattr(policies(recipe)[name], "lora", None) is not None else "none"


def reference_settings(recipe: Recipe, name: str, kind: str) -> dict[str, Any]:
    """Choose how the reference is kept, and say why that is sound.

    ``frozen`` is the policy as it entered the stage:

    * ``adapter_off`` where a fresh adapter was put on it, which changes nothing while it is new;
    * ``adapter_copy`` where the stage trains the parent's adapter further;
    * ``weights_copy`` where all weights are trained;
    * ``other`` where ``from`` names another model.

    ``lagged`` copies what is trained, the adapter or the weights.
    """
    spec = recipe.stages[name].reference
    start = adapter_start(recipe, name)
    other = getattr(spec, "from_", None)
    made: dict[str, Any] = {"type": kind, "from": other}
    if kind == "lagged":
        made["sync_every_updates"] = getattr(spec, "sync_every_updates", None)
        mode = "weights_copy" if start == "none" else "adapter_copy"
        return {**made, "mode": mode, "why": "a lagged reference is a copy of what is trained"}
    if other is not None:
        return {**made, "mode": "other", "why": f"`from` names another model, {other}"}
    if start == "fresh":
        why = "the stage puts a fresh adapter on its parent: with the adapter off it is the policy as it entered"
        return {**made, "mode": "adapter_off", "why": why}
    if start == "continue":
        why = "the stage trains its parent's adapter further: off, it would not be the policy as it entered"
        return {**made, "mode": "adapter_copy", "why": why}
    return {**made, "mode": "weights_copy", "why": "all weights are trained: only a copy stays as it was"}
