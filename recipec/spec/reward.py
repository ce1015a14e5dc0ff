"""Rewards: named levels; the reward of a row is their weighted sum."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from recipec.component import Component, When, component, param

C = TypeVar("C", bound=Component)
_TEXT = ("prompt_P", "by_prompt_R", "text_R")
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
    always_lowered: ClassVar[tuple[str, ...]] = ("weight", "shift", "clip")
    outcomes: ClassVar[tuple[str, str] | None] = None
    """Parameters with the only two values of the reward, that of a good row first."""
    judges: ClassVar[bool] = False
    """Whether correct answers get the first of ``outcomes`` and wrong ones the second."""
    asks_tasks: ClassVar[bool] = False
    """Whether the reward uses the verifier of each task."""

    weight: float = param(1.0, "Weight of this reward in the total.")
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

    def shaped(self, value: float) -> float:
        """Return what a value adds to the total.

        >>> Verifier(weight=2, shift=-0.5, clip=(-1, 1)).shaped(9.0)
        2.0
        """
        moved = value + self.shift
        return self.weight * (moved if self.clip is None else min(max(moved, self.clip[0]), self.clip[1]))

    def bounds(self) -> tuple[float, float] | None:
        """Return the lowest and highest value of the reward, before its weight; ``None`` if it is unbounded.

        >>> ExactMatch(correct=7, wrong=-1).bounds(), Verifier().bounds()
        ((-1.0, 7.0), None)
        """
        values = self.outcome_values()
        return (min(values), max(values)) if values is not None else None

    def answer_in(self) -> Answer | None:
        """Return how the answer is found in a completion; ``None`` if the whole completion or no text is read."""
        return None

    def outcome_values(self) -> tuple[float, float] | None:
        """Return the values of ``outcomes``."""
        return None if self.outcomes is None else (getattr(self, self.outcomes[0]), getattr(self, self.outcomes[1]))


def _level(
    *,
    requires: tuple[str | When, ...],
    impl: str,
    provides: tuple[str, ...] = ("reward_R",),
    lowered: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> Callable[[type[C]], type[C]]:
    """Register a level; its weight is a parameter of the sum."""
    return component("reward", requires=requires, provides=provides, impl=impl, lowered=lowered, uses=uses)


@_level(requires=_TEXT, impl="recipec.runtime.reward.rule_based:verifier")
class Verifier(Reward):
    """Score by the verifier of the task, such as those of reasoning-gym.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    asks_tasks: ClassVar[bool] = True

    type: Literal["verifier"] = "verifier"
    tag: str | None = param(None, "Score only the text in the last `<TAG>…</TAG>` instead of the whole completion.")

    def answer_in(self) -> Answer | None:
        """Return the tag, if there is one."""
        return Answer(self.tag) if self.tag else None


@_level(requires=_TEXT, impl="recipec.runtime.reward.rule_based:exact_match")
class ExactMatch(Reward):
    """Compare the answer with a column of the data, ignoring case and whitespace.

    With ``labels``, the answer is the label that the text equals, or the only label that it contains as whole words,
    ignoring punctuation; a text that contains no label, or several, is wrong.

    References:
        Rajpurkar et al., `SQuAD <https://arxiv.org/abs/1606.05250>`_, 2016.
    """

    outcomes: ClassVar[tuple[str, str]] = ("correct", "wrong")
    judges: ClassVar[bool] = True

    type: Literal["exact_match"] = "exact_match"
    answer: str = param("answer", "Column with the correct answer: text, or a list of accepted answers.")
    tag: str | None = param(None, "Compare only the text in the last `<TAG>…</TAG>` instead of the whole completion.")
    labels: tuple[Annotated[str, Field(pattern=r"[^\W_]")], ...] = param(
        (), "Allowed answers; correct answers of the data must be among them. Any text if empty."
    )
    correct: float = param(1.0, "Reward of a correct answer.", unit="reward units")
    wrong: float = param(0.0, "Reward of a wrong or missing answer.", unit="reward units")

    def answer_in(self) -> Answer:
        """Return tag, labels and column, which an F1 over labels needs."""
        return Answer(self.tag, self.labels, self.answer)


@_level(requires=_TEXT, impl="recipec.runtime.reward.rule_based:regex_format")
class RegexFormat(Reward):
    """Reward a completion that matches a regular expression from start to end.

    References:
        DeepSeek-AI, `DeepSeek-R1 <https://arxiv.org/abs/2501.12948>`_, 2025: its format reward.
    """

    outcomes: ClassVar[tuple[str, str]] = ("match", "mismatch")

    type: Literal["regex_format"] = "regex_format"
    pattern: str = param(..., "Regular expression (Python's `re`, DOTALL); the time of each match is limited.")
    match: float = param(1.0, "Reward of a match.", unit="reward units")
    mismatch: float = param(0.0, "Reward if there is no match.", unit="reward units")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern, re.DOTALL)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a valid regular expression: {error}") from None
        return pattern


