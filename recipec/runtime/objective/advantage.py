"""Credit of rows: the functions behind ``recipec.spec.advantage``.

Statistics are float64, and a group of equal values gets exactly 0: equality is tested on the values themselves,
because a mean in floating point may differ from what it averages.
Rows that failed are in no statistic and get 0; a group that failures shrink to one row has no baseline left and gets 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Groups:
    """Statistics of each row's group, gathered back to rows.

    Example: ``group_statistics(value_R, group_R, ok_R, ok_R).mean_R`` is the mean of each row's group.
    """

    mean_R: Tensor
    std_R: Tensor
    """Sample deviation (ddof 1); NaN where fewer than two values count."""
    count_R: Tensor
    size_R: Tensor
    """The count before failures."""
    equal_R: Tensor
    """The row's value is that of everything its group is measured by."""

    @property
    def population_std_R(self) -> Tensor:  # noqa: N802 - named by its axes, as the fields
        """Deviation with ddof 0."""
        return self.std_R * ((self.count_R - 1) / self.count_R).sqrt()


def group_statistics(value_R: Tensor, group_R: Tensor, ok_R: Tensor, counted_R: Tensor) -> Groups:
    """Measure groups over the rows of ``counted_R`` that are ok; values of other rows are never read."""
    ids, index_R = torch.unique(group_R, return_inverse=True)
    used_R = counted_R & ok_R
    which, value = index_R[used_R], value_R[used_R]
    zeros = value_R.new_zeros(len(ids))
    size = zeros.index_add(0, index_R[counted_R], torch.ones_like(value_R[counted_R]))
    count = zeros.index_add(0, which, torch.ones_like(value))
    mean = zeros.index_add(0, which, value) / count
    squares = zeros.index_add(0, which, (value - mean[which]).square())
    std = (squares / (count - 1)).sqrt()
    low = zeros.scatter_reduce(0, which, value, "amin", include_self=False)
    high = zeros.scatter_reduce(0, which, value, "amax", include_self=False)
    equal_R = (low == high)[index_R] & (value_R == low[index_R])
    return Groups(mean[index_R], std[index_R], count[index_R], size[index_R], equal_R)


def _first_rows(episode_id_R: Tensor, ok_R: Tensor, step_R: Tensor | None = None) -> Tensor:
    """Mark the first row of each episode, by step or by place: the first that is ok, where there is one."""
    ids, index_R = torch.unique(episode_id_R, return_inverse=True)
    place_R = torch.arange(len(index_R), device=index_R.device)
    late_R = place_R if step_R is None else place_R + len(index_R) * step_R
    late_R = late_R + (late_R.amax() + 1 if len(late_R) else 0) * (~ok_R)
    first = place_R.new_zeros(len(ids)).scatter_reduce(0, index_R, late_R, "amin", include_self=False)
    return late_R == first[index_R]


def _with_special_cases(
    relative_R: Tensor, value_R: Tensor, ok_R: Tensor, groups: Groups, singleton: str, alone_scale: float = 1.0
) -> Tensor:
    """Return ``relative_R`` but for equal values, a row alone (its value over ``alone_scale``) and failures."""
    zero = torch.zeros_like(value_R)
    credit_R = torch.where(groups.equal_R, zero, relative_R)
    alone_R = value_R / alone_scale if singleton == "raw" else zero
    credit_R = torch.where(groups.size_R == 1, alone_R, torch.where(groups.count_R < 2, zero, credit_R))
    return torch.where(ok_R, credit_R, zero)


def unscored(failed_R: Tensor, reward_R: Tensor) -> dict[str, Tensor]:
    """Mark the rows that one reward level did not score, for what compares the values of that level alone.

    >>> unscored(torch.tensor([False, False, True]), torch.tensor([1.0, torch.nan, 0.0]))
    {'unscored_R': tensor([False,  True,  True])}
    """
    return {"unscored_R": failed_R | reward_R.isnan()}


