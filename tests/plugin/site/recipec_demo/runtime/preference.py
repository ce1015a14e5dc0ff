"""Pairs by length; see :class:`recipec_demo.spec.preference.LongestVsShortest`."""

from pathlib import Path
from typing import Any

from recipec.runtime.context import StageContext
from recipec.runtime.data.rollout_tasks import as_example, as_task
from recipec.runtime.data.scored_rows import RolloutRow, read_rollouts
from recipec.runtime.preference.pair_files import write_rows
from recipec.runtime.protocols import Policy, Preference
from recipec_demo.spec.preference import LongestVsShortest as Spec


class LongestVsShortest(Preference):
    """Compare the rollouts of each prompt by their number of tokens."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        """Pair what the stage reads; ``policy`` encodes it."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.pairs: list[tuple[RolloutRow, RolloutRow]] = []

    def __call__(self) -> dict[str, Any]:
        """Make the pairs."""
        groups: dict[int, list[RolloutRow]] = {}
        for row in read_rollouts(self.context.artifacts[self.spec.rollouts], self.spec.rollouts):
            groups.setdefault(row.prompt_id, []).append(row)
        pairs = [(max(group, key=length), min(group, key=length)) for group in groups.values()]
        self.pairs = [(a, b) for a, b in pairs if length(a) - length(b) >= self.spec.min_difference]
        root, policy = self.context.root, self.policy
        return {
            "prompt_P": [as_task(chosen, root, policy) for chosen, _ in self.pairs],
            "chosen_P": [as_example(chosen, root, policy) for chosen, _ in self.pairs],
            "rejected_P": [as_example(rejected, root, policy) for _, rejected in self.pairs],
        }

    def write(self, folder: Path) -> None:
        """Write the texts and lengths of each pair."""
        written = [
            {"chosen": a.text, "rejected": b.text, "chosen_tokens": length(a), "rejected_tokens": length(b)}
            for a, b in self.pairs
        ]
        write_rows(folder, written, {})


def length(row: RolloutRow) -> int:
    """Return the number of tokens that the policy wrote."""
    return len(row.ids)
