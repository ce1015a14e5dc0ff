"""Real tiny stages, built as a run builds them."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.small_recipes import ROWS

from recipec.compile import compile_recipe
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options, StageRun
from recipec.host.progress import Progress
from recipec.runtime.stage.build_stage import build, make_context
from recipec.runtime.stage.running_stage import RunningStage

REWARDS = "def score(prompts, completions, **columns):\n    return [float(len(text) % 3) for text in completions]\n"


def running(folder: Path, recipe: str, closing: ExitStack, *overrides: str, **options: Any) -> RunningStage:
    """Build the first stage of a recipe of `small_recipes`, its run directory below ``folder``.

    ``options`` are fields of :class:`StageRun`, such as ``stopped``; ``rows`` is the text of ``a.jsonl``.
    """
    rows = options.pop("rows", ROWS)
    for name, text in {"r.yaml": recipe, "a.jsonl": rows, "rewards.py": REWARDS}.items():
        (folder / name).write_text(text)
    compiled = compile_recipe(folder / "r.yaml", overrides)
    assert compiled.graph is not None, compiled.diagnostics
    stage = compiled.graph.stages[0]
    given = Options(root=folder, out=folder / "run", use=[folder / "rewards.py"])
    run = replace(StageRun("digest", first=True, progress=Progress(quiet=True), stopped=lambda: False), **options)
    place = RunFolder(given.out)
    place.begin(stage.name, run.digest)
    context = make_context(compiled.graph, stage, place, given, run)
    return build(compiled.graph, stage, place, context, run, closing)
