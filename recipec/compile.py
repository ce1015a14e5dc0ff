"""Compile a recipe: the passes from its text to its graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from recipec.checks.run_checks import check_all
from recipec.diagnostics.model import PYTHON, Diagnostic
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe
from recipec.yaml_io import to_yaml

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.language.resolve import Resolved
    from recipec.reading.partial import Reading
    from recipec.spec.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of compiling a recipe: its graph, if there are no errors, and the diagnostics."""

    resolved: Resolved
    reading: Reading
    recipe: Recipe | None
    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors; a valid fragment is never compiled."""
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)

    @property
    def texts(self) -> Mapping[str, str]:
        """The text of every file that was read, the recipe first, and the overrides of the command line."""
        return dict(self.resolved.texts)


def check_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    """Check a recipe file, or ``text`` under the name ``path``; errors of the user are returned, not raised."""
    source = read_source(path, text)  # text                   -> values with their positions
    resolved = resolve(source, overrides)  # extends, ${...}, --set -> plain data with positions
    reading = read_recipe(resolved)  # slot by slot           -> frozen specs
    found = (*resolved.diagnostics, *reading.diagnostics, *check_all(reading))
    return Compiled(resolved, reading, reading.recipe, None, found)


def compile_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    r"""Check a recipe and, if there are no errors, compile it to a graph.

    >>> compile_recipe("r.yaml", text="recipec: 1\nname: r\nstages: {}\n").ok
    False
    """
    checked = check_recipe(path, overrides, text=text)
    if checked.recipe is None or not checked.ok:
        return checked
    return replace(checked, graph=compile_graph(checked.recipe, given_keys(checked.reading)))


def compile_graph(recipe: Recipe, keys: Sequence[str] = ()) -> Graph:
    """Lower and optimise a valid recipe; the graph is verified before and after.

    ``keys`` are the dotted keys that the files set: the graph must have read each of them.
    """
    from recipec.graph import verify  # noqa: PLC0415 - `validate` does not lower
    from recipec.lowering.lower import lower  # noqa: PLC0415
    from recipec.lowering.optimise import optimise  # noqa: PLC0415

    graph = verify(lower(recipe))  # stages -> nodes, with explicit sums, broadcasts and loops
    return verify(optimise(graph), keys=keys)  # removals that do not change the result


def compile_model(recipe: Recipe) -> Compiled:
    """Compile a recipe that was built in Python, through its YAML text."""
    return compile_recipe(PYTHON, text=to_yaml(recipe))


def given_keys(reading: Reading) -> list[str]:
    """Return the dotted keys that the files set."""
    keys = set(reading.consumed)
    inner = {key.rpartition(".")[0] for key in keys}
    return sorted(key for key in keys - inner if key and _value(reading.resolved.data, key) not in (None, {}, []))


def _value(data: object, key: str) -> object:
    for step in key.split("."):
        data = data.get(step) if isinstance(data, Mapping) else None
    return data
