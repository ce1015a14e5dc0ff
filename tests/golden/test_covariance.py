"""Clip-Cov and KL-Cov (arXiv 2505.22617) on a minibatch of four tokens, computed by hand."""

import math

import pytest
import torch

from recipec.runtime.objective.covariance import select_tokens
from recipec.spec.loss import ClipCov, KlCov
from tests.support.components import call

OLD = torch.tensor([[-1.0, -3.0], [-2.0, -2.0]])
CREDIT = torch.tensor([[2.0, 2.0], [-2.0, -1.0]])
TRAINED = torch.ones(2, 2).bool()
# means -2 and 0.25: covariances 1 * 1.75, -1 * 1.75, 0, 0
WEIGHT = TRAINED / 4
TOKENS = torch.arange(4).reshape(2, 2)


def selected(**how: float) -> list[list[bool]]:
    """Return which tokens are selected."""
    found: list[list[bool]] = select_tokens(OLD, CREDIT, TRAINED, WEIGHT, TOKENS, **how)["selected_RT"].tolist()
    return found


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"share": 0.25}, [[True, False], [False, False]]),
        ({"share": 0.0001}, [[True, False], [False, False]]),
        ({"share": 0.75}, [[True, False], [True, True]]),
        ({"share": 0.5, "lowest": 1.0, "highest": 5.0}, [[True, False], [False, False]]),
        ({"share": 0.5, "lowest": -2.0, "highest": -1.0}, [[False, True], [False, False]]),
        ({"share": 0.5, "lowest": 1.75, "highest": 5.0}, [[False, False], [False, False]]),
    ],
)
def test_tokens_are_selected_by_their_covariance(how: dict[str, float], expected: list[list[bool]]) -> None:
    """The share counts tokens of the whole minibatch, bounds are exclusive, and at least one token is asked for."""
    assert selected(**how) == expected


def test_draws_depend_on_the_tokens_alone() -> None:
    """The same minibatch draws the same tokens, another one others, and rows without a weight are not counted."""
    many = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    ones, ids = torch.ones(4, 64), torch.arange(256).reshape(4, 64)
    how = {"share": 0.02, "lowest": -9.0, "highest": 9.0}
    draws = [select_tokens(many, many, ones > 0, ones, tokens, **how)["selected_RT"] for tokens in (ids, ids, ids + 1)]
    assert [int(draw.sum()) for draw in draws] == [5, 5, 5]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    out = select_tokens(many, many, ones > 0, ones * (torch.arange(4) < 1)[:, None], ids, **how)["selected_RT"]
    assert (int(out[0].sum()), int(out[1:].sum())) == (1, 0)


def test_the_objectives_are_those_of_the_paper() -> None:
    """With ratios 1.5, 1, 0.5 and 1, the first token selected: it is left out, or its |log ratio| is penalised."""
    ratio = torch.tensor([[1.5, 1.0], [0.5, 1.0]])
    given = {
        "ratio_to_RT": OLD,
        "advantage_RT": CREDIT,
        "trained_RT": TRAINED,
        "weight_RT": WEIGHT,
        "selected_RT": torch.tensor(selected(share=0.25)),
    }
    for spec, loss, slope in (
        # left out; -2; the ratio 0.5 is clipped at 0.8 for A = -2: 1.6, without a gradient; 1
        (ClipCov(), (0 - 2 + 1.6 + 1) / 4, [[0.0, -0.5], [0.0, 0.25]]),
        # -3 + ln 1.5; -2; 1; 1, and the gradient of the penalty is its sign
        (KlCov(), (-3 + math.log(1.5) - 2 + 1 + 1) / 4, [[(-3 + 1) / 4, -0.5], [0.25, 0.25]]),
    ):
        logprob_RT = (OLD + ratio.log()).requires_grad_()
        made = call(spec, **given, logprob_RT=logprob_RT)
        made["loss"].backward()
        assert float(made["loss"].detach()) == pytest.approx(loss, abs=1e-6)
        assert float(made["metric/selected"]) == 0.25
        torch.testing.assert_close(logprob_RT.grad, torch.tensor(slope), atol=1e-6, rtol=1e-6)


def test_ratios_of_tokens_that_are_not_selected_are_clipped_above() -> None:
    """With a positive advantage a ratio of 1.5 counts as 1.3, and has no gradient."""
    logprob_RT = torch.tensor([[math.log(1.5)]], requires_grad=True)
    one_RT = torch.ones(1, 1)
    made = call(
        ClipCov(epsilon=0.2, epsilon_high=0.3), logprob_RT=logprob_RT, ratio_to_RT=one_RT - 1, advantage_RT=one_RT,
        trained_RT=one_RT > 0, weight_RT=one_RT, selected_RT=one_RT < 0,
    )  # fmt: skip
    made["loss"].backward()
    assert float(made["loss"].detach()) == pytest.approx(-1.3)
    assert logprob_RT.grad.tolist() == [[0.0]]
