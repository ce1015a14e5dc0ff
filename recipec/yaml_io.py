r"""Read recipes from YAML and write them as YAML: ``from_yaml(to_yaml(recipe)) == recipe``.

A recipe built in Python is compiled from its own YAML text, which diagnostics call ``<python>``, so that it is checked
like a file:

>>> from recipec import Adamw, Budget, CausalLm, File, Recipe, Scratch, Stage
>>> tiny = CausalLm(scratch=Scratch(hidden_size=64, layers=2, heads=2))
>>> budget = Budget(steps=10, rows_per_step=8)
>>> learn = Stage(kind="sft", from_="scratch", data=File(path="a.jsonl"), policy=tiny, optimizer=Adamw(), budget=budget)
>>> recipe = Recipe(recipec=1, name="mine", stages={"learn": learn})
>>> print(to_yaml(recipe))
recipec: 1
name: mine
stages:
  learn:
    kind: sft
    from: scratch
    data: {type: file, path: a.jsonl}
    policy: {type: causal_lm, scratch: {hidden_size: 64, layers: 2, heads: 2}}
    loss: {type: nll}
    optimizer: {type: adamw}
    budget: {steps: 10, rows_per_step: 8}
<BLANKLINE>
>>> from_yaml(to_yaml(recipe)) == recipe
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

from recipec.diagnostics.model import PYTHON, RecipeError
from recipec.language.nodes import Source
from recipec.language.resolve import resolve
from recipec.language.scalars import read_scalar
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe
from recipec.spec.recipe import Recipe

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_ESCAPED = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
"""Characters that the reader rejects unless they are escaped, and those that reorder text on a terminal; this takes
milliseconds to compile."""
_REFERENCE = re.compile(r"(\\*)\$\{")


def load(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe file; ``overrides`` are arguments of ``--set``, e.g. ``["seed=1"]``.

    Raises:
        RecipeError: with all diagnostics.
    """
    return _read(read_source(path), overrides)


def from_yaml(text: str, file: str = PYTHON) -> Recipe:
    """Read a recipe from YAML text; ``file`` is its name in diagnostics, and paths are relative to its directory.

    Raises:
        RecipeError: with all diagnostics.
    """
    return _read(read_source(file, text), ())


def _read(source: Source, overrides: Sequence[str]) -> Recipe:
    data = resolve(source, overrides)
    reading = read_recipe(data)
    if reading.recipe is None:
        raise RecipeError(*source.diagnostics, *data.diagnostics, *reading.diagnostics)
    return reading.recipe


def to_yaml(recipe: Recipe, *, minimal: bool = True) -> str:
    """Return a recipe as YAML: values that differ from their default, or all values with ``minimal=False``.

    Interpolations are resolved already, so ``vars`` is not written.
    """
    data = recipe.plain(minimal=minimal)
    data.pop("vars", None)
    return text_of(data)


def text_of(data: Mapping[str, Any]) -> str:
    r"""Return plain data as YAML text that reads as the same data.

    >>> text_of({"a": {"b": 1e-06}})
    'a: {b: 1e-06}\n'
    """
    return "".join(f"{line}\n" for line in _block(data, 0))


def _block(data: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the lines of a mapping, one per key; short mappings below the second level are written on one line."""
    for key, value in data.items():
        line = f"{'  ' * depth}{_scalar(key)}: {_flow(value)}"
        nests = isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values())
        if not isinstance(value, Mapping) or not value or (len(line) <= _WIDTH and (depth > 1 or not nests)):
            yield line
        else:
            yield f"{'  ' * depth}{_scalar(key)}:"
            yield from _block(value, depth + 1)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    r"""Write a scalar so that reading it returns the same value.

    >>> [_scalar(v) for v in (1e-05, True, None, "no", "1e-5", "a b", "${x}")]
    ['1e-05', 'true', 'null', 'no', '"1e-5"', '"a b"', '"\\\\${x}"']
    """
    if not isinstance(value, str):
        return json.dumps(value)
    text = _REFERENCE.sub(lambda match: match[1] * 2 + r"\${", value)
    if _PLAIN.fullmatch(text) and read_scalar(text) == (text, ""):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(_ESCAPED, lambda match: f"\\u{ord(match[0]):04x}", quoted)
