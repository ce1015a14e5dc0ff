"""Run the stages of a recipe: finished ones are skipped, begun ones continue, the rest runs.

No torch here: the runtime is imported once a stage really has to run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from recipec import graph as graphs
from recipec.diagnostics.errors import ranks as rank_errors, run as errors, run_progress as progress_errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host import journal
from recipec.host.artifacts import RESOLVED, RunFolder, check_folder, read_manifest, replace_folder, write_atomic
from recipec.host.interrupts import ending_at_once, stop_flag
from recipec.host.options import Options, StageRun
from recipec.host.packages import runtime_packages, versions
from recipec.host.progress import Progress
from recipec.host.ranks import Ranks, place
from recipec.host.small_files import read_small
from recipec.host.waits import watching
from recipec.report import page, results
from recipec.report.live import LiveReport
from recipec.run.check import LOADING, check_requirements, check_rows, check_services, located
from recipec.run.digests import run_digest, stage_inputs
from recipec.run.longer import go_on

_LOCK = 120.0  # seconds; a server of NFS gives up a client that is gone after 90


@dataclass(slots=True)
class Outcome:
    """How a run ended."""

    finished: bool
    stages_run: list[str] = field(default_factory=list)
    stages_skipped: list[str] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    started: bool = False
    """Whether a step was begun before it ended: a mistake found earlier is a refusal, later a failed run."""

    def begin(self) -> None:
        """Note that the first step begins."""
        self.started = True


def run(graph: Graph, options: Options, display: Progress) -> Outcome:
    """Execute a compiled recipe, or continue it.

    Problems end up in ``Outcome.diagnostics``; what was committed before them is kept.
    """
    outcome = Outcome(finished=False)
    folder = RunFolder(options.out.absolute())  # user code may change the working directory
    try:
        with (
            watching(display.say),
            connected(graph) as ranks,
            ExitStack() as run_lock,
            quiet_threads(),
            stop_flag() as stopped,
        ):

            def begin() -> None:
                # the launcher has ended the ranks that had the lock; a file server may notice that late
                run_lock.enter_context(folder.locked(wait_for_lock(graph) if place().attempt else 0.0))
                folder.clean()
                raised = go_on(graph, folder, options, display.say)
                check_same_recipe(graph, folder, options, raised)
                display.say(f"{graph.name}: checking packages, files and the first rows of every stage")
                # a signal to one of several ranks is for the launcher, which ends them all
                with ending_at_once("nothing is lost") if ranks.size == 1 else nullcontext():
                    check_requirements(graph, options)
                    display.say(LOADING)
                    check_services(graph, folder, options)
                    warnings = check_rows(graph, folder, options, display.say)
                for warning in warnings:  # before anything is trained; in full at the end
                    display.say(f"warning[{warning.code}]: {warning.message}")
                outcome.diagnostics.extend(warnings)
                write_run_metadata(graph, folder, options)

            ranks.on_leader(begin)
            outcome.finished = stages(graph, folder, options, display, stopped, outcome, ranks)
            ranks.on_leader(lambda: finish(folder, graph, outcome, display))
    except RecipeError as error:
        outcome.diagnostics.extend(error.diagnostics)
    except OSError as error:  # what is read is refused where it is read: this is a run directory that takes no more
        path = str(error.filename or options.out)
        outcome.diagnostics.append(errors.cannot_write(path, error.strerror or str(error)))
    finally:
        display.close()
    return outcome


def wait_for_lock(graph: Graph) -> float:
    """Return the seconds that a leader which was started again waits for the lock: the others wait for it meanwhile."""
    return min(_LOCK, float(graph.machine["timeout"]) / 2)


@contextmanager
def connected(graph: Graph) -> Iterator[Ranks]:
    """Join the other processes of the run, if a launcher started several.

    Raises:
        RecipeError: RC777, they differ in recipe or versions; RC778, they cannot be reached.
    """
    here = place()
    if here.size == 1:
        yield Ranks()
        return
    with runtime_packages():
        from recipec.runtime.distributed.process_group import ProcessGroup  # noqa: PLC0415 - torch comes in here
    ranks = ProcessGroup(here, float(graph.machine["timeout"]))
    mine = {"recipe": graphs.digest(graphs.to_json(graph)), **versions()}
    leader, *others = ranks.all_gather("comparing versions", lambda: mine)
    for rank, other in enumerate(others, 1):
        for what, version in leader.items():
            if other[what] != version:
                raise RecipeError(rank_errors.ranks_differ(what, rank, version, other[what]))
    try:
        yield ranks
    except RuntimeError as error:
        raise ranks.broken(error) from error
    ranks.close()


def stages(
    graph: Graph,
    folder: RunFolder,
    options: Options,
    display: Progress,
    stopped: Callable[[], bool],
    outcome: Outcome,
    ranks: Ranks,
) -> bool:
    """Run the stages in order; return whether all ended."""
    digests: dict[str, str] = {}
    for number, stage in enumerate(graph.stages):
        digests[stage.name] = run_digest(stage, graph, digests, options)
        if ranks.on_leader(partial(done, folder, stage, digests[stage.name])):
            outcome.stages_skipped.append(stage.name)
            outcome.diagnostics.extend(notes_on_finished(graph, folder, stage))
            display.skipped(stage.name)
            continue
        ranks.on_leader(partial(check_same_inputs, folder, stage, dict(digests), options))
        run = StageRun(
            digest=digests[stage.name],
            first=number == 0,
            progress=display,
            watching=LiveReport(display, folder.path) if ranks.leads else None,
            stopped=stopped,
            begun=outcome.begin,
            warn=partial(note, outcome, stage.name, options),
            ranks=ranks,
        )
        begins = "new model" if stage.origin == "scratch" else f"loading {stage.origin}"
        checkpoints = folder.checkpoints(stage.name)
        display.say(f"{stage.name}: {f'continuing from {checkpoints[0].name}' if checkpoints else begins}")
        try:
            with runtime_packages():
                from recipec.runtime.stage.build_stage import run_stage  # noqa: PLC0415 - torch comes in here
            ended = run_stage(graph, stage, folder, options, run)
        except RecipeError as error:
            raise RecipeError(
                *(located(diagnostic, options.locate, stage.name) for diagnostic in error.diagnostics)
            ) from error
        outcome.stages_run.append(stage.name)
        if not ended:
            return False
        page.write(folder.path)
    return True


def note(outcome: Outcome, stage: str, options: Options, diagnostic: Diagnostic) -> None:
    """Keep what a stage reports while it runs, with its place where it names a key."""
    outcome.diagnostics.append(located(diagnostic, options.locate, stage) if diagnostic.path else diagnostic)


def check_same_recipe(graph: Graph, folder: RunFolder, options: Options, allowed: Collection[str] = ()) -> None:
    """Refuse a run directory that another recipe made; keys that are ``allowed`` may differ.

    Raises:
        RecipeError: RC760 naming the keys that differ, RC772 if the directory cannot be understood.
    """
    path = folder.path / "graph.json"
    if options.replace or not path.exists():
        return
    try:
        before = graphs.from_json(read_small(path))
    except graphs.OtherFormatError as error:
        raise RecipeError(errors.other_version(str(path), str(error))) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise RecipeError(errors.unreadable_run(str(path), error)) from error
    keys = [key for key in graphs.differences(before, graph) if key not in allowed]
    if keys and folder.has_steps():
        spans = tuple(span for key in keys[:5] for span in options.locate(key))
        raise RecipeError(errors.different_recipe(str(folder.path), keys, spans))


def check_same_inputs(folder: RunFolder, stage: StageGraph, digests: Mapping[str, str], options: Options) -> None:
    """Refuse to train again what was made of other files; note what the stage is made of now.

    Raises:
        RecipeError: RC760 naming the files that differ.
    """
    path, before = folder.stage(stage.name) / "inputs.json", folder.digest_of(stage.name)
    now = stage_inputs(stage, digests, options)
    if before and before != digests[stage.name] and not options.replace and folder.has_results(stage.name):
        try:
            then = dict(json.loads(read_small(path)))
        except (OSError, ValueError, TypeError):
            then = {}
        changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        raise RecipeError(errors.different_recipe(str(folder.path), changed if then else ["files of the stage"]))
    write_atomic(path, json.dumps(now, indent=1, sort_keys=True) + "\n")


def write_run_metadata(graph: Graph, folder: RunFolder, options: Options) -> None:
    """Write down what is about to run: the recipe's files, the user's code, the graph, the versions."""
    main, *rest = options.texts.items() or [("recipe.yaml", "")]
    write_atomic(folder.path / "recipe.yaml", main[1])
    for number, (name, text) in enumerate(rest):
        write_atomic(folder.path / "sources" / f"{number:02d}-{Path(name).name.strip('<>').replace(' ', '-')}", text)
    for path in filter(Path.is_file, options.use):  # one that is missing is refused with the stage that needs it
        write_atomic(folder.path / "code" / path.name, path.read_bytes())
    write_atomic(folder.path / RESOLVED, options.resolved + "\n")
    write_atomic(folder.path / "graph.json", graphs.to_json(graph))
    write_atomic(folder.path / "plan.json", options.plan)
    with runtime_packages():
        from recipec.runtime.trial.machine import machine_facts  # noqa: PLC0415 - torch comes in here
    now = datetime.now().isoformat(timespec="seconds")  # noqa: DTZ005 - chat templates show local time
    about = {
        "format": 1,
        "name": graph.name,
        "seed": graph.seed,
        "versions": versions(),
        "device": machine_facts(str(graph.machine.get("device") or "auto")).device,
        "begun": folder.begun() or now,
    }
    write_atomic(folder.path / "run.json", json.dumps(about, indent=1, sort_keys=True) + "\n")


def done(folder: RunFolder, stage: StageGraph, digest: str) -> bool:
    """Whether a stage's artifacts are there, whole, and made by this very stage.

    Raises:
        RecipeError: RC766, an artifact has the right digest but its files were altered.
    """
    for artifact in stage.artifacts:
        path = folder.stage(stage.name) / artifact
        from_manifest = _manifest_digest(path)
        if from_manifest != digest:
            return False
        check_folder(path)
    return True


def _manifest_digest(path: Path) -> str | None:
    manifest = read_manifest(path)
    return None if manifest is None else str(manifest.get("digest"))


def notes_on_finished(graph: Graph, folder: RunFolder, stage: StageGraph) -> Iterator[Diagnostic]:
    """Yield what of a finished stage differs: RC920 for versions, RC921 for evaluations, RC879 for its records."""
    manifest = read_manifest(folder.stage(stage.name) / "policy") or {}
    then, now = manifest.get("versions") or {}, versions()
    if changed := [f"{name} {then[name]} (now {now[name]})" for name in now if then.get(name, now[name]) != now[name]]:
        yield progress_errors.other_versions(stage.name, changed)
    for name, problem in journal.damage(folder.stage(stage.name)):
        yield errors.lost_records(str(folder.stage(stage.name) / name), problem)
    evaluated = results.evaluated(folder.path, stage.name)
    metrics = [f"{name}/{metric}" for name, one in graph.evaluate.items() for metric in one["metrics"]]
    if missing := [name for name in metrics if name not in evaluated]:
        yield progress_errors.not_evaluated(stage.name, missing, str(folder.path))


def finish(folder: RunFolder, graph: Graph, outcome: Outcome, display: Progress) -> None:
    """Make ``model`` the policy of the last stage, write the report, and print the held-out results."""
    if outcome.finished:
        replace_folder(folder.stage(graph.stages[-1].name) / "policy", folder.path / "model")
    table = results.write(folder.path, [stage.name for stage in graph.stages])
    if table is not None and outcome.finished:
        display.say(table.text())
    page.write(folder.path)  # a killed run may have ended without it


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Print no traceback of a writer's thread that meets a full disk: its next write raises the same error."""
    before = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if not isinstance(raised.exc_value, OSError):
            before(raised)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
