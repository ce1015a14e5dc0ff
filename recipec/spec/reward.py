"""What a row is worth: named, weighted levels that add."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator

from recipec.component import Component, component, param

_TEXT = ("prompt_P", "by_prompt_R", "text_R")
TAG = r"^[A-Za-z][A-Za-z0-9_-]*$"
"""What may stand between angle brackets."""


class Answer(NamedTuple):
    """Where the answer stands in a completion, and what may be answered.

    Example: ``Answer("answer", ("cat", "dog"), "label")``.
    """

    tag: str | None
    """The last `<TAG>…</TAG>`; the whole completion if absent."""
    labels: tuple[str, ...] = ()
    """Empty: any text."""
    column: str = ""
    """Column of the data with the right answer; empty where the level reads none."""


class Reward(Component):
    """Base class of reward levels."""

    slot: ClassVar[str] = "reward"
    outcomes: ClassVar[tuple[str, str] | None] = None
    """Parameters with the only two values that the level gives, that of a good row first."""
    judges: ClassVar[bool] = False
    """Whether right answers get the first of ``outcomes`` and wrong ones the second."""
    asks_tasks: ClassVar[bool] = False
    """Whether the level asks each task for its own verifier."""

    weight: float = param(1.0, "Factor of this level in the row's reward.")

    def bounds(self) -> tuple[float, float] | None:
        """Return the least and the most that the level gives, before its weight; ``None`` where nothing bounds it.

        >>> ExactMatch(correct=7, wrong=-1).bounds(), Verifier().bounds()
        ((-1.0, 7.0), None)
        """
        values = self.outcome_values()
        return (min(values), max(values)) if values is not None else None

    def answer_in(self) -> Answer | None:
        """Return how the level finds the answer in a completion; ``None`` where it reads the whole, or no text."""
        return None

    def outcome_values(self) -> tuple[float, float] | None:
        """Return the values of ``outcomes``."""
        return None if self.outcomes is None else (getattr(self, self.outcomes[0]), getattr(self, self.outcomes[1]))


@component(
    "reward",
    requires=_TEXT,
    provides=("reward_R",),
    impl="recipec.runtime.reward.rule_based:verifier",
    lowered=("weight",),
)
class Verifier(Reward):
    """Ask the task's own verifier, as reasoning-gym tasks carry one.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    asks_tasks: ClassVar[bool] = True

    type: Literal["verifier"] = "verifier"
    tag: str | None = param(None, "Score the text of the last `<TAG>…</TAG>` instead of the whole completion.")

    def answer_in(self) -> Answer | None:
        """Return the tag, where there is one."""
        return Answer(self.tag) if self.tag else None


@component(
    "reward",
    requires=_TEXT,
    provides=("reward_R",),
    impl="recipec.runtime.reward.rule_based:exact_match",
    lowered=("weight",),
)
class ExactMatch(Reward):
    """Compare the answer with a column of the task, after folding case and space.

    With ``labels`` the answer is the one of them that the text equals, or the only one that it names in whole words,
    punctuation aside; a text that names none of them, or several, is wrong.

    References:
        Rajpurkar et al., `SQuAD <https://arxiv.org/abs/1606.05250>`_, 2016.
    """

    outcomes: ClassVar[tuple[str, str]] = ("correct", "wrong")
    judges: ClassVar[bool] = True

    type: Literal["exact_match"] = "exact_match"
    answer: str = param("answer", "Column with the right answer: text, or a list of right answers.")
    tag: str | None = param(None, "Compare the text of the last `<TAG>…</TAG>` instead of the whole completion.")
    labels: tuple[Annotated[str, Field(pattern=r"[^\W_]")], ...] = param(
        (), "What may be answered; right answers of the data must be among them. Absent: any text."
    )
    correct: float = param(1.0, "Value of a right answer.", unit="reward units")
    wrong: float = param(0.0, "Value of a wrong or missing answer.", unit="reward units")

    def answer_in(self) -> Answer:
        """Return tag, labels and column: what an F1 over labels needs."""
        return Answer(self.tag, self.labels, self.answer)


