"""Who answers the policy; absent, an episode is one completion."""

from __future__ import annotations

from typing import Any, Literal

from recipec.component import Component, component, knob


@component("environment", provides=("branchable",))
class SearchQa(Component):
    """The search dialogue of Search-R1 and Tree-GRPO: think, search, read, answer.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025.
    """

    type: Literal["search_qa"] = "search_qa"
    max_turns: int = knob(3, "Turns in which the policy may search.", unit="turns", ge=1)
    retriever: dict[str, Any] = knob(dict, "Where documents come from.")


@component("environment", provides=("state_key", "admissible_actions"))
class Alfworld(Component):
    """Household games in text.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021.
    """

    type: Literal["alfworld"] = "alfworld"
    max_turns: int = knob(50, "Steps of an episode.", unit="turns", ge=1)
    history: int = knob(2, "Earlier observations and actions shown in the prompt.", unit="turns", ge=0)
