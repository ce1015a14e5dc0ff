"""From the training engine to a rollout engine with weights of its own, with a proof that they arrived."""

from __future__ import annotations

import math
import time

import torch

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Policy, RolloutEngine, TrainEngine
from recipec.runtime.rng import rng_for
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
from recipec.runtime.rollout.rows import sampled_columns
from recipec.spec.attention import Dense
from recipec.spec.rollout_engine import RolloutEngine as Spec

_PROMPTS, _TOKENS = 8, 8  # of the probe: what it costs is one short batch and one forward pass


class WeightTransfer:
    """Lets the rollout engine of a stage sample from the weights as they are now.

    After each transfer the engine completes a few fixed prompts, and its log-probabilities are compared with the
    policy's: an engine may keep a weight that it was given, and nothing else would show it.

    Example: ``WeightTransfer(spec, rollout_engine, train_engine, policy, context).update()``.
    """

    def __init__(
        self,
        spec: Spec,
        rollout_engine: RolloutEngine,
        train_engine: TrainEngine,
        policy: Policy,
        context: StageContext,
    ) -> None:
        """Transfer nothing yet."""
        self.spec, self.policy, self.context = spec, policy, context
        self.rollout_engine, self.train_engine = rollout_engine, train_engine
        self.version: int | None = None
        """Steps taken when the engine's weights were handed over; None before the first time."""
        self.gap = math.nan
        """Mean difference of log-probabilities at the last transfer, in nats; NaN where weights are shared."""
        self.seconds = 0.0
        """What the last transfer took, without the comparison."""

    @property
    def metrics(self) -> dict[str, float]:
        """The last transfer as metrics of a step; empty where weights are shared."""
        metrics = {"sampling/probe_logp_difference": self.gap, "seconds/weight_transfer": self.seconds}
        return {} if self.rollout_engine.shares_weights else metrics

    def update(self, version: int = 0) -> None:
        """Hand over the weights after ``version`` steps, where they are not shared, and compare.

        Raises:
            RecipeError: RC786, RC787, the engine's log-probabilities are not the policy's.
        """
        self.version = self.rollout_engine.version = version
        self.rollout_engine.clear_cache()  # what it cached is of older weights
        if self.rollout_engine.shares_weights:
            return
        began = time.monotonic()
        self.rollout_engine.update_weights(self.train_engine.weights())
        self.seconds = time.monotonic() - began
        before, self.gap = self.gap, self.measured()
        bound = self.spec.gap_bound(str(self.policy.model.dtype).removeprefix("torch."))
        if self.gap <= bound:
            return
        name = self.spec.type_name
        if math.isnan(before):
            raise RecipeError(errors.gap_over_bound(name, self.gap, bound))
        raise RecipeError(errors.engine_keeps_old_weights(name, self.gap, before, bound))

    def sleep(self) -> None:
        """Let the rollout engine release memory until the next update."""
        self.rollout_engine.sleep()

    def measured(self) -> float:
        """Return the mean absolute difference of log-probabilities over completions of fixed prompts, in nats."""
        vocabulary = len(self.policy.tokenizer)
        length = min(_TOKENS, self.policy.max_positions // 2)
        draws = [rng_for("parity", number) for number in range(_PROMPTS)]
        prompts = [tuple(rng.integers(vocabulary, size=length - i % 2).tolist()) for i, rng in enumerate(draws)]
        requests = [Request(ids, (("parity", i),), i) for i, ids in enumerate(prompts)]
        sampling = SamplingParams(max_length=length, temperature=self.context.temperature or 1.0)
        completions = [completion for (completion,) in self.rollout_engine.generate(requests, sampling)]
        return float(self._differences(list(zip(prompts, completions, strict=True))).mean())

    @torch.no_grad()
    def _differences(self, rows: list[tuple[tuple[int, ...], Completion]]) -> torch.Tensor:
        """Compare each sampled token; rows are padded, so that attention `auto` does not choose by them."""
        columns = sampled_columns(rows)
        policy = self.policy
        policy.eval()
        attention, policy.attention = policy.attention, DenseAttention(Dense(), self.context)
        try:
            outputs = policy.logprobs(columns["tokens_RT"], columns["attend_RT"], columns["trained_RT"], entropy=False)
        finally:
            policy.attention = attention
        own_RT = outputs["logprob_RT"].cpu()
        return (own_RT - columns["sampler_logprob_RT"])[columns["trained_RT"]].abs().double()
