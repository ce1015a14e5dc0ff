"""Compile and run LLM post-training recipes.

Results are written to stdout, diagnostics and progress to stderr.

Exit codes: 0 success; 1 the recipe has errors, or the run cannot start; 2 wrong usage; 3 internal error; 4 the run
failed, and completed work is kept; 5 `plan --detailed-exitcode` found stages to run; 75 the run stopped after a
checkpoint: run the same command again to continue; 130 and 143 Ctrl-C and SIGTERM ended it at once; 141 the reader of
a pipe went away.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recipec.cli.input_output import (
    STDIN,
    Format,
    Out,
    OutputFormat,
    Overrides,
    RecipePath,
    Use,
    compile_or_exit,
    is_recipe,
    of_another_tool,
    recipes_in,
    show,
    standard_input,
    writing,
)
from recipec.diagnostics.model import Diagnostic

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(requested: bool) -> None:
    """Print the version and exit."""
    if requested:
        from importlib.metadata import version

        print(version("recipec"))
        raise typer.Exit


@app.callback(help=__doc__)
def common_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accept the options before the command."""


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Recipe files or directories; - reads standard input.")],
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    form: OutputFormat = Format.text,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on warnings, too.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the edits that messages bring, then check again.")] = False,
    only_recipes: Annotated[
        bool, typer.Option("--only-recipes", help="Leave out YAML files without the key `recipec`.")
    ] = False,
) -> None:
    """Check recipes and fragments; models and data are not opened, and files of `use` are read, not executed."""
    from recipec.compile import check_recipe

    files = [path for path in recipes_in(paths) if not only_recipes or is_recipe(path)]
    if not files and only_recipes:
        show([], {}, form, valid=True)
        print("no recipes among the files", file=sys.stderr)
        raise typer.Exit
    if not files:
        print("no .yaml files to check", file=sys.stderr)
        raise typer.Exit(2)
    diagnostics: list[Diagnostic] = []
    texts: dict[str, str] = {}
    for path in files:
        text = standard_input() if str(path) == STDIN else None
        if fix and text is None:
            apply_fixes(path, overrides)
        result = check_recipe(Path("<stdin>") if text is not None else path, overrides, text=text)
        diagnostics += of_another_tool(path, result)
        texts |= result.texts
    bad = any(d.is_error or strict for d in diagnostics)
    show(diagnostics, texts, form, valid=not bad)
    if not diagnostics and form is Format.text:
        print(f"{len(files)} file{'s' if len(files) > 1 else ''} valid", file=sys.stderr)
    raise typer.Exit(1 if bad else 0)


def apply_fixes(path: Path, overrides: list[str]) -> None:
    """Write the edits of a recipe's messages into its file, until none is left; an edit may uncover another."""
    from recipec.compile import check_recipe
    from recipec.diagnostics.fixes import fixed_texts

    for _ in range(10):
        result = check_recipe(path, overrides)
        text, count = fixed_texts(result.texts, result.diagnostics).get(str(path), ("", 0))
        if not count:
            break
        with writing(path):
            path.write_text(text, encoding="utf-8")
        print(f"{path}: {count} fixed", file=sys.stderr)
    if left := len(result.diagnostics):
        print(f"{path}: {left} to decide, for which there is no single edit", file=sys.stderr)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    form: OutputFormat = Format.text,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 5 if any stage would run.")
    ] = False,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Recorded rollouts of a run: measure their prefix sharing.")
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Stage of --rows, if the recipe has several.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine for a few seconds, and add times to the plan.")
    ] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a Slurm batch file that runs the recipe on its nodes instead.")
    ] = False,
) -> None:
    """Show which stages will run or be skipped and why, their cost, and the optimisations."""
    from recipec.planning.plan_text import render_plan
    from recipec.run.run_plan import plan_run
    from recipec.run.slurm import batch_file

    result = compile_or_exit(recipe, overrides)
    if slurm:
        print(batch_file(result.graph, recipe, overrides, out), end="")
        raise typer.Exit
    recorded = (rows, stage) if rows is not None else None
    planned = plan_run(result, out or Path("runs") / result.graph.name, recorded)
    if measure:
        from recipec.run.machine_time import add_times

        planned = add_times(planned, result.graph, recipe.resolve().parent)
    print(planned.to_json() if form is Format.json else render_plan(planned))
    raise typer.Exit(5 if detailed_exitcode and planned.changes else 0)


