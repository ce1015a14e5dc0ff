"""What the compiler puts between components: collation, sums, broadcasts, weights. Plain functions, one node each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.batch import Example, Task, pad_rows
from recipec.runtime.images.picture import Picture
from recipec.runtime.objective.solved import with_signal

Columns = dict[str, Tensor]


def collate_completions(completion_P: Sequence[Example]) -> Columns:
    """Make one row of each encoded answer, right-padded with id 0.

    Turns are numbered by their runs of trained tokens.

    >>> made = collate_completions([Example(7, (17, 28, 19), (False, True, True)), Example(3, (5,), (True,))])
    >>> made["tokens_RT"].tolist(), made["turn_RT"].tolist()
    ([[17, 28, 19], [5, 0, 0]], [[0, 1, 1], [1, 0, 0]])
    """
    trained_RT = pad_rows([e.trained for e in completion_P], torch.bool)
    before_RT = torch.nn.functional.pad(trained_RT, (1, 0))[:, :-1] if trained_RT.numel() else trained_RT
    return {
        "tokens_RT": pad_rows([e.ids for e in completion_P], torch.int64),
        "attend_RT": pad_rows([(True,) * len(e.ids) for e in completion_P], torch.bool),
        "trained_RT": trained_RT,
        "turn_RT": (trained_RT & ~before_RT).cumsum(-1) * trained_RT,
        "prompt_id_R": torch.tensor([e.prompt_id for e in completion_P], dtype=torch.int64),
    }


def collate_pairs(chosen_P: Sequence[Example], rejected_P: Sequence[Example]) -> Columns:
    """Make two rows of each pair: row 2i is chosen, row 2i + 1 rejected.

    >>> pair = collate_pairs([Example(0, (1, 2), (False, True))], [Example(0, (1, 3), (False, True))])
    >>> pair["by_pair_R"].tolist(), pair["chosen_R"].tolist()
    ([0, 0], [True, False])
    """
    rows = [example for pair in zip(chosen_P, rejected_P, strict=True) for example in pair]
    place_R = torch.arange(len(rows))
    return {**collate_completions(rows), "by_pair_R": place_R // 2, "chosen_R": place_R % 2 == 0}


def images_of_prompts(prompt_P: Sequence[Task], by_prompt_R: Tensor) -> dict[str, Any]:
    """Give each row the images of its task, row by row, in the order of their places in it.

    >>> mole = Picture("9f", "mole.png", {}, (7,))
    >>> made = images_of_prompts([Task(0, "a", (7, 1), images=(mole,)), Task(1, "b", (2,))], torch.tensor([1, 0, 0]))
    >>> made["image_row_I"].tolist(), made["pixels_I"][1] is mole
    ([1, 2], True)
    """
    return _images([prompt_P[prompt].images for prompt in by_prompt_R.tolist()])


def images_of_completions(completion_P: Sequence[Example]) -> dict[str, Any]:
    """Give each row of :func:`collate_completions` the images of its example."""
    return _images([example.images for example in completion_P])


def images_of_pairs(chosen_P: Sequence[Example], rejected_P: Sequence[Example]) -> dict[str, Any]:
    """Give each row of :func:`collate_pairs` the images of its example."""
    return _images([example.images for pair in zip(chosen_P, rejected_P, strict=True) for example in pair])


def _images(images_R: Sequence[Sequence[Picture]]) -> dict[str, Any]:
    row_I = [row for row, images in enumerate(images_R) for _ in images]
    return {
        "pixels_I": [image for images in images_R for image in images],
        "image_row_I": torch.tensor(row_I, dtype=torch.int64),
    }


Shape = tuple[float, Sequence[float] | None]
"""What is added to the values of a reward level, and their bounds."""


def shaped(reward_R: Tensor, weight: float, shift: float = 0.0, clip: Sequence[float] | None = None) -> Tensor:
    """Shift the values of a reward level, bound them and weigh them, in float64; NaN stays NaN.

    With weight 0 all values are 0: the level is recorded, and takes no part in the total nor in which rows fail.

    >>> shaped(torch.tensor([3.0, -1.0]), 2.0, -0.5, (-1.0, 1.0)), shaped(torch.tensor([torch.nan]), 0.0)
    (tensor([ 2., -2.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    if weight == 0:
        return torch.zeros_like(reward_R, dtype=torch.float64)
    moved_R = reward_R.double() + shift
    return weight * (moved_R if clip is None else moved_R.clamp(*clip))


def sum_rewards(
    error_R: Tensor,
    reward_R: Sequence[Tensor] = (),
    *,
    weights: Sequence[float],
    shapes: Sequence[Shape] | None = None,
    abstains: Sequence[bool] | None = None,
) -> Columns:
    """Add the reward levels; a row fails if its episode failed, or if a level could not score it (NaN).

    NaN of a level that ``abstains`` adds nothing, and the row fails where this is so of every level that counts.

    >>> one_R, two_R = torch.tensor([1.0, torch.nan, torch.nan]), torch.tensor([3.0, 3.0, torch.nan])
    >>> sum_rewards(torch.zeros(3).bool(), [one_R, two_R], weights=(0.5, 1.0), abstains=(True, True))
    {'reward_R': tensor([3.5000, 3.0000, 0.0000], dtype=torch.float64), 'failed_R': tensor([False, False,  True])}
    """
    rows_R = torch.arange(len(error_R), device=error_R.device)
    return sum_step_rewards(error_R, rows_R, reward_R, weights=weights, shapes=shapes, abstains=abstains)


def sum_step_rewards(
    error_R: Tensor,
    episode_id_R: Tensor,
    reward_R: Sequence[Tensor] = (),
    *,
    weights: Sequence[float],
    shapes: Sequence[Shape] | None = None,
    abstains: Sequence[bool] | None = None,
) -> Columns:
    """Add the reward levels of step rows: an episode fails where one of its steps does, or no level applies to any.

    >>> error_R, reward_R = torch.tensor([False, False, False]), torch.tensor([1.0, torch.nan, 2.0])
    >>> sum_step_rewards(error_R, torch.tensor([4, 4, 9]), [reward_R], weights=(1.0,))
    {'reward_R': tensor([1., 0., 2.], dtype=torch.float64), 'failed_R': tensor([ True,  True, False])}
    """
    total_R = torch.zeros_like(error_R, dtype=torch.float64)
    applied_R = torch.full_like(error_R, not any(weights))
    shapes, abstains = shapes or [(0.0, None)] * len(weights), abstains or [False] * len(weights)
    for level_R, weight, shape, may_abstain in zip(reward_R, weights, shapes, abstains, strict=True):
        value_R = shaped(level_R, weight, *shape)
        absent_R = value_R.isnan() & may_abstain
        total_R = total_R + torch.where(absent_R, 0.0, value_R)
        applied_R = applied_R | (~absent_R if weight else False)
    known_R = torch.isin(episode_id_R, episode_id_R[applied_R])
    failed_R = ~known_R | torch.isin(episode_id_R, episode_id_R[error_R | total_R.isnan()])
    return {"reward_R": torch.where(total_R.isnan(), 0.0, total_R), "failed_R": failed_R}


def episode_total(reward_R: Tensor, episode_id_R: Tensor, step_R: Tensor) -> Columns:
    """Give each row the sum of its episode's rewards; a copy, which repeats episode and step, adds nothing.

    >>> episode_total(torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([4, 4, 4, 9]), torch.tensor([0, 1, 1, 0]))
    {'score_R': tensor([3., 3., 3., 5.], dtype=torch.float64)}
    """
    return {"score_R": _discounted(reward_R, episode_id_R, step_R, 1.0)[0]}


def episode_returns(
    reward_R: Tensor,
    episode_id_R: Tensor,
    step_R: Tensor,
    action_valid_R: Tensor,
    *,
    gamma: float,
    invalid_action_penalty: float,
) -> Columns:
    r"""Give each row its episode's score and its own return, then charge it for its own invalid action.

    .. math:: R_t = r_t + \gamma R_{t+1}, \quad S = \sum_t r_t

    Both are of the unpenalised rewards, each step of an episode once; steps are taken in the order of their numbers.
    The penalty is taken off the row's own score and return alone, so two rows of an episode may differ in score.

    >>> made = episode_returns(
    ...     torch.tensor([0.0, 0.0, 4.0]), torch.tensor([7, 7, 7]), torch.tensor([0, 1, 2]),
    ...     torch.tensor([True, False, True]), gamma=0.5, invalid_action_penalty=0.25,
    ... )
    >>> made["score_R"].tolist(), made["return_R"].tolist()
    ([4.0, 3.75, 4.0], [1.0, 1.75, 4.0])
    """
    score_R, return_R = _discounted(reward_R, episode_id_R, step_R, gamma)
    charge_R = invalid_action_penalty * (~action_valid_R).double()
    return {"score_R": score_R - charge_R, "return_R": return_R - charge_R}


def _discounted(reward_R: Tensor, episode_id_R: Tensor, step_R: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Sum rewards over each episode and from each step on, in float64; of copies the first row speaks."""
    keys = list(zip(episode_id_R.tolist(), step_R.tolist(), strict=True))
    rewards: dict[tuple[int, int], float] = {}
    for key, reward in zip(keys, reward_R.tolist(), strict=True):
        rewards.setdefault(key, reward)
    totals: dict[int, float] = {}
    returns: dict[tuple[int, int], float] = {}
    later: dict[int, float] = {}
    for key in sorted(rewards, reverse=True):
        episode, reward = key[0], rewards[key]
        totals[episode] = totals.get(episode, 0.0) + reward
        later[episode] = returns[key] = reward + gamma * later.get(episode, 0.0)
    score_R = torch.tensor([totals[episode] for episode, _ in keys], dtype=torch.float64)
    return_R = torch.tensor([returns[key] for key in keys], dtype=torch.float64)
    return score_R.to(reward_R.device), return_R.to(reward_R.device)


def sum_advantages(advantage_R: Sequence[Tensor]) -> Columns:
    """Add the levels of credit.

    >>> sum_advantages([torch.tensor([1.0]), torch.tensor([-3.0])])
    {'advantage_R': tensor([-2.])}
    """
    return {"advantage_R": torch.stack([*advantage_R]).sum(0)}


def sum_token_advantages(trained_RT: Tensor, advantage_RT: Sequence[Tensor]) -> Columns:
    """Add levels that credit tokens, in float32; tokens that the policy did not write get 0.

    >>> levels = [torch.tensor([[1.0, 2.0]]), torch.tensor([[-3.0, 1.0]])]
    >>> sum_token_advantages(torch.tensor([[True, False]]), levels)
    {'advantage_RT': tensor([[-2.,  0.]])}
    """
    total_RT = torch.stack([*advantage_RT]).sum(0)
    return {"advantage_RT": torch.where(trained_RT, total_RT, 0.0).float()}


def whiten(advantage_R: Tensor, failed_R: Tensor, trained_RT: Tensor, *, over: str) -> Columns:
    r"""Shift and scale the advantage to mean 0 and deviation 1 over the whole batch.

    .. math:: A' = (A - \mu) / \sqrt{\sigma^2 + 10^{-8}}

    Mean and sample variance are over rows, or over trained tokens (``over="tokens"``), where a row counts as often as
    it has some. Failed rows are in neither and stay 0; without two that count, or where all are equal, all are 0.

    >>> made = whiten(torch.tensor([3.0, 1.0]), torch.zeros(2).bool(), torch.tensor([[True], [True]]), over="rows")
    >>> [round(x, 4) for x in made["advantage_R"].tolist()]
    [0.7071, -0.7071]
    """
    count_R = (trained_RT.sum(-1) if over == "tokens" else torch.ones_like(failed_R)).double() * ~failed_R
    value_R, total = advantage_R.double(), float(count_R.sum())
    kept_R = value_R[count_R > 0]
    if total < 2 or bool((kept_R == kept_R[0]).all()):
        return {"advantage_R": torch.zeros_like(value_R)}
    mean = (count_R * value_R).sum() / total
    variance = (count_R * (value_R - mean).square()).sum() / (total - 1)
    return {"advantage_R": torch.where(failed_R, 0.0, (value_R - mean) * (variance + 1e-8).rsqrt())}


def clip_advantages(advantage_R: Tensor, *, bound: float) -> Columns:
    """Bound the absolute advantage of a row.

    >>> clip_advantages(torch.tensor([3.0, -0.5]), bound=2.0)
    {'advantage_R': tensor([ 2.0000, -0.5000])}
    """
    return {"advantage_R": advantage_R.clamp(-bound, bound)}


def whiten_tokens(advantage_RT: Tensor, failed_R: Tensor, trained_RT: Tensor) -> Columns:
    r"""Shift and scale the advantages of tokens to mean 0 and deviation 1 over the trained tokens of the whole batch.

    Failed rows are not counted and stay 0; see :func:`whiten`.

    >>> trained_RT = torch.tensor([[False, True, True]])
    >>> made = whiten_tokens(torch.tensor([[5.0, 3.0, 1.0]]), torch.zeros(1).bool(), trained_RT)
    >>> [round(x, 4) for x in made["advantage_RT"][0].tolist()]
    [0.0, 0.7071, -0.7071]
    """
    kept_RT = trained_RT & ~failed_R[:, None]
    value_M, white_RT = advantage_RT[kept_RT].double(), torch.zeros(advantage_RT.shape, dtype=torch.float64)
    if len(value_M) > 1 and not bool((value_M == value_M[0]).all()):
        white_RT[kept_RT] = (value_M - value_M.mean()) * (value_M.var() + 1e-8).rsqrt()
    return {"advantage_RT": white_RT.float()}


def clip_token_advantages(advantage_RT: Tensor, *, bound: float) -> Columns:
    """Bound the absolute advantage of a token.

    >>> clip_token_advantages(torch.tensor([[3.0, -0.5]]), bound=2.0)["advantage_RT"].tolist()
    [[2.0, -0.5]]
    """
    return {"advantage_RT": advantage_RT.clamp(-bound, bound)}


def exclude_greedy(excluded_R: Tensor, greedy_R: Tensor) -> Columns:
    """Leave rows out of the loss that are a baseline: the greedy completions of ReMax.

    >>> exclude_greedy(torch.tensor([False, False]), torch.tensor([True, False]))
    {'excluded_R': tensor([ True, False])}
    """
    return {"excluded_R": excluded_R | greedy_R}


def exclude_truncated(failed_R: Tensor, truncated_R: Tensor) -> Columns:
    """Leave rows out of the loss that failed or that a limit cut.

    >>> exclude_truncated(torch.tensor([True, False, False]), torch.tensor([False, True, False]))["excluded_R"]
    tensor([ True,  True, False])
    """
    return {"excluded_R": failed_R | truncated_R, "metric/rows/truncated": truncated_R.sum()}


def exclude_groups(
    failed_R: Tensor,
    excluded_R: Tensor,
    reward_R: Tensor,
    by_prompt_R: Tensor,
    episode_id_R: Tensor,
    *,
    between: Sequence[float] | None = None,
) -> Columns:
    """Leave the rows of groups without a signal out of the loss, in addition to those that are out already.

    >>> no = torch.tensor([False] * 4)
    >>> reward_R, by_prompt_R = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0, 0, 1, 1])
    >>> exclude_groups(no, no, reward_R, by_prompt_R, torch.arange(4))["excluded_R"]
    tensor([ True,  True, False, False])
    """
    informative = with_signal(reward_R, failed_R, by_prompt_R, episode_id_R, between)
    silent_R = ~torch.isin(by_prompt_R, torch.tensor(informative, dtype=by_prompt_R.dtype, device=by_prompt_R.device))
    filtered = torch.tensor(len(torch.unique(by_prompt_R)) - len(informative))
    return {"excluded_R": excluded_R | silent_R, "metric/groups/filtered": filtered}


def broadcast(advantage_R: Tensor, trained_RT: Tensor) -> Columns:
    """Give every trained token its row's credit, in float32; 0 elsewhere.

    >>> broadcast(torch.tensor([2.0]), torch.tensor([[False, True]]))
    {'advantage_RT': tensor([[0., 2.]])}
    """
    return {"advantage_RT": advantage_R.float()[:, None] * trained_RT}


def weigh(
    trained_RT: Tensor,
    failed_R: Tensor | None = None,
    by_prompt_R: Tensor | None = None,
    *,
    aggregate: str,
    normaliser: int | None = None,
) -> Columns:
    r"""Give each token its share of the whole minibatch's objective; call it before splitting into micro-batches.

    With N trained tokens, n of them in the row and m of them in the rows of its prompt, R rows and P prompts:

    ========================  =============================================
    ``token_mean``            :math:`1 / N`
    ``seq_mean_token_mean``   :math:`1 / (R n)`
    ``seq_mean_token_sum``    :math:`1 / R`
    ``prompt_mean``           :math:`1 / (P m)`
    ``fixed``                 :math:`1 / (R \cdot \text{normaliser})`
    ========================  =============================================

    A row that failed, or has no trained token, is out of the objective: its weights are 0 and it is in no count.
    ``metric/weight`` is the sum of the weights, by which the objective's metrics are divided to be means.

    >>> weigh(torch.tensor([[True, True], [False, True]]), aggregate="seq_mean_token_mean")
    {'weight_RT': tensor([[0.2500, 0.2500],
            [0.0000, 0.5000]]), 'metric/weight': tensor(1.)}
    """
    kept_RT = trained_RT if failed_R is None else trained_RT & ~failed_R[:, None]
    tokens_R = kept_RT.sum(-1, keepdim=True, dtype=torch.float64)
    rows = (tokens_R > 0).sum()
    if aggregate == "token_mean":
        share = tokens_R.sum()
    elif aggregate == "seq_mean_token_mean":
        share = rows * tokens_R
    elif aggregate == "seq_mean_token_sum":
        share = rows
    elif aggregate == "prompt_mean":
        assert by_prompt_R is not None
        _, prompt_R = torch.unique(by_prompt_R, return_inverse=True)
        tokens_P = tokens_R.new_zeros(len(prompt_R)).index_add(0, prompt_R, tokens_R[:, 0])
        share = (tokens_P > 0).sum() * tokens_P[prompt_R][:, None]
    else:
        assert normaliser is not None
        share = rows * normaliser
    weight_RT = (kept_RT / share.clamp(min=1).double()).float()
    return {"weight_RT": weight_RT, "metric/weight": weight_RT.sum()}


def weigh_pairs(by_pair_R: Tensor) -> Columns:
    """Give both rows of a pair the pair's share of the minibatch: one over the number of pairs.

    >>> weigh_pairs(torch.tensor([0, 0, 1, 1]))
    {'weight_R': tensor([0.5000, 0.5000, 0.5000, 0.5000])}
    """
    pairs = max(1, len(torch.unique(by_pair_R)))
    return {"weight_R": torch.full(by_pair_R.shape, 1 / pairs, dtype=torch.float32, device=by_pair_R.device)}


def weigh_chosen(trained_RT: Tensor, chosen_R: Tensor) -> Columns:
    """Give each token of a preferred answer its share of a mean over the minibatch; tokens of rejected ones get 0.

    >>> weigh_chosen(torch.tensor([[True, True], [True, True]]), torch.tensor([True, False]))["weight_RT"].tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    kept_RT = trained_RT & chosen_R[:, None]
    return {"weight_RT": (kept_RT / kept_RT.sum().clamp(min=1)).float()}


def detach(logprob_RT: Tensor) -> Columns:
    """Take the policy's own log-probabilities as the old ones: with one update a batch they are the same.

    >>> detach(torch.tensor([[-1.0]], requires_grad=True))
    {'old_logprob_RT': tensor([[-1.]])}
    """
    return {"old_logprob_RT": logprob_RT.detach()}