@_level(requires=_TEXT, impl="recipec.runtime.reward.sections:sections")
class Sections(Reward):
    r"""Reward the format of a reasoned answer: reasoning with named sections in one tag, the answer in the next.

    .. math:: r = w + b\,[\text{nothing between the tags}] + s\,\frac{\text{sections present}}{\text{sections required}}

    for a completion that begins with the reasoning tag and ends with the answer tag, with each tag exactly once and
    not empty; ``malformed`` for all others. Case and whitespace are ignored in the names of sections.
    The published code has ``weight: 2``, but disables this reward; there, a tag may occur more than once.

    References:
        `GraphIQ-VLM <https://github.com/SwapniL-afk-now/GraphIQ-VLM>`_, 2025: its format reward.
    """

    type: Literal["sections"] = "sections"
    reasoning: str = param("thinking", "Tag of the reasoning.", pattern=TAG)
    answer: str = param("answer", "Tag of the answer.", pattern=TAG)
    sections: tuple[Annotated[str, Field(pattern=r"[^\W_]")], ...] = param((), "Sections that the reasoning must have.")
    filled: bool = param(False, "Count a section only if there is a letter between its name and the next name.")
    well_formed: float = param(0.5, "Reward w of a valid format.", unit="reward units")
    nothing_between: float = param(0.2, "Reward b if only whitespace is between the two tags.", unit="reward units")
    complete: float = param(0.3, "Reward s if all sections are present; a share of it for some.", unit="reward units")
    malformed: float = param(-0.5, "Reward of an invalid format.", unit="reward units")

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and highest value: a malformed answer, or a well-formed one with all bonuses.

        >>> Sections().bounds()
        (-0.5, 1.0)
        """
        more = (self.nothing_between, self.complete)
        least, most = (self.well_formed + sum(pick(0.0, value) for value in more) for pick in (min, max))
        return min(self.malformed, least), max(self.malformed, most)


@_level(requires=("trained_RT",), impl="recipec.runtime.reward.rule_based:length")
class Length(Reward):
    r"""Penalise completions that approach the maximum length.

    .. math:: 0 \text{ up to } L - c;\ (L - c - n)/c \text{ up to } L;\ -1 \text{ beyond}

    References:
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025, eq. 13 (soft overlong punishment).
    """

    type: Literal["length"] = "length"
    max_length: int = param(..., "Length L at which the penalty reaches -1.", unit="tokens", ge=1)
    soft: int = param(0, "Length c of the interval before it in which the penalty grows.", unit="tokens", ge=0)

    def bounds(self) -> tuple[float, float]:
        """Return -1 and 0."""
        return -1.0, 0.0


@_level(requires=_TEXT, impl="recipec.runtime.reward.math_verify:MathVerify")
class MathVerify(Reward):
    r"""Compare mathematical answers with Math-Verify, in processes with a time limit.

    The right answer is read as a whole. Of the completion, the last ``\boxed{}`` counts, or else the expression that
    Math-Verify finds. A unit may be left out, but must not differ.

    References:
        Hugging Face, `Math-Verify <https://github.com/huggingface/Math-Verify>`_.
    """

    outcomes: ClassVar[tuple[str, str]] = ("correct", "wrong")
    judges: ClassVar[bool] = True

    type: Literal["math_verify"] = "math_verify"
    answer: str = param("answer", "Column with the correct answer, as LaTeX or a plain expression.")
    correct: float = param(1.0, "Reward of a correct answer.", unit="reward units")
    wrong: float = param(0.0, "Reward of a wrong answer.", unit="reward units")
    timeout: float = param(5.0, "Maximum time for one answer; beyond it, the row has no reward.", unit="seconds", gt=0)


@_level(requires=(*_TEXT, "tokens_RT", "trained_RT"), impl="recipec.runtime.reward.function:Function")
class Function(Reward):
    """Call a user-defined reward function from a file listed under `use`; None counts as 0.

    ``f(prompts, completions, **columns)`` as in TRL, or
    ``compute_score(data_source, solution_str, ground_truth, extra_info)`` as in verl.

    References:
        TRL, `Using a custom reward function <https://huggingface.co/docs/trl/grpo_trainer>`_.
    """

    user_code: ClassVar[Literal["", "function", "class"]] = "function"

    type: Literal["function"] = "function"
    name: str = param(..., "Name of the function.")
    timeout: float = param(
        3600.0, "Time limit of a call, for all rows of a batch (TRL) or for one (verl).", unit="seconds", gt=0
    )

    def user_name(self) -> str:
        """Return the name of the function."""
        return self.name


@_level(
    requires=("trained_RT", "old_logprob_RT", "ref_logprob_RT"), impl="recipec.runtime.reward.rule_based:kl_penalty"
)
class KlPenalty(Reward):
    r"""KL penalty to the reference, as part of the reward.

    .. math:: r = -\beta \sum_t k(\log\pi_{old}(t), \log\pi_{ref}(t))

    References:
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022.
    """

    type: Literal["kl_penalty"] = "kl_penalty"
    beta: float = param(0.001, "Coefficient of the KL penalty.", unit="reward units per nat", gt=0)
    kl: Literal["k1", "k2", "k3", "abs"] = param("k1", "Estimator of the KL divergence.")


@_level(
    requires=("prompt_P", "by_prompt_R", "transcript_R", "episode_id_R", "step_R"),
    impl="recipec.runtime.reward.answer_match:AnswerMatch",
    uses=("policy",),
)
class AnswerMatch(Reward):
    """Score the answer of a search episode by exact match or F1, and its format.

    The format is ``(think, search, information)*, think, answer``: balanced tags, no text between them, nothing after
    the answer.  Case, punctuation, articles and whitespace are ignored; a yes/no answer gets no partial F1.  The last
    answer counts.  An episode is scored once, on the row of its last step.

    ==================  ===================================  ============================================
    answer              format valid                         format invalid
    ==================  ===================================  ============================================
    correct             1, or its F1                         1, or its F1, minus ``structure_format``
    wrong               ``structure_format`` + retrieval     ``final_format`` (em), 0 (f1)
    none                ``structure_format``                 0
    ==================  ===================================  ============================================

    With ``chat_marker``, as published: the example in the prompt counts as an answer, so a policy that never answers
    may be scored by that example if the prompt has two.  Without the marker in the prompt, every format is invalid.

    References:
        Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025, and AMAP-ML/Tree-GRPO.
    """

    type: Literal["answer_match"] = "answer_match"
    answer: str = param("answer", "Column with the correct answer: text, or a list of accepted answers.")
    metric: Literal["em", "f1"] = param("em", "Exact match (`em`) or token F1 (`f1`).")
    structure_format: float = param(0.0, "Score of a wrong answer in a valid format.", unit="reward units")
    final_format: float = param(0.0, "Score of a wrong answer in an invalid format.", unit="reward units")
    retrieval: float = param(
        0.0, "Added for a wrong answer in a valid format if the documents contain a correct one.", unit="reward units"
    )
    chat_marker: str | None = param(
        None,
        "As published, parse prompt and response together: the format is checked from the first marker on, and the"
        " last of two or more answers counts, since the prompt contains an example. If omitted, the response alone.",
    )


@_level(
    requires=("env_reward_R", "rewards"),
    provides=("reward_R", "score_R", "return_R"),
    impl="recipec.runtime.reward.rule_based:environment",
    lowered=("gamma", "invalid_action_penalty"),
)
class Environment(Reward):
    r"""The reward of the environment, with the total score of each episode and the return of each step.

    .. math:: R_t = r_t + \gamma R_{t+1}, \quad S = \sum_t r_t

    Both are computed from the total reward of a row, including the other rewards; copies of a step add nothing.
    The penalty is subtracted from the score and the return of its own row after the returns are summed, so it affects
    neither earlier steps nor `reward_R` and the advantage levels that compare it.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 5.
    """

    type: Literal["environment"] = "environment"
    gamma: float = param(1.0, "Discount factor of later rewards.", ge=0, le=1)
    invalid_action_penalty: float = param(0.0, "Penalty of a row with an invalid action.", unit="reward units", ge=0)


@_level(requires=(*_TEXT, "knowledge"), impl="recipec.runtime.knowledge.consistency:KgConsistency", uses=("knowledge",))
class KgConsistency(Reward):
    r"""Reward claims that a knowledge graph supports, and penalise claims that it contradicts.

    .. math:: r = \sum_{claims} v \text{ or their mean, within } \pm cap,\quad
        v \in \{v_{supported}, v_{contradicted}, v_{unknown}\}

    A repeated claim counts once. An answer without claims gets `silent`.

    References:
        Tian et al., `Fine-tuning Language Models for Factuality <https://arxiv.org/abs/2311.08401>`_, 2023: the share
        of an answer's claims that a source supports.
        Min et al., `FActScore <https://arxiv.org/abs/2305.14251>`_, 2023.
    """

    type: Literal["kg_consistency"] = "kg_consistency"
    supported: float = param(1.0, "Reward of a claim that the knowledge graph supports.", unit="reward units")
    contradicted: float = param(-1.0, "Reward of a claim that the knowledge graph contradicts.", unit="reward units")
    unknown: float = param(0.0, "Reward of a claim that it neither supports nor contradicts.", unit="reward units")
    silent: float = param(0.0, "Reward of an answer without claims.", unit="reward units")
    average: Literal["sum", "mean"] = param("mean", "Sum or mean over the claims of an answer.")
    cap: float | None = param(None, "Bound of the absolute reward.", unit="reward units", gt=0)
    topic: str | None = param(None, "Column with the topic; if omitted, the question's text is searched for entities.")
    top_k: int = param(1, "Number of entities that the question is assumed to be about.", unit="entities", ge=1)

    def bounds(self) -> tuple[float, float] | None:
        """Return the bounds of a claim and of an answer without claims; a sum is bounded by `cap` only."""
        values = [self.supported, self.contradicted, self.unknown]
        if self.cap is not None:
            values = [-self.cap, self.cap] if self.average == "sum" else [self._capped(value) for value in values]
        elif self.average == "sum":
            return None
        return min(*values, self.silent), max(*values, self.silent)

    def _capped(self, value: float) -> float:
        return value if self.cap is None else max(-self.cap, min(self.cap, value))
