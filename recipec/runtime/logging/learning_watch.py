"""Warn during a run that learns nothing, or runs away, from the metrics of its steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from recipec.diagnostics.errors import run_progress as errors
from recipec.diagnostics.model import Diagnostic
from recipec.spec.recipe import Condition

PATIENCE = 5
"""Steps in a row that must show the same before it is reported."""
COLLAPSED = 0.05
"""Share of the first step's entropy below which the entropy has collapsed."""
RUNAWAY = 1.0
"""Nats per token between the policy and its reference above which the KL runs away."""
Metrics = Mapping[str, float]


@dataclass(slots=True)
class LearningWatch:
    """Reads the metrics of each step of one stage; each warning comes once.

    >>> watch = LearningWatch("explore")
    >>> found = [one.code for _ in range(6) for one in watch.step({"frac_reward_zero_std": 1.0, "reward": 0.0})]
    >>> found
    ['RC930', 'RC934']
    >>> watch.holding(["constant_reward", "no_gradient"])
    'constant_reward'
    """

    stage: str
    groups: bool = True
    """Whether the advantage compares rows of a group; without groups, equal rewards of one are no sign."""
    _first: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)
    _streaks: dict[str, int] = field(default_factory=dict)
    _reported: set[str] = field(default_factory=set)

    def step(self, metrics: Metrics) -> Iterator[Diagnostic]:
        """Yield what is reported after this step."""
        for name, value in metrics.items():
            self._first.setdefault(name, value)
        for name, (holds, report) in self._rules().items():
            self._streaks[name] = self._streaks.get(name, 0) + 1 if holds(metrics) else 0
            if self._streaks[name] >= PATIENCE and name not in self._reported:
                self._reported.add(name)
                yield report(self.stage, PATIENCE)
        self._last = dict(metrics)

    def follow(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Catch up with the metrics that a stage wrote before it was continued; what they show was reported then."""
        for line in lines:
            if line["step"]:  # the line before the first step has evaluations only
                list(self.step({name: value for name, value in line.items() if isinstance(value, int | float)}))

    def holding(self, names: Collection[str]) -> str:
        """Return the first of these conditions that the last steps show; empty if none does."""
        return next((name for name in names if self._streaks.get(name, 0) >= PATIENCE), "")

    def _rules(self) -> dict[Condition, tuple[Callable[[Metrics], bool], Callable[[str, int], Diagnostic]]]:
        return {
            "no_credit": (lambda m: self.groups and m.get("frac_reward_zero_std") == 1.0, errors.no_credit),
            "no_gradient": (lambda m: m.get("grad_norm") == 0.0, errors.no_gradient),
            "all_answers_cut": (lambda m: m.get("completions/clipped_ratio") == 1.0, errors.all_cut),
            "entropy_collapsed": (self._collapsed, errors.entropy_collapsed),
            "constant_reward": (
                lambda m: "reward" in m and m["reward"] == self._last.get("reward"),
                errors.constant_reward,
            ),
            "kl_runs_away": (lambda m: m.get("kl", 0.0) > RUNAWAY, errors.kl_runaway),
        }

    def _collapsed(self, metrics: Metrics) -> bool:
        return metrics.get("entropy", 1.0) < COLLAPSED * self._first.get("entropy", 0.0)
