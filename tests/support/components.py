"""Calling the function behind a spec."""

from typing import Any

from recipec.component import Component


def call(spec: Component, **columns: Any) -> dict[str, Any]:
    """Call the function of a spec with those columns that it takes; one that is missing is None."""
    return spec.load()(**{name: columns.get(name) for name in spec.parameters()}, **spec.params())
