"""What can go wrong with rows whose sharing is measured: RC845 and RC846."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.errors.data import at
from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC845", "rows-without-ids")
def no_ids(file: str, line: int, problem: str) -> Finding:
    """A row given to `plan --rows` is not made of token ids.

    What it checks: every line: a JSON object with `prompt_ids` and `ids`, as a run writes its `samples/`, or with
    `prompt_ids`, `chosen_ids` and `rejected_ids`, as it writes pairs; `trained` has an entry for each of `ids`.
    Why it matters: what rows share is counted in tokens, and text has as many as the tokenizer of the run made of it.
    Example: `{"prompt": "2+2=", "completion": "4"}`.
    Use instead: the folder `stages/STAGE/samples` of a run, or a file of it.
    """
    where = f"line {line}: " if line else ""
    return Finding(f"{where}{problem}", at(file, line), help="give the `samples` of a run, or rows with token ids")


@diagnostic("RC846", "rows-of-which-stage")
def which_stage(name: str | None, names: Sequence[str], kind: str) -> Finding:
    """The stage that rows are measured for is not there, or one of several.

    What it checks: `--stage` of `recipec plan --rows` against the recipe's stages that train on such rows.
    Why it matters: stages cut rows into updates differently, and train different models.
    Example: `recipec plan recipe.yaml --rows rows.jsonl` with two rl stages.
    Use instead: `--stage` with one of their names.
    """
    known = ", ".join(f"`{one}`" for one in names) or "none"
    said = f"stage `{name}` is none of those" if name is not None else "the stage must be named"
    return Finding(f"{said} that train on {kind}: {known}", help="give `--stage` one of these names")
