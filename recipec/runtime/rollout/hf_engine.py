"""The embedded sampling engine: batched decoding with the model itself, where a group's prompt is read once.

Ids and log-probabilities are kept exactly as drawn.  Every row has uniform numbers of its own, drawn from its key,
so that its draws depend neither on the other rows of the batch nor on the order of batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.model.cpu_linear import prepacked_weights
from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rng import rng_for
from recipec.runtime.rollout.decoding_check import check_decoding
from recipec.runtime.rollout.engine import Completion, Key, Request, SamplingParams
from recipec.runtime.rollout.gqa_decoding import grouped_queries
from recipec.runtime.rollout.kv_cache import DecodingBatch, ModelRunner
from recipec.runtime.rollout.kv_reuse import KVEntry, KVStore, new_tokens, prefill_first
from recipec.runtime.rollout.stop_strings import StopStrings, stop_table
from recipec.runtime.rollout.token_sampling import draw
from recipec.spec.rollout_engine import Hf as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_COMPACT_BELOW = 0.75  # a batch with a smaller share of active rows is copied without the others


class HfEngine(RolloutEngine):
    """Sample in this process with the policy's own model; see :class:`recipec.spec.rollout_engine.Hf`."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Sample from ``policy``, or from a copy of it where its weights will be spread over ranks.

        Raises:
            RecipeError: RC893, the model cannot continue rows.
        """
        self.spec = spec
        self.shares_weights = not context.sharded
        self.policy = policy.clone() if context.sharded else policy
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self.store = KVStore(spec.max_memory * 2**30)
        if policy.image_encoder is None:
            with _evaluating(self.policy.model):
                check_decoding(ModelRunner(self.policy.model))

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Write the completions of each request, in order.

        Raises:
            RecipeError: RC783 where a prompt leaves no room in the model's positions, RC784 where logits are not
                numbers.
        """
        policy = self.policy
        written: list[list[Completion]] = [[] for _ in requests]
        rows = min(self.spec.max_rows, sum(len(request.keys) for request in requests))
        image_encoder = policy.image_encoder
        assert image_encoder is not None or not any(one.images for one in requests), (
            "a policy that sees no images is shown some"
        )
        if image_encoder is not None:
            requests = [replace(one, ids=image_encoder.tag_image_tokens(one.ids, one.images)) for one in requests]
        runner = ModelRunner(policy.model, image_encoder)
        with (
            _evaluating(policy.model),
            torch.inference_mode(),
            image_encoder.encoding_images(picture for one in requests for picture in one.images)
            if image_encoder is not None
            else nullcontext(),
            grouped_queries(runner.inner, runner.config),
            prepacked_weights(policy.model, rows, sampling.max_length),
        ):
            stops = self._stop_strings(sampling.stop, policy.tokenizer)
            decoder = _BatchDecoder(runner, sampling, frozenset(policy.stop_ids), stops, self.store)
            for batch in self._batches(requests):
                for number, completions in zip(
                    batch, decoder.generate_batch([requests[i] for i in batch], self.spec.max_rows), strict=True
                ):
                    written[number] = completions
        return written

    @torch.no_grad()
    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Copy the policy's weights."""
        own = self.policy.model.state_dict()
        for name, tensor in weights:
            own[name].copy_(tensor)

    def clear_cache(self) -> None:
        """Drop every cache that came with a completion."""
        self.store.clear()

    def _stop_strings(self, texts: tuple[str, ...], tokenizer: Any) -> StopStrings | None:
        if texts and texts not in self._stops:
            self._stops[texts] = StopStrings(texts, tokenizer)
        return self._stops[texts] if texts else None

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Yield batches of requests of similar lengths, as many whole groups as fit; a larger group is alone."""
        batch: list[int] = []
        rows = 0
        for i in sorted(range(len(requests)), key=lambda i: len(requests[i].ids)):
            size = len(requests[i].keys)
            if batch and rows + size > self.spec.max_rows:
                yield batch
                batch, rows = [], 0
            batch.append(i)
            rows += size
        if batch:
            yield batch


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off, and back to what it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


class _BatchDecoder:
    """Decodes the requests of one call, batch after batch."""

    def __init__(
        self,
        runner: ModelRunner,
        sampling: SamplingParams,
        stop_ids: frozenset[int],
        stops: StopStrings | None,
        store: KVStore,
    ) -> None:
        self.runner = runner
        self.store = store
        self.sampling = sampling
        self.stops = stops
        self.stop_ids = stop_ids

    def generate_batch(self, requests: list[Request], max_rows: int) -> list[list[Completion]]:
        """Read the prompts once, then decode their rows, ``max_rows`` at a time."""
        limits = [self._max_new_tokens(request) for request in requests]
        owner = [i for i, request in enumerate(requests) for _ in request.keys]
        keys = [key for request in requests for key in request.keys]
        if not keys:
            return [[] for _ in requests]
        kvs = self._prefix_kvs(requests)
        ids = [request.ids for request in requests]
        kept_prompts = [request.ids if request.keep_kv else None for request in requests for _ in request.keys]
        if len(keys) == len(requests) <= max_rows:
            rows = self.runner.prefill(ids, max(limits), kvs)
            return [[completion] for completion in self._decode(rows, keys, limits, kept_prompts)]
        prompts = self.runner.prefill(ids, 0, kvs)
        completions: list[list[Completion]] = [[] for _ in requests]
        for first in range(0, len(keys), max_rows):
            part = slice(first, first + max_rows)
            index_R = torch.tensor(owner[part], device=self.runner.device)
            limit_R = [limits[i] for i in owner[part]]
            rows = prompts.select_rows(index_R, max(limit_R))
            for i, completion in zip(
                owner[part], self._decode(rows, keys[part], limit_R, kept_prompts[part]), strict=True
            ):
                completions[i].append(completion)
        return completions

    def _prefix_kvs(self, requests: list[Request]) -> list[KVEntry | None] | None:
        """Return the KV cache of each request, computing prompts with many new tokens first, to pad the others less."""
        entries: list[KVEntry | None] = [request.kv for request in requests]
        ids = [request.ids for request in requests]
        if all(new == len(one) for new, one in zip(new_tokens(ids, entries), ids, strict=True)):
            return None
        first = prefill_first(new_tokens(ids, entries))
        if first:
            rows = self.runner.prefill([ids[i] for i in first], 0, [entries[i] for i in first])
            for row, i in enumerate(first):
                entries[i] = rows.keep_kv(row, ids[i], KVStore(math.inf))
        return entries

    def _max_new_tokens(self, request: Request) -> int:
        """Return the longest completion in tokens: the requested length, bounded by the positions of the model."""
        most, wanted = self.runner.max_positions, self.sampling.max_length
        if not request.ids or (most is not None and len(request.ids) >= most):
            raise RecipeError(errors.prompt_does_not_fit(request.prompt_id, len(request.ids), most))
        if request.max_length is not None:
            wanted = min(wanted, request.max_length)
        return wanted if most is None else min(wanted, most - len(request.ids))

    def _decode(
        self,
        rows: DecodingBatch,
        keys: Sequence[Key],
        limit_R: list[int],
        kept_prompts: Sequence[tuple[int, ...] | None],
    ) -> list[Completion]:
        """Draw token after token; ``kept_prompts`` has the prompts of the rows with a KV cache to keep."""
        longest = max(limit_R)
        output = _OutputBuffer(len(keys), longest)
        uniform_TR = self._uniforms(keys, longest)
        output_row = list(range(len(keys)))  # the row of the output for each row of the batch
        active = np.ones(len(keys), dtype=bool)
        limit = np.array(limit_R)
        length_limits = set(limit_R)
        is_stop_token_V = stop_table(self.stop_ids, rows.logits_RV.shape[1], rows.logits_RV.device)
        if self.stops:
            self.stops.watch(len(keys))
        for t in range(longest):
            banned_V = is_stop_token_V if t < self.sampling.min_length else None
            token_R, logprob_R = draw(rows.logits_RV, uniform_TR[t], self.sampling, banned_V)
            output.add(token_R, logprob_R)
            ended = self._ended(is_stop_token_V[token_R], token_R, output_row)
            if ended is not None or t + 1 in length_limits:
                ended = np.zeros(len(output_row), dtype=bool) if ended is None else ended & active
                finished = ended | (active & (limit <= t + 1))
                for i in finished.nonzero()[0]:
                    output.finish(output_row[i], t + 1, ended=bool(ended[i]))
                active &= ~finished
                left = int(active.sum())
                if not left:
                    break
                if left <= _COMPACT_BELOW * len(output_row):
                    going = active.nonzero()[0]
                    output.flush(output_row)
                    self._keep_kvs(
                        rows, {i: output_row[i] for i in (~active).nonzero()[0].tolist()}, output, kept_prompts
                    )
                    index_R = torch.from_numpy(going).to(token_R.device)
                    rows = rows.select_rows(index_R, longest - t)
                    token_R, uniform_TR = token_R[index_R], uniform_TR[:, index_R]
                    output_row, limit, active = (
                        [output_row[i] for i in going],
                        limit[going],
                        active[going],
                    )
            rows.append_tokens(token_R[:, None])
        output.flush(output_row)
        self._keep_kvs(rows, dict(enumerate(output_row)), output, kept_prompts)
        return output.completions()

    def _keep_kvs(
        self,
        rows: DecodingBatch,
        output_rows: dict[int, int],
        output: _OutputBuffer,
        kept_prompts: Sequence[tuple[int, ...] | None],
    ) -> None:
        """Keep the KV cache of finished rows, without the last token, which the model never reads."""
        for row, output_row in output_rows.items():
            prompt = kept_prompts[output_row]
            if prompt is not None:
                text = output.ids_RT[output_row, : output.length_R[output_row] - 1].tolist()
                output.kvs[output_row] = rows.keep_kv(row, (*prompt, *text), self.store)

    def _uniforms(self, keys: Sequence[Key], longest: int) -> Tensor:
        """Draw every row's numbers ahead, from its own key."""
        if self.sampling.temperature == 0.0:
            return torch.zeros(longest, len(keys), dtype=torch.float64, device=self.runner.device)
        uniform_RT = np.stack([rng_for(*key).random(longest) for key in keys])
        return torch.from_numpy(np.ascontiguousarray(uniform_RT.T)).to(self.runner.device)

    def _ended(self, ends_R: Tensor, token_R: Tensor, output_row: list[int]) -> Flags | None:
        """Which rows end by this token; None where none does."""
        if not self.stops and not bool(ends_R.any()):
            return None
        ended: Flags = ends_R.cpu().numpy()
        return ended | np.array(self.stops.completed(output_row, token_R)) if self.stops else ended


