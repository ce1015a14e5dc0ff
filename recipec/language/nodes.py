"""A file as read: its tree of values, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from recipec.diagnostics.model import Diagnostic, Span

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value of the text and where it stands: a mapping of nodes, a list of nodes, or a scalar.

    Example: the ``0.2`` of ``epsilon: 0.2`` is ``Node(0.2, <span of 0.2>, key=<span of epsilon>)``.
    """

    value: Any
    span: Span
    key: Span | None = None
    """Where the key of this value stands; None for items of a list and for the root."""
    chain: tuple[Span, ...] = ()
    """The `extends` entries that led to this file, the nearest first."""
    anchor: Node | None = None
    """The value that an alias repeats."""
    size: int = 1
    """Values below and including this one, aliases expanded."""
    refused: bool = False
    """Whether there is no value, and ``value`` is what is written: a number out of range, an alias of nothing."""

    def plain(self) -> Any:
        """Return the value without positions."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def below(self) -> Iterator[Node]:
        """Yield this value and all in it."""
        yield self
        children = self.value.values() if isinstance(self.value, dict) else self.value
        for child in children if isinstance(self.value, dict | list) else ():
            yield from child.below()


@dataclass(frozen=True, slots=True)
class Source:
    """One file as read: its text, its tree, and what is wrong with it."""

    file: str
    text: str
    root: Node | None
    """None where no mapping could be understood."""
    diagnostics: tuple[Diagnostic, ...]
    complete: bool
    """False where reading stopped before the end: what is absent may have been written."""
