"""Advantages, targets and losses of a critic, against the formulas of verl and TRL written down again here."""

import math

import pytest
import torch

from recipec.runtime.objective.compiler_ops import weigh, whiten_tokens
from recipec.runtime.objective.gae import gae, value_loss

ROWS, TOKENS = 6, 12


def columns(*, observed: bool) -> dict[str, torch.Tensor]:
    """Make rows with a prompt, an answer and padding; with ``observed``, others' tokens stand inside the answers."""
    draw = torch.Generator().manual_seed(7)
    place_T = torch.arange(TOKENS)
    start_R, length_R = torch.tensor([2, 3, 1, 2, 4, 2]), torch.tensor([9, 5, 10, 1, 8, 6])
    trained_RT = (place_T >= start_R[:, None]) & (place_T < (start_R + length_R)[:, None])
    if observed:
        trained_RT &= ~((place_T >= 5) & (place_T < 7))
        trained_RT[:, 2] = True  # each row keeps some
    return {
        "value_R": torch.randn(ROWS, generator=draw, dtype=torch.float64),
        "failed_R": torch.zeros(ROWS, dtype=torch.bool),
        "old_value_RT": torch.randn(ROWS, TOKENS, generator=draw) * trained_RT,
        "trained_RT": trained_RT,
        "old_logprob_RT": -torch.rand(ROWS, TOKENS, generator=draw) * trained_RT,
        "ref_logprob_RT": -torch.rand(ROWS, TOKENS, generator=draw) * trained_RT,
    }


def by_sums(reward: list[float], value: list[float], gamma: float, lam: float) -> list[float]:
    """Write GAE down as its sum of discounted errors, over the tokens of one answer."""
    after = [*value[1:], 0.0]
    errors = [r + gamma * n - v for r, n, v in zip(reward, after, value, strict=True)]
    return [sum((gamma * lam) ** k * error for k, error in enumerate(errors[t:])) for t in range(len(errors))]


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize(
    ("gamma", "lam", "beta"), [(1.0, 0.95, 0.0), (0.9, 0.5, 0.1), (1.0, 1.0, 0.05), (1.0, 0.0, 0.0)]
)
def test_advantages_are_those_of_the_formula(gamma: float, lam: float, beta: float, *, observed: bool) -> None:
    """Rewards are of the last token, less the KL of each; tokens that others wrote take no step, as in verl."""
    given = columns(observed=observed)
    made = gae(*given.values(), weight=2.0, gamma=gamma, lam=lam, beta=beta, kl="k1")
    for row in range(ROWS):
        kept = given["trained_RT"][row]
        apart = (given["old_logprob_RT"] - given["ref_logprob_RT"])[row][kept].double()
        reward = (-beta * apart).tolist()
        reward[-1] += float(given["value_R"][row])
        value = given["old_value_RT"][row][kept].double().tolist()
        expected = by_sums(reward, value, gamma, lam)
        assert made["advantage_RT"][row][kept].tolist() == pytest.approx([2 * a for a in expected], abs=1e-6)
        targets = [a + v for a, v in zip(expected, value, strict=True)]
        assert made["target_value_RT"][row][kept].tolist() == pytest.approx(targets, abs=1e-6)
        assert not made["advantage_RT"][row][~kept].any()
        assert not made["target_value_RT"][row][~kept].any()


def test_rewards_alone_are_trusted_with_lambda_1() -> None:
    """With gamma and lambda of 1 the target of every token is the reward of its row, whatever the critic says."""
    given = columns(observed=True)
    made = gae(*given.values(), weight=1.0, gamma=1.0, lam=1.0, beta=0.0, kl="k1")
    expected_RT = given["value_R"][:, None].float() * given["trained_RT"]
    torch.testing.assert_close(made["target_value_RT"], expected_RT, atol=1e-6, rtol=0)
    assert float(made["metric/critic/explained_variance"]) < 0


def test_failed_rows_teach_nothing() -> None:
    """A row without a reward has no advantage and no target, and is in neither mean nor deviation of the whitening."""
    given = columns(observed=False)
    given["failed_R"] = torch.tensor([False, True, False, False, False, False])
    given["value_R"][1] = math.nan
    made = gae(*given.values(), weight=1.0, gamma=1.0, lam=0.9, beta=0.0, kl="k1")
    assert not made["advantage_RT"][1].any()
    assert not made["target_value_RT"][1].any()
    white_RT = whiten_tokens(made["advantage_RT"], given["failed_R"], given["trained_RT"])["advantage_RT"]
    kept_RT = given["trained_RT"] & ~given["failed_R"][:, None]
    value_M = made["advantage_RT"][kept_RT]
    count = len(value_M)
    mean = float(value_M.sum()) / count
    variance = sum((float(v) - mean) ** 2 for v in value_M) / (count - 1)
    expected = [(float(v) - mean) / math.sqrt(variance + 1e-8) for v in value_M]
    assert white_RT[kept_RT].tolist() == pytest.approx(expected, abs=1e-6)
    assert not white_RT[~kept_RT].any()


@pytest.mark.parametrize("cliprange", [0.2, None])
def test_value_loss_is_that_of_trl(cliprange: float | None) -> None:
    """Loss, gradient and share of clipped values: half the mean over tokens of the larger square."""
    given = columns(observed=False)
    draw = torch.Generator().manual_seed(9)
    old_RT, trained_RT = given["old_value_RT"], given["trained_RT"]
    target_RT = torch.randn(ROWS, TOKENS, generator=draw)
    value_RT = (old_RT + 0.5 * torch.randn(ROWS, TOKENS, generator=draw)).requires_grad_()
    weight_RT = weigh(trained_RT, given["failed_R"], aggregate="token_mean")["weight_RT"]
    params = {"cliprange_value": cliprange, "coefficient": 0.5}
    made = value_loss(value_RT, old_RT, target_RT, trained_RT, weight_RT, **params)
    made["loss"].backward()

    again_RT = value_RT.detach().clone().requires_grad_()
    squares_RT = (again_RT - target_RT) ** 2
    if cliprange is not None:
        squares_RT = torch.max(squares_RT, (torch.clamp(again_RT, old_RT - 0.2, old_RT + 0.2) - target_RT) ** 2)
    expected = 0.5 * 0.5 * (squares_RT * trained_RT).sum() / trained_RT.sum()
    expected.backward()
    assert made["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(value_RT.grad, again_RT.grad, atol=1e-7, rtol=0)
    if cliprange is not None:
        assert 0 < float(made["metric/clip_ratio"]) < 1


def test_micro_batches_change_no_value_loss() -> None:
    """Shares are of the whole minibatch: losses of its parts add up to that of the whole."""
    given = columns(observed=False)
    weight_RT = weigh(given["trained_RT"], given["failed_R"], aggregate="token_mean")["weight_RT"]
    whole = (given["ref_logprob_RT"], given["old_value_RT"], given["old_logprob_RT"], given["trained_RT"], weight_RT)
    params = {"cliprange_value": 0.2, "coefficient": 1.0}
    parts = [value_loss(*(column[part] for column in whole), **params)["loss"] for part in ([0, 1, 2], [3], [4, 5])]
    assert float(sum(parts)) == pytest.approx(float(value_loss(*whole, **params)["loss"]), abs=1e-7)
