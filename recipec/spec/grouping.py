"""Extra groupings of rows, besides those that the sampler provides."""

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
    r"""Group the steps of one prompt that start from the same environment state (GiGPO).

    ``exact`` groups equal states: equal text, equal numbers (1 equals 1.0), equal lists and mappings; a rectangular
    nested list of numbers is an array, and its shape is ignored.  ``similarity``, for text: in row order, a row joins
    the first group with a similar first row, ``SequenceMatcher(None, row, first).ratio() >= threshold``, or opens a
    new group, so the groups depend on the order of the rows.  Rows of different prompts are never in one group, and a
    failed row is alone.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 6; similarity as in the authors' code.
    """

    type: Literal["anchor_state"] = "anchor_state"
    match: Literal["exact", "similarity"] = param(
        "exact", "Group equal states (`exact`) or similar texts (`similarity`)."
    )
    threshold: float | None = param(
        None,
        "Minimum similarity of two states of a group (`match: similarity`).",
        unit="share of matching characters",
        gt=0,
        lt=1,
    )
