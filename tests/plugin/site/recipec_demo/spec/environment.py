"""An environment that counts."""

from typing import Literal

from recipec.component import component, param
from recipec.spec.environment import Environment


@component(
    "environment",
    provides=("branchable", "state_key", "rewards"),
    impl="recipec_demo.runtime.environment:CountingEnvironment",
    uses=("policy",),
)
class Counting(Environment):
    """Count the tokens of an episode; a turn earns 1 where the count is a multiple of ``multiple``."""

    type: Literal["counting"] = "counting"
    max_turns: int = param(2, "Number of turns of an episode.", unit="turns", ge=1)
    multiple: int = param(2, "The count is rewarded where it is a multiple of this.", unit="tokens", ge=1)
