"""Everything that can be known of a run before its first stage: what `run` checks first, and `recipec check` alone."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recipec.component import load_object
from recipec.diagnostics.errors import trial as errors
from recipec.diagnostics.errors.run import cannot_write
from recipec.diagnostics.model import Diagnostic, RecipeError, Span
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options
from recipec.host.packages import missing_runtime, runtime_packages, versions
from recipec.host.platforms import windows_problems
from recipec.host.preflight import (
    PreflightRequest,
    Used,
    components,
    missing_engines,
    missing_files,
    missing_packages,
    service_keys,
)
from recipec.host.waits import watching
from recipec.planning.cost import amount
from recipec.planning.hours import clock
from recipec.planning.memory import peak
from recipec.planning.plan import Plan, StagePlan
from recipec.run.inputs import counted_rows
from recipec.run.machine_time import add_times
from recipec.spec.recipe import UNIT

if TYPE_CHECKING:
    from recipec.runtime.trial.rows import Tried

Locate = Callable[[str], Sequence[Span]]
Say = Callable[[str], None]
LOADING = "loading torch and transformers"


def silently(_text: str) -> None:
    """Print nothing."""


@dataclass(slots=True)
class Checked:
    """What was found, and what was looked at."""

    facts: dict[str, str] = field(default_factory=dict)
    """Versions, device, free memory and disk."""
    tried: list[Tried] = field(default_factory=list)
    times: dict[str, str] = field(default_factory=dict)
    """How long each stage will take, at most, and what that rests on."""
    problems: list[Diagnostic] = field(default_factory=list)

    def text(self) -> str:
        """Write the facts and the rows that were read for a terminal."""
        lines = [f"{name:<10} {value}" for name, value in self.facts.items()]
        for one in self.tried:
            calls = {name for answer in one.answered for name in answer.rewards}
            longest = f", the longest has {one.longest} tokens" if one.longest else ""
            rows_read = f"{one.rows} rows read{longest}" if one.rows else "no rows read"
            called = f"; {len(one.answered)} answers scored by {', '.join(sorted(calls))}" if calls else ""
            all_checked = f"; all {one.scanned.rows} rows checked" if one.scanned.rows > one.rows else ""
            lines.append(f"{one.key}: {rows_read}{all_checked}{called}")
        lines += [f"stages.{name}: {time}" for name, time in self.times.items()]
        return "\n".join(lines)

    def plain(self) -> dict[str, object]:
        """Return facts and the number of rows that were read, for programs."""
        tried = [
            {
                "key": one.key,
                "rows": one.rows,
                "longest": one.longest,
                "answered": len(one.answered),
                "checked": max(one.rows, one.scanned.rows),
            }
            for one in self.tried
        ]
        return {"facts": self.facts, "tried": tried, "times": self.times}


def check_all(graph: Graph, planned: Plan, options: Options, say: Say = silently) -> Checked:
    """Check a recipe for `recipec check`, finished stages left out; nothing is written except caches."""
    with watching(say):
        return _checked(graph, planned, options, say)


def _checked(graph: Graph, planned: Plan, options: Options, say: Say) -> Checked:
    folder = RunFolder(options.out)
    checked = Checked(facts={"python": platform.python_version(), **versions()})
    checked.problems += requirements(graph, options)
    missing = {one.code for one in checked.problems}
    unfinished = [stage.name for stage in planned.stages if stage.action != "skip"]
    try:
        if not missing & {"RC716", "RC510"}:
            with runtime_packages():
                say(LOADING)
                from recipec.runtime.trial.machine import machine_facts  # noqa: PLC0415 - torch comes in here
            facts = machine_facts(str(graph.machine.get("device") or "auto"))
            checked.facts |= {"device": facts.device, "memory": f"{amount(facts.memory, 'B')} free"}
            checked.problems += memory_problems(planned, facts.memory, facts.device)
            checked.problems += services(graph, set(unfinished), options)
            if not missing & {"RC700", "RC721"}:
                checked.tried = tried(graph, folder, options, unfinished, say)
            if not any(problem.is_error for one in checked.tried for problem in one.problems):
                say("measuring this machine")
                timed = add_times(planned, graph, options.root).stages
                checked.times = {stage.name: taken(stage) for stage in timed if stage.pace}
    except RecipeError as error:
        checked.problems += error.diagnostics
    checked.problems += [problem for one in checked.tried for problem in one.problems if not allowed(problem, options)]
    free = free_disk(options.out)
    checked.facts["disk"] = f"{amount(free, 'B')} free"
    checked.problems += disk_problems(planned, free, options.out)
    checked.problems += writing_problems(options.out)
    checked.problems += [one for one in few_rows(graph, options.root, checked.problems) if not allowed(one, options)]
    checked.problems = [located(one, options.locate) for one in checked.problems]
    return checked


def taken(stage: StagePlan) -> str:
    """Say how long a stage will take, at most, and what that rests on."""
    known = {phase.name: phase.seconds for phase in stage.phases if phase.seconds is not None}
    unknown = [f"unknown: {phase.name}" for phase in stage.phases if phase.seconds is None]
    parts = ", ".join([*(f"{name} {clock(spent)}" for name, spent in known.items() if spent), *unknown])
    stage_time = f"{clock(stage.seconds)} in all, " if stage.seconds else ""
    return f"at most about {stage_time}a step {clock(sum(known.values()))} ({parts}); {stage.pace}"


def check_requirements(graph: Graph, options: Options) -> None:
    """Refuse a run that would find out later that an engine, a package or a file is missing.

    Raises:
        RecipeError: RC510, RC700, RC716, RC721, all that is missing in any stage.
    """
    if missing := requirements(graph, options):
        raise RecipeError(*missing)


def requirements(graph: Graph, options: Options) -> list[Diagnostic]:
    """Return RC510, RC700, RC716 and RC721 for all that is missing in any stage."""
    locate = options.locate
    packages = [*missing_packages(graph, locate), *missing_runtime()]
    here = [replace(problem, spans=tuple(locate(problem.path))) for problem in windows_problems(graph)]
    return [*here, *missing_engines(graph, locate), *packages, *missing_files(graph, options.root, locate)]


def check_services(graph: Graph, folder: RunFolder, options: Options) -> None:
    """Refuse a run in which a component's ``preflight`` finds something missing; finished stages need nothing.

    Raises:
        RecipeError: all that was found, each with its place.
    """
    if problems := services(graph, unfinished(graph, folder, options), options):
        raise RecipeError(*problems)


def check_rows(graph: Graph, folder: RunFolder, options: Options, say: Say) -> list[Diagnostic]:
    """Try the first rows of every unfinished stage, and return warnings.

    Raises:
        RecipeError: all errors that were found in any stage, each with its place.
    """
    names = unfinished(graph, folder, options)
    problems = [problem for one in tried(graph, folder, options, sorted(names), say) for problem in one.problems]
    problems += few_rows(graph, options.root, problems)
    reported = [located(one, options.locate) for one in problems if not allowed(one, options)]
    if any(one.is_error for one in reported):
        raise RecipeError(*reported)
    return reported


def unfinished(graph: Graph, folder: RunFolder, options: Options) -> set[str]:
    """Return the names of the stages that a run might begin."""
    return {s.name for s in graph.stages if options.replace or not (folder.stage(s.name) / "policy").exists()}


def services(graph: Graph, stages: set[str], options: Options) -> list[Diagnostic]:
    """Ask the ``preflight`` of every component of some stages what a run would lack."""
    wanted = [one for one in components(graph) if one.spec.preflight and one.stages & stages]
    return [problem for one in wanted for problem in _problems(graph, one, options)]


def _problems(graph: Graph, one: Used, options: Options) -> Iterator[Diagnostic]:
    services = {name: str(service["url"]) for name, service in (graph.machine.get("services") or {}).items()}
    device = str(graph.machine.get("device") or "auto")
    keys = service_keys(graph.machine)
    request = PreflightRequest(options.root, services, keys, device, one.splits, one.sees)
    with runtime_packages():
        check = load_object(one.spec.preflight)
    for problem in check(one.spec, request):
        key = f"{one.key}.{problem.path}" if problem.path else one.key
        spans = (*problem.spans, *(options.locate(key) or options.locate(f"{one.key}.type")))
        yield replace(problem, spans=spans, path=key)


def tried(graph: Graph, folder: RunFolder, options: Options, stages: Sequence[str], say: Say) -> list[Tried]:
    """Read the first rows of stages, play the user's environments and call the rewards, without weights."""
    with runtime_packages():
        from recipec.runtime.trial.rows import try_graph  # noqa: PLC0415 - torch comes in here
    return try_graph(graph, folder, options, stages, say=say)


