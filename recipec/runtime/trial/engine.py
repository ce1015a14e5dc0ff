"""A rollout engine that gives fixed answers in place of sampled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams

ACTION = "<action>"


class FixedAnswers(RolloutEngine):
    """Answers sample ``i`` of a prompt with its text ``i``, in every turn.

    Where the prompt shows the tag ``<action>``, the text is put between ``<think>`` and ``<action>`` tags.

    Example: ``FixedAnswers(policy, {7: ["4", ""]})``.
    """

    shares_weights = True

    def __init__(self, policy: Policy, answers: Mapping[int, Sequence[str]]) -> None:
        self.policy = policy
        self.answers = answers

    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Encode the text of each key, its sample's number being the third entry of the key."""
        return [[self._completion(request, int(key[2]), sampling) for key in request.keys] for request in requests]

    def _completion(self, request: Request, sample: int, sampling: SamplingParams) -> Completion:
        text = self.answers[request.prompt_id][sample]
        if ACTION in self.policy.decode(request.ids):
            text = f"<think>A trial.</think>{ACTION}{text}</action>"
        ids = (*self.policy.encode(text), self.policy.eos_id)
        most = min(sampling.max_length, request.max_length or sampling.max_length)
        return Completion(tuple(ids[:most]), (0.0,) * len(ids[:most]), ended=len(ids) <= most)
