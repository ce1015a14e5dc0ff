"""What a policy thinks of given answers: margins of held-out pairs, and the likelihood of held-out examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Example
from recipec.runtime.objective.compiler_ops import (
    collate_completions,
    collate_pairs,
    images_of_completions,
    images_of_pairs,
)
from recipec.runtime.protocols import Policy
from recipec.spec import attention as specs

PAIRS = 8
"""Pairs of one forward pass: without gradients that is little."""


def margin(policy: Policy, pairs: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    r"""Return ``margin``, nats, and ``margin_share``, the share of pairs with the likelier chosen answer.

    .. math:: \operatorname{mean}_i\ \log\pi(y^{chosen}_i | x_i) - \log\pi(y^{rejected}_i | x_i)

    Log-probabilities are sums over the tokens of the answer, at temperature 1 whatever the stage samples at, so that
    stages compare.  A tie does not count.  A reward model compares its scores instead; ``margin_loss``, the mean of
    :math:`-\log\sigma` of the differences, is then its loss without margins.

    Raises:
        RecipeError: RC736, a row is longer than the model's positions.

    References:
        Rafailov et al., `DPO <https://arxiv.org/abs/2305.18290>`_, 2023: ``logps/chosen`` and ``logps/rejected`` of
        TRL, their difference.
    """
    chosen, rejected = pairs["chosen_P"], pairs["rejected_P"]
    differences: list[Tensor] = []
    with torch.no_grad(), plainly(policy):
        for start in range(0, len(chosen), PAIRS):
            part = chosen[start : start + PAIRS], rejected[start : start + PAIRS]
            columns = {**collate_pairs(*part), **images_of_pairs(*part)}
            value_R = policy.sequence_scores(**_seen(policy, columns)).cpu()
            differences.append(value_R[columns["chosen_R"]] - value_R[~columns["chosen_R"]])
    difference = torch.cat(differences)
    metrics = {"margin": float(difference.mean()), "margin_share": float((difference > 0).double().mean())}
    return metrics | ({"margin_loss": float(softplus(-difference).mean())} if policy.is_reward_model else {})


def held_out_loss(policy: Policy, examples: Sequence[Example]) -> dict[str, float]:
    r"""Return ``loss``, nats per token: the mean negative log-likelihood of all trained tokens of the examples.

    .. math:: -\frac{1}{N} \sum_{i, t} \log\pi(y_{i,t} | x_i, y_{i,<t})

    Raises:
        RecipeError: RC736, a row is longer than the model's positions.

    References:
        TRL, ``eval_loss`` of ``SFTTrainer``; ``exp`` of it is the perplexity.
    """
    total, tokens = 0.0, 0
    with torch.no_grad(), plainly(policy):
        for start in range(0, len(examples), PAIRS):
            part = examples[start : start + PAIRS]
            columns = {**collate_completions(part), **images_of_completions(part)}
            logprob_RT = policy.logprobs(**_seen(policy, columns), entropy=False)["logprob_RT"]
            total -= float(logprob_RT.double().sum())  # 0 where a token is not trained
            tokens += int(columns["trained_RT"][:, 1:].sum())
    return {"loss": total / max(1, tokens)}


def _seen(policy: Policy, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that the policy reads: one of text sees no images."""
    return {name: columns[name] for name in policy.spec.parameters()}


@contextmanager
def plainly(policy: Policy) -> Iterator[None]:
    """Let a policy compute its own log-probabilities at temperature 1 and row by row, for a while.

    An attention that chooses itself by the first rows it sees must not see these: evaluations disturb no training.
    """
    attention, temperature = policy.attention, policy.temperature
    policy.attention = DenseAttention(specs.Dense(), policy.context)
    policy.temperature = 1.0
    try:
        yield
    finally:
        policy.attention, policy.temperature = attention, temperature
