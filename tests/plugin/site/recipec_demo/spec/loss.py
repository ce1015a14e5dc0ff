"""The policy gradient without clipping."""

from typing import Literal

from recipec.component import component, param
from recipec.spec.loss import Aggregate, Loss


@component(
    "loss",
    requires=("logprob_RT", "old_logprob_RT", "advantage_RT", "trained_RT", "weight_RT"),
    provides=("loss",),
    impl="recipec_demo.runtime.loss:unclipped",
    lowered=("aggregate", "normaliser"),
)
class Unclipped(Loss):
    r"""Policy gradient with a probability ratio that is not clipped.

    .. math:: \ell = -\rho A,\quad \rho = \exp(\log\pi - \log\pi_{old})
    """

    type: Literal["unclipped"] = "unclipped"
    aggregate: Aggregate = param("token_mean", "How token losses are averaged.")
    normaliser: int | None = param(None, "Tokens that each row counts for (`aggregate: fixed`).", unit="tokens", ge=1)

    def credit_alone(self) -> bool:
        """True: the loss is a multiple of the advantage."""
        return True
