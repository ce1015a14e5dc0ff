r"""Recipes as text and as Python: the same frozen models, and no mistake of one that the other would not find.

``to_yaml`` and ``from_yaml`` undo each other.
A recipe built in Python is compiled from its own text, which then goes by the name ``<python>``:

>>> from recipec import Adamw, Budget, CausalLm, File, Recipe, Scratch, Stage
>>> tiny = CausalLm(scratch=Scratch(hidden_size=64, layers=2, heads=2))
>>> budget = Budget(steps=10, rows_per_step=8)
>>> learn = Stage(kind="sft", from_="scratch", data=File(path="a.jsonl"), policy=tiny, optimizer=Adamw(), budget=budget)
>>> recipe = Recipe(recipec=1, name="mine", stages={"learn": learn})
>>> print(recipe.to_yaml())
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
>>> Recipe.from_yaml(recipe.to_yaml()) == recipe
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.model import PYTHON, RecipeError
from recipec.language.scalars import read_scalar

if TYPE_CHECKING:
    from recipec.language.yaml_reader import Source
    from recipec.spec.recipe import Recipe

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that the reader refuses when they stand in a file as themselves."""
_REFERENCE = re.compile(r"(\\*)\$\{")


def load(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, with overrides as ``--set`` takes them.

    Raises:
        RecipeError: with every diagnostic of reading.
    """
    from recipec.language.yaml_reader import read_source  # noqa: PLC0415 - `import recipec` stays cheap

    return _read(read_source(path), overrides)


def from_yaml(text: str, file: str = PYTHON) -> Recipe:
    """Read a recipe from text; ``file`` is what diagnostics call it, and its folder is where paths start.

    Raises:
        RecipeError: with every diagnostic of reading.
    """
    from recipec.language.yaml_reader import read_source  # noqa: PLC0415 - `import recipec` stays cheap

    return _read(read_source(file, text), ())


def _read(source: Source, overrides: Sequence[str]) -> Recipe:
    from recipec.language.resolve import resolve  # noqa: PLC0415
    from recipec.reading.recipe import read_recipe  # noqa: PLC0415 - `import recipec` stays cheap

    data = resolve(source, overrides)
    reading = read_recipe(data)
    if reading.recipe is None:
        raise RecipeError(*source.diagnostics, *data.diagnostics, *reading.diagnostics)
    return reading.recipe


def to_yaml(recipe: Recipe, *, minimal: bool = True) -> str:
    """Write a recipe: what differs from its default, or with ``minimal=False`` every value that is set.

    References have been put in place by then, so ``vars`` is left out.
    """
    data = recipe.plain(minimal=minimal)
    data.pop("vars", None)
    return "".join(f"{line}\n" for line in _block(data, 0))


def _block(data: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Write a mapping with one key a line; what is short and deep enough goes on its key's line."""
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
    r"""Write one value so that the reader gives it back.

    >>> [_scalar(v) for v in (1e-05, True, None, "no", "1e-5", "a b", "${x}")]
    ['1e-05', 'true', 'null', 'no', '"1e-5"', '"a b"', '"\\\\${x}"']
    """
    if not isinstance(value, str):
        return json.dumps(value)
    text = _REFERENCE.sub(lambda found: found[1] * 2 + r"\${", value)
    if _PLAIN.fullmatch(text) and read_scalar(text) == (text, ""):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
