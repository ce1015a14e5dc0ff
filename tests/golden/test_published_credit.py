"""Credit of steps, prefixes and leaves: numbers of the authors' functions, and of cases computed by hand."""

import pytest
import torch

from recipec.runtime.objective.advantage import group_relative, history_groups, remax, state_action
from recipec.runtime.objective.prefix_values import leaf_mean, prefix_value
from recipec.runtime.objective.token_baseline import token_baseline
from recipec.spec.advantage import (
    GroupRelative,
    HistoryGroups,
    LeafMean,
    PrefixValue,
    Remax,
    StateAction,
    TokenBaseline,
)

# Five episodes of two prompts: the states that they visit, in order, and the returns of their steps.
WALKS = [
    ["hall", "kitchen", "hall", "garden"], ["hall", "kitchen", "hall"], ["hall", "cellar", "hall", "kitchen"],
    ["hall", "kitchen", "hall", "garden"], ["hall", "hall"],
]  # fmt: skip
RETURNS = [0.81, 0.9, 1.0, 0.0, 0.0, 0.25, 0.5, 0.9, 1.0, 0.2, 0.4, 0.1, 0.2, 0.3, 0.7, 0.6, 0.05]
EPISODES = [number for number, walk in enumerate(WALKS) for _ in walk]
STEPS = [step for walk in WALKS for step in range(len(walk))]
PROMPTS = [int(episode > 2) for episode in EPISODES]
PLACES = list(zip(PROMPTS, (state for walk in WALKS for state in walk), strict=True))
ANCHORS = [PLACES.index(place) for place in PLACES]
# `hgpo_advantage_estimate` of langfengQ/verl-agent, recipe/hgpo/core_hgpo.py, in float32: the steps that differ
HGPO_STD = [0.65447, 1.37944, 1.16903, 0, -1.53914, -0.95961, -0.18506, 0.89821, 0, -0.99751, -0.41983,
            -0.75181, 0, 0.17349, 0, 1.56144, -0.98313]  # fmt: skip
HGPO_MEAN = [0.24167, 0.38333, 0.43167, 0, -0.56833, -0.26667, -0.06833, 0.33167, 0, -0.36833, -0.11667,
             -0.1625, 0, 0.0375, 0, 0.3375, -0.2125]  # fmt: skip
HGPO = {
    (0, "std", 1.0): (HGPO_STD, 1.16903, -0.18506),
    (1, "std", 1.0): (HGPO_STD, 1.06761, -0.67402),
    (1, "std", 0.5): (HGPO_STD, 1.07597, -0.63369),
    (2, "std", 1.0): (HGPO_STD, 1.03756, -0.8189),
    (2, "none", 1.0): (HGPO_MEAN, 0.29037, -0.20963),
}


@pytest.mark.parametrize(("history", "scale", "exponent"), HGPO)
def test_histories_are_the_authors(history, scale, exponent):
    """HGPO's own numbers; the order of rows and an episode that failed change nothing for the others."""
    whole, third, seventh = HGPO[history, scale, exponent]
    expected = [*whole[:2], third, *whole[3:6], seventh, *whole[7:]]
    params = HistoryGroups(history=history, scale=scale, exponent=exponent, offset=2.0).params()
    columns = [*RETURNS, 9.0, 7.0], [*ANCHORS, 0, 1], [*EPISODES, 99, 99], [*STEPS, 0, 1]
    for order in (slice(None), slice(None, None, -1)):
        value_R, group_R, episode_R, step_R = (torch.tensor(column[order]) for column in columns)
        failed_R = episode_R == 99
        made = history_groups(value_R, group_R, episode_R, step_R, failed_R, **params)["advantage_R"]
        assert not made[failed_R].any()
        assert made[~failed_R].tolist()[order] == pytest.approx(expected, abs=2e-5)


