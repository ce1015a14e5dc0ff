"""Commands that look something up: ``ls``, ``show`` and ``explain``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer

from recipec.cli.commands import TableFormat, app

Form = Annotated[TableFormat, typer.Option("--format", help="Text, or JSON.")]
LISTS = ("recipes", "components", "signals", "codes")


@app.command()
def ls(
    what: Annotated[
        str, typer.Argument(help="recipes, components, signals, codes, or a slot such as loss")
    ] = "recipes",
    only: Annotated[str, typer.Argument(help="Of these, those that begin with: a slot, a folder, RC4.")] = "",
    form: Form = TableFormat.text,
) -> None:
    """List recipes, components, signals or diagnostic codes; `ls components loss`, or `ls loss`, lists one slot."""
    from recipec.catalogue.listing import aligned, rows, slots

    if what in slots():
        what, only = "components", what
    lines = rows(what)
    if lines is None:
        unknown("list", what, (*LISTS, *slots()))
    exact = f"{only}/" if what == "components" and only in slots() else only
    exact_lines = [line for line in lines if line[0].startswith(exact)]
    if not exact_lines:
        unknown("name", only, dict.fromkeys(name.partition("/")[0] for name, _ in lines))
    named = [{"name": name, "about": about} for name, about in exact_lines]
    print(json.dumps(named, indent=1, ensure_ascii=False) if form is TableFormat.json else aligned(exact_lines))


@app.command(name="show")
def show_(
    name: Annotated[str, typer.Argument(help="Name of a recipe, or SLOT/COMPONENT, e.g. loss/clipped.")],
    form: Form = TableFormat.text,
) -> None:
    """Print a shipped recipe, or the parameters and signals of a component."""
    from recipec.catalogue.listing import described, page, rows

    text = page(name)
    if text is None:
        names = [one for what in ("components", "recipes") for one, _ in rows(what) or ()]
        unknown("name", name, [*(one for one in names if name in one.split("/")), *names])
    print(json.dumps(described(name), indent=1, ensure_ascii=False) if form is TableFormat.json else text)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="Diagnostic code or its name, e.g. RC204 or unmet-requirement.")],
    form: Form = TableFormat.text,
) -> None:
    """Explain a diagnostic code."""
    from recipec.catalogue.code_pages import all_codes, find, page
    from recipec.diagnostics.model import sections

    entry = find(code)
    if entry is None:
        unknown("code", code, [name for one in all_codes().values() for name in (one.code, one.name)])
    about: dict[str, Any] = {"code": entry.code, "name": entry.name, "severity": entry.severity}
    about["page"] = {title or "About": text for title, text in sections(entry.page).items()}
    print(json.dumps(about, indent=1, ensure_ascii=False) if form is TableFormat.json else page(code))


def unknown(what: str, name: str, names: Iterable[str]) -> NoReturn:
    """Say that there is no such name, with similar ones, and exit."""
    from recipec.diagnostics.phrases import did_you_mean

    known = list(dict.fromkeys(names))
    exact = [one for one in known if name in one.split("/")]
    similar = did_you_mean(name, known, len(known))
    hint = f"did you mean {' or '.join(f'`{one}`' for one in exact[:3])}?" if exact else similar
    lists = {"list": "choose recipes, components, signals or codes", "code": "see `recipec ls codes`"}
    print(f"unknown {what} `{name}`; {hint or lists.get(what, 'see `recipec ls`')}", file=sys.stderr)
    raise typer.Exit(2)
