"""Normalisation of a reward level by the mean and the deviation of its values so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recipec.runtime.protocols import Part


class RunningNormaliser(Part):
    r"""The node between a reward level and the sum, where the level is to be normalised.

    .. math:: r' = (r - \mu) / \sigma

    Mean and sample deviation are over all finite values of the stage so far, those of this call among them, of rows
    with an episode that did not fail; by Welford's updates in float64, row by row in their order. A value that is the
    only one, or equal to all others, has no deviation: then nothing is divided.

    Every rank sees the whole batch, so the state is the same on all of them, whatever their number.

    >>> import torch
    >>> normaliser, fine_R = RunningNormaliser("quality"), torch.zeros(2).bool()
    >>> normaliser(fine_R, torch.tensor([1.0, 3.0]))["reward_R"].tolist()
    [-0.7071067811865475, 0.7071067811865475]
    >>> normaliser(fine_R, torch.tensor([5.0, torch.nan]))["reward_R"].tolist(), normaliser.count
    ([1.0, nan], 3)

    References:
        Welford, Note on a method for calculating corrected sums of squares and products, 1962; the running moments of
        trlx, of TRL's first PPO trainer and of ROLL, which take the scores of a step in before they divide.
    """

    def __init__(self, level: str, *, centred: bool = True, scaled: bool = True) -> None:
        """``level`` is named in the metrics; ``centred`` subtracts the mean, ``scaled`` divides by the deviation."""
        self.level, self.centred, self.scaled = level, centred, scaled
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the values so far; 0 if they are fewer than two."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def __call__(self, error_R: Tensor, reward_R: Tensor) -> dict[str, Any]:
        """Take the values of a step in, and return them normalised, in float64; NaN stays NaN."""
        value_R = reward_R.double()
        for value in value_R[value_R.isfinite() & ~error_R].tolist():
            self.count += 1
            apart = value - self.mean
            self.mean += apart / self.count
            self.squares += apart * (value - self.mean)
        moved_R = value_R - self.mean if self.centred else value_R
        return {
            "reward_R": moved_R / (self.deviation or 1.0) if self.scaled else moved_R,
            f"metric/rewards/{self.level}/running_mean": self.mean,
            f"metric/rewards/{self.level}/running_std": self.deviation,
        }

    def state(self) -> dict[str, Any]:
        """Number, mean and squared distances of the values so far."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.count, self.mean, self.squares = int(state["count"]), float(state["mean"]), float(state["squares"])
