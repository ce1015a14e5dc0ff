"""`recipec run`: one process, or the ranks that a launcher started, or a launcher of ranks."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipec.cli.input_output import compile_or_exit
from recipec.diagnostics.model import RecipeError
from recipec.run.ranks import place

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.run.executor import Outcome
    from recipec.run.options import Options


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The arguments of `recipec run`."""

    recipe: Path
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    use: tuple[Path, ...] = ()
    replace: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A compiled recipe, ready to run."""

    graph: Graph
    options: Options
    texts: Mapping[str, str] = field(default_factory=dict)


def prepare(arguments: RunArguments) -> Prepared:
    """Compile a recipe, plan it, and let the plan decide what the recipe leaves open."""
    from recipec.planning.attention_choice import choose_attention
    from recipec.planning.machine_choice import apply
    from recipec.reading.user_code import check_use
    from recipec.run.options import Options
    from recipec.run.run_plan import plan_run

    recipe = arguments.recipe
    result = compile_or_exit(recipe, arguments.overrides)
    check_use(result.recipe.use, arguments.use, recipe.resolve().parent)
    folder = arguments.out or Path("runs") / result.graph.name
    planned = plan_run(result, folder)
    graph = apply(result.graph, {stage.name: stage.chosen for stage in planned.stages})
    graph = choose_attention(graph, {stage.name: stage.sharing for stage in planned.stages})
    options = Options(
        root=recipe.resolve().parent,
        out=folder,
        use=[path.resolve() for path in arguments.use],
        replace=arguments.replace,
        texts=result.texts,
        resolved=result.resolved.listing(),
        plan=planned.to_json(),
        locate=lambda key: result.resolved.spans(tuple(key.split("."))),
    )
    return Prepared(graph, options, result.texts)


def run_prepared(prepared: Prepared, arguments: RunArguments) -> Outcome:
    """Run a recipe in this process, or in as many as its machine has devices."""
    from recipec.run.executor import run
    from recipec.run.progress import Progress

    here, machine = place(), prepared.graph.machine
    display = Progress(quiet=arguments.quiet or not here.leads)
    if here.size > 1 or int(machine["devices"]) == 1:
        return run(prepared.graph, prepared.options, display)
    return launched(prepared, arguments, display.say)


def launched(prepared: Prepared, arguments: RunArguments, say: Any) -> Outcome:
    """Start a rank for each device of this machine, and run the recipe in all of them."""
    from recipec.diagnostics.exchange import from_values
    from recipec.run.check import check_requirements
    from recipec.run.executor import Outcome
    from recipec.run.extras import runtime_packages

    with runtime_packages():
        from recipec.runtime.distributed.launch import Gang
    try:
        check_requirements(prepared.graph, prepared.options)  # before processes are started that would find the same
    except RecipeError as refused:
        return Outcome(finished=False, diagnostics=list(refused.diagnostics))
    machine, out = prepared.graph.machine, prepared.options.out
    gang = Gang(int(machine["devices"]), int(machine["max_restarts"]), out / "logs", say)
    ended = gang.run(rank, arguments)
    if not isinstance(ended, list):
        return Outcome(finished=False, diagnostics=[ended], started=True)
    found = [diagnostic for one in ended for diagnostic in from_values(one["diagnostics"])]
    leader = ended[0]
    return Outcome(
        finished=all(one["finished"] for one in ended),
        stages_run=leader["stages_run"],
        stages_skipped=leader["stages_skipped"],
        diagnostics=list(dict.fromkeys(found)),
        started=any(one["started"] for one in ended),
    )


def rank(arguments: RunArguments) -> dict[str, Any]:
    """Be one rank of a run; return its outcome as JSON values."""
    from recipec.diagnostics.exchange import to_values
    from recipec.run.executor import Outcome
    from recipec.runtime.distributed.process_group import RankLostError

    outcome, lost = Outcome(finished=False), False
    try:
        outcome = run_prepared(prepare(arguments), arguments)
        lost = any(found.code in RankLostError.codes for found in outcome.diagnostics)
    except RecipeError as refused:
        outcome.diagnostics.extend(refused.diagnostics)
    except Exception:
        traceback.print_exc()
        raise
    return {
        "finished": outcome.finished,
        "stages_run": outcome.stages_run,
        "stages_skipped": outcome.stages_skipped,
        "diagnostics": to_values(outcome.diagnostics),
        "started": outcome.started,
        "lost": lost,
    }