@component(
    "reward",
    requires=_TEXT,
    provides=("reward_R",),
    impl="recipec.runtime.reward.rule_based:regex_format",
    lowered=("weight",),
)
class RegexFormat(Reward):
    """Reward a completion that matches a regular expression from start to end.

    References:
        DeepSeek-AI, `DeepSeek-R1 <https://arxiv.org/abs/2501.12948>`_, 2025: its format reward.
    """

    outcomes: ClassVar[tuple[str, str]] = ("match", "mismatch")

    type: Literal["regex_format"] = "regex_format"
    pattern: str = param(..., "Regular expression (Python's `re`, DOTALL); a bounded time is given to each match.")
    match: float = param(1.0, "Value of a match.", unit="reward units")
    mismatch: float = param(0.0, "Value of no match.", unit="reward units")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern, re.DOTALL)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"it is no regular expression: {error}") from None
        return pattern


@component(
    "reward",
    requires=_TEXT,
    provides=("reward_R",),
    impl="recipec.runtime.reward.sections:sections",
    lowered=("weight",),
)
class Sections(Reward):
    r"""Reward the shape of a reasoned answer: reasoning in one tag, the answer in the next, sections inside.

    .. math:: r = w + b\,[\text{nothing between the tags}] + s\,\frac{\text{sections present}}{\text{sections asked}}

    for a completion that begins with the reasoning's tag, ends with the answer's, has both once and neither empty;
    ``malformed`` for all others. Case and space do not count in the names of sections.
    Published with ``weight: 2``, though switched off; there a tag may occur more than once.

    References:
        `GraphIQ-VLM <https://github.com/SwapniL-afk-now/GraphIQ-VLM>`_, 2025: its format reward.
    """

    type: Literal["sections"] = "sections"
    reasoning: str = param("thinking", "Tag of the reasoning.", pattern=TAG)
    answer: str = param("answer", "Tag of the answer.", pattern=TAG)
    sections: tuple[Annotated[str, Field(pattern=r"[^\W_]")], ...] = param((), "Names that the reasoning must hold.")
    filled: bool = param(False, "A section counts only where a letter stands between its name and the next one.")
    well_formed: float = param(0.5, "Value w of the right shape.", unit="reward units")
    nothing_between: float = param(0.2, "Value b of nothing but space between the two parts.", unit="reward units")
    complete: float = param(0.3, "Value s of all sections; a share of it for some.", unit="reward units")
    malformed: float = param(-0.5, "Value of any other shape.", unit="reward units")

    def bounds(self) -> tuple[float, float]:
        """Return the least and the most: a malformed answer, or a well-formed one with what is added to it.

        >>> Sections().bounds()
        (-0.5, 1.0)
        """
        more = (self.nothing_between, self.complete)
        least, most = (self.well_formed + sum(pick(0.0, value) for value in more) for pick in (min, max))
        return min(self.malformed, least), max(self.malformed, most)


@component(
    "reward",
    requires=("trained_RT",),
    provides=("reward_R",),
    impl="recipec.runtime.reward.rule_based:length",
    lowered=("weight",),
)
class Length(Reward):
    r"""Penalise completions that come near the limit.

    .. math:: 0 \text{ up to } L - c;\ (L - c - n)/c \text{ up to } L;\ -1 \text{ beyond}

    References:
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025, eq. 13 (soft overlong punishment).
    """

    type: Literal["length"] = "length"
    max_length: int = param(..., "Length L from which the penalty is -1.", unit="tokens", ge=1)
    soft: int = param(0, "Length c of the slope before it.", unit="tokens", ge=0)

    def bounds(self) -> tuple[float, float]:
        """Return -1 and 0."""
        return -1.0, 0.0