class Emit(StrEnum):
    """Output of ``compile``."""

    json = "json"
    mermaid = "mermaid"
    text = "text"
    recipe = "recipe"


@app.command(name="compile")
def compile_(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    emit: Annotated[
        Emit, typer.Option("--emit", help="The graph, or the resolved recipe with the origin of each key.")
    ] = Emit.text,
) -> None:
    """Print the graph, or the resolved recipe with the origin of every key."""
    from recipec import graph as graphs, graph_drawing

    result = compile_or_exit(recipe, overrides)
    match emit:
        case Emit.json:
            print(graphs.to_json(result.graph))
        case Emit.mermaid:
            print(graph_drawing.to_mermaid(result.graph))
        case Emit.text:
            print(graph_drawing.to_text(result.graph))
        case Emit.recipe:
            print(result.resolved.listing())


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    use: Use = [],  # noqa: B006
    replace: Annotated[
        bool, typer.Option("--replace", help="Run changed stages again; previous results are kept under a new name.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print progress.")] = False,
    each: Annotated[
        list[str],
        typer.Option("--each", help="Run every combination of these values, e.g. seed=0,1,2; repeatable."),
    ] = [],  # noqa: B006
    locked: Annotated[
        bool, typer.Option("--locked", help="Refuse to run if anything differs from the lock file of the recipe.")
    ] = False,
) -> None:
    """Run a recipe, or continue an interrupted run; with --each, one run for each combination of values."""
    from recipec.host.progress import Progress
    from recipec.host.ranks import place

    leads = place().leads
    display = Progress(quiet=quiet or not leads)
    display.say(f"reading {recipe}")  # before anything that takes time, such as imports
    from recipec.run.launching import RunArguments, prepare, run_prepared

    text, place_of_text = (standard_input(), Path("<stdin>")) if str(recipe) == STDIN else (None, recipe)
    arguments = RunArguments(place_of_text, tuple(overrides), out, tuple(use), replace, quiet, text)
    if each and locked:
        raise typer.BadParameter("a lock file is for one run", param_hint="'--each'")
    if each:
        from recipec.cli.sweep_output import run_each

        raise typer.Exit(run_each(arguments, each, display))
    result = compile_or_exit(recipe, overrides, text)
    prepared = prepare(arguments, (result, result.graph))
    if locked:
        from recipec.run.lock import check_lock, lock_path

        check_lock(prepared, lock_path(recipe))
    outcome = run_prepared(prepared, arguments, display)
    if leads:
        root = prepared.options.root
        show(outcome.diagnostics, prepared.options.texts, valid=outcome.finished, root=root)
    if any(d.is_error for d in outcome.diagnostics):
        raise typer.Exit(4 if outcome.started else 1)
    folder = prepared.options.out
    if not outcome.finished:
        display.say(f"stopped; run the same command again to continue ({folder})")
        raise typer.Exit(75)
    display.say(f"done: {folder}/model, {folder}/report.html")


TableFormat = StrEnum("TableFormat", ["text", "json"])


@app.command()
def credit(
    recipe: RecipePath,
    rows: Annotated[
        Path, typer.Argument(help="Rollouts as JSONL, the samples folder of a run, or - for standard input.")
    ],
    overrides: Overrides = [],  # noqa: B006
    stage: Annotated[
        str | None, typer.Option("--stage", help="Stage, if the recipe has several with advantages.")
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="A table, or one JSON object per line.")
    ] = TableFormat.text,
) -> None:
    """Compute the advantages of recorded rollouts, without a model."""
    from recipec.cli.tables import credit_json, credit_table
    from recipec.host.packages import runtime_packages

    result = compile_or_exit(recipe, overrides)
    with runtime_packages():
        from recipec.runtime.objective.recorded_rollouts import credit as recompute
    credited = recompute(result.graph, rows, stage)
    for line in (credit_json if form is TableFormat.json else credit_table)(credited):
        print(line)


