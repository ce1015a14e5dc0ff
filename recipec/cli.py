"""The verbs. Machine output goes to stdout, chatter to stderr; logic lives elsewhere.

Exit codes: 0 fine, 1 findings or refused before starting, 2 misuse, 3 our bug, 4 the run failed and what was done is
kept, 5 ``plan --detailed-exitcode`` sees work, 75 stopped after a committed checkpoint: run again.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recipec.diagnostics.model import Diagnostic, RecipeError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


def version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version as installed

        print(installed("recipec"))
        raise typer.Exit


@app.callback(help=__doc__)
def every_verb(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take what stands before the verb."""


class Format(StrEnum):
    """How diagnostics are written."""

    text = "text"
    concise = "concise"
    json = "json"
    github = "github"
    sarif = "sarif"


RecipePath = Annotated[Path, typer.Argument(help="Recipe file.", show_default=False)]
Overrides = Annotated[list[str], typer.Option("--set", help="Override a key: stages.explore.loss.epsilon=0.1")]
STDIN = "-"
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; runs/NAME beside you if absent.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="How diagnostics are written.")]


def show(
    diagnostics: Iterable[Diagnostic], texts: Mapping[str, str], form: Format = Format.text, *, valid: bool
) -> None:
    """Write diagnostics: text to stderr, what a machine reads to stdout."""
    from recipec.diagnostics.formats import render

    text = render(list(diagnostics), texts, form.value, valid=valid)
    if text:
        print(text, file=sys.stderr if form is Format.text else sys.stdout)


def recipes_in(paths: Sequence[Path]) -> list[Path]:
    """Files to check: a folder stands for every YAML file below it, hidden folders left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
            found += [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        else:
            found.append(path)
    return found


def standard_input() -> str:
    """Read a recipe from standard input; what is no UTF-8 is left to the reader of recipes to refuse."""
    stream = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if stream is None else stream.read().decode("utf-8", "surrogateescape")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what cannot be written.

    Raises:
        RecipeError: RC761.
    """
    try:
        yield
    except OSError as error:
        from recipec.diagnostics.errors.run import cannot_write

        raise RecipeError(cannot_write(str(error.filename or path), error.strerror or str(error))) from error


def compiled(path: Path, overrides: Sequence[str]) -> Any:
    """Compile one recipe or exit with its diagnostics."""
    from recipec.compile import compile_recipe

    text = standard_input() if str(path) == STDIN else None
    result = compile_recipe(Path("<stdin>") if text is not None else path, overrides, text=text)
    show(result.diagnostics, result.texts, valid=result.graph is not None)
    if result.graph is None:
        if result.ok:
            from recipec.diagnostics.errors.reading import no_stages
            from recipec.diagnostics.model import file_span

            raise RecipeError(no_stages("", file_span(str(path)), fragment=True))
        raise typer.Exit(1)
    return result


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders; - reads standard input.")],
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    form: OutputFormat = Format.text,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
) -> None:
    """Check recipes, fragments and folders; imports, opens and executes nothing they name."""
    from recipec.compile import check_recipe

    files = recipes_in(paths)
    if not files:
        print("nothing to check: no .yaml file there", file=sys.stderr)
        raise typer.Exit(2)
    found: list[Diagnostic] = []
    texts: dict[str, str] = {}
    for path in files:
        text = standard_input() if str(path) == STDIN else None
        result = check_recipe(Path("<stdin>") if text is not None else path, overrides, text=text)
        found += result.diagnostics
        texts |= result.texts
    bad = any(d.is_error or strict for d in found)
    show(found, texts, form, valid=not bad)
    if not found and form is Format.text:
        print(f"{len(files)} file{'s' if len(files) > 1 else ''} valid", file=sys.stderr)
    raise typer.Exit(1 if bad else 0)


@app.command()
def explain(code: Annotated[str, typer.Argument(help="Code such as RC204.")]) -> None:
    """Print the page of a code."""
    from recipec.catalogue.code_pages import page

    text = page(code)
    if text is None:
        print(f"there is no code {code}; `recipec ls codes` lists them", file=sys.stderr)
        raise typer.Exit(2)
    print(text)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    out: Out = None,
    form: OutputFormat = Format.text,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 5 if anything would run.")
    ] = False,
    rows: Annotated[Path | None, typer.Option("--rows", help="Rows of a run, or its samples: what they share.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Stage that --rows are of, if several could be.")] = None,
) -> None:
    """Say what will run or be skipped and why, what it costs, and what was optimised away."""
    from recipec.planning.plan import render_plan
    from recipec.run.run_plan import plan_run

    result = compiled(recipe, overrides)
    recorded = (rows, stage) if rows is not None else None
    made = plan_run(result, out or Path("runs") / result.graph.name, recorded)
    print(made.to_json() if form is Format.json else render_plan(made))
    raise typer.Exit(5 if detailed_exitcode and made.changes else 0)


class Emit(StrEnum):
    """What ``compile`` prints."""

    json = "json"
    mermaid = "mermaid"
    text = "text"
    recipe = "recipe"


