"""The clipped objective against numbers made by the papers' own functions (`data/policy_loss.json`)."""

import json
from pathlib import Path

import pytest
import torch

from recipec.runtime.objective.compiler_ops import weigh
from recipec.spec.loss import Clipped
from tests.support.components import call

CASES = json.loads((Path(__file__).parent / "data" / "policy_loss.json").read_text())["cases"]
PARAMS = {
    "token_dual_clip_clamped": {"ratio": "token", "log_ratio_clamp": 20},
    "token_dual_clip": {"ratio": "token"},
    "turn_ratio": {"ratio": "turn"},
    "sequence_ratio_dual_clip": {"ratio": "sequence"},
    "sequence_ratio_gspo": {"ratio": "sequence", "ratio_gradient": "own"},
}
AGGREGATE = {
    "token-mean": "token_mean",
    "seq-mean-token-mean": "seq_mean_token_mean",
    "seq-mean-token-sum": "seq_mean_token_sum",
    "seq-mean-token-sum-norm": "fixed",
}
KL = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3"}
APPROX_KL = {"turn_ratio": "padded mean", "sequence_ratio_dual_clip": "seq_mean_token_mean"}


def close(made, expected):
    """Assert equality within 1e-6, absolute and relative."""
    torch.testing.assert_close(
        torch.as_tensor(made).detach().double(), torch.as_tensor(expected).double(), atol=1e-6, rtol=1e-6
    )


class Given:
    """The columns of one case, in float64."""

    def __init__(self, case):
        self.logprob_RT = torch.tensor(case["logprob"], dtype=torch.float64, requires_grad=True)
        self.old_RT = torch.tensor(case["old_logprob"], dtype=torch.float64)
        self.ref_RT = torch.tensor(case["ref_logprob"], dtype=torch.float64)
        self.trained_RT = torch.tensor(case["mask"], dtype=torch.bool)
        self.turn_RT = torch.tensor(case["turn"]) * self.trained_RT
        self.advantage_RT = torch.tensor(case["advantage"], dtype=torch.float64)[:, None] * self.trained_RT
        params = case["params"]
        self.params = PARAMS[params["loss"]] | {"epsilon": params["clip_low"], "epsilon_high": params["clip_high"]}
        if params["loss"] != "sequence_ratio_gspo":
            self.params["dual_clip"] = params["dual_clip_c"]

    def weight(self, aggregation):
        """Weigh as the case says; the authors' sum over the padded width does not divide by rows."""
        rows, width = self.trained_RT.shape
        weight_RT = weigh(self.trained_RT, aggregate=AGGREGATE[aggregation], normaliser=width)["weight_RT"]
        return weight_RT * rows if aggregation == "seq-mean-token-sum-norm" else weight_RT

    def run(self, aggregation, **params):
        """Call the objective."""
        return call(
            Clipped(**{**self.params, **params}),
            logprob_RT=self.logprob_RT,
            ratio_to_RT=self.old_RT,
            advantage_RT=self.advantage_RT,
            trained_RT=self.trained_RT,
            turn_RT=self.turn_RT,
            weight_RT=self.weight(aggregation),
            ref_logprob_RT=self.ref_RT,
            entropy_RT=-self.ref_RT,
        )


def test_every_published_loss_is_here():
    """The file holds eighteen cases, of every kind."""
    assert len(CASES) == 18
    assert {case["params"]["loss"] for case in CASES} == set(PARAMS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_loss_and_gradient(case):
    """Loss and its gradient by log-probability are the authors'."""
    given = Given(case)
    loss = given.run(case["params"]["aggregation"])["loss"]
    loss.backward()
    close(loss, case["expected"]["loss"])
    close(given.logprob_RT.grad, case["expected"]["grad_logprob"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_clip_fractions(case):
    """The authors average clip fractions over trained tokens, whatever the loss does."""
    made = Given(case).run("token-mean")
    close(made["metric/clip_ratio/region_mean"], case["expected"]["clip_fraction"])
    close(made.get("metric/dual_clip", 0.0), case["expected"]["dual_clip_fraction"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_approximate_kl(case):
    """The authors average the log ratio over tokens; over rows for a sequence ratio; over padding for turns."""
    given, loss = Given(case), case["params"]["loss"]
    made = given.run("seq-mean-token-mean" if loss == "sequence_ratio_dual_clip" else "token-mean")
    padded = float(given.trained_RT.double().mean()) if loss == "turn_ratio" else 1.0
    close(made["metric/approx_kl"] * padded, case["expected"]["approx_kl"])


@pytest.mark.parametrize("name", KL)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_kl_estimators(case, name):
    """Each estimator, aggregated as the loss; the authors bound the third one's value by 10 and not its exponent."""
    made = Given(case).run(
        case["params"]["aggregation"], beta=1.0, kl=KL[name], kl_clamp=10 if name == "low_var_kl" else None
    )
    close(made["metric/kl"], case["expected"]["kl"][name])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_kl_of_tree_grpo(case):
    """Tree-GRPO bounds the log ratio by 20 and the estimate by 10, and averages over tokens."""
    made = Given(case).run("token-mean", beta=1.0, kl="k3", log_ratio_clamp=20, kl_clamp=10)
    close(made["metric/kl"], case["expected"]["kl"]["low_var_kl_token_mean_clamped"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_terms_add(case):
    """The loss is the policy term plus beta times the KL, minus the factor of the entropy times the entropy."""
    given, aggregation = Given(case), case["params"]["aggregation"]
    plain, kl = given.run(aggregation), given.run(aggregation, beta=0.25, kl_clamp=10)
    close(kl["loss"], plain["loss"] + 0.25 * kl["metric/kl"])
    assert kl["metric/kl"] > 0
    bonus = given.run(aggregation, entropy=0.5)
    assert bonus["metric/entropy"] > 0
    close(bonus["loss"], plain["loss"] - 0.5 * bonus["metric/entropy"])
