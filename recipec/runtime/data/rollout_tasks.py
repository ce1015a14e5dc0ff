"""Rollouts of an earlier stage as tasks and examples, with exactly the sampled ids and the same images."""

from __future__ import annotations

import math
from pathlib import Path

from recipec.diagnostics.errors import data as errors, images as image_errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Example, Task
from recipec.runtime.context import StageContext
from recipec.runtime.data.scored_rows import RolloutRow, read_rollouts
from recipec.runtime.data.sources import Encoded, Source
from recipec.runtime.images.image_store import is_vision_model
from recipec.runtime.images.picture import Picture, places
from recipec.runtime.protocols import Policy
from recipec.spec import data as specs


class Rollouts(Source):
    """The best rows of an earlier stage as training examples; see :class:`recipec.spec.data.Rollouts`.

    Rows that are steps of one episode are taken together, or not at all.
    """

    def __init__(self, spec: specs.Rollouts, context: StageContext, *, policy: Policy) -> None:
        super().__init__(spec, context, policy=policy)
        self.spec = spec
        self.shown = spec.rollouts
        self._place: dict[int, tuple[str, int]] = {}

    def encoded(self) -> list[Encoded]:
        """Choose the best rows of each prompt; their ids are taken as they were sampled."""
        rows = read_rollouts(self.context.artifacts[self.spec.rollouts], self.spec.rollouts)
        by_prompt: dict[int, dict[tuple[str, int], list[RolloutRow]]] = {}
        failed = low = 0
        for row in rows:
            if math.isnan(row.reward):
                failed += 1
            elif self.spec.min_reward is not None and row.reward < self.spec.min_reward:
                low += 1
            else:
                episode = row.episode if row.episode >= 0 else -row.line
                by_prompt.setdefault(row.prompt_id, {}).setdefault((row.file, episode), []).append(row)
        if not by_prompt:
            counts = f"of {len(rows)} rows {failed} have no reward, {low} have less than `min_reward`"
            raise RecipeError(errors.nothing_kept(self.spec.rollouts, counts))
        episodes = [sorted(e.values(), key=lambda rows: -rows[0].reward) for _, e in sorted(by_prompt.items())]
        best = [rows for prompt in episodes for rows in prompt[: self.spec.per_prompt]]
        chosen = [row for rows in best for row in rows][: self.spec.limit]
        self._place = {row.prompt_id: (row.file, row.line) for row in chosen}
        return [self._encode(row) for row in chosen]

    def _encode(self, row: RolloutRow) -> Encoded:
        task = as_task(row, self.context.root, self.policy)
        return (task,) if self.kind == "rl" else (task, as_example(row, self.context.root, self.policy))

    def place(self, task: Task) -> tuple[str, int]:
        """Return file and line of the row of a task."""
        return self._place[task.id]


def as_task(row: RolloutRow, root: Path, policy: Policy) -> Task:
    """Return the task of a sampled row, with the images that the policy saw then.

    Raises:
        RecipeError: RC861, RC862, RC869.
    """
    return Task(row.prompt_id, row.prompt, row.prompt_ids, row.columns, images=_seen(row, root, policy))


def as_example(row: RolloutRow, root: Path, policy: Policy) -> Example:
    """Return a sampled row as an example with exactly its ids, and the images that the policy saw then.

    Raises:
        RecipeError: RC861, RC862, RC869.
    """
    ids, start = (*row.prompt_ids, *row.ids), len(row.prompt_ids)
    return Example(row.prompt_id, ids, ((False,) * start) + row.trained, _seen(row, root, policy))


def _seen(row: RolloutRow, root: Path, policy: Policy) -> tuple[Picture, ...]:
    if not row.images:
        return ()
    if not is_vision_model(policy):
        raise RecipeError(image_errors.images_unseen(row.file, row.line, "images", "the policy reads text alone"))
    pictures = tuple(
        policy.image_store.recorded_picture(root, path, digest, row.file, row.line) for path, digest in row.images
    )
    try:
        places(row.prompt_ids, pictures)
    except ValueError:
        # the image is the same, but has other tokens: another tokenizer
        raise RecipeError(image_errors.image_changed(row.file, row.line, row.images[0][0])) from None
    return pictures
