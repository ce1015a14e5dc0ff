"""Commands that take a finished run: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipec.cli.commands import app
from recipec.cli.input_output import writing

RunPath = Annotated[Path, typer.Argument(help="Run directory.", show_default=False)]
StageName = Annotated[str | None, typer.Option("--stage", help="Stage; the last one by default.")]


@app.command()
def export(
    run: RunPath,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to create; RUN/export by default.")] = None,
    stage: StageName = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add a LoRA adapter to the weights under it.")] = False,
) -> None:
    """Write the trained model into a folder that other tools load, with a model card made from the run."""
    from recipec.run.export import export as write

    with writing(to or run / "export"):
        print(write(run, to, stage, merge=merge))