def group_relative(
    value_R: Tensor,
    group_R: Tensor,
    failed_R: Tensor,
    episode_id_R: Tensor | None,
    *,
    weight: float,
    scale: str,
    singleton: str,
    statistics: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Credit each row with its value relative to its group; see :class:`recipec.spec.advantage.GroupRelative`.

    A row alone is compared with mean 0 and deviation 1 (``singleton="raw"``), or gets 0.
    With ``statistics="trajectories"`` an episode counts once, by its first row, and a group of one episode is alone.

    >>> reward_R, by_prompt_R = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    >>> group_relative(
    ...     reward_R, by_prompt_R, reward_R.isnan(), None,
    ...     weight=1.0, scale="none", singleton="zero", statistics="rows", epsilon=1e-6,
    ... )
    {'advantage_R': tensor([ 0.5000, -0.5000,  0.0000,  0.0000], dtype=torch.float64)}
    """
    value_R, ok_R = value_R.double(), ~failed_R
    counted_R = torch.ones_like(ok_R)
    if statistics == "trajectories":
        assert episode_id_R is not None
        counted_R = _first_rows(episode_id_R, ok_R)
    groups = group_statistics(value_R, group_R, ok_R, counted_R)
    relative_R = value_R - groups.mean_R
    if scale == "std":
        relative_R = relative_R / (groups.std_R + epsilon)
    elif scale == "mean":
        relative_R = torch.where(groups.mean_R > 0, relative_R / (groups.mean_R + epsilon), 0.0)
    alone_scale = 1 + epsilon if scale == "std" else 1.0
    return {"advantage_R": weight * _with_special_cases(relative_R, value_R, ok_R, groups, singleton, alone_scale)}


def rloo(value_R: Tensor, group_R: Tensor, failed_R: Tensor, *, weight: float, singleton: str) -> dict[str, Tensor]:
    """Credit each row with its value minus the mean of the others; see :class:`recipec.spec.advantage.Rloo`.

    >>> reward_R = torch.tensor([1.0, 0.0, 0.5])
    >>> rloo(reward_R, torch.tensor([0, 0, 0]), reward_R.isnan(), weight=1.0, singleton="zero")
    {'advantage_R': tensor([ 0.7500, -0.7500,  0.0000], dtype=torch.float64)}
    """
    value_R, ok_R = value_R.double(), ~failed_R
    groups = group_statistics(value_R, group_R, ok_R, torch.ones_like(ok_R))
    relative_R = (value_R - groups.mean_R) * groups.count_R / (groups.count_R - 1)
    return {"advantage_R": weight * _with_special_cases(relative_R, value_R, ok_R, groups, singleton)}


def remax(
    value_R: Tensor, by_prompt_R: Tensor, greedy_R: Tensor, failed_R: Tensor, *, weight: float
) -> dict[str, Tensor]:
    """Credit a row with its value minus that of its prompt's greedy row; see :class:`recipec.spec.advantage.Remax`.

    >>> reward_R, greedy_R = torch.tensor([0.25, 1.0, 0.0]), torch.tensor([True, False, False])
    >>> remax(reward_R, torch.tensor([0, 0, 0]), greedy_R, reward_R.isnan(), weight=1.0)
    {'advantage_R': tensor([ 0.0000,  0.7500, -0.2500], dtype=torch.float64)}
    """
    value_R, ok_R = value_R.double(), ~failed_R
    greedy = group_statistics(value_R, by_prompt_R, ok_R, greedy_R)
    return {"advantage_R": weight * torch.where(ok_R & (greedy.count_R > 0), value_R - greedy.mean_R, 0.0)}


def signed(
    value_R: Tensor, failed_R: Tensor, *, weight: float, threshold: float, positive: float, negative: float
) -> dict[str, Tensor]:
    """Credit a row by whether its value is above the threshold; see :class:`recipec.spec.advantage.Signed`.

    >>> reward_R = torch.tensor([7.0, -1.0])
    >>> signed(reward_R, reward_R.isnan(), weight=1.0, threshold=0.0, positive=1.0, negative=-1.0)
    {'advantage_R': tensor([ 1., -1.], dtype=torch.float64)}
    """
    value_R = value_R.double()
    zero = torch.zeros_like(value_R)
    credit_R = torch.where(value_R > threshold, zero + positive, zero + negative)
    return {"advantage_R": weight * torch.where(failed_R, zero, credit_R)}


def reinforce(value_R: Tensor, failed_R: Tensor, *, weight: float) -> dict[str, Tensor]:
    """Credit a row with its value; see :class:`recipec.spec.advantage.Reinforce`.

    >>> reinforce(torch.tensor([2.0, 0.0]), torch.tensor([False, True]), weight=0.5)
    {'advantage_R': tensor([1., 0.], dtype=torch.float64)}
    """
    value_R = value_R.double()
    return {"advantage_R": weight * torch.where(failed_R, torch.zeros_like(value_R), value_R)}


def batch_standardised(
    value_R: Tensor, group_R: Tensor, failed_R: Tensor, *, weight: float, epsilon: float
) -> dict[str, Tensor]:
    """Centre on the group, scale by the batch; see :class:`recipec.spec.advantage.BatchStandardised`.

    >>> reward_R = torch.tensor([1.0, 0.0, 1.0, 1.0])
    >>> batch_standardised(reward_R, torch.tensor([0, 0, 1, 1]), reward_R.isnan(), weight=1.0, epsilon=0.0)
    {'advantage_R': tensor([ 1., -1.,  0.,  0.], dtype=torch.float64)}
    """
    value_R, ok_R = value_R.double(), ~failed_R
    everyone_R = torch.ones_like(ok_R)
    groups = group_statistics(value_R, group_R, ok_R, everyone_R)
    batch = group_statistics(value_R, torch.zeros_like(group_R), ok_R, everyone_R)
    relative_R = (value_R - groups.mean_R) / (batch.std_R + epsilon)
    return {"advantage_R": weight * _with_special_cases(relative_R, value_R, ok_R, groups, "zero")}


def history_groups(
    value_R: Tensor,
    group_R: Tensor,
    episode_id_R: Tensor,
    step_R: Tensor,
    failed_R: Tensor,
    *,
    weight: float,
    history: int,
    exponent: float,
    offset: float,
    scale: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Credit steps among those with the same last states; see :class:`recipec.spec.advantage.HistoryGroups`.

    Time and memory are linear in the number of steps, for each state of the history.

    >>> return_R, by_anchor_R = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.5, 0.0]), torch.tensor([0, 1, 0, 1, 2, 1])
    >>> history_groups(
    ...     return_R, by_anchor_R, torch.tensor([7, 7, 8, 8, 9, 9]), torch.tensor([0, 1, 0, 1, 0, 1]), return_R < 0,
    ...     weight=1.0, history=1, exponent=1.0, offset=1.0, scale="none", epsilon=0.0,
    ... )["advantage_R"].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    value_R, ok_R = value_R.double(), ~failed_R
    own_R = torch.unique(group_R, return_inverse=True)[1]
    before_R = _steps_before(episode_id_R, step_R)
    level_R, total_R, shares_R = own_R, torch.zeros_like(value_R), torch.zeros_like(value_R)
    for depth in range(history + 1):
        if depth:  # the last states of the step before, and the state of this one
            earlier_R = torch.where(before_R < 0, -1, level_R[before_R])
            key_R = earlier_R * len(own_R) + own_R
            level_R = torch.where(earlier_R < 0, -1, torch.unique(key_R, return_inverse=True)[1])
        counted_R = level_R >= 0
        groups = group_statistics(value_R, level_R, ok_R, counted_R)
        std_R = groups.population_std_R
        relative_R = value_R - groups.mean_R
        moved_R = counted_R & ok_R & (groups.count_R > 1) & ~groups.equal_R & (relative_R.abs() > 1e-9 * std_R)
        credit_R = relative_R / (std_R + epsilon) if scale == "std" else relative_R
        share = (depth + offset) ** exponent
        total_R = total_R + torch.where(moved_R, share * credit_R, 0.0)
        shares_R = shares_R + torch.where(moved_R, share, 0.0)
    return {"advantage_R": weight * torch.where(shares_R > 0, total_R / shares_R, 0.0)}


def _steps_before(episode_id_R: Tensor, step_R: Tensor) -> Tensor:
    """Return the row of the step before in the same episode, -1 where there is none; of copies the first one."""
    place = {
        key: row for row, key in reversed(list(enumerate(zip(episode_id_R.tolist(), step_R.tolist(), strict=True))))
    }
    before = [
        place.get((episode, step - 1), -1) for episode, step in zip(episode_id_R.tolist(), step_R.tolist(), strict=True)
    ]
    return torch.tensor(before, dtype=torch.int64, device=step_R.device)


def state_action(
    value_R: Tensor,
    group_R: Tensor,
    by_prompt_R: Tensor,
    score_R: Tensor,
    episode_id_R: Tensor,
    step_R: Tensor,
    text_R: Sequence[str],
    failed_R: Tensor,
    *,
    weight: float,
    action_tag: str | None,
    prior: float,
    scale: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Credit a step with its action's value less its state's; see :class:`recipec.spec.advantage.StateAction`.

    >>> return_R, one_R = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3, dtype=torch.int64)
    >>> made = state_action(
    ...     return_R, one_R, one_R, return_R, torch.arange(3), one_R, ["left", "left", "right"], return_R < 0,
    ...     weight=1.0, action_tag=None, prior=0.0, scale="none", epsilon=0.0,
    ... )
    >>> [round(x, 4) for x in made["advantage_R"].tolist()]
    [0.1667, 0.1667, -0.3333]
    """
    value_R, ok_R = value_R.double(), ~failed_R
    numbers: dict[tuple[int, str], int] = {}
    keys = zip(group_R.tolist(), (_action(text, action_tag) for text in text_R), strict=True)
    pair_R = torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], device=value_R.device)
    visit_R = torch.unique(torch.stack([episode_id_R, pair_R], -1), dim=0, return_inverse=True)[1]
    first_R = _first_rows(visit_R, ok_R, step_R)
    prompt = group_statistics(score_R.double(), by_prompt_R, ok_R, _first_rows(episode_id_R, ok_R))
    base_R = torch.where(prompt.equal_R, score_R.double(), prompt.mean_R)
    action = group_statistics(value_R, pair_R, ok_R, first_R)
    state = group_statistics(value_R, group_R, ok_R, first_R)
    # values of actions and states over the prior: equal values give exactly 0
    of_action_R = torch.where(action.equal_R, value_R, action.mean_R) - base_R
    of_state_R = torch.where(state.equal_R, value_R, state.mean_R) - base_R
    credit_R = of_action_R - of_state_R * state.count_R / (state.count_R + prior)
    if scale == "std":
        prompt_credit = group_statistics(credit_R, by_prompt_R, ok_R, torch.ones_like(ok_R))
        credit_R = credit_R / (prompt_credit.population_std_R + epsilon)
    return {"advantage_R": weight * torch.where(ok_R, credit_R, 0.0).nan_to_num()}