def test_greedy_baselines_are_those_of_verl():
    """`compute_remax_outcome_advantage` of verl: the reward of a row minus that of its prompt's greedy completion.

    Prompt 0 has rewards 1, 0.2 and 0 against 0.6, prompt 1 has 0.5 against 1; rows of a prompt may be apart.
    The greedy completion of prompt 2 failed, so there is nothing to compare with.
    """
    value_R = torch.tensor([0.6, 1.0, 1.0, 0.5, 0.2, 9.0, 0.0, 1.0])
    prompts_R = torch.tensor([0, 0, 1, 1, 0, 2, 0, 2])
    greedy_R = torch.tensor([True, False, True, False, False, True, False, False])
    made = remax(value_R, prompts_R, greedy_R, value_R == 9, **Remax(weight=2.0).params())["advantage_R"]
    assert made.dtype == torch.float64
    assert made.tolist() == pytest.approx([0, 0.8, 0, -1.0, -0.8, 0, -1.2, 0], abs=1e-6)


def test_histories_by_hand():
    """Two states in a row: the step in the hall is compared among all, and among those that came from the kitchen.

    Values of the hall are 1, 0 and 0.5; those after the kitchen are 1 and 0: (1 * 0.5 + 2 * 0.5) / 3 and its negative.
    """
    params = HistoryGroups(history=1, scale="none").params()
    anchors, episodes, steps = [1, 0, 1, 0, 2, 0], [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]
    value_R = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.5])
    columns = (torch.tensor(column) for column in (anchors, episodes, steps))
    made = history_groups(value_R, *columns, value_R < 0, **params)["advantage_R"]
    assert made.tolist() == pytest.approx([0, 0.5, 0, -0.5, 0, 0])


def credited(values, states, texts, episodes, failed=(), steps=None, **params):
    """Call `state_action` on steps of one prompt; the score of an episode is the value of its first step."""
    value_R, episode_R = torch.tensor(values, dtype=torch.float64), torch.tensor(episodes)
    step_R = torch.tensor(steps or [episodes[:row].count(episode) for row, episode in enumerate(episodes)])
    score_R = torch.tensor([values[episodes.index(episode)] for episode in episodes], dtype=torch.float64)
    failed_R = torch.tensor([row in failed for row in range(len(values))])
    made = state_action(
        value_R, torch.tensor(states), torch.zeros_like(step_R), score_R, episode_R, step_R, texts, failed_R,
        **StateAction(**params).params(),
    )  # fmt: skip
    return made["advantage_R"].tolist()


def test_actions_by_hand():
    """RTMC: Q - V with V drawn to the mean score by two visits, in fractions.

    State 0: left twice (1 and 0), right once (0): Q 1/2 and 0, N = 3, mean 1/3, prior 1/3, so V = 1/3.
    State 1: `go` of episode 0 (1), V = (1 + 2/3) / 3 = 5/9.
    """
    values, states, episodes = [1.0, 1.0, 0.0, 0.0], [0, 1, 0, 0], [0, 0, 1, 2]
    texts = ["<a>left</a>", "go", "I think. <a> left </a>", "<a>right</a>"]
    assert credited(values, states, texts, episodes, action_tag="a") == pytest.approx([1 / 6, 4 / 9, 1 / 6, -1 / 3])
    whole = credited(values, states, texts, episodes)  # thoughts tell the two actions apart
    assert whole == pytest.approx([2 / 3, 4 / 9, -1 / 3, -1 / 3])
    spread = torch.tensor([1 / 6, 4 / 9, 1 / 6, -1 / 3]).std(correction=0)
    scaled = credited(values, states, texts, episodes, action_tag="a", scale="std")
    assert scaled == pytest.approx([x / float(spread) for x in (1 / 6, 4 / 9, 1 / 6, -1 / 3)], abs=1e-5)


def test_actions_count_first_visits():
    """An episode that acts alike in a state again counts once, by its earlier step; both steps are credited."""
    made = credited([0.5, 1.0, 0.0], [0, 0, 0], ["x", "x", "x"], [0, 0, 1], prior=0.0)
    assert made == pytest.approx([0.0, 0.0, 0.0])
    made = credited([0.5, 1.0, 0.0], [0, 0, 0], ["x", "x", "y"], [0, 0, 1], prior=0.0)
    assert made == pytest.approx([0.25, 0.25, -0.25])
    made = credited([1.0, 0.5, 0.0], [0, 0, 0], ["x", "x", "y"], [0, 0, 1], steps=[1, 0, 0], prior=0.0)
    assert made == pytest.approx([0.25, 0.25, -0.25])


