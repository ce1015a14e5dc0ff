"""A stage with a larger budget goes on from a checkpoint of the shorter one, where its first steps are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipec import graph as graphs
from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import MANIFEST, RunFolder, read_manifest, set_aside, write_atomic
from recipec.host.options import Options
from recipec.host.small_files import read_small
from recipec.run.digests import run_digest
from recipec.run.inputs import named_stages
from recipec.spec.optimizer import Optimizer
from recipec.spec.sampler import Sampler

_LENGTHS = ("steps", "epochs")
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Longer:
    """A stage with a raised budget, and what it was before.

    Example: ``Longer(stage, before, "steps", 30, 60)``.
    """

    stage: StageGraph
    before: StageGraph
    unit: str
    old: int
    new: int

    @property
    def key(self) -> str:
        """The key that was raised."""
        return f"stages.{self.stage.name}.budget.{self.unit}"


def longer_stages(before: Graph, after: Graph) -> list[Longer]:
    """Return the stages in which nothing differs but a budget of more steps or epochs."""
    if before.seed != after.seed:
        return []
    old = {stage.name: stage for stage in before.stages}
    raised = (_raised(old[stage.name], stage) for stage in after.stages if stage.name in old)
    return [one for one in raised if one is not None]


def _raised(before: StageGraph, after: StageGraph) -> Longer | None:
    old, new = graphs.settings_of(before), graphs.settings_of(after)
    nodes = ({node.id: node.digest for node in stage.nodes()} for stage in (before, after))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    prefix, _, unit = changed[0].rpartition(".") if len(changed) == 1 else ("", "", "")
    if prefix != f"stages.{after.name}.budget" or unit not in _LENGTHS or next(nodes) != next(nodes):
        return None
    values = old.get(changed[0]), new.get(changed[0])
    if not all(isinstance(value, int) for value in values) or int(values[0] or 0) >= int(values[1] or 0):
        return None
    return Longer(after, before, unit, int(values[0] or 0), int(values[1] or 0))


def go_on(graph: Graph, folder: RunFolder, options: Options, say: Callable[[str], None]) -> set[str]:
    """Give the checkpoints of shorter stages to those that go on from them; return the keys that were raised.

    Raises:
        RecipeError: RC978, a stage cannot go on, or a later stage was trained from it; neither with ``--replace``,
            which then trains from the start.
    """
    try:
        before = graphs.from_json(read_small(folder.path / "graph.json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return set()  # what is wrong with it is found next
    raised = {one.stage.name: one for one in longer_stages(before, graph)}
    if not raised or (set(graphs.differences(before, graph)) - {one.key for one in raised.values()}):
        return set()
    digests: dict[str, str] = {}
    keys = set()
    for stage in graph.stages:
        digests[stage.name] = run_digest(stage, graph, digests, options)
        one, mark = raised.get(stage.name), folder.digest_of(stage.name)
        if one is None or not mark:
            continue
        was = run_digest(replace(stage, digest=one.before.digest), graph, digests, options)
        now = digests[stage.name]
        before_kill = mark == now  # the checkpoints were given to it by a run that was killed then
        if before_kill or (mark == was and _relabelled(one, graph, folder, was, now, options, say)):
            keys.add(one.key)
    return keys


def continued_stages(before: Graph, graph: Graph, folder: RunFolder, options: Options) -> list[str]:
    """Return the stages that a run would continue with their raised budgets; nothing is changed."""
    raised = {one.stage.name: one for one in longer_stages(before, graph)}
    digests: dict[str, str] = {}
    continued = []
    for stage in graph.stages:
        digests[stage.name] = run_digest(stage, graph, digests, options)
        one = raised.get(stage.name)
        if one is not None:
            was = run_digest(replace(stage, digest=one.before.digest), graph, digests, options)
            if folder.digest_of(stage.name) == was and _usable(one, folder, was)[0]:
                continued.append(stage.name)
    return continued


def _relabelled(
    one: Longer, graph: Graph, folder: RunFolder, was: str, digest: str, options: Options, say: Callable[[str], None]
) -> bool:
    usable, reason = _usable(one, folder, was)
    after = [name for name in dependents(graph, one.stage.name) if folder.has_results(name)]
    if not reason and after:
        reason = f"stage `{after[0]}` was trained from it, and would have to be trained again"
    if reason and not options.replace:
        spans = tuple(options.locate(one.key))
        raise RecipeError(errors.cannot_go_on(one.stage.name, one.key, one.old, one.new, reason, spans))
    if not usable:
        say(f"{one.stage.name}: {reason}; it begins again")
        return False
    for path in folder.checkpoints(one.stage.name):
        manifest = read_manifest(path)
        if manifest is None or manifest.get("digest") != was:
            continue
        if path in usable:
            write_atomic(path / MANIFEST, json.dumps({**manifest, "digest": digest}, indent=1, sort_keys=True))
        else:
            set_aside(path)
    write_atomic(folder.stage(one.stage.name) / "digest", f"{digest}\n")
    say(f"{one.stage.name}: goes on to {one.new} {one.unit} from its checkpoint {usable[0].name}")
    return True


def dependents(graph: Graph, name: str) -> list[str]:
    """Return the stages that start from a stage or read its rows or weights, directly or through others."""
    names: list[str] = []
    for stage in graph.stages:
        if {stage.origin, *named_stages(stage)} & {name, *names}:
            names.append(stage.name)
    return names


def _usable(one: Longer, folder: RunFolder, digest: str) -> tuple[list[Path], str]:
    """Return the checkpoints from which a longer stage goes on, the latest first, or why there is none."""
    stage, sampler = one.stage, one.stage.spec(Sampler)
    if stage.node("critic") is not None:
        return [], "its critic has a schedule of its own"
    if sampler is not None and sampler.max_staleness:
        return [], "`sampler.max_staleness` samples ahead, and not beyond the last step"
    optimizer = stage.required(Optimizer)
    mine = [p for p in folder.checkpoints(stage.name) if (read_manifest(p) or {}).get("digest") == digest]
    if not mine:
        return [], "it has no checkpoint"
    places = {path: place for path in mine if (place := _place(path)) is not None}
    ended = (read_manifest(folder.stage(stage.name) / "policy") or {}).get("digest") == digest
    total = round(max(places.values(), default=0.0)) if ended else None
    same = optimizer.same_if_longer(total)
    usable = [path for path, place in places.items() if same is None or place <= same]
    if not usable and optimizer.same_if_longer(None) != 0 and total is None:
        return [], "it has not ended, so the update at which its learning rate would have fallen is not known"
    return usable, "" if usable else optimizer.length_setting()


def _place(checkpoint: Path) -> float | None:
    """Return how far a checkpoint is in the learning-rate schedule, in updates; None for a damaged one."""
    try:
        state: Mapping[str, Any] = json.loads(read_small(checkpoint / STATE, 1 << 30))
        optimizer = state["parts"]["optimizer"]
        return float(optimizer.get("place", optimizer["updates"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
