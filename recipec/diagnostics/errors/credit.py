"""Credit of rows, recorded rows and the stage they belong to: RC796 to RC799."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Diagnostic, Finding, diagnostic, file_span
from recipec.diagnostics.phrases import listed


def _line(line: int) -> str:
    return f"line {line}: " if line else ""


@diagnostic("RC796", "bad-state")
def bad_state(kind: str, problem: str, file: str = "", line: int = 0) -> Finding:
    """A state under `grouping: {type: anchor_state}` cannot be compared with others.

    What it checks: a state is text, a number, or lists and mappings of them; with `match: similarity` it is text.
    Why it matters: rows are grouped by equal states, or by states with similar characters.
    Example: an environment of your own with an object as state; a list of numbers with `match: similarity`.
    How to fix: return states that JSON can hold; use `match: exact`, without `threshold`, for those that are not text.
    """
    return Finding(f"{_line(line)}a state of type `{kind}` cannot be compared: {problem}", file_span(file, line))


@diagnostic("RC797", "bad-recorded-row")
def bad_row(file: str, line: int, problem: str, why: str = "", remedy: str = "") -> Finding:
    """A recorded row given to `recipec credit` cannot be read.

    What it checks: every line is a JSON object with a `reward`; ids are text or numbers, `step` is an integer,
    `action_valid` is true or false; rows of the same prompt, episode and step have the same reward.
    Why it matters: skipping the row would change the credit of all other rows of its groups.
    Example: `{"prompt_id": 1, "reward": "high"}`.
    How to fix: write one JSON object per line, with `reward` and ids; the reward of a row that could not be scored is
    `null`.
    """
    return Finding(f"{_line(line)}{problem}", file_span(file, line), why=why, help=remedy)


def no_recorded_rows(path: str) -> Diagnostic:
    """Return RC797 for a file or a folder without rows."""
    remedy = "give the folder `runs/NAME/stages/STAGE/samples` of a run, or a JSONL file of rows"
    return bad_row(path, 0, "there are no rows", "credit is computed from recorded rows", remedy)


@diagnostic("RC798", "which-stage")
def which_stage(name: str | None, names: Sequence[str], what: str) -> Finding:
    """The stage given by `--stage` does not exist or is of another kind, or several stages are possible.

    Why it matters: each stage has its own credit, model and batches, so the result depends on the stage.
    Example: `recipec credit recipe.yaml rows.jsonl` for a recipe with two rl stages.
    How to fix: give the name of one of the stages with `--stage`.
    """
    if not names:
        return Finding(f"the recipe has no {what}", help="use a recipe with such a stage")
    return Finding(f"`--stage` must name one {what}: {listed(names)}" + (f"; it is `{name}`" if name else ""))


@diagnostic("RC799", "row-lacks-column")
def column_missing(file: str, line: int, column: str) -> Finding:
    """A recorded row lacks a column that the recipe's advantage, grouping or returns need.

    Why it matters: rows without an id, for example, would all be one group.
    Example: a row without `tree_id` under `group: by_tree_R`; without `state` under `grouping: {type: anchor_state}`;
    without `response_len` or `ids` under `combine: per_token`; any row under a level that compares what only a model
    computes.
    How to fix: add the column to the rows, or use a recipe that does not need it.
    """
    other = " (or `ids`)" if column == "response_len" else ""
    rows = f"{_line(line)}the row has" if file else "recorded rows have"
    remedy = "" if file else "use a recipe that does not need it"
    return Finding(f"{rows} no `{column}`{other}, which the recipe's credit needs", file_span(file, line), help=remedy)