def test_actions_are_scaled_by_their_deviation_and_epsilon():
    """Values of 1 and 0 of two actions in a state: credit of a half and its negative, over a deviation of a half."""
    made = credited([1.0, 0.0], [0, 0], ["x", "y"], [0, 1], prior=0.0, scale="std", epsilon=0.5)
    assert made == pytest.approx([0.5, -0.5])


def test_columns_of_steps_have_one_length():
    """A row without an action is an error of the caller, not a row that is left out."""
    with pytest.raises(ValueError, match="shorter"):
        credited([1.0, 0.0], [0, 0], ["x"], [0, 1])


def test_equal_episodes_have_no_credit():
    """Where all values are equal, and where all that count failed, credit is exactly 0."""
    assert credited([0.1] * 4, [0, 1, 0, 1], ["a", "b", "c", "b"], [0, 0, 1, 1]) == [0.0] * 4
    assert credited([0.1, 0.9], [0, 0], ["a", "b"], [0, 1], failed=(0, 1), scale="std") == [0.0] * 2


# two prompts, 0 is padding; `compute_tidepo_outcome_advantage` of fatebreaker/tempo @ 487f744, in float32
TOKENS = [[5, 6, 0], [5, 7, 3], [8, 9, 9], [8, 9, 9], [5, 6, 4], [5, 5, 5], [5, 5, 0], [1, 5, 5], [5, 5, 5], [2, 5, 5]]
VALUES = [1.0, 0.0, 0.25, 0.5, 1.0, 1.0, 0.0, 1.0, 0.0, 0.5]
TEMPO = [
    [1.2671, 1.75158, 0.0], [-0.96896, -2.72054, -1.22983], [-1.06213, -0.67082, -0.67082],
    [-0.50311, -0.1118, -0.1118],
    [1.2671, 1.75158, 1.00623], [0.66667, 1.0, 1.33333], [-1.33333, -1.0, 0.0], [2.0, 1.0, 1.0],
    [-1.33333, -1.0, -0.66667], [0.0, 0.0, 0.0],
]  # fmt: skip


def two_trees():
    """Values, groups, failures, tokens and masks of two prompts of five rows."""
    tokens_RT, value_R = torch.tensor(TOKENS), torch.tensor(VALUES)
    attend_RT = tokens_RT != 0
    return value_R, torch.tensor([0] * 5 + [1] * 5), value_R < 0, tokens_RT, attend_RT, attend_RT


def test_tempo_is_the_authors():
    """`group_relative` and `prefix_value` add up to TEMPO's advantage; its rows of one prompt are the same prefix."""
    columns = two_trees()
    outcome_R = group_relative(*columns[:3], None, **GroupRelative().params())["advantage_R"]
    branches_RT = prefix_value(*columns, **PrefixValue().params())["advantage_RT"]
    made = torch.where(columns[-1], outcome_R[:, None] + branches_RT, 0.0)
    torch.testing.assert_close(made.float(), torch.tensor(TEMPO), atol=2e-5, rtol=0)


def test_leaves_by_hand():
    """TreeAdv: values of prompt 0 less their mean of 0.55, averaged over the rows that begin alike."""
    made = leaf_mean(*two_trees(), **LeafMean(scale="none").params())["advantage_RT"]
    first, both = (0.45 - 0.55 + 0.45) / 3, (-0.3 - 0.05) / 2
    expected = [[first, 0.45, 0.0], [first, -0.55, -0.55], [both] * 3, [both] * 3, [first, 0.45, 0.45]]
    torch.testing.assert_close(made[:5], torch.tensor(expected))


