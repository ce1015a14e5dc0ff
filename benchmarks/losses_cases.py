"""Objectives of `losses.py`: TRL's trainer and settings, and the spec of recipec with the same meaning."""

from __future__ import annotations

import trl
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from recipec.spec import loss as spec

MAX_COMPLETION = 48
ROW = "seq_mean_token_mean"
RANGE = {"epsilon": 0.2, "epsilon_high": 0.28}
GRPO = (trl.GRPOTrainer, trl.GRPOConfig)
CASES = {
    "GRPO, token mean": (*GRPO, {"loss_type": "bnpo", **RANGE}, spec.Clipped(**RANGE, beta=0.04)),
    "GRPO, row mean of token means": (
        *GRPO, {"loss_type": "grpo", **RANGE}, spec.Clipped(**RANGE, beta=0.04, aggregate=ROW),
    ),
    "Dr. GRPO": (
        *GRPO, {"loss_type": "dr_grpo", **RANGE},
        spec.Clipped(**RANGE, beta=0.04, aggregate="fixed", normaliser=MAX_COMPLETION),
    ),
    "GSPO": (
        *GRPO, {"loss_type": "grpo", "importance_sampling_level": "sequence", **RANGE},
        spec.Clipped(**RANGE, beta=0.04, aggregate=ROW, ratio="sequence"),
    ),
    "CISPO": (*GRPO, {"loss_type": "cispo", "epsilon_high": 1.2}, spec.Cispo(ratio_max=1.2, beta=0.04)),
    "SAPO": (*GRPO, {"loss_type": "sapo"}, spec.Sapo(beta=0.04, aggregate=ROW)),
    "GMPO": (GMPOTrainer, GMPOConfig, {"epsilon": 0.4}, spec.Gmpo(epsilon=0.4, beta=0.04, aggregate=ROW)),
}  # fmt: skip


CONTRASTIVE = {
    "CPO": ({"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0}, spec.Cpo()),
    "SimPO": (
        {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 1.375, "cpo_alpha": 0.0},
        spec.Simpo(beta=2.5, gamma=1.375),
    ),
}
