"""The objective of reward models: how likely preferences are under the scores of the two answers of a pair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from recipec.diagnostics.errors import objective as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Example
from recipec.runtime.objective.compiler_ops import Columns
from recipec.runtime.objective.preference_losses import pair_metrics, pairs_of


def collate_margins(chosen_P: Sequence[Example]) -> Columns:
    """Give both rows of each pair its margin, in the order of :func:`collate_pairs`.

    Raises:
        RecipeError: RC950, a pair has no margin.

    >>> collate_margins([Example(0, (1, 2), (False, True), margin=0.5)])
    {'margin_R': tensor([0.5000, 0.5000])}
    """
    for example in chosen_P:
        if example.margin is None:
            raise RecipeError(errors.no_margin(example.prompt_id + 1))
    margins = [example.margin for example in chosen_P for _ in range(2)]
    return {"margin_R": torch.tensor(margins, dtype=torch.float32)}


def bradley_terry(
    model_score_R: Tensor,
    by_pair_R: Tensor,
    chosen_R: Tensor,
    weight_R: Tensor,
    margin_R: Tensor | None,
    *,
    margin: str,  # noqa: ARG001 - the compiler binds the column by it
    center: float,
) -> dict[str, Tensor]:
    """Raise the score of the preferred answer over that of the other; see :class:`recipec.spec.loss.BradleyTerry`.

    >>> score_R, pair_R = torch.tensor([1.0, 0.0]), torch.tensor([0, 0])
    >>> made = bradley_terry(
    ...     score_R, pair_R, torch.tensor([True, False]), torch.ones(2), None, margin="none", center=0.0
    ... )
    >>> round(float(made["loss"]), 4), float(made["metric/rewards/accuracies"])
    (0.3133, 1.0)
    """
    chosen, rejected = pairs_of(by_pair_R, chosen_R)
    one, other, weight = model_score_R[chosen], model_score_R[rejected], weight_R[chosen].to(model_score_R.dtype)
    difference = one - other
    over = difference if margin_R is None else difference - margin_R[chosen].to(difference.dtype)
    loss = -F.logsigmoid(over) + center * (one + other).square()
    metrics = {
        "rewards/chosen": one,
        "rewards/rejected": other,
        "rewards/margins": difference,
        "rewards/accuracies": difference > 0,
    }
    return {"loss": (loss * weight).sum(), **pair_metrics(metrics, weight)}
