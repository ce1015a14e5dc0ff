"""The user's own functions, known by their text alone: RC622."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from recipec.diagnostics import Finding, Refused, check
from recipec.faults.data import nearest
from recipec.own import Signature, functions_in
from recipec.passes.facts import dotted, place
from recipec.passes.paths import rebased
from recipec.passes.reading import Reading

# No file of reward functions is a megabyte, and checking stays quick whoever wrote the recipe.
_LARGEST = 1 << 20


@check("RC622", "own-function")
def own_function(reading: Reading) -> Iterator[Finding]:
    """A reward calls a function that the recipe's own files do not have, or that cannot be called.

    What it checks: the files under `use`, read as text and never run: each is Python, one of them has the function at
    its top level, and its parameters are those of TRL (`prompts`, `completions`) or of verl (`solution_str`).
    Files that are not there, or not below the recipe, are left to `run`.
    Why it matters: otherwise the mistake shows after the model has answered the first prompts.
    Example: `reward: {total: {type: function, name: invoice_totals}}` for `def invoice_total`.
    Use instead: the function's name; `f(prompts, completions, **columns)` or
    `compute_score(data_source, solution_str, ground_truth, extra_info)`.
    """
    use = reading.resolved.data.get("use")
    if not isinstance(use, list) or reading.fragment or not reading.resolved.files:
        return
    root = reading.resolved.files[0]
    found: dict[str, Signature] = {}
    whole = True
    for number, entry in enumerate(use):
        said = rebased(str(entry), reading.resolved.file(("use", number)), root)
        path = Path(root).parent / said
        if posixpath.normpath(said).startswith(("..", "/")) or not path.is_file() or path.stat().st_size > _LARGEST:
            whole = False
            continue
        try:
            found |= functions_in(path, posixpath.normpath(posixpath.join(posixpath.dirname(root), said)))
        except Refused as refused:
            problem = refused.diagnostics[0]
            yield Finding(problem.message, (*place(reading, ("use", number)), *problem.spans), path=f"use.{number}")
            whole = False
    for part in reading.parts:
        if part.slot == "reward" and part.name == "function" and part.spec is not None:
            problems = _problem(reading, (*part.path, "name"), str(getattr(part.spec, "name", "")), found, whole=whole)
            yield from problems


def _problem(
    reading: Reading, path: tuple[str | int, ...], name: str, found: dict[str, Signature], *, whole: bool
) -> Iterator[Finding]:
    spans = place(reading, path)
    public = [known for known in found if not known.startswith("_")]
    if name not in public:
        if whole:
            listed = ", ".join(f"`{known}`" for known in public) or "none"
            yield Finding(
                f"there is no reward function `{name}`",
                spans,
                why="functions are looked up at the top level of the files under `use`",
                help=f"{nearest(name, public)} the files have {listed}".strip(),
                path=dotted(path),
            )
    elif found[name].form is None:
        yield Finding(
            f"the reward function `{name}` takes neither `completions` nor `solution_str`",
            (*spans, *found[name].spans),
            why="it could not be given the answers",
            help="write `f(prompts, completions, **columns)` or `compute_score(data_source, solution_str, …)`",
            path=dotted(path),
        )