@app.command()
def certify(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option("--stage", help="Stage, if the recipe has several.")] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Recorded rollouts of a run; random ones by default.")
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="Lines of text, or one JSON object.")
    ] = TableFormat.text,
) -> None:
    """Check that prefix sharing gives the results of separate sequences for this recipe's model; exit 1 if not."""
    from recipec.cli.tables import certified
    from recipec.host.packages import runtime_packages

    result = compile_or_exit(recipe, overrides)
    with runtime_packages():
        from recipec.runtime.attention.certification.verb import certify as compare
    certificate = compare(result.graph, Path(result.resolved.files[0]).resolve().parent, stage, rows)
    print(certified(certificate, as_json=form is TableFormat.json))
    raise typer.Exit(0 if certificate["equal"] else 1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, and folders of sweeps.")],
    to: Annotated[Path, typer.Option("--to", help="Page that compares several runs.")] = Path("comparison.html"),
) -> None:
    """Write report.html of runs, and for several runs a page that compares them."""
    from recipec.report import compare
    from recipec.report.page import problems, write

    runs = [run for folder in runs for run in compare.runs_in(folder)]
    for folder in runs:
        with writing(folder):
            print(write(folder))
        show(problems(folder), {}, valid=True)
    if len(runs) > 1:
        with writing(to):
            print(compare.write(runs, to))


@app.command()
def new(
    template: Annotated[
        str,
        typer.Argument(
            help="What to start from: reward (your data and reward), environment (your environment), chat (SFT, then "
            "DPO on your pairs), maths (GRPO), tiny/dermiq (vision), tiny/tree_grpo (agents with search), or any of "
            "`recipec ls recipes`."
        ),
    ] = "tiny/quickstart",
    dest: Annotated[Path, typer.Argument(help="File to create.")] = Path("recipe.yaml"),
) -> None:
    """Create a recipe from a shipped one, with the files that it names."""
    from recipec.catalogue.starters import starter, starters

    files = starter(template, dest)
    if files is None:
        known = ", ".join(starters())
        print(f"unknown recipe `{template}`; start from {known}, or one of `recipec ls recipes`", file=sys.stderr)
        raise typer.Exit(2)
    if existing := [path for path, content in files.items() if differs(path, content)]:
        elsewhere = dest.parent / Path(template).stem / dest.name
        remedy = f"write into a folder without it: recipec new {template} {elsewhere}"
        print(f"{existing[0]} already exists, and is not overwritten; {remedy}", file=sys.stderr)
        raise typer.Exit(1)
    for path, content in files.items():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    shown = [path for path in files if path.suffix not in {".png", ".jpg"} and path.parent.name != ".recipec"]
    for path in shown:
        print(f"wrote {path}", file=sys.stderr)
    use = "".join(f" --use {path}" for path in files if path.suffix == ".py")
    print(f"next: recipec check {dest}{use}, then recipec run {dest}{use}", file=sys.stderr)


def differs(path: Path, content: bytes) -> bool:
    """Whether a file is there with another content; schemas are written again."""
    return path.exists() and path.parent.name != ".recipec" and (path.is_dir() or path.read_bytes() != content)


@app.command()
def schema(
    which: Annotated[str, typer.Argument(help="recipe, fragment or graph")] = "recipe",
    write: Annotated[Path | None, typer.Option("--write", help="Write all schemas into this directory.")] = None,
) -> None:
    """Print a JSON Schema, or write all of them."""
    from recipec.catalogue import json_schema as schemas

    if write is not None:
        with writing(write):
            for path in schemas.write(write):
                print(path, file=sys.stderr)
        return
    text = schemas.text(which)
    if text is None:
        print(f"unknown schema `{which}`; choose recipe, fragment or graph", file=sys.stderr)
        raise typer.Exit(2)
    print(text)