class _OutputBuffer:
    """Tokens and log-probabilities of the rows of a batch, collected step by step."""

    def __init__(self, rows: int, longest: int) -> None:
        self.ids_RT = np.zeros((rows, longest), dtype=np.int64)
        self.logprob_RT = np.zeros((rows, longest), dtype=np.float32)
        self.length_R = np.full(rows, longest)
        self.ended_R = np.zeros(rows, dtype=bool)
        self.kvs: list[KVEntry | None] = [None] * rows
        self.flushed = 0  # tokens put together
        self.tokens: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def add(self, token_R: Tensor, logprob_R: Tensor) -> None:
        self.tokens.append(token_R)
        self.logprobs.append(logprob_R)

    def finish(self, row: int, length: int, *, ended: bool) -> None:
        self.length_R[row] = length
        self.ended_R[row] = ended

    def flush(self, output_row: list[int]) -> None:
        """Put together the tokens since the last time, while the batch still has the rows of ``output_row``."""
        part = slice(self.flushed, self.flushed + len(self.tokens))
        self.ids_RT[output_row, part] = torch.stack(self.tokens, 1).cpu().numpy()
        self.logprob_RT[output_row, part] = torch.stack(self.logprobs, 1).cpu().numpy()
        self.flushed = part.stop
        self.tokens, self.logprobs = [], []

    def completions(self) -> list[Completion]:
        """Cut every row where it ended.

        Raises:
            RecipeError: RC784 where a log-probability is not a number.
        """
        completions = []
        for ids_T, logprob_T, length, ended, kv in zip(
            self.ids_RT, self.logprob_RT, self.length_R, self.ended_R, self.kvs, strict=True
        ):
            if not np.isfinite(logprob_T[:length]).all():
                raise RecipeError(errors.logits_not_finite())
            ids, logprob = tuple(ids_T[:length].tolist()), tuple(logprob_T[:length].tolist())
            completions.append(Completion(ids, logprob, bool(ended), kv))
        return completions
