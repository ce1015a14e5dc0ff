"""What objectives must be, whatever the batch is."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.runtime.objective.compiler_ops import broadcast, weigh, weigh_pairs
from recipec.runtime.objective.loss import nll
from recipec.runtime.objective.preference_losses import VARIANTS
from recipec.spec.loss import Clipped, Dpo
from tests.support.components import call

AGGREGATES = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "fixed")
ROWS, TOKENS = 5, 6
SHAPES = [
    {"ratio": "token"},
    {"ratio": "turn", "dual_clip": 3.0},
    {"ratio": "sequence"},
    {"ratio": "sequence", "ratio_gradient": "own"},
]
FULL = {"beta": 0.1, "entropy": 0.01, "sampler_correction": "truncate", "log_ratio_clamp": 20.0}
FULL |= {"sampler_correction_normalised": True}
SEEDS = st.integers(0, 2**31)


def batch(seed, rows=ROWS):
    """Draw a batch of log-probabilities with some rows untrained and some credit exactly 0."""
    draw = torch.Generator().manual_seed(seed)
    shape = (rows, TOKENS)
    trained_RT = torch.rand(shape, generator=draw) < 0.6
    advantage_R = torch.randn(rows, generator=draw, dtype=torch.float64) * (torch.rand(rows, generator=draw) < 0.8)
    names = ("logprob_RT", "ratio_to_RT", "ref_logprob_RT", "sampler_logprob_RT", "entropy_RT")
    made = {name: -2 * torch.rand(shape, generator=draw, dtype=torch.float64) for name in names}
    return made | {
        "trained_RT": trained_RT,
        "turn_RT": (1 + torch.arange(TOKENS) // 2).expand(shape) * trained_RT,
        "advantage_RT": broadcast(advantage_R, trained_RT)["advantage_RT"].double(),
        "chosen_R": torch.arange(rows) % 2 == 0,
        "by_pair_R": torch.arange(rows) // 2,
        "correction_mean_R": torch.full((rows,), 1.25, dtype=torch.float64),
    }


def weight_of(columns, aggregate):
    """Weigh a whole minibatch, in float64 so that sums can be compared tightly."""
    return weigh(columns["trained_RT"], aggregate=aggregate, normaliser=4)["weight_RT"].double()


def objective(columns, **params):
    """Run the clipped objective; columns that no parameter asks for are handed over all the same."""
    return call(Clipped(**params), **columns)


def preference(columns, **params):
    """Run the preference objective."""
    return call(Dpo(**params), **columns)


def imitation(columns):
    """Run the likelihood objective."""
    return nll(columns["logprob_RT"], columns["trained_RT"], columns["weight_RT"])


def gradient(function, columns, parts):
    """Return sums over parts of a batch, of every output, and the gradient by log-probability."""
    leaf_RT = columns["logprob_RT"].clone().requires_grad_()
    total = {}
    for part in parts:
        made = function({name: c[part] for name, c in (columns | {"logprob_RT": leaf_RT}).items()})
        made["loss"].backward()
        total = {name: total.get(name, 0) + value.detach() for name, value in made.items()}
    return total, leaf_RT.grad


def same_sums(function, columns, parts):
    """Assert that the whole is the sum of its parts, and return its outputs and its gradient."""
    whole, whole_grad = gradient(function, columns, [list(range(len(columns["logprob_RT"])))])
    split, split_grad = gradient(function, columns, parts)
    torch.testing.assert_close(split, whole, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(split_grad, whole_grad, atol=0, rtol=0)
    return whole, whole_grad


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(seed=SEEDS, data=st.data())
def test_microbatches_add_up(aggregate, seed, data):
    """Losses, metrics and gradients of any split of the rows add to those of the whole minibatch."""
    columns = batch(seed)
    columns["weight_RT"] = weight_of(columns, aggregate)
    part_R = data.draw(st.lists(st.integers(0, 2), min_size=ROWS, max_size=ROWS))
    parts = [[r for r in range(ROWS) if part_R[r] == part] for part in range(3)]
    shape = data.draw(st.sampled_from(SHAPES))
    _, slope_RT = same_sums(lambda c: objective(c, **shape, **FULL), columns, parts)
    assert not slope_RT[~columns["trained_RT"]].any()
    likelihood, slope_RT = same_sums(imitation, columns, parts)
    assert torch.equal(slope_RT, -columns["weight_RT"])
    torch.testing.assert_close(likelihood["loss"], -(columns["logprob_RT"] * columns["weight_RT"]).sum())


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=SEEDS, order=st.permutations(range(6)), cut=st.sampled_from([0, 2, 4]))
def test_pairs_add_up(variant, seed, order, cut):
    """Pairs may be split between micro-batches, and rows stand in any order."""
    columns = batch(seed, rows=6)
    columns["weight_R"] = weigh_pairs(columns["by_pair_R"])["weight_R"].double()
    pair_R = torch.tensor(order) // 2
    parts = [[r for r, p in zip(order, pair_R, strict=True) if (p < cut // 2) == first] for first in (True, False)]
    smoothing = 0.1 if variant in {"robust", "exo_pair"} else 0.0
    made, slope_RT = same_sums(lambda c: preference(c, variant=variant, label_smoothing=smoothing), columns, parts)
    assert not slope_RT[~columns["trained_RT"]].any()
    ratio_R = torch.where(columns["trained_RT"], columns["logprob_RT"] - columns["ref_logprob_RT"], 0.0).sum(-1)
    margin = Dpo().beta * (ratio_R[0::2] - ratio_R[1::2]).mean()
    torch.testing.assert_close(made["metric/rewards/margins"], margin, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=SEEDS, epsilon=st.floats(1e-6, 1.0))
def test_no_clip_at_ratio_one(shape, seed, epsilon):
    """Where policy and old policy agree nothing is clipped, and the loss is minus the weighted credit."""
    columns = batch(seed)
    columns["weight_RT"] = weight_of(columns, "token_mean")
    columns["ratio_to_RT"] = columns["logprob_RT"]
    made, grad_RT = gradient(lambda c: objective(c, epsilon=epsilon, **shape), columns, [list(range(ROWS))])
    credit_RT = columns["weight_RT"] * columns["advantage_RT"]
    torch.testing.assert_close(made["loss"], -credit_RT.sum())
    torch.testing.assert_close(grad_RT.sum(-1), -credit_RT.sum(-1))
    assert all(value == 0 for name, value in made.items() if "clip" in name)


@pytest.mark.parametrize("dual_clip", [None, 1.5])
@given(seed=SEEDS)
def test_one_clamp_is_the_published_formula(dual_clip, seed):
    """Value and gradient equal the maximum of two terms, then the minimum with the dual clip's."""
    columns = batch(seed)
    columns["weight_RT"] = weight_of(columns, "token_mean")
    params = {"epsilon": 0.2, "epsilon_high": 0.28, "dual_clip": dual_clip}

    def published(c):
        ratio_RT, credit_RT = torch.exp(c["logprob_RT"] - c["ratio_to_RT"]), c["advantage_RT"]
        loss_RT = torch.maximum(-credit_RT * ratio_RT, -credit_RT * ratio_RT.clamp(0.8, 1.28))
        if dual_clip:
            loss_RT = torch.where(credit_RT < 0, torch.minimum(-dual_clip * credit_RT, loss_RT), loss_RT)
        return {"loss": (loss_RT * c["weight_RT"]).sum()}

    everything = [list(range(ROWS))]
    made, made_grad = gradient(lambda c: objective(c, **params), columns, everything)
    wanted, wanted_grad = gradient(published, columns, everything)
    torch.testing.assert_close(made["loss"], wanted["loss"], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(made_grad, wanted_grad, atol=1e-12, rtol=1e-12)


@given(seed=SEEDS, length_normalised=st.booleans())
def test_swapping_a_pair_negates_its_margin(seed, length_normalised):
    """The preferred answer is so by its label alone."""
    columns = batch(seed, rows=2)
    columns["weight_R"] = weigh_pairs(columns["by_pair_R"])["weight_R"].double()
    swapped = columns | {"chosen_R": ~columns["chosen_R"]}
    one, other = (preference(c, length_normalised=length_normalised) for c in (columns, swapped))
    torch.testing.assert_close(one["metric/rewards/margins"], -other["metric/rewards/margins"])
    torch.testing.assert_close(one["metric/rewards/chosen"], other["metric/rewards/rejected"])


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_mask(aggregate, shape):
    """Every pattern of trained tokens, none included, gives finite numbers, though all else is NaN."""
    for pattern in itertools.product((False, True), repeat=6):
        trained_RT = torch.tensor(pattern).reshape(2, 3)
        columns = {n: c[:2, :3] if n.endswith("_RT") else c[:2] for n, c in batch(7).items()}
        for name, column in columns.items():
            if column.dtype == torch.float64 and column.dim() == 2:
                columns[name] = torch.where(trained_RT, column, torch.nan)
        columns |= {"trained_RT": trained_RT, "turn_RT": torch.tensor([[1, 1, 2]] * 2) * trained_RT}
        columns["weight_RT"] = weight_of(columns, aggregate)
        for function in (lambda c: objective(c, **shape, **FULL), imitation):
            made, grad_RT = gradient(function, columns, [[0, 1]])
            assert all(torch.isfinite(value) for value in made.values())
            assert (grad_RT[~trained_RT] == 0).all()
            assert torch.isfinite(grad_RT).all()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_every_weight(aggregate):
    """Shares of tokens agree with exact fractions for every mask and every failure of three rows of two tokens."""
    for pattern in itertools.product((False, True), repeat=9):
        trained_RT, failed_R = torch.tensor(pattern[:6]).reshape(3, 2), torch.tensor(pattern[6:])
        kept = [[t and not f for t in row] for row, f in zip(trained_RT.tolist(), failed_R.tolist(), strict=True)]
        rows = [row for row in kept if any(row)]
        tokens = sum(map(sum, rows))
        wanted = []
        for row in kept:
            parts = {
                "token_mean": tokens,
                "seq_mean_token_mean": len(rows) * sum(row),
                "seq_mean_token_sum": len(rows),
                "fixed": len(rows) * 4,
            }[aggregate]
            wanted.append([float(Fraction(1, parts)) if t else 0.0 for t in row])
        made = weigh(trained_RT, failed_R, aggregate=aggregate, normaliser=4)
        torch.testing.assert_close(made["weight_RT"], torch.tensor(wanted), atol=0, rtol=1e-7)
        torch.testing.assert_close(made["metric/weight"], torch.tensor(wanted).sum())
