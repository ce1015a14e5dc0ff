"""Commands that look at a recipe's data, rewards and environments without training: ``check`` and ``try``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from recipec.cli.commands import app
from recipec.cli.input_output import Format, Out, OutputFormat, Overrides, RecipePath, Use, compile_or_exit, show


def prepared(recipe: Path, overrides: list[str], use: list[Path], out: Path | None) -> tuple[Any, Any, Any]:
    """Compile and plan a recipe; return the result, the plan and the options of a run."""
    from recipec.reading.user_code import check_use
    from recipec.run.options import Options
    from recipec.run.run_plan import plan_run

    result = compile_or_exit(recipe, overrides)
    check_use(result.recipe.use, use, recipe.resolve().parent)
    folder = out or Path("runs") / result.graph.name
    options = Options(
        root=recipe.resolve().parent,
        out=folder,
        use=[path.resolve() for path in use],
        texts=result.texts,
        locate=lambda key: result.resolved.spans(tuple(key.split("."))),
    )
    return result, plan_run(result, folder), options


@app.command()
def check(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    out: Out = None,
    use: Use = [],  # noqa: B006
    form: OutputFormat = Format.text,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on warnings, too.")] = False,
) -> None:
    """Check what `run` checks before its first stage: packages, files, device, memory, disk, services, first rows.

    The first rows of every stage go through templates and tokenizer, every reward is called on fixed answers, and the
    user's environments are played. No weights are loaded and no run directory is written.
    """
    from recipec.run.check import check_all

    result, planned, options = prepared(recipe, overrides, use, out)
    found = check_all(result.graph, planned, options)
    bad = any(problem.is_error or strict for problem in found.problems)
    if form is Format.json:
        from recipec.diagnostics.formats import render

        print(json.dumps(json.loads(render(found.problems, {}, "json", valid=not bad)) | found.plain(), indent=2))
    else:
        if form is Format.text:
            print(found.text())
        show(found.problems, result.texts, form, valid=not bad)
    if form is Format.text and not bad:
        print("ready to run", file=sys.stderr)
    raise typer.Exit(1 if bad else 0)