@component(
    "reward",
    requires=_TEXT,
    provides=("reward_R",),
    impl="recipec.runtime.reward.math_verify:MathVerify",
    lowered=("weight",),
)
class MathVerify(Reward):
    """Compare mathematical answers for equality, in processes that are killed when they hang.

    References:
        Hugging Face, `Math-Verify <https://github.com/huggingface/Math-Verify>`_.
    """

    outcomes: ClassVar[tuple[str, str]] = ("correct", "wrong")
    judges: ClassVar[bool] = True

    type: Literal["math_verify"] = "math_verify"
    answer: str = param("answer", "Column with the right answer, as LaTeX or a plain expression.")
    correct: float = param(1.0, "Value of a right answer.", unit="reward units")
    wrong: float = param(0.0, "Value of a wrong answer.", unit="reward units")
    timeout: float = param(5.0, "Time for one answer; past it the row's reward has failed.", unit="seconds", gt=0)


@component(
    "reward",
    requires=(*_TEXT, "tokens_RT", "trained_RT"),
    provides=("reward_R",),
    impl="recipec.runtime.reward.function:Function",
    lowered=("weight",),
)
class Function(Reward):
    """Call a function of the user's own file, named under the recipe's `use`; None counts as 0.

    ``f(prompts, completions, **columns)`` as in TRL, or
    ``compute_score(data_source, solution_str, ground_truth, extra_info)`` as in verl.

    References:
        TRL, `Using a custom reward function <https://huggingface.co/docs/trl/grpo_trainer>`_.
    """

    type: Literal["function"] = "function"
    name: str = param(..., "Name of the function.")

    def user_functions(self) -> tuple[str, ...]:
        """The function itself."""
        return (self.name,)


@component(
    "reward",
    requires=("trained_RT", "old_logprob_RT", "ref_logprob_RT"),
    provides=("reward_R",),
    impl="recipec.runtime.reward.rule_based:kl_penalty",
    lowered=("weight",),
)
class KlPenalty(Reward):
    r"""Charge a row for its distance from the reference: KL in the reward.

    .. math:: r = -\beta \sum_t k(\log\pi_{old}(t), \log\pi_{ref}(t))

    References:
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022.
    """

    type: Literal["kl_penalty"] = "kl_penalty"
    beta: float = param(0.001, "Factor of the KL.", unit="reward units per nat", gt=0)
    kl: Literal["k1", "k2", "k3", "abs"] = param("k1", "Estimator.")


@component(
    "reward",
    requires=("prompt_P", "by_prompt_R", "transcript_R", "episode_id_R", "step_R"),
    provides=("reward_R",),
    impl="recipec.runtime.reward.answer_match:AnswerMatch",
    lowered=("weight",),
    uses=("policy",),
)
class AnswerMatch(Reward):
    """Score an answer of the search dialogue by exact match or F1, and its format by a state machine.

    The format is ``(think, search, information)*, think, answer``: balanced tags, no text between them, nothing after
    the answer.  Case, punctuation, articles and space do not count; F1 gives no part of a yes or no.  The last answer
    counts.  An episode is scored once, on the row of its last step.

    ==================  ===================================  ============================================
    answer              format valid                         format invalid
    ==================  ===================================  ============================================
    right               1, or its F1                         1, or its F1, minus ``structure_format``
    wrong               ``structure_format`` + retrieval     ``final_format`` (em), 0 (f1)
    none                ``structure_format``                 0
    ==================  ===================================  ============================================

    With ``chat_marker``, as published: the template's own example is an answer of the prompt, so that a policy that
    never answers may be scored by that example where the prompt has two.  A prompt without the marker makes every
    format invalid.

    References:
        Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025, and AMAP-ML/Tree-GRPO.
    """

    type: Literal["answer_match"] = "answer_match"
    answer: str = param("answer", "Column with the right answer: text, or a list of right answers.")
    metric: Literal["em", "f1"] = param("em", "How an answer is compared.")
    structure_format: float = param(0.0, "Score of a wrong answer in a valid format.", unit="reward units")
    final_format: float = param(0.0, "Score of a wrong answer in an invalid format.", unit="reward units")
    retrieval: float = param(
        0.0, "Added where a wrong answer stands in a valid format, and documents held a right one.", unit="reward units"
    )
    chat_marker: str | None = param(
        None,
        "As published, read prompt and response together: the format counts from the first of these markers on, and"
        " the last of two or more answers is taken, since the prompt shows an example. Absent: the response alone.",
    )


