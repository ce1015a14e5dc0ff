"""What crosses from stage to stage: the policy's spec, its adapter, and the policy as it entered as reference."""

from __future__ import annotations

from typing import Any

from recipec.spec.policy import CausalLm, Policy
from recipec.spec.recipe import Recipe, weights_kind
from recipec.spec.reference import Frozen, Reference


def policies(recipe: Recipe) -> dict[str, Policy]:
    """Return every stage's policy: its own, or the one that crosses with ``from``.

    A stage that has a `policy` says all of it; one without keeps its parent's, but for what builds a new model.
    """
    policies_by_stage: dict[str, Policy] = {}
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
        assert isinstance(policy, Policy), "the reader fills the slot `policy` with such"
        policies_by_stage[name] = policy if weights_kind(stage.from_) == "scratch" else policy.without_new_model()
    return policies_by_stage


def adapter_start(recipe: Recipe, name: str) -> str:
    """Say whether a stage trains no adapter (``none``), its parent's (``continue``) or a ``fresh`` one."""
    if recipe.stages[name].adapter == "continue":
        return "continue"
    return "none" if policies(recipe)[name].adapter() is None else "fresh"


def reference_settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """Choose how the reference is kept, and say why that is sound.

    ``frozen`` is the policy as it entered the stage:

    * ``adapter_off`` where a fresh adapter was put on it, which changes nothing while it is new;
    * ``adapter_copy`` where the stage trains the parent's adapter further;
    * ``weights_copy`` where all weights are trained;
    * ``other`` where ``from`` names another model.

    ``lagged`` copies what is trained, the adapter or the weights.
    """
    spec = recipe.stages[name].reference or Frozen()
    assert isinstance(spec, Reference), "the reader fills the slot `reference` with such"
    start = adapter_start(recipe, name)
    other, every = spec.other_model(), spec.follows()
    settings: dict[str, Any] = {"type": spec.type_name, "from": other}
    if every is not None:
        settings["sync_every_updates"] = every
        mode = "weights_copy" if start == "none" else "adapter_copy"
        return {**settings, "mode": mode, "why": "a lagged reference is a copy of what is trained"}
    if other is not None:
        return {**settings, "mode": "other", "why": f"`from` names another model, {other}"}
    if start == "fresh":
        why = "the stage puts a fresh adapter on its parent: with the adapter off it is the policy as it entered"
        return {**settings, "mode": "adapter_off", "why": why}
    if start == "continue":
        why = "the stage trains its parent's adapter further: off, it would not be the policy as it entered"
        return {**settings, "mode": "adapter_copy", "why": why}
    return {**settings, "mode": "weights_copy", "why": "all weights are trained: only a copy stays as it was"}
