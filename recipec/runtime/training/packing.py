"""Which samples of a batch go through one forward pass, as the policy's attention shares them."""

from __future__ import annotations

import torch

from recipec.runtime.attention.flops import required, sizes
from recipec.runtime.attention.microbatch_packing import Packing, pack
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.distributed.load_balancing import Assignment, assign_microbatches
from recipec.runtime.protocols import Policy, Sharing
from recipec.runtime.training.minibatch import groups, microbatches

_TRIES = 8  # budgets that are tried, each a sort of the rows


def pack_for(batch: Batch, policy: Policy, tokens: int, ranks: int = 1) -> Packing:
    """Divide samples among forward passes of a policy; attention `auto` may choose its backend by these samples.

    For several ranks the budget of a pass is lowered while that shortens what the busiest of them computes.

    Raises:
        RecipeError: RC768, one sample or pair alone is larger than ``tokens``.
    """
    attention = policy.attention
    if policy.image_encoder is not None:
        batch = policy.image_encoder.tag_batch(batch)
    if batch.num_rows:
        attention.choose(batch["tokens_RT"], batch["attend_RT"], batch["trained_RT"] & batch["attend_RT"], tokens)
    best = pack_rows(batch, tokens, padded=attention.padded, sharing=attention.sharing)
    if ranks == 1 or not best.parts:
        return best
    for passes in range(1, _TRIES + 1):
        budget = -(-sum(best.tokens) // (ranks * passes))
        longest = int(batch["attend_RT"].sum(-1).max()) * (2 if "by_pair_R" in batch else 1)
        if budget >= tokens or budget < longest:
            continue
        packing = pack_rows(batch, budget, padded=attention.padded, sharing=attention.sharing)
        if busiest(packing, ranks) < busiest(best, ranks):
            best = packing
    return best


def divide(
    batch: Batch, policy: Policy, tokens: int, context: StageContext, *, lockstep: bool
) -> tuple[Packing, list[list[Assignment]]]:
    """Divide samples among forward passes of a policy, and these among the ranks; raises what ``pack_for`` raises."""
    ranks = context.data_parallel_size
    packing = pack_for(batch, policy, tokens, 1 if context.bitwise_reproducible else ranks)
    return packing, assign_microbatches(costs(batch, packing, policy), ranks, lockstep=lockstep)


def busiest(packing: Packing, ranks: int) -> int:
    """Return the tokens that the busiest rank computes, at most.

    >>> busiest(Packing((), (5, 5, 5)), 2)
    10
    """
    return -(-len(packing.tokens) // ranks) * max(packing.tokens)


def costs(batch: Batch, packing: Packing, policy: Policy) -> list[float]:
    """Return the predicted operations of each forward and backward pass."""
    of = sizes(policy.model, policy.layout.shape)
    lengths_R = batch["attend_RT"].sum(-1)
    scored_R = (batch["trained_RT"] & batch["attend_RT"]).sum(-1)
    return [
        required(
            of,
            tokens,
            int((lengths_R[part] * (lengths_R[part] + 1) // 2).sum()),
            int(scored_R[part].sum()),
            backward=True,
        )
        for part, tokens in zip(packing.parts, packing.tokens, strict=True)
    ]


def pack_rows(batch: Batch, tokens: int, *, padded: bool, sharing: Sharing = "") -> Packing:
    """Divide samples among forward passes of at most ``tokens`` tokens; those of one pair stay together.

    Raises:
        RecipeError: RC768, one sample or pair alone is larger.
    """
    lengths_R, unit_R = batch["attend_RT"].sum(-1), batch.get("by_pair_R")
    if not sharing or not len(lengths_R):
        parts = tuple(microbatches(lengths_R, unit_R, tokens, padded=padded))
        sizes = [(len(part) * int(lengths_R[part].max())) if padded else int(lengths_R[part].sum()) for part in parts]
        return Packing(parts, tuple(sizes))
    units = groups(unit_R if unit_R is not None else torch.arange(len(lengths_R)))
    prompts_R = None
    if sharing == "prompts":
        trained_RT = batch["trained_RT"] & batch["attend_RT"]
        prompts_R = torch.where(trained_RT.any(-1), trained_RT.int().argmax(-1), lengths_R)
    return pack(batch["tokens_RT"], lengths_R, units, tokens, prompts_R)


def trim_padding(batch: Batch) -> Batch:
    """Cut the padding that no sample of the batch needs."""
    width = int(batch["attend_RT"].sum(-1).max())
    return Batch({n: c[:, :width] if n.endswith("_RT") else c for n, c in batch.items()})
