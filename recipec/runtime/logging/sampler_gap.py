"""How far the log-probabilities of the rollout engine are from those of the policy, on the rows that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recipec.runtime.batch import Batch
from recipec.runtime.graph_runner import Values

MEAN, MAX = (f"sampling/sampling_logp_difference/{of}" for of in ("mean", "max"))


@dataclass(frozen=True, slots=True)
class Gap:
    """Absolute differences over the trained tokens of a micro-batch, in nats.

    Example: ``Gap(total=0.5, tokens=10, largest=0.2)``.
    """

    total: float
    tokens: int
    largest: float


def gap_of(part: Batch, outputs: Values) -> Gap | None:
    """Compare a micro-batch; None where nothing was sampled, or the engine has no log-probability of what it drew."""
    own_RT = next((value for key, value in outputs.items() if key.signal == "logprob_RT"), None)
    drawn_RT, trained_RT = part.get("sampler_logprob_RT"), part.get("trained_RT")
    if own_RT is None or drawn_RT is None or trained_RT is None:
        return None
    gap_M = (own_RT.detach() - drawn_RT.to(own_RT.device))[trained_RT.to(own_RT.device)].abs().double()
    if not len(gap_M) or bool(gap_M.isnan().any()):
        return None
    return Gap(float(gap_M.sum()), len(gap_M), float(gap_M.max()))


def gap_metrics(gaps: Sequence[Gap]) -> dict[str, float]:
    """Mean and maximum over micro-batches.

    >>> gap_metrics([Gap(0.5, 3, 0.25), Gap(0.25, 1, 0.125)])
    {'sampling/sampling_logp_difference/mean': 0.1875, 'sampling/sampling_logp_difference/max': 0.25}
    """
    tokens = sum(gap.tokens for gap in gaps)
    return {MEAN: sum(gap.total for gap in gaps) / tokens, MAX: max(gap.largest for gap in gaps)} if tokens else {}