@app.command(name="compile")
def compile_(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    emit: Annotated[Emit, typer.Option("--emit", help="The graph, or the resolved recipe with origins.")] = Emit.text,
) -> None:
    """Print the graph, or the resolved recipe with the origin of every key."""
    from recipec import graph as graphs
    from recipec import graph_drawing

    result = compiled(recipe, overrides)
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
    use: Annotated[list[Path], typer.Option("--use", help="Allow this file of the recipe's `use` to be run.")] = [],  # noqa: B006
    replace: Annotated[bool, typer.Option("--replace", help="Re-run what changed; keep the old beside it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Execute a recipe, or continue it."""
    from recipec.planning.attention_choice import choose_attention
    from recipec.reading.user_code import check_use
    from recipec.run.executor import run as execute
    from recipec.run.options import Options
    from recipec.run.progress import Progress
    from recipec.run.run_plan import plan_run

    result = compiled(recipe, overrides)
    check_use(result.recipe.use, use, recipe.resolve().parent)
    folder = out or Path("runs") / result.graph.name
    display = Progress(quiet=quiet)
    planned = plan_run(result, folder)
    graph = choose_attention(result.graph, {stage.name: stage.sharing for stage in planned.stages})
    options = Options(
        root=recipe.resolve().parent,
        out=folder,
        use=[path.resolve() for path in use],
        replace=replace,
        texts=result.texts,
        plan=planned.to_json(),
        locate=lambda key: result.resolved.spans(tuple(key.split("."))),
    )
    outcome = execute(graph, options, display)
    show(outcome.diagnostics, result.texts, valid=outcome.finished)
    if any(d.is_error for d in outcome.diagnostics):
        raise typer.Exit(4 if outcome.started else 1)
    if not outcome.finished:
        display.say(f"stopped; run the same command again to continue ({folder})")
        raise typer.Exit(75)
    display.say(f"done: {folder}/model, {folder}/report.html")


Told = StrEnum("Told", ["text", "json"])


@app.command()
def credit(
    recipe: RecipePath,
    rows: Annotated[Path, typer.Argument(help="Rows as JSONL, a run's samples folder, or - for standard input.")],
    overrides: Overrides = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option("--stage", help="Stage whose credit is meant, if several have.")] = None,
    form: Annotated[Told, typer.Option("--format", help="A table, or the rows as JSON lines.")] = Told.text,
) -> None:
    """Credit recorded rows as a recipe would, without a model."""
    from recipec.catalogue.table import credit_json, credit_table
    from recipec.run.extras import runtime_packages

    result = compiled(recipe, overrides)
    with runtime_packages():
        from recipec.runtime.objective.recorded_rollouts import credit as recompute
    found = recompute(result.graph, rows, stage)
    for line in (credit_json if form is Told.json else credit_table)(found):
        print(line)


@app.command()
def certify(
    recipe: RecipePath,
    overrides: Overrides = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option("--stage", help="Stage that is meant, if several are.")] = None,
    rows: Annotated[Path | None, typer.Option("--rows", help="Rows that a run kept; made up if absent.")] = None,
    form: Annotated[Told, typer.Option("--format", help="Lines, or one JSON object.")] = Told.text,
) -> None:
    """Prove that shared prefixes give what rows alone give, here and for this recipe; exit 1 where they do not."""
    from recipec.catalogue.table import certified
    from recipec.run.extras import runtime_packages

    result = compiled(recipe, overrides)
    with runtime_packages():
        from recipec.runtime.attention.certification.verb import certify as compare
    found = compare(result.graph, Path(result.resolved.files[0]).resolve().parent, stage, rows)
    print(certified(found, as_json=form is Told.json))
    raise typer.Exit(0 if found["equal"] else 1)


@app.command()
def report(runs: Annotated[list[Path], typer.Argument(help="Run directories.")]) -> None:
    """Write report.html of a run."""
    from recipec.run.report import write

    for folder in runs:
        with writing(folder):
            print(write(folder))


@app.command()
def ls(what: Annotated[str, typer.Argument(help="recipes, components, signals or codes")] = "recipes") -> None:
    """List what there is."""
    from recipec.catalogue.listing import listing

    text = listing(what)
    if text is None:
        print(f"`{what}` is none of recipes, components, signals, codes", file=sys.stderr)
        raise typer.Exit(2)
    print(text)


@app.command(name="show")
def show_(
    name: Annotated[str, typer.Argument(help="A recipe's name, or SLOT/COMPONENT such as loss/clipped.")],
) -> None:
    """Print a shipped recipe, or a component's parameters, units, defaults and contract."""
    from recipec.catalogue.listing import page

    text = page(name)
    if text is None:
        print(f"nothing is called `{name}`; `recipec ls components|recipes` list names", file=sys.stderr)
        raise typer.Exit(2)
    print(text)


@app.command()
def new(
    template: Annotated[str, typer.Argument(help="Shipped recipe to start from.")] = "tiny/quickstart",
    dest: Annotated[Path, typer.Argument(help="File to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a starter recipe that you own."""
    from recipec.catalogue.listing import starter

    files = starter(template, dest)
    if files is None:
        print(f"no recipe is called `{template}`; `recipec ls recipes` lists them", file=sys.stderr)
        raise typer.Exit(2)
    if taken := [path for path in files if path.exists()]:
        print(f"{taken[0]} exists already; name another file", file=sys.stderr)
        raise typer.Exit(1)
    for path, text in files.items():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"wrote {path}", file=sys.stderr)
    print(f"next: recipec validate {dest}", file=sys.stderr)


@app.command()
def schema(
    which: Annotated[str, typer.Argument(help="recipe, fragment or graph")] = "recipe",
    write: Annotated[Path | None, typer.Option("--write", help="Write all schemas into this folder.")] = None,
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
        print(f"`{which}` is none of recipe, fragment, graph", file=sys.stderr)
        raise typer.Exit(2)
    print(text)


def main() -> None:
    """Run the command line; a bug of ours leaves a trace file, not a wall of text."""
    try:
        app()
    except RecipeError as refused:
        show(refused.diagnostics, {}, valid=False)
        sys.exit(1)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes what is left at exit
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last door: whatever gets here is our bug
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            print(f"cannot write: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        from recipec.diagnostics.crash_report import note_crash

        print(f"this is a bug of recipec, not of your recipe; {note_crash(traceback.format_exc())}", file=sys.stderr)
        sys.exit(3)
