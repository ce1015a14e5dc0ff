"""Run a recipe: in this process, as one of the ranks that a launcher started, or as a launcher of ranks."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from recipec.compile import Compiled, compile_recipe
from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.errors.reading import no_stages
from recipec.diagnostics.exchange import from_values, to_values
from recipec.diagnostics.model import RecipeError, file_span
from recipec.host.interrupts import Interrupted
from recipec.host.options import Options
from recipec.host.packages import runtime_packages
from recipec.host.progress import Progress
from recipec.host.ranks import end_with_parent, place
from recipec.planning.machine_choice import apply, choose_attention
from recipec.reading.user_code import check_use
from recipec.run.check import check_requirements, located
from recipec.run.executor import Outcome, run
from recipec.run.run_plan import plan_run
from recipec.run.slurm import run_arguments

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.planning.plan import Plan
    from recipec.runtime.distributed.gang import Gang


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The arguments of a run."""

    recipe: Path
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    use: tuple[Path, ...] = ()
    replace: bool = False
    quiet: bool = False
    text: str | None = None
    """The recipe itself, where ``recipe`` is only its name; paths are then relative to the working directory."""

    def plain(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        paths = {
            "recipe": str(self.recipe),
            "out": None if self.out is None else str(self.out),
            "use": [str(path) for path in self.use],
        }
        return {**asdict(self), **paths}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> RunArguments:
        """Undo ``plain()``.

        >>> given = RunArguments(Path("r.yaml"), ("seed=1",), use=(Path("rewards.py"),))
        >>> RunArguments.of(json.loads(json.dumps(given.plain()))) == given
        True
        """
        paths = {
            "recipe": Path(plain["recipe"]),
            "out": None if plain["out"] is None else Path(plain["out"]),
            "use": tuple(Path(path) for path in plain["use"]),
        }
        return cls(**{**plain, **paths, "overrides": tuple(plain["overrides"])})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A compiled recipe, ready to run."""

    graph: Graph
    planned: Plan
    options: Options

    @property
    def devices(self) -> int:
        """Number of processes that the recipe asks for."""
        return int(self.graph.machine["nodes"]) * int(self.graph.machine["devices"])


def compiled(recipe: Path, overrides: tuple[str, ...], text: str | None = None) -> tuple[Compiled, Graph]:
    """Compile a recipe.

    Raises:
        RecipeError: everything that is wrong with it; RC101, it is a fragment.
    """
    result = compile_recipe(recipe, overrides, text=text)
    if result.graph is not None:
        return result, result.graph
    if result.ok:
        raise RecipeError(no_stages("", file_span(str(recipe)), fragment=True))
    raise RecipeError(*(one for one in result.diagnostics if one.is_error))


def prepare(arguments: RunArguments, precompiled: tuple[Compiled, Graph] | None = None) -> Prepared:
    """Compile a recipe, unless it is ``precompiled``; plan it, and let the plan decide what the recipe leaves open.

    Raises:
        RecipeError: everything that is wrong with it.
    """
    result, graph = precompiled or compiled(arguments.recipe, arguments.overrides, arguments.text)
    assert result.recipe is not None
    root = Path.cwd() if arguments.text is not None else arguments.recipe.resolve().parent
    check_use(result.recipe.use, arguments.use, root, result.spans)
    folder = arguments.out or Path("runs") / graph.name
    planned, graph = decided(result, graph, folder)
    options = Options(
        root=root,
        out=folder,
        use=[path.resolve() for path in arguments.use],
        replace=arguments.replace,
        texts=result.texts,
        resolved=result.resolved.listing(),
        plan=planned.to_json(),
        locate=result.spans,
        allowed={name: stage.allow for name, stage in result.recipe.stages.items()},
    )
    return Prepared(graph, planned, options)


def decided(result: Compiled, graph: Graph, folder: Path) -> tuple[Plan, Graph]:
    """Plan a recipe, and let the plan decide what it leaves open."""
    planned = plan_run(result, folder)
    graph = apply(graph, {stage.name: stage.chosen for stage in planned.stages})
    return planned, choose_attention(graph, {stage.name: stage.sharing for stage in planned.stages})


def run_prepared(prepared: Prepared, arguments: RunArguments, display: Progress) -> Outcome:
    """Run a recipe in this process, or in as many as its machine has devices."""
    here, machine = place(), prepared.graph.machine
    if here.size == 1 and prepared.devices > 1:
        return launched(prepared, arguments, display.say)
    outcome = run(prepared.graph, prepared.options, display)
    if here.size != prepared.devices and here.leads:
        problem = errors.other_number_of_ranks(here.size, int(machine["nodes"]), int(machine["devices"]))
        outcome.diagnostics.append(located(problem, prepared.options.locate))
    return outcome


def launched(prepared: Prepared, arguments: RunArguments, say: Callable[[str], None]) -> Outcome:
    """Start a rank for each device, and run the recipe in all of them."""
    try:
        ended = gang_of(prepared, arguments, say).run(rank, arguments)
    except RecipeError as error:
        problems = [located(one, prepared.options.locate) for one in error.diagnostics]
        return Outcome(finished=False, diagnostics=problems)
    if not isinstance(ended, list):
        return Outcome(finished=False, diagnostics=[ended], started=True)
    if not ended:
        return Outcome(finished=False)
    outcomes = [outcome_of(one) for one in ended]
    return replace(
        outcomes[0],
        finished=all(one.finished for one in outcomes),
        diagnostics=list(dict.fromkeys(problem for one in outcomes for problem in one.diagnostics)),
        started=any(one.started for one in outcomes),
    )


def gang_of(prepared: Prepared, arguments: RunArguments, say: Callable[[str], None]) -> Gang:
    """Return what starts the ranks of a run from here: processes of this machine, or actors of a Ray cluster.

    Raises:
        RecipeError: RC791, they are started otherwise; RC779, there are too few GPUs; and what else is missing.
    """
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
            from recipec.runtime.distributed.ray_launch import RayGang  # noqa: PLC0415 - torch comes in here

            return RayGang(nodes * devices, restarts, logs, say, nodes, device, float(machine["timeout"]))
        from recipec.runtime.distributed.torchrun_launch import ProcessGang, check_devices  # noqa: PLC0415
    check_devices(device, devices)
    return ProcessGang(devices, restarts, logs, say)


def rank(arguments: RunArguments) -> dict[str, Any]:
    """Be one rank of a run; return its outcome as JSON values."""
    from recipec.runtime.distributed.process_group import RankLostError  # noqa: PLC0415 - torch comes in here

    outcome, lost = Outcome(finished=False), False
    try:
        outcome = run_prepared(prepare(arguments), arguments, Progress(quiet=arguments.quiet or not place().leads))
        lost = any(problem.code in RankLostError.codes for problem in outcome.diagnostics)
    except RecipeError as error:
        outcome.diagnostics.extend(error.diagnostics)
    except Exception:
        traceback.print_exc()
        raise
    return {**values_of(outcome), "lost": lost}


def started(arguments: RunArguments) -> Outcome:
    """Run a recipe over several processes from a process of their own.

    The caller may so be a thread, which gets no signals, or a script that starts a run wherever it is imported.

    Raises:
        RecipeError: RC981, that process has ended without an answer.
    """
    with TemporaryDirectory(prefix="recipec-") as folder:
        answer = Path(folder) / "outcome.json"
        command = [sys.executable, "-c", f"from {__name__} import answer_to; answer_to()", str(answer)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - ours
        try:
            child.communicate(json.dumps(arguments.plain()).encode())
        except BaseException:  # Ctrl-C, too: the ranks stop after their step
            child.terminate()
            child.wait()
            raise
        if not answer.exists():
            raise RecipeError(errors.launcher_lost(child.returncode))
        return outcome_of(json.loads(answer.read_text()))


def answer_to() -> None:
    """Be the process that :func:`started` starts: arguments from standard input, the outcome into a file."""
    end_with_parent(signal.SIGTERM)
    arguments = RunArguments.of(json.load(sys.stdin))
    outcome = Outcome(finished=False)
    try:
        outcome = run_prepared(prepare(arguments), arguments, Progress(quiet=arguments.quiet))
    except RecipeError as error:
        outcome.diagnostics.extend(error.diagnostics)
    except Interrupted:  # it is not finished, and that is all
        pass
    Path(sys.argv[1]).write_text(json.dumps(values_of(outcome)))


def values_of(outcome: Outcome) -> dict[str, Any]:
    """Return how a run ended as JSON values."""
    return {**asdict(outcome), "diagnostics": to_values(outcome.diagnostics)}


def outcome_of(values: Mapping[str, Any]) -> Outcome:
    """Undo :func:`values_of`; other keys are left out.

    >>> outcome_of({**values_of(Outcome(finished=True, stages_run=["learn"])), "lost": False})
    Outcome(finished=True, stages_run=['learn'], stages_skipped=[], diagnostics=[], started=False)
    """
    known = {one.name: values[one.name] for one in fields(Outcome)}
    return Outcome(**{**known, "diagnostics": from_values(values["diagnostics"])})
