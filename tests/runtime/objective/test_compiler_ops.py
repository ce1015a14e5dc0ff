"""The compiler's own nodes."""

import pytest
import torch

from recipec.runtime.batch import Batch, Example, pad_rows
from recipec.runtime.objective import compiler_ops

SHORT = Example(3, (5, 6), (False, True))
LONG = Example(9, (5, 6, 7, 8), (False, True, False, True))


def test_completions_are_padded_on_the_right():
    """Ids, validity, loss mask, turns and origin of each row; turns are runs of trained tokens."""
    made = compiler_ops.collate_completions([SHORT, LONG])
    assert made["tokens_RT"].tolist() == [[5, 6, 0, 0], [5, 6, 7, 8]]
    assert made["attend_RT"].sum(-1).tolist() == [2, 4]
    assert made["trained_RT"].long().tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert made["turn_RT"].tolist() == [[0, 1, 0, 0], [0, 1, 0, 2]]
    assert made["prompt_id_R"].tolist() == [3, 9]
    Batch(made).check()


def test_pairs_alternate():
    """Row 2i is the chosen answer of pair i and row 2i + 1 the rejected one."""
    made = compiler_ops.collate_pairs([SHORT, LONG], [LONG, SHORT])
    assert made["prompt_id_R"].tolist() == [3, 9, 9, 3]
    assert made["by_pair_R"].tolist() == [0, 0, 1, 1]
    assert made["chosen_R"].tolist() == [True, False, True, False]
    Batch(made).check()


def test_pairs_are_complete():
    """A chosen answer without a rejected one is our bug."""
    with pytest.raises(ValueError, match="zip"):
        compiler_ops.collate_pairs([SHORT], [])


@pytest.mark.parametrize(
    "collate", [compiler_ops.collate_completions, lambda rows: compiler_ops.collate_pairs(rows, rows)]
)
def test_nothing_collates_to_nothing(collate):
    """No rows give columns without rows, of the right types."""
    made = collate([])
    assert all(len(column) == 0 for column in made.values())
    assert made["tokens_RT"].dtype == torch.int64


def test_padding_of_empty_rows():
    """A row may have no token at all."""
    assert pad_rows([(), (1,)], torch.int64).tolist() == [[0], [1]]


def test_reward_levels_add():
    """Levels are weighed and added; a row fails by our error or by one level that could not score it."""
    one_R, two_R = torch.tensor([1.0, 1.0, torch.nan]), torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    made = compiler_ops.sum_rewards(torch.tensor([False, True, False]), [one_R, two_R], weights=(1.0, 0.5))
    assert made["reward_R"].tolist() == [2.0, 2.5, 0.0]
    assert made["reward_R"].dtype == torch.float64
    assert made["failed_R"].tolist() == [False, True, True]


@pytest.mark.parametrize(("weight", "failed"), [(0.0, False), (0.5, True)])
def test_an_unscored_level_fails_its_row_if_it_counts(weight, failed):
    """A level that could not score a row fails it; one of weight 0 is recorded only, and fails none."""
    made = compiler_ops.sum_rewards(torch.tensor([False]), [torch.tensor([torch.nan])], weights=(weight,))
    assert made["failed_R"].tolist() == [failed]


NAN = torch.nan


@pytest.mark.parametrize(
    ("abstains", "weights", "rewards", "failed"),
    [
        ((True, False), (1.0, 1.0), [5.0, 4.0, 0.0], [False, False, True]),
        ((True, True), (1.0, 1.0), [5.0, 4.0, 1.0], [False, False, False]),
        ((True, True), (1.0, 0.0), [1.0, 0.0, 1.0], [False, True, False]),
        ((True, True), (0.0, 0.0), [0.0, 0.0, 0.0], [False, False, False]),
    ],
    ids=["one abstains", "both abstain", "the other is only recorded", "both are only recorded"],
)
def test_a_row_that_no_level_applies_to_has_no_reward(abstains, weights, rewards, failed):
    """Where a level does not apply it adds nothing, its shift neither; without any other level nothing is known."""
    levels = [torch.tensor([1.0, NAN, 1.0]), torch.tensor([3.0, 3.0, NAN])]
    shapes = [(0.0, None), (1.0, None)]
    made = compiler_ops.sum_rewards(torch.zeros(3).bool(), levels, weights=weights, shapes=shapes, abstains=abstains)
    assert made["reward_R"].tolist() == rewards
    assert made["failed_R"].tolist() == failed


