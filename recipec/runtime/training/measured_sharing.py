"""Measure how many tokens recorded rows share, in minibatches as the recipe's budget forms them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.errors.credit import which_stage
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host.jsonl import read_objects
from recipec.runtime.attention.microbatch_packing import pack
from recipec.runtime.attention.prefix_tree import PrefixTree, build, prompt_lengths
from recipec.runtime.batch import pad_rows
from recipec.runtime.data.scored_rows import LARGEST_ID, token_ids, trained_tokens
from recipec.runtime.rng import rng_for
from recipec.runtime.training.minibatch import groups, microbatches, minibatches
from recipec.spec.recipe import PAIRED_KINDS

Counted = dict[str, Any]
_IMAGES = 1 << 30
"""Ids from here on stand for image tokens; no vocabulary is that large."""


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """Token ids of a recorded row.

    Example: ``Row((17, 10, 19, 2), (False, False, True, True), 7, 0)``.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    unit: Any
    """Rows with the same value stay together: those of a prompt, or of a pair."""
    step: int


def counted(graph: Graph, path: Path, name: str | None = None) -> tuple[str, list[Counted]]:
    """Count the tokens that recorded rows share, by step and by update; return the stage and its steps.

    ``path`` is a file or a folder such as a run's ``samples``.  Each step and each of its ``updates`` has
    ``rows``; ``dense``, ``trie`` and ``shared_prefix`` as ``[tokens, pairs, logits]``; ``padded``, tokens of padded
    rows; the forward ``passes`` of ``trie`` under ``microbatch_tokens``, and the tokens that are ``lost`` because they
    are recomputed.  If the recipe shuffles rows, a step has ``kept``: the counts of ``trie`` if groups stayed together.
    As in a run, the last token of a row is not processed, since it predicts nothing.

    Raises:
        RecipeError: RC845, rows cannot be read; RC798, the stage is unknown or ambiguous; RC768, a row exceeds the
            budget.
    """
    rows, pairs = read(path)
    stage = _stage(graph, name, pairs=pairs)
    steps: dict[int, list[RecordedRow]] = {}
    for row in rows:
        steps.setdefault(row.step, []).append(row)
    return stage.name, [_step(stage, graph.seed, step, rows_of_step) for step, rows_of_step in sorted(steps.items())]


def _stage(graph: Graph, name: str | None, *, pairs: bool) -> StageGraph:
    names = [stage.name for stage in graph.stages if (stage.kind in PAIRED_KINDS if pairs else stage.kind == "rl")]
    if (name is None and len(names) != 1) or (name is not None and name not in names):
        raise RecipeError(which_stage(name, names, f"stage that trains on {'pairs' if pairs else 'sampled rows'}"))
    return graph.stage(name or names[0])


def _step(stage: StageGraph, seed: int, step: int, rows: Sequence[RecordedRow]) -> Counted:
    budget: Mapping[str, Any] = stage.settings["budget"]
    padded_rows = _PaddedRows(rows, int(budget["microbatch_tokens"]), pairs=stage.kind in PAIRED_KINDS)
    numbers: dict[Any, int] = {}
    unit_R = torch.tensor([numbers.setdefault(row.unit, len(numbers)) for row in rows])
    key = (seed, stage.name, step, 0)
    kept = None
    if budget.get("shuffle_rows"):
        together = minibatches(unit_R, {**budget, "shuffle_rows": False}, key)
        kept = np.sum([padded_rows.tree(index)[0] for index in together], 0).tolist()
    updates = [padded_rows.count(index) for index in minibatches(unit_R, budget, key)]
    return {"step": step, **padded_rows.count(torch.arange(len(rows))), "updates": updates, "kept": kept}