def allowed(diagnostic: Diagnostic, options: Options) -> bool:
    """Whether a diagnostic is a warning about a stage that allows it."""
    named, _, rest = diagnostic.path.partition(".")
    return (
        not diagnostic.is_error
        and named == "stages"
        and diagnostic.code in options.allowed.get(rest.partition(".")[0], ())
    )


def located(diagnostic: Diagnostic, locate: Locate, stage: str = "") -> Diagnostic:
    """Add the place of the key that a diagnostic names, after the one that it has in a file.

    The key is absolute, or one of ``stage``; what names none and has no place is about the stage as a whole.

    >>> from recipec.diagnostics.errors.preference import no_pairs_left
    >>> found = no_pairs_left("align", "kg_rank", 4, {})
    >>> located(found, lambda key: [Span(key, 1, 1, 1, 2)], "align").spans[0].file
    'stages.align.preference'
    """
    key, spans = diagnostic.path, diagnostic.spans
    if key:
        if stage and key.partition(".")[0] not in {"stages", "evaluate", "machine", "trackers"}:
            key = f"stages.{stage}.{key}"
        places = tuple(locate(key))
        known = any(place in spans for place in places)
        return replace(diagnostic, spans=spans if known else (*spans, *(places[:1] if spans else places)), path=key)
    if spans or not stage:
        return diagnostic
    ended = (span.labelled(f"stage `{stage}` ended here") for span in locate(f"stages.{stage}")[:1])
    return replace(diagnostic, spans=tuple(ended))


