"""Commands that take a run: ``export``, ``diff``, ``evaluate`` and ``lock``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from recipec.cli.commands import TableFormat, app
from recipec.cli.input_output import Out, Overrides, RecipePath, Use, compile_or_exit, show, writing
from recipec.cli.trial_commands import prepared

RunPath = Annotated[Path, typer.Argument(help="Run directory.", show_default=False)]
StageName = Annotated[str | None, typer.Option("--stage", help="Stage; the last one by default.")]


@app.command()
def export(
    run: RunPath,
    to: Annotated[
        str | None, typer.Option("--to", help="Folder to create, RUN/export by default; or hub:OWNER/NAME.")
    ] = None,
    stage: StageName = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add a LoRA adapter to the weights under it.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Create a public repository of the hub.")] = False,
) -> None:
    """Write the trained model into a folder that other tools load, with a model card made from the run."""
    from recipec.report.page import problems
    from recipec.run.export import export as write
    from recipec.run.hub_upload import HUB, upload

    if to is not None and to.startswith(HUB):
        print(upload(run, to.removeprefix(HUB), stage, merge=merge, public=public))
        return
    folder = run / "export" if to is None else Path(to)
    with writing(folder):
        print(write(run, folder, stage, merge=merge))
    show(problems(run), {}, valid=True)


@app.command()
def lock(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    use: Use = [],  # noqa: B006
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write; by default the recipe's name with .lock.")
    ] = None,
) -> None:
    """Write hashes of data, models and code and the versions of packages; `run --locked` refuses what differs."""
    from recipec.run.launching import RunArguments, prepare
    from recipec.run.lock import lock_path, write_lock

    result = compile_or_exit(recipe, overrides)
    arguments = RunArguments(recipe, tuple(overrides), use=tuple(use))
    path = to or lock_path(recipe)
    write_lock(prepare(arguments, (result, result.graph)), path)
    print(path)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="Recipe file or run directory.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Recipe file or run directory.", show_default=False)],
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    form: Annotated[TableFormat, typer.Option("--format", help="Lines of text, or JSON.")] = TableFormat.text,
) -> None:
    """Compare two recipes or runs: which differences change the results, and which speed alone; exit 1 if any does."""
    from recipec.run.diff import compare

    comparison = compare(before, after, tuple(overrides))
    print(comparison.to_json() if form is TableFormat.json else comparison.text())
    raise typer.Exit(0 if comparison.same else 1)


@app.command()
def evaluate(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    out: Out = None,
    use: Use = [],  # noqa: B006
    model: Annotated[
        str | None, typer.Option("--model", help="Evaluate this model instead: a folder, org/name or package:NAME.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also make evaluations that the run has.")] = False,
    form: Annotated[TableFormat, typer.Option("--format", help="A table, or JSON.")] = TableFormat.text,
) -> None:
    """Make the evaluations that finished stages of a run lack, or all of them for another model."""
    from recipec.host.interrupts import ending_at_once
    from recipec.host.progress import Progress
    from recipec.host.waits import watching
    from recipec.run.evaluate import evaluate_model, evaluate_run, table

    result, _, options = prepared(recipe, overrides, use, out)
    display = Progress()
    with ending_at_once("evaluations that were finished are kept"), watching(display.say):
        if model is not None:
            scores = evaluate_model(result.graph, options, display, model)
            print(json.dumps(scores) if form is TableFormat.json else table(scores))
            return
        evaluated = evaluate_run(result.graph, options, display, again=again)
    if evaluated is not None:
        print(evaluated.to_json() if form is TableFormat.json else evaluated.text())
