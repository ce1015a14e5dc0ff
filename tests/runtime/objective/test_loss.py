"""Objectives: what each parameter does to one token."""

import math

import numpy as np
import pytest
import torch

from recipec.runtime.objective.compiler_ops import weigh
from recipec.runtime.objective.loss import dpo
from recipec.runtime.objective.token_ratios import mean_correction
from recipec.spec.loss import Cispo, Clipped, Dpo, Gmpo
from tests.support.components import call


def one_token(logprob, old, credit, reference=-1.0, sampler=0.0, **params):
    """Return the outputs and the gradient of a batch of one trained token."""
    column = lambda x: torch.tensor([[float(x)]], dtype=torch.float64)  # noqa: E731
    logprob_RT = column(logprob).requires_grad_()
    flag = torch.tensor([[True]])
    made = call(
        Clipped(**params), logprob_RT=logprob_RT, ratio_to_RT=column(old), advantage_RT=column(credit),
        trained_RT=flag, turn_RT=flag.long(), weight_RT=flag.double(),
        ref_logprob_RT=column(reference), entropy_RT=column(3.0), sampler_logprob_RT=column(sampler),
    )  # fmt: skip
    made["loss"].backward()
    return {name: float(value.detach()) for name, value in made.items()}, float(logprob_RT.grad)


@pytest.mark.parametrize(
    ("credit", "ratio", "loss", "gradient", "metric"),
    [
        (1.0, 1.1, -1.1, -1.1, None),
        (1.0, 1.5, -1.3, 0.0, "clip_ratio/high_mean"),
        (1.0, 0.5, -0.5, -0.5, None),
        (-1.0, 1.5, 1.5, 1.5, None),
        (-1.0, 4.0, 3.0, 0.0, "dual_clip"),
        (-1.0, 0.5, 0.8, 0.0, "clip_ratio/low_mean"),
        (0.0, 9.0, 0.0, 0.0, None),
    ],
)
def test_clip(credit, ratio, loss, gradient, metric):
    """The ratio is bounded above for good credit and below for bad; the dual clip bounds it above for bad."""
    made, slope = one_token(math.log(ratio), 0.0, credit, epsilon=0.2, epsilon_high=0.3, dual_clip=3.0)
    assert made["loss"] == pytest.approx(loss)
    assert slope == pytest.approx(gradient)
    counted = {name.removeprefix("metric/") for name, value in made.items() if "clip" in name and value == 1}
    assert counted - {"clip_ratio/region_mean"} == ({metric} if metric else set())
    assert made["metric/clip_ratio/region_mean"] == float(bool(metric) and metric != "dual_clip")
    assert made["metric/approx_kl"] == pytest.approx(-math.log(ratio))


@pytest.mark.parametrize("credit", [1.0, 0.0])
def test_huge_ratio_has_a_gradient(credit):
    """A ratio that would overflow is clipped for good credit: the gradient is 0, not NaN."""
    made, slope = one_token(0.0, -1e4, credit)
    assert made["loss"] == pytest.approx(-1.2 * credit)
    assert slope == 0


def test_log_ratio_clamp_comes_before_the_exponential():
    """The bounded log ratio makes the ratio, and no gradient passes its bound."""
    made, slope = one_token(30.0, 0.0, -1.0, log_ratio_clamp=2.0)
    assert made["loss"] == pytest.approx(math.exp(2))
    assert slope == 0


@pytest.mark.parametrize(("kl", "value"), [("k1", 0.5), ("k2", 0.125), ("abs", 0.5), ("k3", math.exp(-0.5) - 0.5)])
def test_kl_estimators(kl, value):
    """Estimates of KL(policy || reference) from u = reference minus policy = -0.5."""
    made, _ = one_token(-1.0, -1.0, 0.0, reference=-1.5, beta=0.1, kl=kl)
    assert made["metric/kl"] == pytest.approx(value)
    assert made["loss"] == pytest.approx(0.1 * value)


