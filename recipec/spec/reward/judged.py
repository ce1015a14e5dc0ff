"""Rewards from other models: a reward model in this process, or a judge behind a service."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from recipec.component import OriginRef, TemplateRef, param
from recipec.spec.reward.definition import TEXT, Reward, compiled, level


@level(requires=TEXT, impl="recipec.runtime.reward.model_score:ModelScore")
class Model(Reward):
    """Score of a reward model for prompt and answer: one saved by an `rm` stage, or by other tools.

    The prompt is a conversation where that of the policy is one, and goes through the chat template of the reward
    model; else prompt and answer are plain text with the end token, as `rm` stages train it. A text that is longer than
    `max_length`, or than the model's positions, is not scored: its row has no reward.

    References:
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022, section 3.5.
        Transformers, `AutoModelForSequenceClassification <https://huggingface.co/docs/transformers>`_, one label.
    """

    tried: ClassVar[bool] = False

    type: Literal["model"] = "model"
    from_: OriginRef = param(..., "Reward model: an `rm` stage, a directory or a Hub model.", alias="from")
    dtype: Literal["float32", "bfloat16"] = param("float32", "Data type of its weights; the head is always float32.")
    batch_size: int = param(8, "Number of texts of one forward pass.", unit="texts", ge=1)
    max_length: int | None = param(
        None, "Maximum length of prompt and answer; that of the model if omitted.", unit="tokens", ge=1
    )
    chat_template: TemplateRef | None = param(
        None, "Jinja template, or a file with one, that replaces the chat template of the reward model; sandboxed."
    )


@level(requires=TEXT, impl="recipec.runtime.reward.judge:Judge")
class Judge(Reward):
    """Score of a language model behind an OpenAI-compatible service, by a rubric.

    The rubric is a template with the columns of the data, `prompt` and `completion`. Requests that failed are repeated
    with growing pauses. An answer without a valid score, and a service that does not answer in time, leave a row
    without a reward, or with `unscored`. Answers are kept in the run directory: a resumed run asks nothing twice.

    References:
        Zheng et al., `Judging LLM-as-a-Judge <https://arxiv.org/abs/2306.05685>`_, 2023.
        OpenAI, `Chat Completions <https://platform.openai.com/docs/api-reference/chat>`_.
    """

    tried: ClassVar[bool] = False
    preflight: ClassVar[str] = "recipec.runtime.reward.judge:check"

    type: Literal["judge"] = "judge"
    service: str = param(..., "Name of the service under `machine.services`; its URL ends before `/chat/completions`.")
    model: str = param(..., "Name of the model at the service.")
    rubric: TemplateRef = param(..., "Jinja template of the request, or a file with one; sandboxed.")
    system: str | None = param(None, "System message of the request.")
    score: Literal["number", "regex", "json"] = param(
        "number",
        "Where the score is in the answer: its last `number`, the group of a `pattern` (`regex`), or a `field` of its "
        "last JSON object (`json`).",
    )
    pattern: str | None = param(None, "Regular expression with one group (`score: regex`); its last match counts.")
    field: str = param("score", "Key of the score (`score: json`).")
    range: tuple[float, float] = param(
        (0.0, 1.0), "Lowest and highest valid score; another one is not valid.", unit="reward units"
    )
    unscored: float | None = param(
        None, "Reward of a row that the judge does not score; the row has no reward if omitted.", unit="reward units"
    )
    temperature: float = param(0.0, "Sampling temperature of the judge.", ge=0, le=2)
    max_tokens: int = param(512, "Maximum length of an answer.", unit="tokens", ge=1)
    timeout: float = param(60.0, "Time limit of a request.", unit="seconds", gt=0)
    retries: int = param(2, "Number of further attempts.", unit="attempts", ge=0, le=10)
    concurrency: int = param(8, "Number of requests at a time.", unit="requests", ge=1, le=256)
    price_in: float = param(0.0, "Price of a million tokens of requests, for `judge/cost`.", unit="currency", ge=0)
    price_out: float = param(0.0, "Price of a million tokens of answers, for `judge/cost`.", unit="currency", ge=0)

    @model_validator(mode="after")
    def _parsed(self) -> Self:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"`range` is the lowest and the highest score: {self.range[0]:g} is not below it")
        if (self.score == "regex") != (self.pattern is not None):
            raise ValueError("`score: regex` needs a `pattern`, and the other values of `score` take none")
        if self.pattern is not None:
            groups = compiled(self.pattern).groups
            if groups != 1:
                raise ValueError(f"`pattern` must have one group, with the score, and has {groups}")
        return self

    def bounds(self) -> tuple[float, float]:
        """Return the range, and the value of rows without a score.

        >>> Judge(service="a", model="b", rubric="{{ completion }}", range=(1, 5), unscored=0).bounds()
        (0.0, 5.0)
        """
        low, high = self.range
        return (low, high) if self.unscored is None else (min(low, self.unscored), max(high, self.unscored))
