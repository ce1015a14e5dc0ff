"""Objectives of pairs without a reference against TRL's own functions (`data/preference_objectives.json`)."""

import json
from pathlib import Path

import pytest
import torch

from recipec.component import components_of
from recipec.runtime.objective.compiler_ops import weigh_chosen, weigh_pairs
from recipec.runtime.objective.labelled_answers import mismatch_baseline, weigh_labelled
from tests.support.components import call

CASES = {
    case["id"]: case
    for case in json.loads((Path(__file__).parent / "data" / "preference_objectives.json").read_text())["cases"]
}
OURS = {
    "cpo": ("cpo", {}),
    "cpo, smoothed": ("cpo", {"beta": 0.2, "label_smoothing": 0.1, "nll": 0.5}),
    "cpo, hinge": ("cpo", {"beta": 0.3, "variant": "hinge", "nll": 0.0}),
    "cpo, ipo": ("cpo", {"beta": 0.5, "variant": "ipo"}),
    "simpo": ("simpo", {}),
    "cpo-simpo": ("simpo", {"beta": 2.5, "gamma": 1.25, "nll": 1.0, "label_smoothing": 0.05}),
    "orpo": ("orpo", {}),
    "orpo, strong": ("orpo", {"beta": 1.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_objective_is_theirs(name):
    """Loss and gradient are TRL's in float64, however the rows of the pairs are ordered."""
    case, (kind, params) = CASES[name], OURS[name]
    spec = components_of("loss")[kind](**params)
    pairs = len(case["logprob"]) // 2
    order = torch.randperm(2 * pairs, generator=torch.Generator().manual_seed(3))
    trained_RT = torch.tensor(case["mask"], dtype=torch.bool)[order]
    logprob_RT = torch.tensor(case["logprob"], dtype=torch.float64)[order].requires_grad_()
    by_pair_R, chosen_R = (torch.arange(2 * pairs) % pairs)[order], (torch.arange(2 * pairs) < pairs)[order]
    given = {
        "logprob_RT": logprob_RT,
        "trained_RT": trained_RT,
        "by_pair_R": by_pair_R,
        "chosen_R": chosen_R,
        **weigh_pairs(by_pair_R),
        **weigh_chosen(trained_RT, chosen_R),
    }
    made = call(spec, **given)
    made["loss"].backward()
    assert float(made["loss"].detach()) == pytest.approx(case["expected"]["loss"], abs=1e-6, rel=1e-6)
    slope = torch.tensor(case["expected"]["grad_logprob"], dtype=torch.float64)[order]
    torch.testing.assert_close(logprob_RT.grad, slope, atol=1e-6, rtol=1e-6)


def test_certain_answers_have_finite_odds():
    """A probability of 1 has an infinite odds ratio: the loss and its gradient stay finite."""
    spec = components_of("loss")["orpo"]()
    logprob_RT = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    trained_RT, chosen_R = torch.ones(2, 3, dtype=torch.bool), torch.tensor([True, False])
    weight = weigh_pairs(torch.zeros(2, dtype=torch.int64))["weight_R"]
    weight_RT = weigh_chosen(trained_RT, chosen_R)["weight_RT"]
    made = spec.load()(logprob_RT, trained_RT, torch.zeros(2), chosen_R, weight, weight_RT, **spec.params())
    made["loss"].backward()
    assert torch.isfinite(made["loss"])
    assert torch.isfinite(logprob_RT.grad).all()


KTO = json.loads((Path(__file__).parent / "data" / "labelled_objective.json").read_text())["cases"]


@pytest.mark.parametrize("case", KTO, ids=lambda case: case["id"])
def test_labelled_answers_are_theirs(case):
    """Loss, gradient and baseline of KTO are those of TRL's trainer, with mismatched rows between the answers."""
    spec = components_of("loss")["kto"](**case["params"])
    rows = len(case["label"])
    mismatched_R = torch.arange(2 * rows) % 2 == 1

    def column(answers, others, dtype=torch.float64):
        both = torch.stack([torch.tensor(case[answers], dtype=dtype), torch.tensor(case[others], dtype=dtype)], 1)
        return both.flatten(0, 1)

    trained_RT = column("mask", "kl_mask", torch.bool)
    ref_RT, old_RT = column("ref_logprob", "kl_ref_logprob"), column("logprob", "kl_logprob")
    logprob_RT = old_RT.clone().requires_grad_()
    baseline_R = mismatch_baseline(old_RT, ref_RT, trained_RT, mismatched_R)["baseline_R"]
    assert float(baseline_R[0]) == pytest.approx(case["expected"]["kl"], abs=1e-6)
    desirable_R = torch.tensor(case["label"]).repeat_interleave(2)
    weight_R = weigh_labelled(mismatched_R)["weight_R"]
    made = spec.load()(logprob_RT, ref_RT, trained_RT, desirable_R, baseline_R, weight_R, **spec.params())
    made["loss"].backward()
    assert float(made["loss"].detach()) == pytest.approx(case["expected"]["loss"], abs=1e-6)
    slope = torch.tensor(case["expected"]["grad_logprob"], dtype=torch.float64)
    torch.testing.assert_close(logprob_RT.grad[~mismatched_R], slope, atol=1e-6, rtol=1e-5)
    assert not logprob_RT.grad[mismatched_R].any()