def test_kl_clamps():
    """One clamp bounds what goes into k3's exponential, the other what comes out of the estimate."""
    inside, _ = one_token(-9.0, -9.0, 0.0, reference=-1.0, beta=1.0, log_ratio_clamp=2.0)
    outside, slope = one_token(-9.0, -9.0, 0.0, reference=-1.0, beta=1.0, kl_clamp=10.0)
    assert inside["metric/kl"] == pytest.approx(math.exp(2) - 3)
    assert outside["metric/kl"] == 10
    assert slope == 0


def test_entropy_is_a_bonus():
    """More entropy, here 3 nats, is a smaller loss."""
    made, _ = one_token(-1.0, -1.0, 0.0, entropy=0.01)
    assert made["loss"] == pytest.approx(-0.03)
    assert made["metric/entropy"] == 3


@pytest.mark.parametrize(
    ("how", "sampler", "factor"),
    [("truncate", -1.5, math.exp(0.5)), ("truncate", -9.0, 2.0), ("mask", -1.5, math.exp(0.5)), ("mask", -2.0, 0.0)],
)
def test_sampler_correction(how, sampler, factor):
    """The policy term is weighed by old over sampler probability, cut at the cap or dropped above it."""
    made, slope = one_token(
        -1.0, -1.0, 1.0, sampler=sampler, sampler_correction=how, sampler_correction_cap=2.0, beta=1.0
    )
    assert made["loss"] == pytest.approx(-factor)
    assert slope == pytest.approx(-factor)
    assert made["metric/sampling/importance_sampling_ratio/mean"] == pytest.approx(factor)


@pytest.mark.parametrize(
    ("rejection", "kept"),
    [
        ({"level": "geometric", "floor": 0.99, "cap": 1.01}, [0, 0, 0]),
        ({"level": "geometric", "floor": 0.5, "cap": 1.3}, [1, 1, 1]),
        ({"level": "sequence", "cap": 1.8}, [0, 0, 0]),
        ({"level": "sequence", "cap": 1.9}, [1, 1, 1]),
        ({"level": "token", "floor": 0.5, "cap": 2.0}, [0, 1, 0]),
    ],
)
@pytest.mark.parametrize("how", ["truncate", "none"])
def test_rejection_is_added_to_the_weights(how, rejection, kept):
    """Ratios e^1.2, e^0.3, e^-0.9, of product e^0.6 and mean e^0.2: weights at most 2, times what the bounds keep."""
    mismatch = torch.tensor([[9.0, 1.2, 0.3, -0.9]], dtype=torch.float64)
    trained_RT = torch.tensor([[False, True, True, True]])
    old_RT = torch.full_like(mismatch, -1.0).requires_grad_()
    made = call(
        Clipped(sampler_correction=how, sampler_rejection=rejection),
        logprob_RT=old_RT, ratio_to_RT=old_RT.detach(), advantage_RT=trained_RT.double(), trained_RT=trained_RT,
        turn_RT=trained_RT.long(), weight_RT=trained_RT.double(), sampler_logprob_RT=old_RT.detach() - mismatch,
    )  # fmt: skip
    weights = [2.0, math.exp(0.3), math.exp(-0.9)] if how == "truncate" else [1.0] * 3
    expected = [weight * keep for weight, keep in zip(weights, kept, strict=True)]
    assert made["loss"].item() == pytest.approx(-sum(expected))
    made["loss"].backward()
    assert old_RT.grad.tolist()[0] == pytest.approx([0.0, *(-weight for weight in expected)])


BOUNDS = {"sampler_correction_floor": 0.5, "sampler_correction_cap": 2.0}


