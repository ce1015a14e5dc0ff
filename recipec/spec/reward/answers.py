"""Rewards of right answers."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recipec.component import param
from recipec.spec.reward.definition import TEXT, Answer, Reward, level


@level(requires=TEXT, impl="recipec.runtime.reward.rule_based:verifier")
class Verifier(Reward):
    """Score by the verifier of the task, such as those of reasoning-gym.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    asks_tasks: ClassVar[bool] = True

    type: Literal["verifier"] = "verifier"
    tag: str | None = param(None, "Score the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")

    def answer_in(self) -> Answer | None:
        """Return the tag, if there is one."""
        return Answer(self.tag) if self.tag else None


@level(requires=TEXT, impl="recipec.runtime.reward.rule_based:exact_match")
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
    tag: str | None = param(None, "Compare the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    labels: tuple[Annotated[str, Field(pattern=r"[^\W_]")], ...] = param(
        (), "Allowed answers; correct answers of the data must be among them. Any text if empty."
    )
    correct: float = param(1.0, "Reward of a correct answer.", unit="reward units")
    wrong: float = param(0.0, "Reward of a wrong or missing answer.", unit="reward units")

    def answer_column(self) -> str:
        """Return the column of the correct answer."""
        return self.answer

    def answer_in(self) -> Answer:
        """Return tag, labels and column, which an F1 over labels needs."""
        return Answer(self.tag, self.labels, self.answer)


@level(requires=TEXT, impl="recipec.runtime.reward.math_verify:MathVerify")
class MathVerify(Reward):
    r"""Compare mathematical answers with Math-Verify, in processes with a time limit.

    The right answer is read as a whole. Of the completion after its last ``</think>``, the last ``\boxed{}`` counts, or
    else the expression that Math-Verify finds. A unit may be left out, but must not differ.

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

    def answer_column(self) -> str:
        """Return the column of the correct answer."""
        return self.answer


@level(
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

    def answer_column(self) -> str:
        """Return the column of the correct answer."""
        return self.answer


@level(requires=TEXT, impl="recipec.runtime.reward.choices:multiple_choice")
class MultipleChoice(Reward):
    r"""Compare the letter of a multiple-choice answer with a column of the data.

    The letter is that in the last `\boxed{}`; else the one after the last "answer" or "correct option"; else the one
    that the text begins with, as in `B. Paris`; else the one after the last "option" or "choice" that is not called
    wrong; else that of `(B) Paris`; else the last letter in parentheses. Options are capital letters.

    References:
        Hendrycks et al., `MMLU <https://arxiv.org/abs/2009.03300>`_, 2021.
    """

    outcomes: ClassVar[tuple[str, str]] = ("correct", "wrong")
    judges: ClassVar[bool] = True
    reader: ClassVar[str] = "recipec.runtime.reward.choices:right_option"

    type: Literal["multiple_choice"] = "multiple_choice"
    answer: str = param("answer", "Column with the right option: its letter, or its number from 0.")
    tag: str | None = param(None, "Read the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    correct: float = param(1.0, "Reward of the right option.", unit="reward units")
    wrong: float = param(0.0, "Reward of another option, or of none.", unit="reward units")

    def answer_column(self) -> str:
        """Return the column of the correct answer."""
        return self.answer


@level(requires=TEXT, impl="recipec.runtime.reward.choices:iou")
class Iou(Reward):
    r"""Overlap of a bounding box with that of the data: intersection over union.

    .. math:: r = \frac{|A \cap B|}{|A \cup B|},\quad \text{or } [r \ge \text{threshold}]

    The box is the last four numbers in brackets, `[x1, y1, x2, y2]`; without one, or with one of no area, the reward
    is 0. Coordinates are those of the data, usually pixels.

    References:
        Shen et al., `VLM-R1 <https://arxiv.org/abs/2504.07615>`_, 2025: the reward of referring expressions.
    """

    reader: ClassVar[str] = "recipec.runtime.reward.choices:right_box"

    type: Literal["iou"] = "iou"
    answer: str = param("answer", "Column with the right box: a list of four numbers.")
    tag: str | None = param(None, "Read the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    threshold: float | None = param(
        None, "Reward 1 from this overlap on and 0 below it; the overlap itself if omitted.", unit="overlap", gt=0, le=1
    )

    def answer_column(self) -> str:
        """Return the column of the correct answer."""
        return self.answer

    def bounds(self) -> tuple[float, float]:
        """Return 0 and 1."""
        return 0.0, 1.0
