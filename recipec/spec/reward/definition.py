"""What a reward is: a level with a weight, and what checks ask of it."""

import re
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import model_validator

from recipec.component import Component, When, component, param

C = TypeVar("C", bound=Component)
TEXT = ("prompt_P", "by_prompt_R", "text_R")
"""What a reward of answers to tasks reads."""
TAG = r"^[A-Za-z][A-Za-z0-9_-]*$"
"""Pattern of a tag name, which is written between angle brackets in a completion."""


class Answer(NamedTuple):
    """Position of the answer in a completion and the allowed ones: ``Answer("answer", ("cat", "dog"), "label")``."""

    tag: str | None
    """The last `<TAG>…</TAG>`; the whole completion if absent."""
    labels: tuple[str, ...] = ()
    """Empty: any text."""
    column: str = ""
    """Column of the data with the correct answer; empty if the reward reads none."""


class Reward(Component):
    """Base class of rewards."""

    slot: ClassVar[str] = "reward"
    always_lowered: ClassVar[tuple[str, ...]] = ("weight", "normalise", "shift", "clip")
    outcomes: ClassVar[tuple[str, str] | None] = None
    """Parameters with the only two values of the reward, that of a good row first."""
    judges: ClassVar[bool] = False
    """Whether correct answers get the first of ``outcomes`` and wrong ones the second."""
    asks_tasks: ClassVar[bool] = False
    """Whether the reward uses the verifier of each task."""
    tried: ClassVar[bool] = True
    """Whether `recipec check` calls it on answers that no model wrote: what loads a model or costs money is not."""

    reader: ClassVar[str] = ""
    """Function of a task and a column that reads a right answer of another form than text: ``module:name``."""

    abstains: ClassVar[bool] = False
    """Whether a row without a value is one to which the reward does not apply, and not one that it failed to score."""

    weight: float = param(1.0, "Weight of this reward in the total.")
    normalise: Literal["none", "running", "running_mean", "running_std"] = param(
        "none",
        "Normalise the reward before `shift` by all its values in the stage so far, those of this step among them: "
        "`running` subtracts their mean and divides by their standard deviation, `running_mean` subtracts only, and "
        "`running_std` divides only.",
    )
    shift: float = param(0.0, "Added to the reward, before `clip` and the weight.", unit="reward units")
    clip: tuple[float, float] | None = param(
        None, "Lowest and highest value of the reward, before its weight.", unit="reward units"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(
                f"`clip` is the lowest and the highest value: {self.clip[0]:g} is not below {self.clip[1]:g}"
            )
        return self

    def shape(self) -> tuple[float, tuple[float, float] | None]:
        """Return shift and bounds of values that are not normalised: none where ``normalise`` makes their scale."""
        return (self.shift, self.clip) if self.normalise == "none" else (0.0, None)

    def shaped(self, value: float) -> float:
        """Return what a value adds to the total of an evaluation, which does not normalise.

        >>> from recipec.spec.reward import Verifier
        >>> Verifier(weight=2, shift=-0.5, clip=(-1, 1)).shaped(9.0)
        2.0
        >>> Verifier(weight=2, shift=-0.5, clip=(-1, 1), normalise="running").shaped(9.0)
        18.0
        """
        shift, clip = self.shape()
        moved = value + shift
        return self.weight * (moved if clip is None else min(max(moved, clip[0]), clip[1]))

    def bounds(self) -> tuple[float, float] | None:
        """Return the lowest and highest value of the reward, before its weight; ``None`` if it is unbounded.

        >>> from recipec.spec.reward import ExactMatch, Verifier
        >>> ExactMatch(correct=7, wrong=-1).bounds(), Verifier().bounds()
        ((-1.0, 7.0), None)
        """
        values = self.outcome_values()
        return (min(values), max(values)) if values is not None else None

    def answer_in(self) -> Answer | None:
        """Return how the answer is found in a completion; ``None`` if the whole completion or no text is read."""
        return None

    def answer_column(self) -> str | None:
        """Return the column with the right answers, texts or numbers; ``None`` if the reward reads no such column."""
        return None

    def outcome_values(self) -> tuple[float, float] | None:
        """Return the values of ``outcomes``."""
        return None if self.outcomes is None else (getattr(self, self.outcomes[0]), getattr(self, self.outcomes[1]))


def level(
    *,
    requires: tuple[str | When, ...],
    impl: str,
    provides: tuple[str, ...] = ("reward_R",),
    lowered: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> Callable[[type[C]], type[C]]:
    """Register a level; its weight is a parameter of the sum."""
    return component("reward", requires=requires, provides=provides, impl=impl, lowered=lowered, uses=uses)


def compiled(pattern: str) -> re.Pattern[str]:
    r"""Compile the regular expression of a parameter; the note of the error says what to change.

    Raises:
        ValueError: The pattern is not valid.

    >>> compiled("<(a|b)>").groups
    1
    """
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        problem = ValueError(f"`pattern` is not a valid regular expression: {error}")
        if isinstance(error, re.error) and error.pos is not None:
            problem.add_note(_correction(pattern, error.pos))
        raise problem from None


def _correction(pattern: str, position: int) -> str:
    r"""Say how to correct a regular expression that is not valid at a position.

    >>> _correction("a)", 1), _correction("(?", 2)
    ('change character 2, `)`, or write `\\)` for the character itself', 'complete the pattern, or shorten it')
    """
    found = pattern[position : position + 1]
    if not found:
        return "complete the pattern, or shorten it"
    itself = "" if found.isalnum() or found.isspace() else f", or write `\\{found}` for the character itself"
    change = "close" if found in "([" else "change"
    return f"{change} character {position + 1}, `{found}`{itself}"
