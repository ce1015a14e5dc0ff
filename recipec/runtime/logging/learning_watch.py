"""Warn during a run that learns nothing, or runs away, from the metrics of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from recipec.diagnostics.errors import run_progress as errors
from recipec.diagnostics.model import Diagnostic

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
    """

    stage: str
    _first: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)
    _streaks: dict[str, int] = field(default_factory=dict)

    def step(self, metrics: Metrics) -> Iterator[Diagnostic]:
        """Yield what is reported after this step."""
        for name, value in metrics.items():
            self._first.setdefault(name, value)
        for name, (holds, report) in self._rules().items():
            self._streaks[name] = self._streaks.get(name, 0) + 1 if holds(metrics) else 0
            if self._streaks[name] == PATIENCE:
                yield report(self.stage, PATIENCE)
                self._streaks[name] = -(1 << 62)  # never again in this stage
        self._last = dict(metrics)

    def _rules(self) -> dict[str, tuple[Callable[[Metrics], bool], Callable[[str, int], Diagnostic]]]:
        return {
            "credit": (lambda m: m.get("frac_reward_zero_std") == 1.0, errors.no_credit),
            "gradient": (lambda m: m.get("grad_norm") == 0.0, errors.no_gradient),
            "cut": (lambda m: m.get("completions/clipped_ratio") == 1.0, errors.all_cut),
            "entropy": (self._collapsed, errors.entropy_collapsed),
            "reward": (lambda m: "reward" in m and m["reward"] == self._last.get("reward"), errors.constant_reward),
            "kl": (lambda m: m.get("kl", 0.0) > RUNAWAY, errors.kl_runaway),
        }

    def _collapsed(self, metrics: Metrics) -> bool:
        return metrics.get("entropy", 1.0) < COLLAPSED * self._first.get("entropy", 0.0)
