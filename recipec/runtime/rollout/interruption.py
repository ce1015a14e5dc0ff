"""Completions of which the thinking is ended after some tokens, by a text that the policy did not write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
from recipec.spec.sampler import Interrupt

_LATER = "later"
"""Keys the draws after an interruption."""


def interrupted(
    engine: RolloutEngine,
    policy: Policy,
    requests: Sequence[Request],
    sampling: SamplingParams,
    interrupt: Interrupt,
) -> list[list[Completion]]:
    """Sample the completions of each request, with thinking ended as :class:`recipec.spec.sampler.Interrupt` says.

    What goes on after the limit is sampled in a second round; its prompts are all that there is so far.
    """
    limit = min(interrupt.after, sampling.max_length)
    completions = engine.generate(requests, replace(sampling, max_length=limit))
    text = tuple(policy.tokenizer.encode(interrupt.text, add_special_tokens=False))
    marker = interrupt.marker or interrupt.text
    places: list[tuple[int, int, tuple[int, ...]]] = []
    later: list[Request] = []
    for number, (request, group) in enumerate(zip(requests, completions, strict=True)):
        for place, (key, begun) in enumerate(zip(request.keys, group, strict=True)):
            closed = marker in policy.tokenizer.decode(begun.ids)
            put = () if closed else text
            room = sampling.max_length - len(begun.ids) - len(put)
            if begun.ended or room < 1:
                continue
            ids, keys = (*request.ids, *begun.ids, *put), ((*key, _LATER),)
            later.append(replace(request, ids=ids, keys=keys, max_length=room))
            places.append((number, place, put))
    if later:
        least = max(0, sampling.min_length - limit)
        ended = engine.generate(later, replace(sampling, min_length=least))
        for (number, place, put), (rest,) in zip(places, ended, strict=True):
            completions[number][place] = _joined(completions[number][place], put, rest)
    return completions


def _joined(begun: Completion, put: tuple[int, ...], rest: Completion) -> Completion:
    """Put two parts of a completion together, with the tokens between, which were not drawn.

    >>> _joined(Completion((5,), (-1.0,), ended=False), (7, 8), Completion((9,), (-2.0,), ended=True))
    Completion(ids=(5, 7, 8, 9), logprob=(-1.0, 0.0, 0.0, -2.0), ended=True, kv=None, given=(1, 3))
    """
    span = (len(begun.ids), len(begun.ids) + len(put))
    ids, logprob = (*begun.ids, *put, *rest.ids), (*begun.logprob, *(0.0 for _ in put), *rest.logprob)
    return Completion(ids, logprob, rest.ended, given=span)
