"""Levels of comparison that the sampler does not give by itself."""

from __future__ import annotations

from typing import Literal

from recipec.component import Component, component, knob


@component("grouping", requires=("state_key", "state_R", "by_prompt_R"), provides=("by_anchor_R",))
class AnchorState(Component):
    """Group the steps of one prompt that started from the same environment state.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 6.
    """

    type: Literal["anchor_state"] = "anchor_state"
    match: Literal["exact", "similarity"] = knob("exact", "When two states count as the same.")
    threshold: float | None = knob(None, "Similarity from which they do.", gt=0, lt=1)
