"""The plan of a run: which stages run and why, their cost, and the optimisations.

Costs are derived from the sizes of the model (``cost``); what cannot be derived is reported as unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from recipec.graph import Graph, StageGraph, differences
from recipec.planning.communication import Exchange, exchanges, with_idle_share
from recipec.planning.cost import Phase, phases, saved
from recipec.planning.hours import Pace, Schedule, moved, timed
from recipec.planning.machine_choice import Choice
from recipec.planning.memory import Holding, disk, host, memory, peak, server
from recipec.planning.model_shapes import Shape
from recipec.planning.sharing import Measured, Sharing, measure_sharing, merged, predict, with_generation
from recipec.planning.sharing_forecast import hands_over
from recipec.planning.stage_workload import StageWorkload, root_of, sizes_of, workload_of

FORMAT = 1
Action = Literal["run", "continue", "skip"]
State = Literal["done", "begun", "absent", "stale", "longer"]


@dataclass(frozen=True, slots=True)
class Previous:
    """What an earlier run left in the run directory."""

    graph: Graph
    states: Mapping[str, State] = field(default_factory=dict)
    """``done``: whole, and of this very stage; ``stale``: whole, of another; ``begun``: there is a checkpoint;
    ``longer``: there is one of the same stage with fewer steps."""
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Stage -> file that it names -> hash, as they were then."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Work that the compiler left out, and the operations a step that saves, where they can be counted."""

    what: str
    why: str
    saves: str
    flops: float | None


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage will do and cost; costs are of one step."""

    name: str
    kind: str
    origin: str
    action: Action
    reason: str
    model: str
    steps: int | None
    assumes: tuple[str, ...]
    """What the sizes of a step rest on."""
    phases: tuple[Phase, ...]
    memory: tuple[Holding, ...]
    """Of each device."""
    disk: tuple[Holding, ...]
    removed: tuple[LeftOut, ...]
    unknown: tuple[str, ...]
    seconds: float | None = None
    """Of the whole stage, where the recipe names an accelerator and everything is known."""
    pace: str = ""
    """What times rest on."""
    devices: int = 1
    """Of all nodes."""
    exchanges: tuple[Exchange, ...] = ()
    """What each device receives from the others in a step."""
    host: tuple[Holding, ...] = ()
    """What is in the host memory of a node."""
    server: tuple[Holding, ...] = ()
    """What is in the memory of each device of a rollout server."""
    schedule: Schedule | None = None
    """How sampling in servers and training follow each other, where the recipe names an accelerator."""
    peak: float | None = None
    """Most bytes that a device holds at once."""
    room: float | None = None
    """Memory of one device, in bytes."""
    sharing: Sharing | None = None
    """What computing common prefixes once saves, where rows have any."""
    measured: Measured | None = None
    """The same of recorded rows, where some were given."""
    chosen: tuple[Choice, ...] = ()
    """What `auto` stands for."""
    facts: str = ""
    """The knowledge graph that the stage reads, and its size where that is known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do."""

    name: str
    stages: tuple[StagePlan, ...]
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Stage -> file that it names -> hash, as they are now."""
    format: int = FORMAT

    @property
    def changes(self) -> bool:
        """Whether a run would do anything."""
        return any(stage.action != "skip" for stage in self.stages)

    def to_json(self) -> str:
        """Write the plan as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def plan(
    graph: Graph,
    shapes: Mapping[str, Shape | None],
    previous: Previous | None = None,
    *,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    rows: Mapping[str, int] | None = None,
    facts: Mapping[str, str] | None = None,
    recorded: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    chosen: Mapping[str, tuple[Choice, ...]] | None = None,
    where: Callable[[str], str] = str,
) -> Plan:
    """Plan a run of a compiled recipe.

    ``shapes`` are the models' sizes by stage, ``inputs`` the hashes of the files that each stage names,
    ``rows`` the rows of its data where they could be counted, ``facts`` the knowledge graphs in words, ``recorded``
    the counts of rows of a run, ``chosen`` the values that the graph has in place of `auto`; ``where`` tells the place
    of a dotted key.
    """
    stages: dict[str, StagePlan] = {}
    for stage in graph.stages:
        action, reason = _decided(graph, stage, previous, inputs or {}, stages, where)
        planned = _stage(graph, stage, shapes.get(stage.name), (rows or {}).get(stage.name), action, reason)
        stages[stage.name] = replace(
            planned, facts=(facts or {}).get(stage.name, ""), chosen=(chosen or {}).get(stage.name, ())
        )
        if steps := (recorded or {}).get(stage.name):
            stages[stage.name] = _measured(graph, stage, shapes.get(stage.name), steps, stages[stage.name])
    return Plan(graph.name, tuple(stages.values()), inputs or {})


STATES: Mapping[State, tuple[Action, str]] = {
    "done": ("skip", "complete and up to date"),
    "begun": ("continue", "interrupted; continues from its last checkpoint"),
    "stale": ("run", "changed: the initial weights, a data package or a function of `use` that the stage calls"),
    "absent": ("run", "not finished, no checkpoint"),
    "longer": ("continue", "goes on from a checkpoint"),
}


def _decided(
    graph: Graph,
    stage: StageGraph,
    previous: Previous | None,
    inputs: Mapping[str, Mapping[str, str]],
    earlier: Mapping[str, StagePlan],
    where: Callable[[str], str],
) -> tuple[Action, str]:
    """Say whether a stage runs, and the key, file or stage that is the reason."""
    if previous is None:
        return "run", "no previous run in this directory"
    changed = _changed(graph, stage, previous, where)
    for name in () if changed else sources(stage):
        if name in earlier and earlier[name].action != "skip":
            changed = f"depends on stage `{name}`, which runs"
    if changed and previous.states.get(stage.name) == "longer":
        action, reason = STATES["longer"]
        return action, f"{changed}; {reason}"
    if changed:
        return "run", changed
    state = previous.states.get(stage.name, "absent")
    was, now = previous.inputs.get(stage.name, {}), inputs.get(stage.name, {})
    files = sorted(path for path in {*was, *now} if was.get(path) != now.get(path)) if was else []
    if files and state != "done":
        return "run", "changed: " + ", ".join(f"the file {path}" for path in files)
    return STATES[state]


def _changed(graph: Graph, stage: StageGraph, previous: Previous, where: Callable[[str], str]) -> str:
    """Say which keys of the stage mean something else than in the earlier run; nothing if none does."""
    if all(was.name != stage.name for was in previous.graph.stages):
        return "new stage"
    prefix = f"stages.{stage.name}."
    keys = [key for key in differences(previous.graph, graph) if key == "seed" or key.startswith(prefix)]
    return "changed: " + ", ".join(f"`{key}` ({where(key)})" for key in keys) if keys else ""


def sources(stage: StageGraph) -> Iterator[str]:
    """Yield the names of what a stage starts from or reads; they may be of stages, models or folders."""
    yield stage.origin
    yield str((stage.settings["reference"] or {}).get("from") or "")
    for node in stage.nodes():
        if isinstance(rollouts := node.params.get("rollouts"), str):
            yield rollouts.rpartition(".")[0]


def _stage(
    graph: Graph, stage: StageGraph, shape: Shape | None, rows: int | None, action: Action, reason: str
) -> StagePlan:
    """Plan a stage: what is known without the size of its model, and then what that costs."""
    size = sizes_of(graph, stage, shape)
    steps = _steps(stage, size.units, rows)
    work = None if shape is None else workload_of(graph, stage, shape)
    shared = predict(graph, stage, size, work)
    unknown = [line for line in size.assumes if "unknown" in line]
    if steps is None:
        unknown.append("number of steps: `epochs` is given, and the size of the data is not known")
    if work is None:
        unknown.append(f"size of the model `{root_of(graph, stage).origin}`, and therefore all costs")
    if isinstance(shared, str):
        unknown.append(f"savings of prefix sharing: {shared}")
    planned = StagePlan(
        name=stage.name,
        kind=stage.kind,
        origin=stage.origin,
        action=action,
        reason=reason,
        model="unknown",
        steps=steps,
        assumes=tuple(line for line in size.assumes if "unknown" not in line),
        phases=(),
        memory=(),
        disk=(),
        removed=tuple(LeftOut(removal.what, removal.why, removal.saves, None) for removal in stage.removed),
        unknown=tuple(unknown),
        sharing=shared if isinstance(shared, Sharing) else None,
    )
    return planned if work is None else _with_costs(planned, work)


def _with_costs(planned: StagePlan, work: StageWorkload) -> StagePlan:
    """Add what a step computes, holds and sends, and how long it takes where the recipe names an accelerator."""
    pace, sharing = _pace(work), planned.sharing
    alone = tuple(phases(work))
    times = tuple(timed(with_idle_share(work, merged(sharing, alone, work)), pace))
    sent = tuple(moved(exchanges(work, times), pace))
    holdings = tuple(memory(work, _unique(times, work)))
    schedule = _schedule(work, times, sent) if pace else None
    return replace(
        planned,
        model=_model(work),
        phases=times,
        memory=holdings,
        disk=tuple(disk(work, planned.steps)),
        removed=tuple(replace(removal, flops=saved(work, removal.what)) for removal in planned.removed),
        seconds=planned.steps * schedule.step if planned.steps and schedule else None,
        pace=pace.assumes if pace else "",
        devices=work.ranks,
        exchanges=sent,
        host=tuple(host(work)),
        server=tuple(server(work)),
        schedule=schedule if work.samples and work.rollout.apart() else None,
        peak=peak(holdings)[0],
        room=pace.accelerator.memory if pace else None,
        sharing=None if sharing is None else with_generation(sharing, tuple(timed(alone, pace))),
    )


def _schedule(work: StageWorkload, times: Sequence[Phase], sent: Sequence[Exchange]) -> Schedule | None:
    """Return how sampling and the rest of a step follow each other; None where the time of a phase is not known."""
    if any(phase.seconds is None for phase in times):
        return None
    sampling = sum(phase.seconds or 0.0 for phase in times if phase.devices)
    step_seconds = sum(phase.seconds or 0.0 for phase in times) + sum(one.seconds or 0.0 for one in sent)
    return Schedule(sampling, step_seconds - sampling, work.staleness)


def _unique(times: Sequence[Phase], work: StageWorkload) -> int | None:
    """Return the tokens that one pass over a step's rows computes in updates."""
    tokens = next((phase.tokens for phase in times if phase.name == "update"), None)
    return None if tokens is None else -(-tokens // work.passes)


def _measured(
    graph: Graph, stage: StageGraph, shape: Shape | None, steps: Sequence[Mapping[str, Any]], planned: StagePlan
) -> StagePlan:
    """Add what recorded rows share; how much of a step is generation stays what was planned."""
    work = workload_of(graph, stage, shape) if shape else None
    measured = measure_sharing(stage, steps, work, handed=hands_over(graph, stage))
    alone = tuple(timed(phases(work), _pace(work))) if work else ()
    return replace(planned, measured=replace(measured, sharing=with_generation(measured.sharing, alone)))


def _pace(work: StageWorkload) -> Pace | None:
    accelerator = work.accelerator
    return Pace(accelerator, work.devices, work.nodes, work.policy.get("dtype", "float32")) if accelerator else None


def _model(work: StageWorkload) -> str:
    adapter = " of an adapter" if work.lora else ""
    return f"{work.shape.family}, {work.shape.parameters:,} parameters, {work.trainable_parameters:,}{adapter} trained"


def _steps(stage: StageGraph, units: int, rows: int | None) -> int | None:
    budget = stage.settings["budget"]
    if budget["steps"]:
        return int(budget["steps"])
    data = stage.params("data") or stage.params("preference")
    rows = rows or data.get("size")
    if rows is None or not units:
        return None
    rows = min(rows, data.get("limit") or rows)
    each = rows // units if budget["remainder"] == "drop" else -(-rows // units)
    return int(budget["epochs"] or 0) * each
