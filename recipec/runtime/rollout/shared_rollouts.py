"""Rollout engines of several ranks: all have every completion, sampled in shares or by the leader alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.host.ranks import Ranks
from recipec.runtime.distributed.load_balancing import contiguous_owners
from recipec.runtime.protocols import RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams


class SharedRollouts(RolloutEngine):
    """The engines of all ranks as one; see :class:`recipec.runtime.protocols.RolloutEngine`.

    A prompt stays with the rank that sampled it first until the weights change, since caches of its prefixes are there.
    """

    def __init__(self, inner: RolloutEngine, ranks: Ranks) -> None:
        """Share out the requests that ``inner`` would get."""
        self.inner = inner
        self.ranks = ranks
        self.shares_weights = inner.shares_weights
        self._owner: dict[int, int] = {}

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Sample the completions of each request, in order."""
        self._deal(requests)
        mine = [place for place, request in enumerate(requests) if self._owner[request.prompt_id] == self.ranks.rank]
        own: list[list[Completion]] = []

        def sampled() -> dict[str, Tensor]:
            own.extend(self.inner.generate([requests[place] for place in mine], sampling) if mine else ())
            return encoded(own)

        shares = self.ranks.all_gather("sampling", sampled)
        completions = [decoded(share) for share in shares]
        completions[self.ranks.rank] = iter(own)  # with the caches that go on from them
        return [next(completions[self._owner[request.prompt_id]]) for request in requests]

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Take over the policy's weights."""
        self.inner.update_weights(weights)

    def clear_cache(self) -> None:
        """Drop every cache; prompts may go to other ranks from now on."""
        self._owner.clear()
        self.inner.clear_cache()

    def sleep(self) -> None:
        """Release memory for training."""
        self.inner.sleep()

    def state(self) -> dict[str, Any]:
        """State of the engine."""
        return self.inner.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.inner.load(state)

    def after_update(self, updates: int) -> None:
        """Tell the engine how many updates the stage has taken."""
        self.inner.after_update(updates)

    def close(self) -> None:
        """Release the engine."""
        self.inner.close()

    def _deal(self, requests: Sequence[Request]) -> None:
        """Give each prompt that has no rank yet one, by the tokens that its completions may have to read."""
        weights: dict[int, float] = {}
        for request in requests:
            if request.prompt_id not in self._owner:
                cost = len(request.keys) or 1
                weights[request.prompt_id] = weights.get(request.prompt_id, 0.0) + cost
        self._owner |= dict(zip(weights, contiguous_owners(list(weights.values()), self.ranks.size), strict=True))


class LeaderRollouts(RolloutEngine):
    """The engine of the leader, which is in processes of its own: started, given weights and sent requests once.

    Example: ``LeaderRollouts(build, ranks).generate(requests, sampling)``.
    """

    shares_weights = False

    def __init__(self, build: Callable[[], RolloutEngine], ranks: Ranks) -> None:
        """Let the leader build its engine."""
        self.ranks = ranks
        self._built: list[RolloutEngine] = []
        ranks.on_leader(lambda: self._built.append(build()))

    @property
    def inner(self) -> RolloutEngine:
        """The engine itself, which the leader has."""
        return self._built[0]

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Sample the completions of each request, in order."""
        completions = self.ranks.on_leader(lambda: encoded(self.inner.generate(requests, sampling)))
        return list(decoded(completions))

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Let the leader take over the policy's weights; where they are gathered, every rank takes part."""

        def taken() -> None:
            try:
                for engine in self._built:
                    engine.update_weights(weights)
            finally:
                for _ in weights:
                    pass

        self.ranks.all_gather("handing over weights", taken)

    def clear_cache(self) -> None:
        """Drop every cache."""
        for engine in self._built:
            engine.clear_cache()

    def sleep(self) -> None:
        """Release memory for training."""
        for engine in self._built:
            engine.sleep()

    def close(self) -> None:
        """Release the engine."""
        for engine in self._built:
            engine.close()


def encoded(groups: Sequence[Sequence[Completion]]) -> dict[str, Tensor]:
    """Lay completions out as tensors: sizes of groups, lengths, ids and log-probabilities one after the other."""
    flat = [completion for group in groups for completion in group]
    return {
        "group": torch.tensor([len(group) for group in groups], dtype=torch.int32),
        "tokens": torch.tensor([len(one.ids) for one in flat], dtype=torch.int32),
        "ended": torch.tensor([one.ended for one in flat], dtype=torch.bool),
        "ids": torch.tensor([token for one in flat for token in one.ids], dtype=torch.int32),
        "logprob": torch.tensor([value for one in flat for value in one.logprob], dtype=torch.float32),
    }


def decoded(columns: Mapping[str, Tensor]) -> Iterator[list[Completion]]:
    """Undo :func:`encoded`, group by group; caches stay where they are.

    >>> group = [Completion((5, 2), (-0.5, -1.0), True)]
    >>> list(decoded(encoded([group, []]))) == [group, []]
    True
    """
    lengths, ended = columns["tokens"].tolist(), columns["ended"].tolist()
    ids, logprob = columns["ids"].tolist(), columns["logprob"].tolist()
    row = begin = 0
    for size in columns["group"].tolist():
        group = []
        for length, whole in zip(lengths[row : row + size], ended[row : row + size], strict=True):
            part = slice(begin, begin + length)
            group.append(Completion(tuple(ids[part]), tuple(logprob[part]), whole))
            begin += length
        row += size
        yield group