def few_rows(graph: Graph, root: Path, known: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    """Yield RC924 for every stage with data of fewer rows than a step of its budget takes.

    It is left out where data have an error that is ``known``: the rows are not those that are meant, and an error of
    a file that several stages read is reported for one of them.
    """
    if any(one.is_error and ".data" in one.path for one in known):
        return
    for stage in graph.stages:
        count, unit = counted_rows(stage, root), UNIT[stage.kind]
        per_step = int(stage.settings["budget"].get(unit) or 0)
        if count is not None and count < per_step and not _pairs_are_made(stage):
            yield errors.fewer_rows(f"stages.{stage.name}", count, per_step, unit)


def _pairs_are_made(stage: StageGraph) -> bool:
    return any(node.slot == "preference" for node in stage.nodes())


def free_disk(folder: Path) -> float:
    """Return the free bytes of the disk of a folder, which need not exist."""
    return float(shutil.disk_usage(_existing(folder)).free)


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())


def writing_problems(folder: Path) -> Iterator[Diagnostic]:
    """Yield RC761 where the run directory cannot be made or written to."""
    there = _existing(folder)
    if not there.is_dir():
        yield cannot_write(str(folder), f"{there} is a file", "rename that file, or choose another directory")
    elif not os.access(there, os.W_OK):
        yield cannot_write(str(folder), f"{there} is read-only")


def disk_problems(planned: Plan, free: float, folder: Path) -> Iterator[Diagnostic]:
    """Yield RC926 where the unfinished stages need more than is free."""
    sizes = {s.name: sum(part.bytes or 0.0 for part in s.disk) for s in planned.stages if s.action != "skip"}
    if sum(sizes.values()) > free:
        stage = max(sizes, key=lambda name: sizes[name])
        yield errors.disk_too_small(stage, amount(sum(sizes.values()), "B"), amount(free, "B"), str(folder))


def memory_problems(planned: Plan, free: float | None, device: str) -> Iterator[Diagnostic]:
    """Yield RC927 for every unfinished stage that needs more than the device has."""
    for stage in planned.stages:
        needs, _ = peak(stage.memory)
        if free is not None and stage.action != "skip" and needs > free:
            problem = errors.memory_too_small(stage.name, amount(needs, "B"), amount(free, "B"), device)
            yield replace(problem, path=f"stages.{stage.name}")
