"""The plan of a recipe in a run directory: with its files, earlier runs and model shapes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from recipec import graph as graphs
from recipec.compile import Compiled
from recipec.diagnostics.errors.data import data_missing
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import RunFolder, hash_tree, read_manifest
from recipec.host.options import Options
from recipec.host.packages import runtime_packages
from recipec.host.small_files import read_small
from recipec.package_files import named_file
from recipec.planning.cost import amount
from recipec.planning.machine_choice import choose
from recipec.planning.plan import Plan, Previous, State, plan
from recipec.run.digests import run_digest
from recipec.run.executor import done
from recipec.run.inputs import counted_rows, named_files
from recipec.run.longer import continued_stages
from recipec.run.model_sizes import json_object, stage_shapes
from recipec.spec.knowledge import Knowledge

_MOST_FILES = 10_000
_MOST_BYTES = 1 << 30


def plan_run(compiled: Compiled, out: Path, recorded: tuple[Path, str | None] | None = None) -> Plan:
    """Plan a run of a compiled recipe in the directory ``out``.

    ``recorded`` are rows of a run and, if needed, the name of their stage: prefix sharing is measured on them.

    Raises:
        RecipeError: RC766, an artifact there was altered; RC798, RC845 and RC768 for recorded rows.
    """
    assert compiled.graph is not None, "a plan needs a graph"
    root = Path(compiled.resolved.files[0]).resolve().parent
    shapes = stage_shapes(compiled.graph, root)
    graph, chosen = choose(compiled.graph, shapes)
    inputs = {stage.name: _hashes(stage, root) for stage in graph.stages}
    rows = {stage.name: count for stage in graph.stages if (count := counted_rows(stage, root)) is not None}
    use = [root / path for path in (compiled.recipe.use if compiled.recipe else ())]
    options = Options(root=root, out=out, use=[path.resolve() for path in use])

    def where(key: str) -> str:
        span = compiled.resolved.span(tuple(key.split(".")))
        return f"{span.file}:{span.line}"

    counts = {}
    if recorded is not None:
        with runtime_packages():
            from recipec.runtime.training.measured_sharing import counted  # noqa: PLC0415 - torch comes in here
        name, steps = counted(graph, *recorded)
        counts[name] = steps
    earlier = _previous(graph, options)
    facts = {stage.name: described for stage in graph.stages if (described := _facts(stage, root))}
    return plan(
        graph, shapes, earlier, inputs=inputs, rows=rows, facts=facts, recorded=counts, chosen=chosen, where=where
    )


def _hashes(stage: StageGraph, root: Path) -> dict[str, str]:
    files = sorted(set(named_files(stage)))
    return {path: _hash(named_file(root, path), path) for path in files}


def _hash(path: Path, shown: str) -> str:
    """Hash a file or a folder: its bytes, or the sizes and times of its files where these are too many to read."""
    try:
        if not path.exists():
            return "absent"
        files = [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file())
        states = [(p, p.stat()) for p in itertools.islice(files, _MOST_FILES)]
        if len(states) < _MOST_FILES and sum(state.st_size for _, state in states) <= _MOST_BYTES:
            return hash_tree(path)
        listed = sorted(f"{p}:{state.st_size}:{state.st_mtime_ns}" for p, state in states)
        return f"listed:{hashlib.sha256(chr(10).join(listed).encode()).hexdigest()}"
    except OSError as error:
        raise RecipeError(data_missing(shown, error.strerror or str(error))) from None


def _facts(stage: StageGraph, root: Path) -> str:
    """Describe the knowledge graph that a stage reads, and the size of its files."""
    spec = stage.spec(Knowledge)
    if spec is None:
        return ""

    def size(files: Sequence[str]) -> str:
        there = all((root / name).is_file() for name in files)
        return amount(float(sum((root / name).stat().st_size for name in files)) if there else None, "B")

    return spec.source(size)


def _previous(graph: Graph, options: Options) -> Previous | None:
    try:
        before = graphs.from_json(read_small(options.out / "graph.json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
    folder = RunFolder(options.out)
    digests: dict[str, str] = {}
    states: dict[str, State] = {}
    for stage in graph.stages:
        digests[stage.name] = run_digest(stage, graph, digests, options)
        states[stage.name] = _state(folder, stage, digests[stage.name])
    states |= dict.fromkeys(continued_stages(before, graph, folder, options), "longer")
    inputs = json_object(options.out / "plan.json").get("inputs") or {}
    return Previous(before, states, inputs if isinstance(inputs, dict) else {})


def _state(folder: RunFolder, stage: StageGraph, digest: str) -> State:
    if done(folder, stage, digest):
        return "done"
    if read_manifest(folder.stage(stage.name) / "policy") is not None:
        return "stale"
    checkpoints = (read_manifest(path) or {} for path in folder.checkpoints(stage.name))
    return "begun" if any(manifest.get("digest") == digest for manifest in checkpoints) else "absent"
