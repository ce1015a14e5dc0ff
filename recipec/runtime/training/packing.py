"""Which samples of a batch go through one forward pass, as the policy's attention shares them."""

from __future__ import annotations

import torch

from recipec.runtime.attention.microbatch_packing import Packing, pack
from recipec.runtime.batch import Batch
from recipec.runtime.protocols import Policy, Sharing
from recipec.runtime.training.minibatch import groups, microbatches


def pack_for(batch: Batch, policy: Policy, tokens: int) -> Packing:
    """Divide samples among forward passes of a policy; attention `auto` may choose its backend by these samples.

    Raises:
        RecipeError: RC768, one sample or pair alone is larger than ``tokens``.
    """
    attention = policy.attention
    if policy.image_encoder is not None:
        batch = policy.image_encoder.keyed(batch)
    if batch.num_rows:
        attention.choose(batch["tokens_RT"], batch["attend_RT"], batch["trained_RT"] & batch["attend_RT"], tokens)
    return pack_rows(batch, tokens, padded=attention.padded, sharing=attention.sharing)


def pack_rows(batch: Batch, tokens: int, *, padded: bool, sharing: Sharing = "") -> Packing:
    """Divide samples among forward passes of at most ``tokens`` tokens; those of one pair stay together.

    Raises:
        RecipeError: RC768, one sample or pair alone is larger.
    """
    lengths_R, unit_R = batch["attend_RT"].sum(-1), batch.get("by_pair_R")
    if not sharing or not len(lengths_R):
        return Packing(tuple(microbatches(lengths_R, unit_R, tokens, padded=padded)), 0)
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
