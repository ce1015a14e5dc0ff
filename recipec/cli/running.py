"""`recipec run`: one process, or the ranks that a launcher started, or a launcher of ranks."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipec.cli.input_output import compile_or_exit
from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.model import RecipeError
from recipec.run.check import check_requirements, located
from recipec.run.ranks import place

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.run.executor import Outcome
    from recipec.run.options import Options
    from recipec.runtime.distributed.gang import Gang


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
    nodes, devices = int(machine["nodes"]), int(machine["devices"])
    if here.size == 1 and nodes * devices > 1:
        return launched(prepared, arguments, display.say)
    outcome = run(prepared.graph, prepared.options, display)
    if here.size != nodes * devices and here.leads:
        found = errors.other_number_of_ranks(here.size, nodes, devices)
        outcome.diagnostics.append(located(found, prepared.options.locate))
    return outcome


def launched(prepared: Prepared, arguments: RunArguments, say: Callable[[str], None]) -> Outcome:
    """Start a rank for each device, and run the recipe in all of them."""
    from recipec.diagnostics.exchange import from_values
    from recipec.run.executor import Outcome

    try:
        ended = gang_of(prepared, arguments, say).run(rank, arguments)
    except RecipeError as refused:
        found = [located(one, prepared.options.locate) for one in refused.diagnostics]
        return Outcome(finished=False, diagnostics=found)
    if not isinstance(ended, list):
        return Outcome(finished=False, diagnostics=[ended], started=True)
    if not ended:
        return Outcome(finished=False)
    found = [diagnostic for one in ended for diagnostic in from_values(one["diagnostics"])]
    leader = ended[0]
    return Outcome(
        finished=all(one["finished"] for one in ended),
        stages_run=leader["stages_run"],
        stages_skipped=leader["stages_skipped"],
        diagnostics=list(dict.fromkeys(found)),
        started=any(one["started"] for one in ended),
    )


def gang_of(prepared: Prepared, arguments: RunArguments, say: Callable[[str], None]) -> Gang:
    """Return what starts the ranks of a run from here: processes of this machine, or actors of a Ray cluster.

    Raises:
        RecipeError: RC791, they are started otherwise; RC779, there are too few GPUs; and what else is missing.
    """
    from recipec.run.extras import runtime_packages
    from recipec.run.slurm import run_arguments

    machine = prepared.graph.machine
    launcher, device = str(machine["launcher"]), str(machine["device"])
    nodes, devices, restarts = (int(machine[name]) for name in ("nodes", "devices", "max_restarts"))
    words = shlex.join(run_arguments(arguments.recipe, arguments.overrides, arguments.out))
    if launcher == "slurm":
        batch = words.replace("-m recipec run", "recipec plan --slurm", 1)
        raise RecipeError(
            errors.started_elsewhere(launcher, nodes, devices, f"`{batch} > job.sh`, then `sbatch job.sh`")
        )
    if launcher == "torchrun" and nodes > 1:
        on_each = f"torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d"
        on_each = f"on every node: `{on_each} --rdzv-endpoint=FIRST_NODE:29500 {words}`"
        raise RecipeError(errors.started_elsewhere(launcher, nodes, devices, on_each))
    check_requirements(prepared.graph, prepared.options)  # before processes are started that would find the same
    logs = prepared.options.out / "logs"
    with runtime_packages():
        if launcher == "ray":
            from recipec.runtime.distributed.ray_launch import RayGang

            return RayGang(nodes * devices, restarts, logs, say, nodes, device, float(machine["timeout"]))
        from recipec.runtime.distributed.launch import ProcessGang, check_devices
    check_devices(device, devices)
    return ProcessGang(devices, restarts, logs, say)


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
