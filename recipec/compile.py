"""From a recipe's text to its graph: the list of passes."""

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

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.language.resolve import Resolved
    from recipec.reading.partial import Reading
    from recipec.spec.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Compiled:
    """A recipe as far as it could be compiled, and what is wrong with it; ``graph`` is there when nothing is."""

    resolved: Resolved
    reading: Reading
    recipe: Recipe | None
    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; a fragment is never compiled, but may well be sound."""
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)

    @property
    def texts(self) -> Mapping[str, str]:
        """Every file that was read, the recipe first, and the command line's overrides."""
        return dict(self.resolved.texts)


def check_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    """Check the recipe in a file, or ``text`` under the name ``path``; never raises for what a user wrote."""
    source = read_source(path, text)  # text                   -> values and where they stand
    resolved = resolve(source, overrides)  # extends, ${...}, --set -> plain data, its places kept
    reading = read_recipe(resolved)  # slot by slot           -> frozen specs
    found = (*resolved.diagnostics, *reading.diagnostics, *check_all(reading))
    return Compiled(resolved, reading, reading.recipe, None, found)


def compile_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    r"""Check a recipe and, if nothing is wrong with it, write it down as a graph.

    >>> compile_recipe("r.yaml", text="recipec: 1\nname: r\nstages: {}\n").ok
    False
    """
    checked = check_recipe(path, overrides, text=text)
    if checked.recipe is None or not checked.ok:
        return checked
    return replace(checked, graph=compile_graph(checked.recipe, said(checked.reading)))


def compile_graph(recipe: Recipe, keys: Sequence[str] = ()) -> Graph:
    """Lower and optimise a recipe in which nothing is wrong; the graph obeys its grammar before and after.

    ``keys`` are the dotted keys that the files give: the graph must have read every one.
    """
    from recipec.graph import verify  # noqa: PLC0415 - checking alone lowers nothing, and is a process of its own
    from recipec.lowering.lower import lower  # noqa: PLC0415
    from recipec.lowering.optimise import optimise  # noqa: PLC0415

    graph = verify(lower(recipe))  # rows -> nodes; sums, broadcasts and loops visible
    return verify(optimise(graph), keys=keys)  # removals that are proved to change nothing


def compile_model(recipe: Recipe) -> Compiled:
    """Compile a recipe that was built in Python: as if it had been read from the file it would be written to."""
    return compile_recipe(PYTHON, text=recipe.to_yaml())


def said(reading: Reading) -> list[str]:
    """Return the dotted keys to which the files give a value."""
    keys = set(reading.consumed)
    inner = {key.rpartition(".")[0] for key in keys}
    return sorted(key for key in keys - inner if key and _value(reading.resolved.data, key) not in (None, {}, []))


def _value(data: object, key: str) -> object:
    for step in key.split("."):
        data = data.get(step) if isinstance(data, Mapping) else None
    return data
