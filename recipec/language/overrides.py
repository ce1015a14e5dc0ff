"""``--set path.to.key=value``: overrides, applied to the tree like a last file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recipec.diagnostics.errors import include as errors
from recipec.diagnostics.model import COMMAND_LINE, Diagnostic, Span
from recipec.language.merge import merge
from recipec.language.nodes import Node
from recipec.language.yaml_reader import read_value


def override(tree: Node, arguments: Sequence[str]) -> tuple[Node, list[Diagnostic]]:
    """Return the tree with every override laid on it, in order, and what is wrong with them.

    >>> from recipec.language.yaml_reader import read_source
    >>> override(read_source("r", "seed: 0").root, ["seed=1e3", "machine.devices=2"])[0].plain()
    {'seed': 1000.0, 'machine': {'devices': 2}}
    """
    diagnostics: list[Diagnostic] = []
    line = 1
    for argument in arguments:
        tree = _one(tree, argument, line, diagnostics)
        line += argument.count("\n") + 1
    return tree, diagnostics


def _one(tree: Node, argument: str, line: int, diagnostics: list[Diagnostic]) -> Node:
    first = argument.split("\n", 1)[0]
    span = Span(COMMAND_LINE, line, 1, line, len(first) + 1)
    dotted, equals, text = argument.partition("=")
    names = dotted.split(".")
    problem = ""
    if not equals:
        problem = "there is no `=`"
    elif not all(name and name == name.strip() and name.isprintable() for name in names):
        problem = "a name in the path is missing or has spaces"
    elif not text.strip():
        problem = "the value is missing"
    elif names[-1] == "extends" or names[0] == "extends":
        problem = "files are included before overrides are read"
    elif len(names) > 32:
        problem = "the path is too long"
    if problem:
        diagnostics.append(errors.bad_override(span, f"`{first}` sets nothing: {problem}"))
        return tree
    value, wrong = read_value(text, line, len(dotted) + 2, argument)
    diagnostics.extend(wrong)
    if value is None:
        return tree
    places = [Span(COMMAND_LINE, line, 1, line, 1)]
    for name in names:
        start = places[-1].end_column + (len(places) > 1)
        places.append(Span(COMMAND_LINE, line, start, line, start + len(name)))
    steps = list(zip(names, places[1:], strict=True))
    misled = _misled(tree, steps, value)
    if misled:
        diagnostics.append(misled)
        return tree
    return merge(tree, _over(tree, steps, value), keep=True)


def _misled(tree: Node, steps: list[tuple[str, Span]], value: Node) -> Diagnostic | None:
    """Return why the path of an override cannot be followed."""
    node: Node | None = tree
    done: list[str] = []
    for index, (name, place) in enumerate(steps):
        path, last = ".".join((*done, name)), index == len(steps) - 1
        here = ".".join(done)
        inner = node.value if node is not None else None
        removes = last and value.value is None
        if isinstance(inner, list):
            if _item(inner, name) is None or removes:
                problem = (
                    f"`{here}` is a list: only its items 0 to {len(inner) - 1} can be set, and none can be removed"
                )
                return errors.bad_override(place, problem, "", (), path, _given(node))
            node = _item(inner, name)
        elif inner is None or isinstance(inner, dict):
            known = inner or {}
            if name not in known and removes:
                return errors.bad_override(place, f"there is no `{path}` to remove", name, list(known), path)
            if name not in known and done == ["stages"] and known and not (last and isinstance(value.value, dict)):
                return errors.bad_override(place, f"there is no stage `{name}`", name, list(known), path)
            node = known.get(name)
        else:
            says = f"the reference `{inner}`" if "${" in str(inner) else "a single value"
            problem = f"`{here}` is {says}: nothing can be set below it"
            return errors.bad_override(place, problem, "", (), path, _given(node))
        done.append(name)
    return None


def _item(items: list[Node], name: str) -> Node | None:
    return items[int(name)] if name.isdecimal() and len(name) < 6 and int(name) < len(items) else None


def _given(node: Node | None) -> tuple[Span, ...]:
    return (node.span.labelled("given here"), *node.chain) if node is not None else ()


def _over(node: Node | None, steps: list[tuple[str, Span]], value: Node) -> Node:
    """Return what, merged onto ``node``, sets the value at the end of the steps."""
    if not steps:
        return value
    name, place = steps[0]
    if node is not None and isinstance(node.value, list):
        items = list(node.value)
        old = items[int(name)]
        items[int(name)] = merge(old, _over(old, steps[1:], value), keep=True)
        return replace(node, value=items, anchor=None)
    below = node.value.get(name) if node is not None and isinstance(node.value, dict) else None
    child = _over(below, steps[1:], value)
    return Node({name: replace(child, key=place)}, place)
