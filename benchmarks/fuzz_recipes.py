"""Compile mutated recipes: shipped ones with keys removed, renamed, and values of other keys; no exception may leave.

Counts recipes, those that compile, those that took over a second, and exceptions by place; ends with 1 if any.

    python benchmarks/fuzz_recipes.py --seconds 600 --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from recipec.compile import compile_recipe

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
ODD: list[Any] = [None, 0, -1, 1e308, "", "x", [], {}, True, "${vars.x}", "a\x1b]", "../..", [None], {"type": "x"}]
NAMES = ("type", "path", "weight", "from", "evaluate", "reward")


def values_in(value: Any) -> list[Any]:
    """Return every value inside a value."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [one for part in inner for one in (part, *values_in(part))]


def mutated(value: Any, draw: random.Random, pool: list[Any]) -> Any:
    """Change one place of nested data."""
    if isinstance(value, dict) and value:
        key, kind = draw.choice(list(value)), draw.random()
        if kind < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.4:
            return {**value, key: draw.choice(pool)}
        if kind < 0.6:
            return {**value, draw.choice((f"{key}x", *NAMES)): draw.choice(pool)}
        return {**value, key: mutated(value[key], draw, pool)}
    if isinstance(value, list) and value:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw, pool), *value[place + 1 :]]
    return draw.choice(pool)


def main() -> int:
    """Compile until the time is over, and print counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)  # noqa: S311 - mutations are no secret
    known = [yaml.safe_load(path.read_text()) for path in sorted(RECIPES.rglob("*.yaml"))]
    pool = [*ODD, *(one for recipe in known for one in values_in(recipe))]
    counts, failed = Counter[str](), Counter[str]()
    until = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        while time.monotonic() < until:
            recipe = draw.choice(known)
            for _ in range(draw.randint(1, 4)):
                recipe = mutated(recipe, draw, pool)
            path.write_text(yaml.safe_dump(recipe))
            begun = time.process_time()
            try:
                made = compile_recipe(path, ())
                counts["compiled"] += made.graph is not None
                counts["errors without a place"] += any(d.is_error and not d.spans for d in made.diagnostics)
            except Exception as error:  # noqa: BLE001 - every exception is counted
                place = traceback.extract_tb(error.__traceback__)[-1]
                failed[f"{type(error).__name__} in {place.name}:{place.lineno}"] += 1
            counts["recipes"] += 1
            counts["over a second"] += time.process_time() - begun > 1
    print(dict(counts), f"{sum(failed.values())} exceptions", dict(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