def test_leaves_as_one_segment():
    """With `once`, a segment adds up to its mean over the rows below it, and rows that are alone keep their own."""
    each = leaf_mean(*two_trees(), **LeafMean().params())["advantage_RT"]
    once = leaf_mean(*two_trees(), **LeafMean(shared="once").params())["advantage_RT"]
    torch.testing.assert_close(once[[0, 1, 4], 0].sum(), each[0, 0])
    torch.testing.assert_close(once[1, 1], each[1, 1])
    alone = leaf_mean(*two_trees()[:1], torch.arange(10), *two_trees()[2:], **LeafMean().params())["advantage_RT"]
    assert not alone.any()


def baselines(value_R, lengths, squares, *, alone):
    """Credit of one group by the equations of verl's function, token by token; ``alone`` is for the last row."""
    credit = [[0.0] * max(lengths) for _ in lengths]
    for t in range(max(lengths)):
        here = [row for row, length in enumerate(lengths) if length > t]
        summed = [sum(squares[row][: t + 1]) for row in here]
        mean = sum(w * value_R[row] for w, row in zip(summed, here, strict=True)) / sum(summed)
        for row in here:
            credit[row][t] = value_R[row] - mean if len(here) > 1 else value_R[row] * alone
    return credit


@pytest.mark.parametrize("singleton", ["zero", "raw"])
def test_the_token_baseline_by_hand(singleton):
    """The baseline weighs rows by 1 - 2 pi + sum of squares so far, at the same number of tokens of the policy."""
    lengths, value = [3, 1, 2], [1.0, 0.25, -0.5]
    pi = [[0.5, 0.25, 0.9], [0.75, 0.0, 0.0], [0.125, 0.5, 0.0]]
    square = [[0.375, 0.25, 0.82], [0.625, 0.0, 0.0], [0.5, 0.25, 0.0]]
    weight = [[1 - 2 * p + q for p, q in zip(*row, strict=True)] for row in zip(pi, square, strict=True)]
    expected = torch.tensor(baselines(value, lengths, weight, alone=float(singleton == "raw")))
    trained_RT = torch.arange(3) < torch.tensor(lengths)[:, None]
    columns = (torch.tensor(value), torch.zeros(3), torch.zeros(3).bool(), trained_RT)
    columns = (*columns, torch.tensor(pi).clamp(min=1e-9).log(), torch.tensor(square))
    made = token_baseline(*columns, **TokenBaseline(singleton=singleton).params())["advantage_RT"]
    torch.testing.assert_close(made, expected)
    # turns of an environment between the tokens of the policy, a failed row and another group change nothing
    wide = [torch.zeros(5, 6), torch.zeros(5, 6), torch.zeros(5, 6, dtype=torch.bool)]
    for column, values in zip(wide, (columns[4].exp(), columns[5], trained_RT), strict=True):
        column[:3, [0, 2, 5]] = values
        column[3:, :2] = 1.0
    others = (torch.tensor([*value, 5.0, 7.0]), torch.tensor([4, 4, 4, 4, 9]), torch.tensor([0, 0, 0, 1, 0]).bool())
    made = token_baseline(*others, wide[2], wide[0].log(), wide[1], **TokenBaseline(singleton=singleton).params())
    torch.testing.assert_close(made["advantage_RT"][:3, [0, 2, 5]], expected)
    assert made["advantage_RT"][3].tolist() == [0.0] * 6
    assert made["advantage_RT"][4].tolist() == [7.0 * (singleton == "raw")] * 2 + [0.0] * 4


def test_a_token_baseline_of_equal_values_is_exact():
    """Credit is 0 and not what rounding leaves; nothing is left where every row failed."""
    torch.manual_seed(0)
    pi_RT, every_RT = torch.rand(4, 7), torch.ones(4, 7, dtype=torch.bool)
    columns = (torch.full((4,), 0.1), torch.zeros(4), torch.zeros(4).bool(), every_RT, pi_RT.log(), pi_RT.square())
    assert not token_baseline(*columns, weight=1.0, singleton="zero")["advantage_RT"].any()
    failed = (*columns[:2], torch.ones(4).bool(), *columns[3:])
    assert not token_baseline(*failed, weight=1.0, singleton="zero")["advantage_RT"].any()
