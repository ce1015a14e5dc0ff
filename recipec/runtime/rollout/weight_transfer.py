"""From the training engine to a rollout engine with weights of its own, with a proof that they arrived."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

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
        length = min(_TOKENS, self.policy.max_positions // 2)
        requests = self._requests(length)
        sampling = SamplingParams(max_length=length, temperature=self.context.temperature or 1.0)
        completions = [completion for (completion,) in self.rollout_engine.generate(requests, sampling)]
        return float(self._differences(requests, completions).mean())

    def _requests(self, length: int) -> list[Request]:
        """Draw prompts; those of a policy that reads images show one behind their first token."""
        vocabulary = len(self.policy.tokenizer)
        draws = [rng_for("parity", number) for number in range(_PROMPTS)]
        prompts = [tuple(rng.integers(vocabulary, size=length - i % 2).tolist()) for i, rng in enumerate(draws)]
        encoder = self.policy.image_encoder
        pictures = [] if encoder is None else encoder.sample_pictures()
        pictures = [one for one in pictures if len(one.tokens) + 2 * length <= self.policy.max_positions]
        if not pictures:
            return [Request(ids, (("parity", i),), i) for i, ids in enumerate(prompts)]
        marks = {token for picture in pictures for token in picture.tokens}
        requests = []
        for i, prompt in enumerate(prompts):
            picture, text = pictures[i % len(pictures)], [token for token in prompt if token not in marks]
            ids = (*text[:1], *picture.tokens, *text[1:])
            requests.append(Request(ids, (("parity", i),), i, images=(picture,)))
        return requests

    @torch.no_grad()
    def _differences(self, requests: Sequence[Request], completions: Sequence[Completion]) -> torch.Tensor:
        """Compare each sampled token; rows are padded, so that attention `auto` does not choose by them."""
        rows = [(request.ids, completion) for request, completion in zip(requests, completions, strict=True)]
        shown = [(picture, i) for i, request in enumerate(requests) for picture in request.images]
        pixels_I = [picture for picture, _ in shown]
        image_row_I = torch.tensor([i for _, i in shown], dtype=torch.int64)
        columns = sampled_columns(rows)
        policy = self.policy
        policy.eval()
        attention, policy.attention = policy.attention, DenseAttention(Dense(), self.context)
        try:
            outputs = policy.logprobs(
                columns["tokens_RT"], columns["attend_RT"], columns["trained_RT"], pixels_I, image_row_I, entropy=False
            )
        finally:
            policy.attention = attention
        own_RT = outputs["logprob_RT"].cpu()
        return (own_RT - columns["sampler_logprob_RT"])[columns["trained_RT"]].abs().double()
