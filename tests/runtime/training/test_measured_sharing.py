"""What recorded rows share, counted minibatch by minibatch as a recipe's budget cuts them."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.built_recipes import dpo, part, recipe, rl

from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph
from recipec.lowering.lower import lower
from recipec.runtime.training.measured_sharing import counted, read
from recipec.spec.recipe import Budget

ROWS = [
    {"step": 0, "prompt_id": p, "prompt_ids": [9, p], "ids": [p, answer, 5], "trained": [1, 1, 0]}
    for p in (1, 2)
    for answer in (3, 4)
]


def graph(**budget: Any) -> Graph:
    """A stage with two prompts a step."""
    made = Budget(steps=5, prompts_per_step=2, **{"microbatch_tokens": 64, **budget})
    sampler = part("sampler", "chain", num_generations=2, max_completion_length=3)
    return lower(recipe(a=rl(budget=made, sampler=sampler)))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows, one a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prefixes(rows: list[dict[str, Any]]) -> set[tuple[int, ...]]:
    """Every beginning of what is read of some rows: the unique tokens of their trie."""
    whole = [[*row["prompt_ids"], *row["ids"]][:-1] for row in rows]
    return {tuple(row[: i + 1]) for row in whole for i in range(len(row))}


def test_tokens_pairs_and_logits_are_those_of_the_trie(tmp_path: Path) -> None:
    """Unique tokens are distinct beginnings; a predictor of two rows' trained tokens counts once."""
    name, (step,) = counted(graph(), written(tmp_path / "rows.jsonl", ROWS))
    unique = prefixes(ROWS)
    trained = {tuple([*row["prompt_ids"], *row["ids"]][:i]) for row in ROWS for i in (2, 3)}
    assert name == "a"
    assert step["dense"] == [4 * 4, 4 * 10, 4 * 2]
    assert step["prefixes"] == [len(unique), sum(map(len, unique)), len(trained)]
    assert (step["rows"], step["padded"], step["passes"], step["lost"], step["kept"]) == (4, 16, 1, 0, None)
    assert [update["rows"] for update in step["updates"]] == [4]


def test_tokens_of_other_images_are_not_shared(tmp_path: Path) -> None:
    """Prompts of equal ids share what stands before their images, and the images where they are the same."""
    said = [{"path": name, "digest": name, "tokens": [1, 3]} for name in "aab"]
    rows = [{"step": 0, "prompt_id": 1, "prompt_ids": [9, 7, 7, 2], "ids": [3, 5], "images": [s]} for s in said]
    _, (step,) = counted(graph(), written(tmp_path / "rows.jsonl", rows))
    assert step["prefixes"][0] == 1 + 2 * 4  # the first token, then 7 7 2 3 for each of two images


def test_the_two_level_form_shares_whole_prompts(tmp_path: Path) -> None:
    """What two prompts have in common is computed for each, and so is what two answers begin with."""
    _, (step,) = counted(graph(), written(tmp_path / "rows.jsonl", ROWS))
    assert step["prompts"][0] == 2 * (2 + 2 * 2)
    assert step["prefixes"][0] == 1 + 2 * (1 + 1 + 2)


def test_updates_are_those_of_a_run(tmp_path: Path) -> None:
    """One update a prompt; shuffled ones lose what groups share, and what that is is told."""
    rows = written(tmp_path / "rows.jsonl", ROWS)
    _, (whole,) = counted(graph(rows_per_update=2), rows)
    _, (dealt,) = counted(graph(rows_per_update=2, shuffle_rows=True), rows)
    assert [update["prefixes"][0] for update in whole["updates"]] == [5, 5]
    assert dealt["kept"][0] == 10
    assert sum(update["prefixes"][0] for update in dealt["updates"]) >= 10
    assert sum(update["dense"][0] for update in dealt["updates"]) == whole["dense"][0]


def test_what_a_cut_costs_is_told(tmp_path: Path) -> None:
    """Forward passes of seven tokens: a group each, and the token that both prompts begin with again."""
    _, (step,) = counted(graph(microbatch_tokens=7), written(tmp_path / "rows.jsonl", ROWS))
    assert (step["passes"], step["lost"]) == (2, 1)


def test_a_folder_is_its_training_steps(tmp_path: Path) -> None:
    """Rows of evaluations, which a run keeps beside those of its steps, are left out."""
    written(tmp_path / "step-000000.jsonl", ROWS)
    written(tmp_path / "step-000001.jsonl", [{**row, "step": 1} for row in ROWS[:2]])
    written(tmp_path / "eval-000001.jsonl", ROWS)
    _, steps = counted(graph(), tmp_path)
    assert [(step["step"], step["rows"]) for step in steps] == [(0, 4), (1, 2)]


def test_pairs_are_two_rows(tmp_path: Path) -> None:
    """A preference's pairs belong to the dpo stage, and stay together."""
    pairs = [{"prompt_ids": [9, p], "chosen_ids": [3, 5], "rejected_ids": [4, 5]} for p in (1, 2)]
    built = lower(recipe(b=dpo(budget=Budget(epochs=1, pairs_per_step=2, microbatch_tokens=6))))
    name, (step,) = counted(built, written(tmp_path / "pairs.jsonl", pairs))
    assert (name, step["rows"], step["dense"][0], step["prefixes"][0]) == ("b", 4, 12, 1 + 2 * 3)
    assert step["passes"] == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "a JSON object is needed, this is a list"),
        ("{", "line 1"),
        ('{"prompt": "a", "completion": "b"}', "`prompt_ids`"),
        ('{"prompt_ids": [1], "ids": [1.5]}', "`ids`"),
        ('{"prompt_ids": [1], "ids": [-1]}', "`ids`"),
        ('{"prompt_ids": [1], "ids": [1, 2], "trained": [1]}', "different lengths"),
        ('{"prompt_ids": [], "ids": []}', "no tokens"),
        ("", "no rows"),
        ('{"prompt_ids": [1], "ids": [2]}\n{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}', "both"),
    ],
)
def test_rows_without_ids_are_refused(tmp_path: Path, line: str, words: str) -> None:
    """Bad rows are named with their line."""
    (tmp_path / "rows.jsonl").write_text(line)
    with pytest.raises(RecipeError) as refused:
        read(tmp_path / "rows.jsonl")
    assert refused.value.diagnostics[0].code == "RC845"
    assert words in refused.value.diagnostics[0].message


def test_the_stage_must_be_clear(tmp_path: Path) -> None:
    """Rows of two rl stages, or of a stage that is not there."""
    rows = written(tmp_path / "rows.jsonl", ROWS)
    two = lower(recipe(a=rl(), b=rl("a")))
    for name in (None, "c"):
        with pytest.raises(RecipeError) as refused:
            counted(two, rows, name)
        assert refused.value.diagnostics[0].code == "RC798"
    assert counted(two, rows, "b")[0] == "b"
