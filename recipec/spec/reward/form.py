"""Rewards of the form of a completion: format, sections, length, tags, JSON, instructions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from recipec.component import param
from recipec.spec.reward.definition import TAG, TEXT, Reward, compiled, level


@level(requires=TEXT, impl="recipec.runtime.reward.rule_based:regex_format")
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
        compiled(pattern)
        return pattern


@level(requires=TEXT, impl="recipec.runtime.reward.sections:sections")
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


@level(requires=("trained_RT",), impl="recipec.runtime.reward.rule_based:length")
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


@level(requires=TEXT, impl="recipec.runtime.reward.text_form:tag_count")
class TagCount(Reward):
    r"""Reward each opening and closing tag that occurs exactly once, with an equal share of 1.

    .. math:: r = \frac{1}{2n} \sum_i [\#\text{opening}_i = 1] + [\#\text{closing}_i = 1]

    With `newlines`, tags count only on lines of their own, as in the published function.

    References:
        Hugging Face, `open-r1 <https://github.com/huggingface/open-r1>`_, 2025: ``tag_count_reward``.
    """

    type: Literal["tag_count"] = "tag_count"
    tags: tuple[Annotated[str, Field(pattern=TAG)], ...] = param(
        ("think", "answer"), "Names of the tags, in their order.", min_length=1
    )
    newlines: bool = param(True, "Count a tag only if it is on a line of its own.")

    def bounds(self) -> tuple[float, float]:
        """Return 0 and 1."""
        return 0.0, 1.0


@level(requires=TEXT, impl="recipec.runtime.reward.text_form:repetition")
class Repetition(Reward):
    r"""Penalise repeated runs of words.

    .. math:: r = \text{penalty} \cdot (1 - \text{distinct n-grams} / \text{n-grams})

    Words are separated by white space, and case is ignored; a text shorter than one n-gram gets 0.

    References:
        Yeo et al., `Demystifying Long Chain-of-Thought Reasoning <https://arxiv.org/abs/2502.03373>`_, 2025; open-r1,
        ``get_repetition_penalty_reward``.
    """

    type: Literal["repetition"] = "repetition"
    ngram: int = param(3, "Number of words of a run.", unit="words", ge=1)
    penalty: float = param(-1.0, "Reward of a text of one run repeated endlessly.", unit="reward units", le=0)

    def bounds(self) -> tuple[float, float]:
        """Return the penalty and 0."""
        return self.penalty, 0.0


@level(requires=TEXT, impl="recipec.runtime.reward.json_schema:JsonSchema")
class JsonSchema(Reward):
    """Reward a completion that is JSON and valid under a JSON Schema, with the library jsonschema.

    JSON in the last Markdown fence counts, else the whole text. A schema is checked in a process with a time limit,
    and loads no other schema; `format` is not checked.

    References:
        JSON Schema, `Draft 2020-12 <https://json-schema.org/draft/2020-12>`_; `jsonschema
        <https://python-jsonschema.readthedocs.io>`_.
    """

    packages: ClassVar[Mapping[str, str]] = {"jsonschema": "jsonschema"}
    outcomes: ClassVar[tuple[str, str]] = ("valid", "invalid")

    type: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any] | None = param(None, "Schema of all answers; that of each row in `column` if omitted.")
    column: str = param("schema", "Column with the schema of a row: an object, or its JSON text.")
    tag: str | None = param(None, "Read the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    valid: float = param(1.0, "Reward of valid JSON.", unit="reward units")
    invalid: float = param(0.0, "Reward of anything else.", unit="reward units")
    timeout: float = param(5.0, "Maximum time for one answer; beyond it, the row has no reward.", unit="seconds", gt=0)


@level(requires=TEXT, impl="recipec.runtime.reward.instructions:ifeval")
class Ifeval(Reward):
    """Check the verifiable instructions of IFEval, which each row lists with their arguments.

    All but `language:response_language` are known, which needs a detector of languages. Differences from the authors'
    code: keywords are text and not patterns, upper and lower case are checked without the language, sentences end
    at `.`, `!` or `?` before white space, and words of capital letters are runs of letters and digits.

    References:
        Zhou et al., `Instruction-Following Evaluation <https://arxiv.org/abs/2311.07911>`_, 2023.
    """

    type: Literal["ifeval"] = "ifeval"
    instructions: str = param("instruction_id_list", "Column with the names of the instructions of a row.")
    arguments: str = param(
        "kwargs", "Column with the arguments of each instruction: a list of objects, or its JSON text."
    )
    ignore: tuple[str, ...] = param((), "Names of instructions that are not checked.")
    tag: str | None = param(None, "Read the last `<TAG>…</TAG>` alone; if omitted, all after the last `</think>`.")
    loose: bool = param(
        False, "Accept an answer that follows an instruction without its asterisks, its first line or its last line."
    )
    score: Literal["share", "all"] = param("share", "Reward the share of instructions that are followed, or only all.")

    def bounds(self) -> tuple[float, float]:
        """Return 0 and 1."""
        return 0.0, 1.0
