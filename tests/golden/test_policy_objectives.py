"""Objectives of rl against numbers that TRL's own trainers made (`data/policy_objectives.json`)."""

import json
from pathlib import Path

import pytest
import torch

from recipec.component import components_of
from recipec.runtime.objective.compiler_ops import weigh
from tests.support.components import call

CASES = {
    case["id"]: case
    for case in json.loads((Path(__file__).parent / "data" / "policy_objectives.json").read_text())["cases"]
}
ROW = "seq_mean_token_mean"
OURS = {
    "cispo": ("cispo", {"ratio_max": 1.5}, "token_mean"),
    "cispo, kl": ("cispo", {"ratio_max": 5.0, "beta": 0.04}, "token_mean"),
    "sapo": ("sapo", {}, ROW),
    "sapo, sharp": ("sapo", {"temperature_pos": 2.0, "temperature_neg": 3.0, "beta": 0.04}, ROW),
    "gmpo": ("gmpo", {"epsilon": 0.2, "epsilon_high": 0.3}, ROW),
    "gmpo, kl": ("gmpo", {"epsilon": 0.4, "beta": 0.04}, ROW),
    "rloo": ("clipped", {"ratio": "product", "epsilon": 0.2, "epsilon_high": 0.3}, ROW),
    "luspo": ("clipped", {"ratio": "sequence", "epsilon": 0.05, "epsilon_high": 0.1}, "seq_mean_token_sum"),
}


@pytest.mark.parametrize("name", CASES)
def test_objective_is_theirs(name):
    """Loss and gradient are TRL's, in float64, for every aggregate that TRL uses with the objective."""
    case, (kind, params, aggregate) = CASES[name], OURS[name]
    spec = components_of("loss")[kind](**params)
    column = {key: torch.tensor(case[key], dtype=torch.float64) for key in ("logprob", "old_logprob", "ref_logprob")}
    trained_RT = torch.tensor(case["mask"], dtype=torch.bool)
    weight_RT = weigh(trained_RT, aggregate=aggregate)["weight_RT"]
    given = {
        "logprob_RT": column["logprob"].requires_grad_(),
        "ratio_to_RT": column["old_logprob"],
        "advantage_RT": torch.tensor(case["advantage"], dtype=torch.float64)[:, None] * trained_RT,
        "trained_RT": trained_RT,
        "turn_RT": trained_RT.long(),
        "weight_RT": weight_RT,
        "ref_logprob_RT": column["ref_logprob"] if spec.beta else None,
    }
    made = call(spec, **given)
    made["loss"].backward()
    expected = case["expected"]
    assert float(made["loss"].detach()) == pytest.approx(expected["loss"], abs=1e-6, rel=1e-6)
    slope = torch.tensor(expected["grad_logprob"], dtype=torch.float64)
    torch.testing.assert_close(given["logprob_RT"].grad, slope, atol=1e-6, rtol=1e-6)
