"""What can go wrong with the credit of rows, and with rows that were recorded: RC795 to RC799."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.errors.data import at
from recipec.diagnostics.model import Finding, diagnostic


def _line(file: str, line: int) -> str:
    return f"line {line}: " if file else ""


@diagnostic("RC795", "state-not-text")
def state_not_text(kind: str, file: str = "", line: int = 0) -> Finding:
    """States are to be compared by similarity, and one of them is no text.

    What it checks: every state under `grouping: {type: anchor_state, match: similarity}`.
    Why it matters: how alike two states are is counted in characters; numbers and mappings have none.
    Example: an environment whose state is a list of numbers, with `match: similarity`.
    Use instead: `match: exact`.
    """
    return Finding(
        f"{_line(file, line)}a state is `{kind}`, and only text can be matched by similarity",
        at(file, line),
        why="how alike two states are is counted in characters",
        help="set grouping.match to `exact` and drop `threshold`",
    )


@diagnostic("RC796", "bad-state")
def bad_state(kind: str, problem: str, file: str = "", line: int = 0) -> Finding:
    """A state cannot be compared with others.

    What it checks: every state under `grouping: {type: anchor_state}`: text, a number, or lists and mappings of them.
    Why it matters: rows are grouped by equal states.
    Example: an environment of your own whose state is an object.
    Use instead: data that JSON could hold.
    """
    return Finding(
        f"{_line(file, line)}a state of type `{kind}` cannot be compared: {problem}",
        at(file, line),
        help="make it text, numbers, or lists",
    )


@diagnostic("RC797", "bad-recorded-row")
def bad_row(file: str, line: int, problem: str) -> Finding:
    """A recorded row cannot be read.

    What it checks: every line given to `recipec credit`: a JSON object with a `reward`; ids are text or numbers,
    `step` a whole number, `action_valid` true or false; a row that repeats prompt, episode and step has the same
    reward.
    Why it matters: a row that is left out would change the credit of all others of its groups.
    Example: `{"prompt_id": 1, "reward": "high"}`.
    Use instead: a number; `null` for a row that could not be scored.
    """
    where = f"line {line}: " if line else ""
    return Finding(f"{where}{problem}", at(file, line), help="one JSON object a line, with `reward` and ids")


@diagnostic("RC798", "which-stage")
def which_stage(name: str | None, names: Sequence[str]) -> Finding:
    """The stage whose credit is asked for is not there, or one of several.

    What it checks: `--stage` of `recipec credit` against the recipe's rl stages; others have no credit.
    Why it matters: stages may credit the same rows differently.
    Example: `recipec credit recipe.yaml rows.jsonl` with two rl stages.
    Use instead: `--stage` with one of their names.
    """
    listed = ", ".join(f"`{one}`" for one in names) or "none"
    said = f"the recipe has no rl stage `{name}`" if name else f"the recipe has {len(names)} rl stages"
    return Finding(f"{said}, and credit is that of one", help=f"name one with --stage: it has {listed}")


@diagnostic("RC799", "row-lacks-column")
def column_missing(file: str, line: int, column: str) -> Finding:
    """A recorded row lacks what the recipe's credit asks for.

    What it checks: the columns of every row against the groups, scores and returns that the stage's levels name.
    Why it matters: rows without an id would all be one group.
    Example: a row without `tree_id` under `group: by_tree_R`; without `state` under `grouping: {type: anchor_state}`;
    without `response_len` or `ids` under `combine: per_token`; without `action_valid` under a penalty; any row under a
    level that compares what only a model gives.
    Use instead: rows with the column, or a recipe that does not ask for it.
    """
    other = " (or `ids`)" if column == "response_len" else ""
    whose = f"line {line}: the row has" if file else "recorded rows have"
    return Finding(
        f"{whose} no `{column}`{other}, and the recipe's credit asks for it",
        at(file, line),
        help=f"add `{column}`, or use a recipe whose levels do not need it" if file else "use a recipe without it",
    )