@pytest.mark.parametrize(
    ("level", "mean"), [("token", None), ("sequence", math.exp(0.6)), ("geometric", math.exp(0.2))]
)
@pytest.mark.parametrize("how", ["truncate", "clip", "mask", "reject"])
def test_grid_of_corrections(how, level, mean):
    """Level times action: log ratios of 1.2, 0.3 and -0.9 nats, their product and their mean, within [0.5, 2]."""
    mismatch = torch.tensor([[9.0, 1.2, 0.3, -0.9]], dtype=torch.float64)
    trained_RT = torch.tensor([[False, True, True, True]])
    old_RT = torch.full_like(mismatch, -1.0)
    made = call(
        Clipped(sampler_correction=how, sampler_correction_level=level, **BOUNDS),
        logprob_RT=old_RT, ratio_to_RT=old_RT, advantage_RT=trained_RT.double(), trained_RT=trained_RT,
        turn_RT=trained_RT.long(), weight_RT=trained_RT.double(), sampler_logprob_RT=old_RT - mismatch,
    )  # fmt: skip
    weights = [math.exp(d) for d in (1.2, 0.3, -0.9)] if mean is None else [mean] * 3
    form = {
        "truncate": lambda w: min(w, 2.0),
        "clip": lambda w: max(0.5, min(w, 2.0)),
        "mask": lambda w: w * (0.5 <= w <= 2.0),
        "reject": lambda w: float(0.5 <= w <= 2.0),
    }[how]
    assert float(made["loss"]) == pytest.approx(-sum(map(form, weights)))


def rows(drift, trained, turn, credit, **params):
    """Return loss and gradient of rows with weight 1 on every trained token."""
    logprob_RT = torch.tensor(drift, dtype=torch.float64, requires_grad=True)
    trained_RT = torch.tensor(trained, dtype=torch.bool)
    made = call(
        Clipped(epsilon=1.0, **params), logprob_RT=logprob_RT, ratio_to_RT=torch.zeros_like(logprob_RT),
        advantage_RT=torch.tensor(credit) * trained_RT, trained_RT=trained_RT,
        turn_RT=torch.tensor(turn), weight_RT=trained_RT.double(),
    )  # fmt: skip
    made["loss"].backward()
    return float(made["loss"].detach()), logprob_RT.grad.tolist()


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        (Cispo(ratio_min=0.5, ratio_max=2.0), 1 / 8, 1 / 8),
        (Gmpo(epsilon=math.log(2.0), epsilon_high=math.log(2.0)), 1 / 8, 1 / 8),
    ],
)
def test_ratios_beyond_their_bounds_are_counted(spec, low, high):
    """Of eight tokens one is beyond each bound; those at a bound are not counted, nor for gmpo those pushed back."""
    log_ratio_RT = torch.tensor([[0.5, 0.5, 0.25, 1.0], [2.0, 2.0, 4.0, 1.0]], dtype=torch.float64).log()
    flag_RT = torch.ones(2, 4, dtype=torch.bool)
    made = call(
        spec, logprob_RT=log_ratio_RT, ratio_to_RT=torch.zeros(2, 4, dtype=torch.float64),
        advantage_RT=torch.tensor([[-1.0], [1.0]], dtype=torch.float64), trained_RT=flag_RT, turn_RT=flag_RT.long(),
        weight_RT=flag_RT.double() / 8,
    )  # fmt: skip
    assert float(made["metric/clip_ratio/low_mean"]) == pytest.approx(low)
    assert float(made["metric/clip_ratio/high_mean"]) == pytest.approx(high)
    assert made["metric/clip_ratio/low_mean"].dtype == torch.float64


def test_gmpo_counts_no_ratio_of_a_row_without_an_advantage():
    """Such a row has no gradient whatever its ratio."""
    one_RT = torch.ones(1, 1, dtype=torch.float64)
    columns = {"trained_RT": one_RT > 0, "turn_RT": one_RT.long(), "weight_RT": one_RT, "advantage_RT": 0 * one_RT}
    made = call(Gmpo(), logprob_RT=5 * one_RT, ratio_to_RT=0 * one_RT, **columns)
    assert float(made["metric/clip_ratio/high_mean"]) == 0


def test_the_log_ratio_of_cispo_is_clamped():
    """A ratio of e**3 counts as e**2 where log-ratios are clamped at 2, below the bound of the weight."""
    one_RT = torch.ones(1, 1, dtype=torch.float64)
    made = call(
        Cispo(ratio_max=100.0, log_ratio_clamp=2.0), logprob_RT=-one_RT, ratio_to_RT=-4 * one_RT, advantage_RT=one_RT,
        trained_RT=one_RT > 0, weight_RT=one_RT,
    )  # fmt: skip
    assert float(made["loss"]) == pytest.approx(math.exp(2.0))