def test_an_episode_fails_where_no_step_has_a_reward():
    """A function that scores the last step alone is known for the whole episode."""
    made = compiler_ops.sum_step_rewards(
        torch.zeros(4).bool(),
        torch.tensor([7, 7, 8, 8]),
        [torch.tensor([NAN, 2.0, NAN, NAN])],
        weights=(1.0,),
        abstains=(True,),
    )
    assert made["reward_R"].tolist() == [0.0, 2.0, 0.0, 0.0]
    assert made["failed_R"].tolist() == [False, False, True, True]


def test_episode_total_reaches_every_step():
    """Every row of an episode has the episode's sum, wherever the rows stand."""
    made = compiler_ops.episode_total(torch.tensor([1.0, 10.0, 2.0]), torch.tensor([7, 3, 7]), torch.tensor([0, 0, 1]))
    assert made["score_R"].tolist() == [3.0, 10.0, 3.0]


def test_credit_levels_add_and_spread():
    """Credit of levels adds up, and lands on trained tokens alone, in float32."""
    credit_R = compiler_ops.sum_advantages([torch.tensor([1.0, 2.0]), torch.tensor([0.5, -2.0])])["advantage_R"]
    made = compiler_ops.broadcast(credit_R.double(), torch.tensor([[False, True], [True, True]]))["advantage_RT"]
    assert made.tolist() == [[0.0, 1.5], [0.0, 0.0]]
    assert made.dtype == torch.float32


def test_failed_rows_are_out_of_the_objective():
    """Their weights are 0, and the denominators are those of the other rows."""
    trained_RT, failed_R = torch.ones(3, 2, dtype=torch.bool), torch.tensor([False, True, False])
    for aggregate, share in (("token_mean", 1 / 4), ("seq_mean_token_sum", 1 / 2)):
        weight_RT = compiler_ops.weigh(trained_RT, failed_R, aggregate=aggregate)["weight_RT"]
        assert weight_RT.tolist() == [[share] * 2, [0.0] * 2, [share] * 2]


def test_prompt_mean_is_a_mean_over_prompts():
    """A prompt counts once, its tokens alike; a failed row and a prompt without tokens are in no count."""
    trained_RT = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    failed_R = torch.tensor([False, False, False, False, True])
    made = compiler_ops.weigh(trained_RT, failed_R, torch.tensor([7, 7, 3, 5, 3]), aggregate="prompt_mean")["weight_RT"]
    assert made.sum(-1).tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 2, 0, 0])
    assert made[0].tolist() == pytest.approx([1 / 6, 1 / 6, 0])


def test_a_prompt_of_one_token_counts():
    """Two prompts, one of which has a single trained token: each has half of the objective."""
    trained_RT = torch.tensor([[True, True], [True, False]])
    made = compiler_ops.weigh(trained_RT, None, torch.tensor([0, 1]), aggregate="prompt_mean")["weight_RT"]
    assert made.tolist() == [[0.25, 0.25], [0.5, 0.0]]


@pytest.mark.parametrize(
    ("values", "white"),
    [
        ([0.1, 0.1, 0.1], [0.0, 0.0, 0.0]),
        ([3e-4, 1e-4], [1e-4 / 3e-8**0.5, -1e-4 / 3e-8**0.5]),
        ([7.0], [0.0]),
    ],
)
def test_tokens_are_whitened(values, white):
    """Equal values are exactly 0, two are enough, and 1e-8 is added to the variance."""
    column_RT = torch.tensor([values], dtype=torch.float64)
    made = compiler_ops.whiten_tokens(column_RT, torch.tensor([False]), torch.ones_like(column_RT).bool())
    assert made["advantage_RT"].tolist() == [pytest.approx(white, rel=1e-6, abs=0)]


