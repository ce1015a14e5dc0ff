"""Commands that look at the machine and at what a recipe reads, without training: ``doctor``, ``check``, ``try``."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from recipec.cli.commands import TableFormat, app
from recipec.cli.input_output import Format, Out, OutputFormat, Overrides, RecipePath, Use, compile_or_exit, show


def prepared(recipe: Path, overrides: list[str], use: list[Path], out: Path | None) -> tuple[Any, Any, Any]:
    """Compile and plan a recipe; return the result, the plan and the options of a run."""
    from recipec.host.options import Options
    from recipec.reading.user_code import check_use
    from recipec.run.run_plan import plan_run

    result = compile_or_exit(recipe, overrides)
    check_use(result.recipe.use, use, recipe.resolve().parent, result.spans)
    folder = out or Path("runs") / result.graph.name
    options = Options(
        root=recipe.resolve().parent,
        out=folder,
        use=[path.resolve() for path in use],
        texts=result.texts,
        locate=result.spans,
        allowed={name: stage.allow for name, stage in result.recipe.stages.items()},
    )
    return result, plan_run(result, folder), options


@app.command()
def doctor(
    form: Annotated[TableFormat, typer.Option("--format", help="Lines of text, or JSON.")] = TableFormat.text,
) -> None:
    """Show versions, devices, memory and disk of this machine, and which extras are installed."""
    from recipec.run.doctor import examine

    facts = examine(Path.cwd())
    print(facts.to_json() if form is TableFormat.json else facts.text())


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
    from recipec.host.interrupts import ending_at_once
    from recipec.host.progress import Progress

    display = Progress()
    display.say(f"reading {recipe}")  # before anything that takes time, such as imports
    from recipec.run.check import check_all

    result, planned, options = prepared(recipe, overrides, use, out)
    # what the user's code prints is not the result
    with redirect_stdout(sys.stderr), ending_at_once("nothing is lost"):
        checked = check_all(result.graph, planned, options, display.say)
    bad = any(problem.is_error or strict for problem in checked.problems)
    if form is Format.json:
        from recipec.diagnostics.formats import render

        print(json.dumps(json.loads(render(checked.problems, {}, "json", valid=not bad)) | checked.plain(), indent=2))
    else:
        if form is Format.text:
            print(checked.text())
        show(checked.problems, result.texts, form, valid=not bad, root=options.root)
    if form is Format.text and not bad:
        print("ready to run", file=sys.stderr)
    raise typer.Exit(1 if bad else 0)


@app.command(name="try")
def try_(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    use: Use = [],  # noqa: B006
    answers: Annotated[
        list[str], typer.Option("--answer", help="Answer, or action of an environment, to try; repeatable.")
    ] = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option("--stage", help="Stage; all by default.")] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="Lines of text, or one JSON object per line.")
    ] = TableFormat.text,
) -> None:
    """Call rewards and environments on the first rows with given or fixed answers, without a model.

    Shows the prompt, the answer, the columns, what every reward returned and what the environment answered.
    """
    from dataclasses import asdict

    from recipec.host.artifacts import RunFolder
    from recipec.host.interrupts import ending_at_once
    from recipec.host.packages import runtime_packages
    from recipec.host.progress import Progress
    from recipec.host.waits import watching
    from recipec.run.check import located

    result, _, options = prepared(recipe, overrides, use, None)
    with runtime_packages():
        from recipec.runtime.trial.rows import try_graph
    names = [one.name for one in result.graph.stages if stage in (None, one.name)]
    # what the user's code prints is not the result
    with redirect_stdout(sys.stderr), ending_at_once("nothing is lost"), watching(Progress().say):
        tried = try_graph(result.graph, RunFolder(options.out), options, names, answers, every_environment=True)
    for one in tried:
        for answered in one.answered:
            if form is TableFormat.json:
                print(json.dumps({"key": one.key, **asdict(answered)}, ensure_ascii=False, default=str))
            else:
                print("\n".join([one.key, *(f"  {name:<8} {text}" for name, text in answered.lines()), ""]))
    problems = [located(problem, options.locate) for one in tried for problem in one.problems]
    show(problems, result.texts, valid=not any(problem.is_error for problem in problems), root=options.root)
    if not problems and not any(one.answered for one in tried):
        print("nothing to try: no stage has a reward", file=sys.stderr)
    raise typer.Exit(1 if any(problem.is_error for problem in problems) else 0)
