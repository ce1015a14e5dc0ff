"""Divergences from a teacher against numbers of TRL's and verl's functions (`data/distillation.json`)."""

import json
from pathlib import Path

import pytest
import torch

from recipec.runtime.objective.compiler_ops import weigh
from recipec.runtime.objective.distillation import divergences, gkd

DATA = json.loads((Path(__file__).parent / "data" / "distillation.json").read_text())
CASES = {case["id"]: case for case in DATA["cases"]}


@pytest.mark.parametrize("name", CASES)
def test_the_divergence_is_theirs(name):
    """Loss and gradient of the logits are those of GKDTrainer, and of verl for the teacher's likeliest tokens."""
    case = CASES[name]
    logits_RTV = torch.tensor(DATA["student"], dtype=torch.float64, requires_grad=True)
    teacher_RTV = torch.tensor(DATA["teacher"], dtype=torch.float64)
    trained_RT = torch.tensor(DATA["mask"])
    heat = case["temperature"]
    found, _ = divergences(
        logits_RTV.flatten(0, 1) / heat, teacher_RTV.flatten(0, 1) / heat, case["beta"], case["top_k"]
    )
    divergence_RT = found.view(trained_RT.shape)
    made = gkd(divergence_RT, trained_RT, weigh(trained_RT, aggregate="token_mean")["weight_RT"], clamp=None)
    made["loss"].backward()
    # verl computes in float32
    assert float(made["loss"].detach()) == pytest.approx(case["loss"], rel=1e-6)
    expected = torch.tensor(case["grad_logits"], dtype=torch.float64)
    assert logits_RTV.grad is not None
    assert float((logits_RTV.grad - expected).norm() / expected.norm()) < 5e-6