@pytest.mark.parametrize(
    ("over", "white"),
    [
        ("rows", [0.5**0.5, -(0.5**0.5), 0.0]),
        ("tokens", [0.5, -1.5, 0.0]),
    ],
)
def test_rows_are_whitened_by_their_rows_or_tokens(over, white):
    """Values 1 and 0 of rows of three tokens and one: a mean of 1/2 or 3/4 and a variance of 1/2 or 1/4."""
    trained_RT = torch.tensor([[True, True, True], [False, True, False], [True, True, True]])
    made = compiler_ops.whiten(
        torch.tensor([1.0, 0.0, 9.0]), torch.tensor([False, False, True]), trained_RT, over=over
    )["advantage_R"]
    assert made.tolist() == pytest.approx(white, abs=1e-6)


@pytest.mark.parametrize("values", [[3.0], [0.1, 0.1, 0.1], []])
def test_rows_without_a_deviation_have_no_advantage(values):
    """A row alone, equal rows and no rows are exactly 0."""
    value_R = torch.tensor(values)
    no_R, trained_RT = torch.zeros(len(values)).bool(), torch.ones(len(values), 2).bool()
    assert compiler_ops.whiten(value_R, no_R, trained_RT, over="rows")["advantage_R"].tolist() == [0.0] * len(values)


def test_columns_of_an_episode_have_one_length():
    """A step without a reward is an error of the caller, not a step that is left out."""
    for rewards, episodes, steps in (([1.0], [0, 0], [0, 1]), ([1.0, 2.0], [0, 0], [0]), ([1.0, 2.0], [0], [0, 1])):
        with pytest.raises(ValueError, match="zip"):
            compiler_ops.episode_total(torch.tensor(rewards), torch.tensor(episodes), torch.tensor(steps))


def test_a_level_is_only_weighed_unless_it_is_shaped():
    """Without a shift and bounds."""
    assert compiler_ops.shaped(torch.tensor([3.0, -1.0]), 2.0).tolist() == [6.0, -2.0]


def test_groups_without_a_signal_are_counted():
    """Two of three groups have equal rewards; their rows are out, with those that were out already."""
    reward_R, by_prompt_R = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1, 2, 2])
    out_R = torch.tensor([False, False, False, True, False, False])
    made = compiler_ops.exclude_groups(torch.zeros(6).bool(), out_R, reward_R, by_prompt_R, torch.arange(6))
    assert made["excluded_R"].tolist() == [True, True, False, True, True, True]
    assert int(made["metric/groups/filtered"]) == 2
    none = compiler_ops.exclude_groups(torch.zeros(2).bool(), out_R[:2], reward_R[:2], by_prompt_R[:2], torch.arange(2))
    assert none["excluded_R"].tolist() == [True, True]


def test_a_batch_without_images_has_no_rows_of_images():
    """The column of rows is of integers all the same."""
    made = compiler_ops.images_of_completions([SHORT, LONG])
    assert made["pixels_I"] == []
    assert made["image_row_I"].dtype == torch.int64


def test_weights_of_pairs():
    """Both rows of a pair carry its share; no pairs, no weights."""
    assert compiler_ops.weigh_pairs(torch.tensor([4, 2, 4, 2]))["weight_R"].tolist() == [0.5] * 4
    assert compiler_ops.weigh_pairs(torch.tensor([], dtype=torch.int64))["weight_R"].tolist() == []


def test_old_logprobs_without_a_pass():
    """The policy's own log-probabilities, without their gradient."""
    logprob_RT = torch.tensor([[-1.0]], requires_grad=True)
    assert not compiler_ops.detach(logprob_RT)["old_logprob_RT"].requires_grad


def test_the_weight_of_a_minibatch_is_counted():
    """Means over tokens divide by it."""
    trained_RT = torch.tensor([[True, True], [True, False]])
    made = compiler_ops.weigh(trained_RT, torch.zeros(2, dtype=torch.bool), aggregate="token_mean")
    torch.testing.assert_close(made["metric/weight"], made["weight_RT"].sum())


def test_returns_are_float64():
    """A reward of 0.1 keeps its digits."""
    reward_R = torch.tensor([0.1], dtype=torch.float64)
    one = torch.tensor([0])
    made = compiler_ops.episode_returns(reward_R, one, one, one == 0, gamma=1.0, invalid_action_penalty=0.0)
    assert made["return_R"].dtype == torch.float64
    assert made["return_R"].tolist() == [0.1]
