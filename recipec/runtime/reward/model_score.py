"""Scores of a reward model; see :class:`recipec.spec.reward.Model`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recipec.diagnostics.errors import objective as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Task, pad_rows
from recipec.runtime.context import StageContext
from recipec.runtime.model import weights
from recipec.runtime.model.origin import folder_of, merged, origin_of
from recipec.runtime.model.reward_model import RewardModel, is_reward_model
from recipec.runtime.protocols import Part
from recipec.spec import policy as policy_specs, reward as specs
from recipec.spec.attention import Dense


class ModelScore(Part):
    """A reward model, loaded at the first call."""

    def __init__(self, spec: specs.Model, context: StageContext) -> None:
        self.spec = spec
        self.context = context
        self._model: RewardModel | None = None

    @property
    def model(self) -> RewardModel:
        """The reward model.

        Raises:
            RecipeError: RC952, the weights are not those of a reward model; what loading a model raises.
        """
        if self._model is None:
            self.context.say(f"loading reward model {self.spec.from_}")
            self._model = load(self.spec, self.context)
        return self._model

    @torch.no_grad()
    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Tensor]:
        """Return the score of each row, float64; NaN for a text that is too long."""
        model = self.model
        tasks = (prompt_P[prompt] for prompt in by_prompt_R.tolist())
        rows = [encoded(model, task, text) for task, text in zip(tasks, text_R, strict=True)]
        longest = min(self.spec.max_length or model.max_positions, model.max_positions)
        order = sorted((row for row in range(len(rows)) if len(rows[row]) <= longest), key=lambda row: len(rows[row]))
        score_R = torch.full((len(rows),), math.nan, dtype=torch.float64)
        for start in range(0, len(order), self.spec.batch_size):
            part = order[start : start + self.spec.batch_size]
            attend_RT = pad_rows([[1] * len(rows[row]) for row in part], torch.bool)
            score_R[part] = model.scores(pad_rows([rows[row] for row in part], torch.int64), attend_RT).double().cpu()
        return {"reward_R": score_R, "metric/rewards/too_long": torch.tensor(len(rows) - len(order))}


def load(spec: specs.Model, context: StageContext) -> RewardModel:
    """Load the reward model that a reward names, ready to score."""
    if spec.from_ == "scratch":
        raise RecipeError(errors.not_a_reward_model("scratch", "it is a new model"))
    origin = origin_of(spec.from_, context)
    folder = folder_of(origin, context)
    weights.inspect_folder(folder)
    if not is_reward_model(folder):
        raise RecipeError(errors.not_a_reward_model(spec.from_, "its configuration names no sequence classifier"))
    described = policy_specs.CausalLm(dtype=spec.dtype, chat_template=spec.chat_template)
    model = RewardModel(described, context, merged(origin, context))
    model.set_attention(DenseAttention(Dense(), context))
    return model


def encoded(model: RewardModel, task: Task, text: str) -> list[int]:
    """Return prompt and answer in the tokens of a reward model, as an `rm` stage trains them."""
    if not isinstance(task.prompt, str):
        messages = [*task.prompt, {"role": "assistant", "content": text}]
        return model.render(messages, generation=False, variables=task.variables)
    first = model.tokenizer.bos_token_id
    opening = [first] if first is not None and list(model.tokenizer("").input_ids[:1]) == [first] else []
    prompt = [*opening, *model.encode(task.prompt)]
    return [*prompt, *model.encode(text, prompt), model.eos_id]
