"""Passes over whole batches in micro-batches: of the old policy, of the reference, of the critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.batch import Batch
from recipec.runtime.protocols import Part, Policy, Reference
from recipec.runtime.training.packing import divide, trim_padding

Score = Callable[..., dict[str, Tensor]]


class ScoringPass(Part):
    """A pass over a whole batch in micro-batches, which gives each trained token one number or several."""

    def __init__(self, score: Score, outputs: Mapping[str, str], *, tokens: int, scorer: Policy) -> None:
        """Wrap ``score(tokens_RT, attend_RT, trained_RT)``, which ``scorer`` computes.

        ``outputs`` maps the names of results to those that ``score`` gives them.
        """
        self.score = score
        self.outputs = outputs
        self.tokens = tokens
        self.scorer = scorer

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> dict[str, Tensor]:
        """Score every trained token without a gradient; ``images`` are ``pixels_I`` and ``image_row_I``, or nothing."""
        batch = Batch(tokens_RT=tokens_RT, attend_RT=attend_RT, trained_RT=trained_RT, **images)
        scores = {name: torch.zeros(tokens_RT.shape, dtype=torch.float32) for name in self.outputs}
        context, layout = self.scorer.context, self.scorer.layout
        packing, assignments = divide(batch, self.scorer, self.tokens, context, lockstep=layout.collective)
        with torch.no_grad():
            for assignment in assignments[context.data_parallel_rank]:
                index = packing.parts[assignment.microbatch]
                part = trim_padding(batch.rows(index))
                made = self.score(**part)
                if assignment.counts and context.is_sequence_parallel_leader:
                    for name, inner in self.outputs.items():
                        scores[name][index, : made[inner].shape[1]] = made[inner].cpu()
        # a row is one rank's, and zero elsewhere: the sum is exact
        return {name: context.ranks.all_reduce_sum(scores_RT) for name, scores_RT in scores.items()}


class ReferencePass(ScoringPass):
    """A pass by a reference, which may follow the policy and has a state of its own."""

    def __init__(self, reference: Reference, *, tokens: int) -> None:
        """Wrap a reference."""
        super().__init__(reference, {"ref_logprob_RT": "ref_logprob_RT"}, tokens=tokens, scorer=reference.scorer)
        self.reference = reference

    def after_update(self, updates: int) -> None:
        """Tell the reference how many updates the stage has taken."""
        self.reference.after_update(updates)

    def state(self) -> dict[str, Any]:
        """State of the reference."""
        return self.reference.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.reference.load(state)
