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
from recipec.runtime.rollout.engine import Completion, Key, Request, SamplingParams
from recipec.runtime.rollout.gqa_decoding import grouped_queries
from recipec.runtime.rollout.kv_cache import CachedRows, PrefillReader
from recipec.runtime.rollout.kv_reuse import KVEntry, KVStore, apart, new_tokens
from recipec.runtime.rollout.stop_strings import StopStrings, stop_table
from recipec.runtime.rollout.token_sampling import draw
from recipec.spec.rollout_engine import Hf as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_SHRINK = 0.75  # of the rows: a batch with fewer left alive is copied without the others


class HfEngine(RolloutEngine):
    """Sample in this process with the policy's own model; see :class:`recipec.spec.rollout_engine.Hf`."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Sample from ``policy``, or from a copy of it where its weights will be spread over ranks."""
        self.spec = spec
        self.shares_weights = not context.sharded
        self.policy = policy.clone() if context.sharded else policy
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self.store = KVStore(spec.max_memory * 2**30)

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Write the completions of each request, in order.

        Raises:
            RecipeError: RC783 where a prompt leaves no room in the model's positions, RC784 where logits are not
                numbers.
        """
        policy = self.policy
        found: list[list[Completion]] = [[] for _ in requests]
        rows = min(self.spec.max_rows, sum(len(request.keys) for request in requests))
        image_encoder = policy.image_encoder
        assert image_encoder is not None or not any(one.images for one in requests), (
            "a policy that sees no images is shown some"
        )
        if image_encoder is not None:
            requests = [replace(one, ids=image_encoder.tag_image_tokens(one.ids, one.images)) for one in requests]
        reader = PrefillReader(policy.model, image_encoder)
        with (
            _evaluating(policy.model),
            torch.inference_mode(),
            image_encoder.encoding_images(picture for one in requests for picture in one.images)
            if image_encoder is not None
            else nullcontext(),
            grouped_queries(reader.inner, reader.config),
            prepacked_weights(policy.model, rows, sampling.max_length),
        ):
            stops = self._watcher(sampling.stop, policy.tokenizer)
            run = _Run(reader, sampling, frozenset(policy.stop_ids), stops, self.store)
            for block in self._blocks(requests):
                for number, completions in zip(
                    block, run.block([requests[i] for i in block], self.spec.max_rows), strict=True
                ):
                    found[number] = completions
        return found

    @torch.no_grad()
    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Copy the policy's weights."""
        own = self.policy.model.state_dict()
        for name, tensor in weights:
            own[name].copy_(tensor)

    def clear_cache(self) -> None:
        """Drop every cache that came with a completion."""
        self.store.clear()

    def _watcher(self, texts: tuple[str, ...], tokenizer: Any) -> StopStrings | None:
        if texts and texts not in self._stops:
            self._stops[texts] = StopStrings(texts, tokenizer)
        return self._stops[texts] if texts else None

    def _blocks(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Put prompts of like length together, as many whole groups as fit; a larger group is alone."""
        block: list[int] = []
        rows = 0
        for i in sorted(range(len(requests)), key=lambda i: len(requests[i].ids)):
            size = len(requests[i].keys)
            if block and rows + size > self.spec.max_rows:
                yield block
                block, rows = [], 0
            block.append(i)
            rows += size
        if block:
            yield block


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off, and back to what it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


class _Run:
    """One call: decodes block after block."""

    def __init__(
        self,
        reader: PrefillReader,
        sampling: SamplingParams,
        stop_ids: frozenset[int],
        stops: StopStrings | None,
        store: KVStore,
    ) -> None:
        self.reader = reader
        self.store = store
        self.sampling = sampling
        self.stops = stops
        self.stop_ids = stop_ids

    def block(self, requests: list[Request], max_rows: int) -> list[list[Completion]]:
        """Read the prompts once, then decode their rows, ``max_rows`` at a time."""
        limits = [self._room(request) for request in requests]
        owner = [i for i, request in enumerate(requests) for _ in request.keys]
        keys = [key for request in requests for key in request.keys]
        if not keys:
            return [[] for _ in requests]
        memories = self._memories(requests)
        ids = [request.ids for request in requests]
        kept_prompts = [request.ids if request.remember else None for request in requests for _ in request.keys]
        if len(keys) == len(requests) <= max_rows:
            rows = self.reader.start(ids, max(limits), memories)
            return [[completion] for completion in self._decode(rows, keys, limits, kept_prompts)]
        prompts = self.reader.start(ids, 0, memories)
        found: list[list[Completion]] = [[] for _ in requests]
        for first in range(0, len(keys), max_rows):
            part = slice(first, first + max_rows)
            index_R = torch.tensor(owner[part], device=self.reader.device)
            limit_R = [limits[i] for i in owner[part]]
            rows = prompts.take(index_R, max(limit_R))
            for i, completion in zip(
                owner[part], self._decode(rows, keys[part], limit_R, kept_prompts[part]), strict=True
            ):
                found[i].append(completion)
        return found

    def _memories(self, requests: list[Request]) -> list[KVEntry | None] | None:
        """Return what is remembered of each request, having read those first that would hold up the others."""
        found: list[KVEntry | None] = [request.memory for request in requests]
        ids = [request.ids for request in requests]
        if all(new == len(one) for new, one in zip(new_tokens(ids, found), ids, strict=True)):
            return None
        first = apart(new_tokens(ids, found))
        if first:
            rows = self.reader.start([ids[i] for i in first], 0, [found[i] for i in first])
            for row, i in enumerate(first):
                found[i] = rows.remember(row, ids[i], KVStore(math.inf))
        return found

    def _room(self, request: Request) -> int:
        """Return the longest completion in tokens: the requested length, bounded by the positions of the model."""
        most, asked = self.reader.positions, self.sampling.max_length
        if not request.ids or (most is not None and len(request.ids) >= most):
            raise RecipeError(errors.prompt_does_not_fit(request.prompt_id, len(request.ids), most))
        if request.max_length is not None:
            asked = min(asked, request.max_length)
        return asked if most is None else min(asked, most - len(request.ids))

    def _decode(
        self, rows: CachedRows, keys: Sequence[Key], limit_R: list[int], kept_prompts: Sequence[tuple[int, ...] | None]
    ) -> list[Completion]:
        """Draw token after token; ``kept_prompts`` has the prompts of the rows with a KV cache to keep."""
        longest = max(limit_R)
        written = _Written(len(keys), longest)
        uniform_TR = self._uniforms(keys, longest)
        slot = list(range(len(keys)))  # which row of the answer each row of the batch is
        alive = np.ones(len(keys), dtype=bool)
        limit = np.array(limit_R)
        cuts = set(limit_R)
        ends_V = stop_table(self.stop_ids, rows.logits_RV.shape[1], rows.logits_RV.device)
        if self.stops:
            self.stops.watch(len(keys))
        for t in range(longest):
            banned_V = ends_V if t < self.sampling.min_length else None
            token_R, logprob_R = draw(rows.logits_RV, uniform_TR[t], self.sampling, banned_V)
            written.add(token_R, logprob_R)
            ended = self._ended(ends_V[token_R], token_R, slot)
            if ended is not None or t + 1 in cuts:
                ended = np.zeros(len(slot), dtype=bool) if ended is None else ended & alive
                gone = ended | (alive & (limit <= t + 1))
                for i in gone.nonzero()[0]:
                    written.finish(slot[i], t + 1, ended=bool(ended[i]))
                alive &= ~gone
                left = int(alive.sum())
                if not left:
                    break
                if left <= _SHRINK * len(slot):
                    kept = alive.nonzero()[0]
                    written.flush(slot)
                    self._remember(rows, {i: slot[i] for i in (~alive).nonzero()[0].tolist()}, written, kept_prompts)
                    index_R = torch.from_numpy(kept).to(token_R.device)
                    rows = rows.take(index_R, longest - t)
                    token_R, uniform_TR = token_R[index_R], uniform_TR[:, index_R]
                    slot, limit, alive = [slot[i] for i in kept], limit[kept], alive[kept]
            rows.extend(token_R[:, None])
        written.flush(slot)
        self._remember(rows, dict(enumerate(slot)), written, kept_prompts)
        return written.completions()

    def _remember(
        self, rows: CachedRows, slots: dict[int, int], written: _Written, kept_prompts: Sequence[tuple[int, ...] | None]
    ) -> None:
        """Keep what is remembered of rows that are done: their prompt and what was written, but for its last token."""
        for row, slot in slots.items():
            prompt = kept_prompts[slot]
            if prompt is not None:
                text = written.ids_RT[slot, : written.length_R[slot] - 1].tolist()
                written.memories[slot] = rows.remember(row, (*prompt, *text), self.store)

    def _uniforms(self, keys: Sequence[Key], longest: int) -> Tensor:
        """Draw every row's numbers ahead, from its own key."""
        if self.sampling.temperature == 0.0:
            return torch.zeros(longest, len(keys), dtype=torch.float64, device=self.reader.device)
        uniform_RT = np.stack([rng_for(*key).random(longest) for key in keys])
        return torch.from_numpy(np.ascontiguousarray(uniform_RT.T)).to(self.reader.device)

    def _ended(self, ends_R: Tensor, token_R: Tensor, slot: list[int]) -> Flags | None:
        """Which rows end by this token; None where none does."""
        if not self.stops and not bool(ends_R.any()):
            return None
        ended: Flags = ends_R.cpu().numpy()
        return ended | np.array(self.stops.completed(slot, token_R)) if self.stops else ended


class _Written:
    """What the rows of a batch have written, kept as it comes and put together at the end."""

    def __init__(self, rows: int, longest: int) -> None:
        self.ids_RT = np.zeros((rows, longest), dtype=np.int64)
        self.logprob_RT = np.zeros((rows, longest), dtype=np.float32)
        self.length_R = np.full(rows, longest)
        self.ended_R = np.zeros(rows, dtype=bool)
        self.memories: list[KVEntry | None] = [None] * rows
        self.done = 0  # tokens put together
        self.tokens: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def add(self, token_R: Tensor, logprob_R: Tensor) -> None:
        self.tokens.append(token_R)
        self.logprobs.append(logprob_R)

    def finish(self, row: int, length: int, *, ended: bool) -> None:
        self.length_R[row] = length
        self.ended_R[row] = ended

    def flush(self, slot: list[int]) -> None:
        """Put together the tokens since the last time, while the batch still has the rows of ``slot``."""
        part = slice(self.done, self.done + len(self.tokens))
        self.ids_RT[slot, part] = torch.stack(self.tokens, 1).cpu().numpy()
        self.logprob_RT[slot, part] = torch.stack(self.logprobs, 1).cpu().numpy()
        self.done = part.stop
        self.tokens, self.logprobs = [], []

    def completions(self) -> list[Completion]:
        """Cut every row where it ended.

        Raises:
            RecipeError: RC784 where a log-probability is not a number.
        """
        found = []
        for ids_T, logprob_T, length, ended, memory in zip(
            self.ids_RT, self.logprob_RT, self.length_R, self.ended_R, self.memories, strict=True
        ):
            if not np.isfinite(logprob_T[:length]).all():
                raise RecipeError(errors.logits_not_finite())
            ids, logprob = tuple(ids_T[:length].tolist()), tuple(logprob_T[:length].tolist())
            found.append(Completion(ids, logprob, bool(ended), memory))
        return found
