"""What two recipes or runs differ in, and whether it changes what is trained, what is measured, or speed alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from recipec import graph as graphs
from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import BOOKKEEPING, Graph, StageGraph
from recipec.host.artifacts import RESOLVED
from recipec.host.options import Options
from recipec.host.packages import versions
from recipec.host.small_files import read_small
from recipec.report.resolved_values import resolved_values
from recipec.run.digests import run_digest, stage_inputs
from recipec.run.launching import compiled, decided

Effect = Literal["results", "evaluation", "service", "rounding", "speed", "nothing"]
MEANING: dict[Effect, str] = {
    "results": "other weights: data, model, objective, sampling or training",
    "evaluation": "other held-out numbers of the same weights",
    "service": "a service at another address, which may answer differently",
    "rounding": "other versions of packages: results may differ by rounding",
    "speed": "speed or memory",
    "nothing": "nothing that is computed",
}
"""Effects, the strongest first."""
_SPEED_OF_A_BUDGET = ("microbatch_tokens",)
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two recipes or runs differ.

    Example: ``Difference("stages.explore.loss.beta", "0.0", "0.1", "results")``.
    """

    key: str
    before: str
    """The value of the first; empty where it has none."""
    after: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    name: str
    graph: Graph
    settings: Mapping[str, str]
    """The text of every key, with overrides and extended files."""
    inputs: Mapping[str, Mapping[str, str]]
    """Hashes of files, weights and the user's functions by stage; of a run, only stages that were begun."""
    code: Mapping[str, str]
    """The user's files."""
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences of two recipes or runs.

    Example: ``Comparison(("a.yaml", "b.yaml"), (), ())``.
    """

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    stages: tuple[str, ...]
    """Stages that both have and that end with other weights."""

    @property
    def same(self) -> bool:
        """Whether weights and held-out numbers are the same, up to rounding."""
        return not any(one.effect in {"results", "evaluation"} for one in self.differences)

    def to_json(self) -> str:
        """Write the comparison for programs."""
        differences = [asdict(one) for one in self.differences]
        about = {"format": 1, "names": self.names, "same": self.same, "stages": self.stages, "differences": differences}
        return json.dumps(about, indent=1, ensure_ascii=False)

    def text(self) -> str:
        """Write the comparison for a terminal, the strongest effects first."""
        lines = [f"{self.names[0]} -> {self.names[1]}: " + ("same results" if self.same else "other results")]
        width = max((len(one.key) for one in self.differences), default=0)
        for effect, meaning in MEANING.items():
            differences = [one for one in self.differences if one.effect == effect]
            lines += ["", f"{effect}: {meaning}"] if differences else []
            lines += [
                f"  {one.key:{width}}  {one.before or '(none)'} -> {one.after or '(none)'}" for one in differences
            ]
        if self.stages:
            lines += ["", f"trained differently: {', '.join(self.stages)}"]
        return "\n".join(lines)


def compare(before: Path, after: Path, overrides: tuple[str, ...] = ()) -> Comparison:
    """Compare two recipe files or run directories; ``overrides`` are those of ``--set``, for recipe files.

    Raises:
        RecipeError: what is wrong with a recipe; RC772, a directory is not that of a run.
    """
    one, other = (_run(path) if path.is_dir() else _recipe(path, overrides) for path in (before, after))
    names = [stage.name for stage in one.graph.stages if stage.name in {s.name for s in other.graph.stages}]
    trained = tuple(name for name in names if _weights(one, name) != _weights(other, name))
    differences = (*_settings(one, other), *_inputs(one, other), *_code(one, other), *_versions(one, other))
    order = list(MEANING)
    sorted_ = sorted(differences, key=lambda difference: order.index(difference.effect))
    return Comparison((one.name, other.name), tuple(sorted_), trained)


def _recipe(path: Path, overrides: tuple[str, ...]) -> Side:
    result, graph = compiled(path, overrides)
    assert result.recipe is not None
    root = path.resolve().parent
    out = Path("runs") / graph.name
    graph = decided(result, graph, out)[1]
    use = [(root / name).resolve() for name in result.recipe.use]
    options = Options(root=root, out=out, use=use)
    inputs, digests = {}, dict[str, str]()
    for stage in graph.stages:
        inputs[stage.name] = stage_inputs(stage, digests, options)
        digests[stage.name] = run_digest(stage, graph, digests, options)
    code = {file.name: file.read_text(encoding="utf-8", errors="replace") for file in use if file.is_file()}
    return Side(str(path), graph, resolved_values(result.resolved.listing()), inputs, code, versions())


def _run(folder: Path) -> Side:
    try:
        graph = graphs.from_json(read_small(folder / "graph.json"))
        about = json.loads(read_small(folder / "run.json"))
        listing = read_small(folder / RESOLVED)
        inputs = {
            path.parent.name: dict(json.loads(read_small(path))) for path in sorted(folder.glob("stages/*/inputs.json"))
        }
        code = {
            path.name: path.read_text(encoding="utf-8", errors="replace")
            for path in folder.glob("code/*.py")
            if path.is_file()
        }
        return Side(str(folder), graph, resolved_values(listing), inputs, code, dict(about["versions"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise RecipeError(errors.unreadable_run(str(folder), error)) from error


def _weights(side: Side, name: str) -> tuple[Any, ...]:
    """Return what the weights after a stage depend on, as far as it is known."""
    stage = side.graph.stage(name)
    parents = [_weights(side, stage.origin)] if any(s.name == stage.origin for s in side.graph.stages) else []
    return (stage.digest, sorted(_own_inputs(side, stage).items()), parents)


def _own_inputs(side: Side, stage: StageGraph) -> dict[str, str]:
    """Return the hashes of a stage, without those of earlier stages."""
    names = {other.name for other in side.graph.stages}
    return {name: known for name, known in side.inputs.get(stage.name, {}).items() if name not in names}


def _settings(one: Side, other: Side) -> Iterator[Difference]:
    old, new = (dict(_effects(side.graph)) for side in (one, other))
    unset = (None, None)  # a key that an older version did not have is one without a value
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key, unset)[0] != new.get(key, unset)[0]]
    for key in changed:
        values = [_shown(side.get(key, unset)[0]) for side in (old, new)]
        yield Difference(key, values[0], values[1], (new if key in new else old)[key][1])
    for key in dict.fromkeys([*one.settings, *other.settings]):
        values = [side.settings.get(key, "") for side in (one, other)]
        if values[0] != values[1] and not any(known == key or known.startswith(f"{key}.") for known in changed):
            yield Difference(key, _shown(values[0]), _shown(values[1]), "nothing")


def _effects(graph: Graph) -> Iterator[tuple[str, tuple[Any, Effect]]]:
    """Yield every setting of a graph with what it has an effect on, defaults included."""
    yield "seed", (graph.seed, "results")
    for stage in graph.stages:
        for key, value in graphs.settings_of(stage).items():
            yield key, (value, "results")
        for key in BOOKKEEPING:
            effect: Effect = "speed" if key in _SPEED_OF_A_BUDGET else "nothing"
            yield f"stages.{stage.name}.budget.{key}", (stage.settings["budget"].get(key), effect)
        attention = stage.node("attention")
        if attention is not None:
            for key, value in graphs.flat({"type": attention.type, **attention.params}).items():
                yield f"stages.{stage.name}.attention.{key}", (value, "speed")
    for key, value in graphs.flat({"evaluate": dict(graph.evaluate)}).items():
        yield key, (value, "evaluation")
    for key, value in graphs.flat({"machine": dict(graph.machine)}).items():
        yield key, (value, "service" if key.startswith("machine.services.") else "speed")


def _inputs(one: Side, other: Side) -> Iterator[Difference]:
    """Yield files, weights and functions of stages that both have hashes of, each once."""
    seen = set()
    for stage in one.graph.stages:
        if stage.name not in one.inputs or stage.name not in other.inputs:
            continue
        old = _own_inputs(one, stage)
        new = _own_inputs(other, other.graph.stage(stage.name))
        for name in sorted({*old, *new}):
            values = tuple(side.get(name, "")[:12] for side in (old, new))
            if values[0] != values[1] and (name, values) not in seen and name in old and name in new:
                seen.add((name, values))
                yield Difference(name, values[0], values[1], "results")


def _code(one: Side, other: Side) -> Iterator[Difference]:
    """Yield the user's files that differ in nothing that a stage calls; what it calls is among the inputs."""
    called = {difference.key for difference in _inputs(one, other)}
    for name in sorted({*one.code, *other.code}):
        if one.code.get(name) != other.code.get(name) and not called & set(_defined(one.code, other.code, name)):
            words = [f"{len(side.code[name].splitlines())} lines" if name in side.code else "" for side in (one, other)]
            yield Difference(name, words[0], words[1], "nothing")


def _defined(one: Mapping[str, str], other: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield the names that a file defines at its top level, in either version."""
    for text in (one.get(name, ""), other.get(name, "")):
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word in {"def", "class"}:
                yield rest.partition("(")[0].partition(":")[0].strip()


def _versions(one: Side, other: Side) -> Iterator[Difference]:
    for name in sorted({*one.versions, *other.versions}):
        values = [side.versions.get(name, "") for side in (one, other)]
        if values[0] != values[1]:
            yield Difference(name, values[0], values[1], "rounding")


def _shown(value: Any) -> str:
    """Write a value on one line, shortened.

    >>> _shown(0.5), _shown("a b"), _shown(None)
    ('0.5', 'a b', '')
    """
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
