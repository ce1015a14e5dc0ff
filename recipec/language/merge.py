"""The rules of merging: mappings merge, lists replace, a changed ``type`` replaces the mapping, ``null`` removes."""

from __future__ import annotations

from dataclasses import replace

from recipec.language.nodes import Node


def merge(under: Node | None, over: Node, *, keep: bool = False) -> Node:
    """Return ``over`` laid on ``under``; with ``keep`` a merged mapping stays where ``under`` has it.

    >>> from recipec.language.yaml_reader import read_source
    >>> a = read_source("a", "loss: {type: clipped, epsilon: 0.2, beta: 0.1}").root
    >>> b = read_source("b", "loss: {epsilon: 0.3, beta: null}").root
    >>> merge(a, b).plain()
    {'loss': {'type': 'clipped', 'epsilon': 0.3}}
    """
    if under is None or not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    if _changed(under.value.get("type"), over.value.get("type")):
        return over
    merged: dict[str, Node] = dict(under.value)
    for key, child in over.value.items():
        if key in merged and child.value is None:
            del merged[key]
        else:
            merged[key] = merge(merged.get(key), child, keep=keep)
    return replace(under if keep else over, value=merged, anchor=None)


def _changed(before: Node | None, after: Node | None) -> bool:
    return before is not None and after is not None and bool(before.value != after.value)


def without(node: Node, *keys: str) -> Node:
    """Return the mapping without some keys."""
    if not any(key in node.value for key in keys):
        return node
    return replace(node, value={key: child for key, child in node.value.items() if key not in keys})