def test_turn_ratio_is_a_mean_within_the_turn():
    """Each token of a turn has the geometric mean of the turn's ratios; another row's turn is another turn."""
    drift, trained = [[0.2, 0.4, 9.0, 0.1], [0.3, 9.0, 9.0, 9.0]], [[1, 1, 0, 1], [1, 0, 0, 0]]
    loss, _ = rows(drift, trained, [[1, 1, 0, 2], [1, 0, 0, 0]], [[-1.0], [-1.0]], ratio="turn")
    assert loss == pytest.approx(2 * math.exp(0.3) + math.exp(0.1) + math.exp(0.3))


def test_own_gradient_leaves_the_value():
    """GSPO's form has the value of the sequence ratio, but each token's gradient is by its own credit alone."""
    columns = [[0.2, 0.4]], [[1, 1]], [[1, 1]], [[-1.0, -3.0]]
    shared, shared_slope = rows(*columns, ratio="sequence")
    own, own_slope = rows(*columns, ratio="sequence", ratio_gradient="own")
    assert own == pytest.approx(shared) == pytest.approx(4 * math.exp(0.3))
    assert shared_slope == [pytest.approx([2 * math.exp(0.3)] * 2)]
    assert own_slope == [pytest.approx([math.exp(0.3), 3 * math.exp(0.3)])]


def pair(**params):
    """Return the outputs for one pair with log-ratios 1 (chosen, two tokens) and -1 (rejected, one token)."""
    logprob_RT = torch.tensor([[5.0, -1.0, -1.0], [5.0, -4.0, 5.0]])
    reference_RT = torch.tensor([[7.0, -1.5, -1.5], [7.0, -3.0, 7.0]])
    trained_RT = torch.tensor([[False, True, True], [False, True, False]])
    made = dpo(
        logprob_RT, reference_RT, trained_RT, torch.tensor([8, 8]), torch.tensor([True, False]),
        torch.ones(2), **Dpo(beta=0.5, **params).params(),
    )  # fmt: skip
    return {name: float(value) for name, value in made.items()}


@pytest.mark.parametrize(
    ("params", "loss"),
    [
        ({}, math.log1p(math.exp(-1.0))),
        ({"label_smoothing": 0.1}, 0.9 * math.log1p(math.exp(-1.0)) + 0.1 * math.log1p(math.exp(1.0))),
        ({"variant": "hinge"}, 0.0),
        ({"variant": "ipo"}, 1.0),
        ({"length_normalised": True}, math.log1p(math.exp(-0.75))),
    ],
)
def test_preference(params, loss):
    """Each variant of the objective at a margin of two nats (one and a half a token)."""
    assert pair(**params)["loss"] == pytest.approx(loss, abs=1e-6)


def test_the_likelihood_of_each_chosen_answer_is_a_mean_over_its_tokens():
    """Chosen answers of two tokens and one, at -1 and -3 a token, less the reference: their means add 1 and 3."""
    logprob_RT = torch.tensor([[-1.0, -1.0], [-1.0, 0.0], [-3.0, 0.0], [-3.0, 0.0]])
    trained_RT = logprob_RT < 0
    loss = [
        float(
            dpo(
                logprob_RT, logprob_RT, trained_RT, torch.tensor([0, 0, 1, 1]), torch.tensor([True, False] * 2),
                torch.full((4,), 0.5), **Dpo(nll=nll).params(),
            )["loss"]
        )
        for nll in (0.0, 1.0)
    ]  # fmt: skip
    assert loss[1] - loss[0] == pytest.approx((1.0 + 3.0) / 2)


def test_preference_metrics():
    """Rewards are beta times log-ratios; log-probabilities are sums over trained tokens."""
    made = {name: value for name, value in pair().items() if name != "loss"}
    assert made == {
        "metric/rewards/chosen": 0.5,
        "metric/rewards/rejected": -0.5,
        "metric/rewards/margins": 1.0,
        "metric/rewards/accuracies": 1.0,
        "metric/logps/chosen": -2.0,
        "metric/logps/rejected": -4.0,
    }