def _action(text: str, tag: str | None) -> str:
    """Return what is compared of a turn: its words, or those of the last part inside of a tag."""
    if tag is not None and f"<{tag}>" in text:
        text = text.rpartition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return " ".join(text.split())


def token_relative(
    value_R: Tensor,
    group_R: Tensor,
    failed_R: Tensor,
    attend_RT: Tensor,
    trained_RT: Tensor,
    *,
    weight: float,
    scale: str,
    singleton: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Credit each token of a response relative to all tokens of its group: ``combine: per_token``.

    A response goes from the first token that the policy wrote to the row's last, answers of an environment included.
    Its last token has the row's value, those before have 0, and a group is the pool of them all: mean and deviation
    (ddof 1) are over tokens, and a token is alone where the pool has no other.

    >>> attend_RT = torch.tensor([[True, True, True], [True, True, False]])
    >>> trained_RT = attend_RT & torch.tensor([False, True, True])
    >>> value_R, group_R = torch.tensor([3.0, 0.0]), torch.tensor([0, 0])
    >>> token_relative(
    ...     value_R, group_R, value_R.isnan(), attend_RT, trained_RT, weight=1.0, scale="none", singleton="raw",
    ...     epsilon=1e-6,
    ... )["advantage_RT"].tolist()
    [[0.0, -1.0, 2.0], [0.0, -1.0, 0.0]]

    References:
        The option ``tree_per_token`` of AMAP-ML/Tree-GRPO.
    """
    response_RT = attend_RT & (trained_RT.cumsum(-1) > 0)
    after_RT = torch.nn.functional.pad(response_RT, (0, 1))[:, 1:]
    value_RT = torch.where(response_RT & ~after_RT, value_R.double()[:, None], 0.0)
    shape = response_RT.shape
    value_N, group_N = value_RT[response_RT], group_R[:, None].expand(shape)[response_RT]
    ok_N = ~failed_R[:, None].expand(shape)[response_RT]
    groups = group_statistics(value_N, group_N, ok_N, torch.ones_like(ok_N))
    relative_N = value_N - groups.mean_R
    if scale == "std":
        relative_N = relative_N / (groups.std_R + epsilon)
    credit_RT = torch.zeros(shape, dtype=torch.float64, device=value_R.device)
    alone_scale = 1 + epsilon if scale == "std" else 1.0
    credit_RT[response_RT] = weight * _with_special_cases(relative_N, value_N, ok_N, groups, singleton, alone_scale)
    return {"advantage_RT": credit_RT}
