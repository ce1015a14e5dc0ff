"""Levels of comparison that the sampler does not give by itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, component, param


class Grouping(Component):
    """Base class of groupings."""

    slot: ClassVar[str] = "grouping"


@component(
    "grouping",
    requires=("state_key", "state_R", "by_prompt_R", "failed_R"),
    provides=("by_anchor_R",),
    impl="recipec.runtime.objective.grouping:anchor_state",
)
class AnchorState(Grouping):
    r"""Group the steps of one prompt that started from the same environment state.

    ``exact``: equal text, equal numbers (1 and 1.0 are), equal lists and mappings; a rectangular nested list of
    numbers is an array, whose shape does not count.  ``similarity``, for text: in row order, a row joins the first
    group whose first row its text resembles, ``SequenceMatcher(None, row, first).ratio() >= threshold``, or opens one;
    so the groups depend on the order of the rows.  Rows of different prompts are never together, and a row that
    failed is alone.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 6; the similarity is that of their code.
    """

    type: Literal["anchor_state"] = "anchor_state"
    match: Literal["exact", "similarity"] = param("exact", "When two states count as the same.")
    threshold: float | None = param(
        None, "Similarity from which they do.", unit="share of matching characters", gt=0, lt=1
    )