def test_rows_of_pairs_come_in_any_order():
    """Who is paired is said by a column, not by where a row stands: loss and metrics are the same for all orders."""
    draw = torch.Generator().manual_seed(0)
    logprob_RT, reference_RT = torch.randn(2, 6, 3, generator=draw, dtype=torch.float64)
    trained_RT = torch.ones(6, 3, dtype=torch.bool)
    pair_R, chosen_R = torch.tensor([4, 4, 5, 5, 9, 9]), torch.tensor([True, False] * 3)
    weight_R = torch.tensor([0.2, 0.2, 0.5, 0.5, 0.3, 0.3], dtype=torch.float64)
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 2, 0, 4, 3, 1]):
        rows = (column[order] for column in (logprob_RT, reference_RT, trained_RT, pair_R, chosen_R, weight_R))
        found.append({name: float(value) for name, value in dpo(*rows, **Dpo().params()).items()})
    assert found[1] == pytest.approx(found[0])


def test_split_pair_is_our_bug():
    """A row without its partner is an assertion, never a number."""
    row = torch.zeros(1, 1)
    with pytest.raises(AssertionError, match="pair"):
        dpo(
            row, row, row.bool(), torch.tensor([0]), torch.tensor([True]), torch.ones(1), **Dpo().params(),
        )  # fmt: skip


@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean_token_mean"])
@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
@pytest.mark.parametrize("how", ["truncate", "clip", "mask", "reject"])
def test_normalised_corrections_are_an_independent_recomputation(how, level, aggregate):
    """Sum of w times the loss over the sum of w, in numpy; micro-batches share the mean of the whole minibatch."""
    draw = np.random.default_rng(5)
    old, sampler = -2 * draw.random((2, 4, 5))
    old, sampler = old.astype(np.float32), sampler.astype(np.float32)
    trained = draw.random((4, 5)) < 0.7
    trained[3] = False
    credit = draw.normal(size=(4, 1)) * trained
    weights = weigh(torch.tensor(trained), aggregate=aggregate)["weight_RT"]
    spec = Cispo(
        sampler_correction=how, sampler_correction_level=level, sampler_correction_normalised=True, **BOUNDS,
    )  # fmt: skip
    columns = {
        "logprob_RT": torch.tensor(old), "ratio_to_RT": torch.tensor(old), "advantage_RT": torch.tensor(credit),
        "trained_RT": torch.tensor(trained), "weight_RT": weights, "sampler_logprob_RT": torch.tensor(sampler),
    }  # fmt: skip
    given = (torch.tensor(old), torch.tensor(sampler), torch.tensor(trained), weights)
    mean_R = mean_correction(*given, action=how, level=level, cap=2.0, floor=0.5)["correction_mean_R"]
    columns["correction_mean_R"] = mean_R
    parts = [call(spec, **{name: column[part] for name, column in columns.items()}) for part in ([0, 2], [1, 3])]

    log = np.where(trained, old.astype(np.float64) - sampler, 0.0)
    if level != "token":
        total = log.sum(-1, keepdims=True)
        log = total if level == "sequence" else total / np.maximum(trained.sum(-1, keepdims=True), 1)
        log = np.broadcast_to(log, trained.shape)
    ratio = np.exp(log)
    w = {
        "truncate": np.minimum(ratio, 2.0),
        "clip": np.clip(ratio, 0.5, 2.0),
        "mask": ratio * ((ratio >= 0.5) & (ratio <= 2.0)),
        "reject": ((ratio >= 0.5) & (ratio <= 2.0)).astype(float),
    }[how]
    share = np.where(trained, weights.numpy(), 0.0).astype(np.float64)
    expected = (share * w * -credit * old).sum() / (share * w).sum() * share.sum()
    assert sum(float(part["loss"]) for part in parts) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    mean = sum(float(part["metric/sampling/importance_sampling_ratio/mean"]) for part in parts)
    assert mean == pytest.approx(share.sum(), rel=1e-5)  # 1 of every objective that is a mean
