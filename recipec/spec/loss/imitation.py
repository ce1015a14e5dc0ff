"""Objectives of given answers: their likelihood, or the utility of answers that are labelled."""

from typing import Literal

from recipec.component import component, param
from recipec.spec.loss.definition import AGGREGATE, Aggregate, Loss


@component(
    "loss",
    requires=("logprob_RT", "trained_RT", "weight_RT"),
    provides=("loss",),
    impl="recipec.runtime.objective.loss:nll",
    lowered=("aggregate", "normaliser"),
)
class Nll(Loss):
    r"""Negative log-likelihood of the completion (supervised fine-tuning).

    .. math:: \ell = -\sum_t w_t \log\pi(t)

    References:
        TRL, `SFTTrainer <https://huggingface.co/docs/trl/sft_trainer>`_ with completion-only loss.
    """

    type: Literal["nll"] = "nll"
    aggregate: Aggregate = param("token_mean", AGGREGATE)
    normaliser: int | None = param(None, "Tokens that each row counts for (`aggregate: fixed`).", unit="tokens", ge=1)


@component(
    "loss",
    requires=("logprob_RT", "ref_logprob_RT", "trained_RT", "desirable_R", "baseline_R", "weight_R"),
    provides=("loss",),
    impl="recipec.runtime.objective.preference_losses:kto",
)
class Kto(Loss):
    r"""KTO: answers that are labelled good or bad, one by one, in an `sft` stage.

    .. math:: \ell = \lambda\,\big(1 - \sigma(\pm\beta(\Delta - z_0))\big),\quad
        \Delta = \log\pi(y|x) - \log\pi_{ref}(y|x),\quad z_0 = \max(0, \overline{\Delta}_{mismatched})

    + for good answers, - for bad ones; the column `label` of the data is true or false. The baseline :math:`z_0` is of
    answers after other prompts of the step, under the policy before the updates of the step; it is 0 in a step of one
    answer.

    References:
        Ethayarajh et al., `KTO <https://arxiv.org/abs/2402.01306>`_, 2024, eq. 7 and 8.
    """

    type: Literal["kto"] = "kto"
    beta: float = param(0.1, "Strength of the penalty for deviating from the reference.", gt=0)
    desirable_weight: float = param(1.0, "Weight of good answers.", unit="weight", ge=0)
    undesirable_weight: float = param(1.0, "Weight of bad answers.", unit="weight", ge=0)
