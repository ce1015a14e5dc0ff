"""Objectives that learn from the whole next-token distributions of a teacher."""

from typing import Literal, Self

from pydantic import model_validator

from recipec.component import component, param
from recipec.spec.loss.definition import AGGREGATE, Aggregate, Loss


@component(
    "loss",
    requires=("divergence_RT", "teacher", "trained_RT", "weight_RT"),
    provides=("loss",),
    impl="recipec.runtime.objective.distillation:gkd",
    lowered=("aggregate", "normaliser", "beta", "temperature", "top_k"),
)
class Gkd(Loss):
    r"""GKD: the divergence of the policy from a teacher at each token, over the whole vocabulary.

    .. math:: \ell = \beta \operatorname{KL}(p_T \,\|\, m) + (1 - \beta) \operatorname{KL}(p_S \,\|\, m),\quad
        m = \beta p_T + (1 - \beta) p_S

    With ``beta: 0`` it is the forward divergence :math:`\operatorname{KL}(p_T \| p_S)`, with 1 the reverse one,
    :math:`\operatorname{KL}(p_S \| p_T)`. The teacher is the model of ``reference: {type: frozen, from: …}``, with the
    policy's tokenizer. In an `rl` stage the policy learns on its own samples (on-policy distillation), in an `sft`
    stage on given answers.

    Each update computes the teacher once for its rows; logits of both models exist for a few tokens at a time.

    References:
        Agarwal et al., `GKD <https://arxiv.org/abs/2306.13649>`_, 2023, eq. 1 and algorithm 1.
        Lu et al., `On-Policy Distillation <https://thinkingmachines.ai/blog/on-policy-distillation/>`_, 2025.
    """

    type: Literal["gkd"] = "gkd"
    beta: float = param(
        1.0,
        "Interpolation of the divergence: 0 is forward KL, 1 reverse KL, 0.5 the Jensen-Shannon divergence.",
        ge=0,
        le=1,
    )
    temperature: float | None = param(
        None,
        "Temperature of both distributions in the loss; that of the sampler if omitted, 1 in an `sft` stage.",
        gt=0,
    )
    top_k: int | None = param(
        None, "Compare only the tokens that are likeliest under the teacher (`beta: 0`); all if omitted.",
        unit="tokens", ge=1,
    )  # fmt: skip
    clamp: float | None = param(None, "Highest divergence of a token; not bounded if omitted.", unit="nats", gt=0)
    aggregate: Aggregate = param("token_mean", AGGREGATE)
    normaliser: int | None = param(None, "Tokens that each row counts for (`aggregate: fixed`).", unit="tokens", ge=1)

    @model_validator(mode="after")
    def _of_teacher(self) -> Self:
        if self.top_k is not None and self.beta:
            raise ValueError("`top_k` keeps tokens of the teacher: it needs the forward divergence, `beta: 0`")
        return self