class _PaddedRows:
    """The padded rows of a step."""

    def __init__(self, rows: Sequence[RecordedRow], tokens: int, *, pairs: bool) -> None:
        self.tokens = tokens
        self.tokens_RT = pad_rows([row.ids for row in rows], torch.int64)
        self.trained_RT = pad_rows([row.trained for row in rows], torch.bool)
        self.trained_RT[:, 0] = False
        self.lengths_R = torch.tensor([len(row.ids) for row in rows])
        numbers: dict[Any, int] = {}
        passes = [numbers.setdefault(row.unit if pairs else place, len(numbers)) for place, row in enumerate(rows)]
        self.pass_R = torch.tensor(passes)

    def count(self, index: Tensor) -> Counted:
        """Count some rows on their own and as prefix trees."""
        read_R = self.lengths_R[index] - 1
        trie, tree = self.tree(index)
        two, _ = self.tree(index, prompts=True)
        units = groups(self.pass_R[index])
        lengths_R = self.lengths_R[index]
        packing = pack(self.tokens_RT[index], lengths_R, units, self.tokens)
        parts = microbatches(lengths_R, self.pass_R[index], max(self.tokens, int(lengths_R.max()) * 2), padded=True)
        return {
            "rows": len(index),
            "dense": [int(read_R.sum()), tree.dense_pairs, int(self.trained_RT[index].sum())],
            "padded": sum(int(read_R[part].max()) * len(part) for part in parts),
            "prefixes": trie,
            "prompts": two,
            "passes": len(packing.parts),
            "lost": packing.recomputed_tokens,
        }

    def tree(self, index: Tensor, *, prompts: bool = False) -> tuple[list[int], PrefixTree]:
        """Merge some rows, with ``prompts`` by whole prompts only; each predictor of a trained token counts once."""
        read_R = (self.lengths_R[index] - 1).numpy()
        trained_RT = self.trained_RT[index].numpy()
        prompt_R = prompt_lengths(trained_RT, read_R) if prompts else None
        tree = build(self.tokens_RT[index].numpy(), read_R, prompt_R)
        return [tree.size, tree.pairs, tree.predictors(trained_RT)], tree


def read(path: Path) -> tuple[list[RecordedRow], bool]:
    """Read rows or pairs of token ids; return the rows and whether they are pairs.

    Raises:
        RecipeError: RC845.
    """
    entries = [row for file in _files(path) for row in _rows(file)]
    pairs = {isinstance(row, list) for row in entries}
    if len(pairs) > 1:
        raise RecipeError(errors.no_ids(str(path), 0, "there are both rows and pairs"))
    rows = [row for one in entries for row in (one if isinstance(one, list) else [one])]
    if not rows:
        raise RecipeError(errors.no_ids(str(path), 0, "there are no rows"))
    return rows, pairs == {True}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # a run keeps the rows of evaluations in the same folder as those of its steps
    return sorted(path.glob("step-*.jsonl")) or sorted(path.glob("*.jsonl"))


def _rows(file: Path) -> Iterator[RecordedRow | list[RecordedRow]]:
    def broken(line: int, problem: str, _column: int = 1) -> Diagnostic:
        return errors.no_ids(str(file), line, problem)

    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecipeError(broken(0, error.strerror or str(error))) from None
    for line, row in read_objects(data.split(b"\n"), broken):
        try:
            yield _row(row, (file.name, line))
        except (ValueError, TypeError) as error:
            raise RecipeError(broken(line, str(error))) from None


def _row(value: Mapping[str, Any], place: tuple[str, int]) -> RecordedRow | list[RecordedRow]:
    prompt = _with_image_ids(token_ids(value, "prompt_ids"), value.get("images") or [])
    step = value.get("step") if "episode_step" in value or "ids" in value else 0
    step = step if isinstance(step, int) else 0
    if "chosen_ids" in value:
        answers = [token_ids(value, name) for name in ("chosen_ids", "rejected_ids")]
        return [_recorded_row(prompt, ids, [True] * len(ids), place, 0) for ids in answers]
    ids = token_ids(value, "ids")
    trained = trained_tokens(value, len(ids))
    unit = value.get("prompt_id")
    return _recorded_row(prompt, ids, trained, tuple(prompt) if unit is None else str(unit), step)


def _with_image_ids(prompt: list[int], images: Any) -> list[int]:
    """Return a prompt with one range of ids for each image: image tokens have the same ids in the file."""
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict) and "tokens" in image:
            begin, end = image["tokens"]
            drawn = rng_for(str(image.get("digest"))).integers(_IMAGES, LARGEST_ID, size=len(prompt[begin:end]))
            prompt = [*prompt[:begin], *drawn.tolist(), *prompt[end:]]
    return prompt


def _recorded_row(prompt: list[int], ids: list[int], trained: Sequence[Any], unit: Any, step: int) -> RecordedRow:
    if not prompt and not ids:
        raise ValueError("it has no tokens")
    return RecordedRow((*prompt, *ids), (*[False] * len(prompt), *map(bool, trained)), unit, step)
