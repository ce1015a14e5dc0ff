"""The property that GRPO++ is for, on the coefficients of a group: which answers are credited, and with what."""

import torch
from hypothesis import assume, given, strategies as st
from torch import Tensor

from recipec.runtime.objective.advantage import group_relative, signed

WRONG = st.integers(-300, 0).map(lambda hundredths: hundredths / 100)
"""Scores of wrong answers: some are formatted better than others."""
RIGHT = st.integers(1, 900).map(lambda hundredths: hundredths / 100)


def groups(scores: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    """Make some groups of three answers or more."""
    return st.lists(st.lists(scores, min_size=3, max_size=9), min_size=1, max_size=5)


def rows(made: list[list[float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Lay groups out as rows: scores, groups, and that none has failed."""
    score_R = torch.tensor([score for group in made for score in group], dtype=torch.float64)
    by_prompt_R = torch.tensor([i for i, group in enumerate(made) for _ in group])
    return score_R, by_prompt_R, torch.zeros(len(score_R), dtype=torch.bool)


def z_score(made: list[list[float]]) -> Tensor:
    """Credit as the first author's own trainer gives it."""
    score_R, by_prompt_R, failed_R = rows(made)
    params = {"weight": 1.0, "scale": "std", "singleton": "zero", "statistics": "rows", "epsilon": 1e-8}
    return group_relative(score_R, by_prompt_R, failed_R, None, **params)["advantage_R"]


def sign(made: list[list[float]]) -> Tensor:
    """Credit of GRPO++."""
    score_R, _, failed_R = rows(made)
    return signed(score_R, failed_R, weight=1.0, threshold=0.0, positive=1.0, negative=-1.0)["advantage_R"]


@given(groups(WRONG))
def test_no_wrong_answer_is_reinforced(made):
    """In a group of wrong answers with graded scores the z-score reinforces some, the sign none."""
    assume(all(len(set(group)) > 1 for group in made))
    relative_R, by_prompt_R = z_score(made), rows(made)[1]
    for group in range(len(made)):
        assert relative_R[by_prompt_R == group].max() > 0
    assert (sign(made) < 0).all()


@given(groups(st.one_of(WRONG, RIGHT)))
def test_the_sign_depends_on_the_answer_alone(made):
    """Whoever else is in the group, right answers are reinforced and wrong ones penalised."""
    score_R = rows(made)[0]
    assert torch.equal(sign(made) > 0, score_R > 0)
    assert torch.equal(sign([[score] for score in score_R.tolist()]), sign(made))


@given(st.one_of(WRONG, RIGHT), st.integers(3, 9))
def test_groups_of_equal_answers_still_teach(score, size):
    """All right alike or all wrong alike: the z-score gives nothing, the sign its whole credit."""
    made = [[score] * size]
    assert (z_score(made) == 0).all()
    assert torch.equal(sign(made), torch.full((size,), 1.0 if score > 0 else -1.0, dtype=torch.float64))


@given(groups(RIGHT))
def test_groups_of_right_answers_still_teach(made):
    """With graded scores the z-score penalises some right answer, the sign none."""
    assume(all(len(set(group)) > 1 for group in made))
    relative_R, by_prompt_R = z_score(made), rows(made)[1]
    for group in range(len(made)):
        assert relative_R[by_prompt_R == group].min() < 0
    assert (sign(made) > 0).all()


@given(groups(WRONG), st.floats(0.1, 5))
def test_a_group_keeps_no_more_than_its_size_allows(made, weight):
    """No z-score passes (n - 1) / sqrt(n): beside a larger penalty no wrong answer is reinforced in the sum."""
    bound = max((len(group) - 1) / len(group) ** 0.5 for group in made)
    assert (z_score(made) <= bound + 1e-6).all()
    assert (weight * z_score(made) + weight * (bound + 1e-3) * sign(made) < 0).all()
