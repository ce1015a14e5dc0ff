"""Preference pairs from the rollouts of an earlier stage, by their rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.data.rollout_tasks import as_example, as_task
from recipec.runtime.data.scored_rows import RolloutRow, read_rollouts
from recipec.runtime.preference.pair_files import plain, write_rows
from recipec.runtime.protocols import Policy, Preference
from recipec.spec import preference as specs


@dataclass(frozen=True, slots=True)
class RowPair:
    """Two sampled answers of one prompt, the better first.

    Example: ``RowPair(best_row, worst_row).margin`` is the difference of their rewards.
    """

    chosen: RolloutRow
    rejected: RolloutRow

    @property
    def margin(self) -> float:
        """Difference in reward, reward units."""
        return self.chosen.reward - self.rejected.reward


class BestVsWorst(Preference):
    """Pair the best with the worst row of each prompt; see :class:`recipec.spec.preference.BestVsWorst`.

    Rows of a prompt are compared over all steps of the earlier stage; of equal rewards the last sampled row is taken,
    since its policy is closest to the one that is trained.
    """

    def __init__(self, spec: specs.BestVsWorst, context: StageContext, *, policy: Policy) -> None:
        self.spec = spec
        self.context = context
        self.policy = policy
        self.pairs: list[RowPair] = []
        self.left_out: dict[str, int] = {}
        """Number of prompts (``no_reward``: rows) without a pair, by reason."""

    def __call__(self) -> dict[str, Any]:
        """Build the pairs, with exactly the sampled ids.

        Raises:
            RecipeError: RC717 the rollouts cannot be read, RC718 no pair can be built.
        """
        rows = read_rollouts(self.context.artifacts[self.spec.rollouts], self.spec.rollouts)
        self.pairs = self._choose(rows)
        if not self.pairs:
            counts = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in self.left_out.items())
            raise RecipeError(errors.nothing_kept(self.spec.rollouts, f"of {len(rows)} rows, left out: {counts}"))
        return {
            "prompt_P": [as_task(p.chosen, self.context.root, self.policy) for p in self.pairs],
            "chosen_P": [as_example(p.chosen, self.context.root, self.policy) for p in self.pairs],
            "rejected_P": [as_example(p.rejected, self.context.root, self.policy) for p in self.pairs],
        }

    def _choose(self, rows: Sequence[RolloutRow]) -> list[RowPair]:
        scored = [row for row in rows if not math.isnan(row.reward)]
        left_out = {
            "no_reward": len(rows) - len(scored),
            "single": 0,
            "tied": 0,
            "below_margin": 0,
            "over_max_pairs": 0,
        }
        by_prompt: dict[tuple[int, tuple[int, ...]], list[RolloutRow]] = {}
        for row in scored:
            by_prompt.setdefault((row.prompt_id, row.prompt_ids), []).append(row)
        pairs = []
        for group in by_prompt.values():
            latest = group[::-1]
            pair = RowPair(max(latest, key=lambda row: row.reward), min(latest, key=lambda row: row.reward))
            if len(group) == 1:
                left_out["single"] += 1
            elif pair.margin == 0:
                left_out["tied"] += 1
            elif pair.margin < self.spec.margin:
                left_out["below_margin"] += 1
            else:
                pairs.append(pair)
        pairs.sort(key=lambda pair: (-pair.margin, pair.chosen.prompt_id))
        kept = pairs[: self.spec.max_pairs]
        left_out["over_max_pairs"] = len(pairs) - len(kept)
        self.left_out = left_out
        return kept

    def write(self, folder: Path) -> None:
        """Write ``pairs.jsonl`` with evidence, and ``summary.json`` with the number of pairs left out."""
        write_rows(folder, [self._written(pair) for pair in self.pairs], self.left_out)

    def _written(self, pair: RowPair) -> dict[str, Any]:
        return {
            "prompt_id": pair.chosen.prompt_id,
            "prompt": plain(pair.chosen.prompt),
            "prompt_ids": list(pair.chosen.prompt_ids),
            "chosen": pair.chosen.text,
            "rejected": pair.rejected.text,
            "chosen_ids": list(pair.chosen.ids),
            "rejected_ids": list(pair.rejected.ids),
            "evidence": {
                "rule": self.spec.type_name,
                "margin": pair.margin,
                "chosen": _evidence(pair.chosen),
                "rejected": _evidence(pair.rejected),
            },
        }

    def state(self) -> dict[str, Any]:
        """Return no state: the pairs depend on the rollouts alone."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""


def _evidence(row: RolloutRow) -> dict[str, Any]:
    return {"reward": row.reward, "step": row.step, "file": row.file, "row": row.line}