@component(
    "reward",
    requires=("env_reward_R", "rewards"),
    provides=("reward_R", "score_R", "return_R"),
    impl="recipec.runtime.reward.rule_based:environment",
    lowered=("weight", "gamma", "invalid_action_penalty"),
)
class Environment(Reward):
    r"""Take the environment's own reward; with it come the score of each episode and the return of each step.

    .. math:: R_t = r_t + \gamma R_{t+1}, \quad S = \sum_t r_t

    Both are of the row's whole reward, with the levels that stand beside this one; a copy of a step adds nothing.
    The penalty is the row's own: it is taken off its episode score and its return after the returns were summed up,
    so it reaches no earlier step, and neither `reward_R` nor any level that compares it.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 5.
    """

    type: Literal["environment"] = "environment"
    gamma: float = param(1.0, "Discount of later rewards.", ge=0, le=1)
    invalid_action_penalty: float = param(
        0.0, "Charged to a row whose action was not understood.", unit="reward units", ge=0
    )


@component(
    "reward",
    requires=(*_TEXT, "knowledge"),
    provides=("reward_R",),
    impl="recipec.runtime.knowledge.consistency:KgConsistency",
    lowered=("weight",),
    uses=("knowledge",),
)
class KgConsistency(Reward):
    r"""Reward what a graph of facts supports, and charge for what it speaks against.

    .. math:: r = \sum_{claims} v \text{ or their mean, within } \pm cap,\quad
        v \in \{v_{supported}, v_{contradicted}, v_{unknown}\}

    A claim that is made twice counts once. What has no claim gets `silent`.

    References:
        Tian et al., `Fine-tuning Language Models for Factuality <https://arxiv.org/abs/2311.08401>`_, 2023: the share
        of an answer's claims that a source supports.
        Min et al., `FActScore <https://arxiv.org/abs/2305.14251>`_, 2023.
    """

    type: Literal["kg_consistency"] = "kg_consistency"
    supported: float = param(1.0, "Value of a claim that the graph states.", unit="reward units")
    contradicted: float = param(-1.0, "Value of a claim that the graph speaks against.", unit="reward units")
    unknown: float = param(0.0, "Value of a claim of which the graph says nothing.", unit="reward units")
    silent: float = param(0.0, "Value of an answer without a claim.", unit="reward units")
    average: Literal["sum", "mean"] = param("mean", "The reward is the sum over the claims, or their mean.")
    cap: float | None = param(None, "Bound of the absolute reward.", unit="reward units", gt=0)
    topic: str | None = param(
        None, "Column that names what the question is about; the question's own text is searched if absent."
    )
    top_k: int = param(1, "Entities that the question is taken to be about.", unit="entities", ge=1)

    def bounds(self) -> tuple[float, float] | None:
        """Return the least and the most of a claim, or of an answer without one; a sum is bounded by `cap` alone."""
        values = [self.supported, self.contradicted, self.unknown]
        if self.cap is not None:
            values = [-self.cap, self.cap] if self.average == "sum" else [self._capped(value) for value in values]
        elif self.average == "sum":
            return None
        return min(*values, self.silent), max(*values, self.silent)

    def _capped(self, value: float) -> float:
        return value if self.cap is None else max(-self.cap, min(self.cap, value))
