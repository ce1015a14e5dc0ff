"""Objectives of rl in `losses.py`: the trainer of TRL or the authors' formula, and the spec with the same meaning."""

from __future__ import annotations

import trl
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from recipec.spec import loss as spec
from recipec.spec.loss.policy_gradient import SamplerRejection

MAX_COMPLETION = 48
ROW = "seq_mean_token_mean"
RANGE = {"epsilon": 0.2, "epsilon_high": 0.28}
KL = {"beta": 0.04, "use_bias_correction_kl": False}
GRPO = (trl.GRPOTrainer, trl.GRPOConfig)
BNPO = {"loss_type": "bnpo", **RANGE, **KL}
CASES = {
    "GRPO, token mean": (*GRPO, BNPO, spec.Clipped(**RANGE, beta=0.04)),
    "GRPO, row mean of token means": (
        *GRPO, {"loss_type": "grpo", **RANGE, **KL}, spec.Clipped(**RANGE, beta=0.04, aggregate=ROW),
    ),
    "Dr. GRPO": (
        *GRPO, {"loss_type": "dr_grpo", **RANGE, **KL},
        spec.Clipped(**RANGE, beta=0.04, aggregate="fixed", normaliser=MAX_COMPLETION),
    ),
    "GSPO": (
        *GRPO, {"loss_type": "grpo", "importance_sampling_level": "sequence", **RANGE, **KL},
        spec.Clipped(**RANGE, beta=0.04, aggregate=ROW, ratio="sequence"),
    ),
    "RLOO": (
        trl.RLOOTrainer, trl.RLOOConfig, {"beta": 0.0, **RANGE},
        spec.Clipped(**RANGE, aggregate=ROW, ratio="product"),
    ),
    "CISPO": (*GRPO, {"loss_type": "cispo", "epsilon_high": 1.2, **KL}, spec.Cispo(ratio_max=1.2, beta=0.04)),
    "SAPO": (*GRPO, {"loss_type": "sapo", **KL}, spec.Sapo(beta=0.04, aggregate=ROW)),
    "GMPO": (GMPOTrainer, GMPOConfig, {"epsilon": 0.4, **KL}, spec.Gmpo(epsilon=0.4, beta=0.04, aggregate=ROW)),
}  # fmt: skip


def truncated(log_ratio_RT, _mask_RT):
    """Weigh each token by its ratio, at most 1.2."""
    return log_ratio_RT.exp().clamp(max=1.2)


def masked_rows(log_ratio_RT, mask_RT):
    """Weigh each row by the product of its ratios, or leave it out."""
    ratio_R1 = (log_ratio_RT * mask_RT).sum(-1, keepdim=True).exp()
    return ratio_R1.masked_fill((ratio_R1 < 0.4) | (ratio_R1 > 2.5), 0.0)


def filtered(log_ratio_RT, mask_RT):
    """Weigh each token by its ratio, at most 1.2, and leave out rows by the geometric mean of their ratios."""
    mean_R1 = (log_ratio_RT * mask_RT).sum(-1, keepdim=True) / mask_RT.sum(-1, keepdim=True)
    return truncated(log_ratio_RT, mask_RT) * ((mean_R1.exp() >= 0.97) & (mean_R1.exp() <= 1.05))


WEIGHED = {
    "GRPO, weights of engines truncated": (
        truncated, spec.Clipped(**RANGE, beta=0.04, sampler_correction="truncate", sampler_correction_cap=1.2),
    ),
    "GRPO, weights of rows masked": (
        masked_rows,
        spec.Clipped(
            **RANGE, beta=0.04, sampler_correction="mask", sampler_correction_level="sequence",
            sampler_correction_floor=0.4, sampler_correction_cap=2.5,
        ),
    ),
    "GRPO, weights and rejected rows": (
        filtered,
        spec.Clipped(
            **RANGE, beta=0.04, sampler_correction="truncate", sampler_correction_cap=1.2,
            sampler_rejection=SamplerRejection(level="geometric", floor=0.97, cap=1.05),
        ),
    ),
}  # fmt: skip
"""Weights that TRL's loss gets, and what computes them here."""


def covariance(logprob_N, advantage_N):
    """Return the product of what log-probability and advantage of a token differ from their means by."""
    return ((logprob_N - logprob_N.mean()) * (advantage_N - advantage_N.mean())).detach()


def clip_cov(logprob_N, old_N, advantage_N):
    """Leave out all tokens with a covariance between 0.5 and 2."""
    ratio_N, covariance_N = (logprob_N - old_N).exp(), covariance(logprob_N, advantage_N)
    clipped_N = (ratio_N * advantage_N).minimum(ratio_N.clamp(0.8, 1.2) * advantage_N)
    return -(clipped_N * ~((covariance_N > 0.5) & (covariance_N < 2.0))).mean()


def kl_cov(logprob_N, old_N, advantage_N):
    """Penalise the change of the tenth of the tokens with the highest covariance."""
    log_ratio_N = logprob_N - old_N
    chosen_M = covariance(logprob_N, advantage_N).topk(int(0.1 * len(old_N))).indices
    return (log_ratio_N[chosen_M].abs().sum() - (log_ratio_N.exp() * advantage_N).sum()) / len(old_N)


FORMULAS = {
    "Clip-Cov (formula)": (clip_cov, spec.ClipCov(share=1.0, lowest=0.5, highest=2.0), {"lowest": 0.5, "highest": 2.0}),
    "KL-Cov (formula)": (kl_cov, spec.KlCov(share=0.1), {}),
}
"""Formulas of the authors, written again from the paper and verl, on the trained tokens of a batch."""
