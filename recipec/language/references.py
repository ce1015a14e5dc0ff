"""References: what `${…}` names, in which order, and how large it would grow, before anything is resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from recipec.diagnostics.errors import include as errors
from recipec.diagnostics.errors.text import over_limit
from recipec.diagnostics.model import Diagnostic, Span, dotted
from recipec.diagnostics.phrases import listed, nearest, question
from recipec.language.nodes import Node, Path

MAX_SIZE = 64 * 1024
"""Characters that all references together may stand for."""
MAX_REFERENCES = 1000
"""References in all texts together; a long recipe has 50."""
MAX_REFUSED = 5
"""Mistakes shown of one text."""
MAX_CHAIN = 16
"""References behind each other; more would also exhaust what resolves them."""

_OPENING = re.compile(r"(\\*)\$\{")
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z0-9_][\w-]*(?:\.[\w-]+)*)\s*\}", re.ASCII)


class Use(NamedTuple):
    """One text with references: where it is, what it names, and the characters between."""

    path: Path
    node: Node
    targets: tuple[Path, ...]
    literal: int
    whole: bool
    """Whether the text is nothing but one reference, so that the value keeps its type."""


class Followed(NamedTuple):
    """Where a path leads."""

    node: Node | None
    real: Path
    """Where the node stands; where there is none, the first path that is missing."""
    through: list[Path]
    """The references on the way."""


@dataclass(slots=True)
class References:
    """The graph of references of a tree."""

    tree: Node
    texts: dict[str, str]
    uses: dict[Path, Use] = field(default_factory=dict)
    unknown: set[Path] = field(default_factory=set)
    """Paths with an unknown value: their references are wrong, or refer to such a path."""
    found: list[Diagnostic] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    partial: bool = False
    """Whether what is absent may be given elsewhere: a fragment, or a file that was not read to its end."""

    def collect(self) -> None:
        """Find every reference, refuse malformed ones, and find circles and growth."""
        for path, node in _texts(self.tree, ()):
            if node.refused:
                self.unknown.add(path)
            else:
                self._use(path, node)
        self._unknown_targets()
        _Order(self).walk()

    def place(self, node: Node, written: str) -> Span:
        """Return where ``written`` stands inside the text of ``node``."""
        span = node.span
        lines = self.lines.get(span.file)
        if lines is None:
            lines = self.lines[span.file] = self.texts.get(span.file, "").split("\n")
        for number in range(span.line, min(span.end_line, len(lines)) + 1):
            line = lines[number - 1]
            start = span.column - 1 if number == span.line else 0
            end = span.end_column - 1 if number == span.end_line else len(line)
            at = line.find(written, start, end)
            if at >= 0:
                return Span(span.file, number, at + 1, number, at + 1 + len(written))
        return span

    def follow(self, path: Path) -> Followed:
        """Walk to where a path leads, through references that are a whole value."""
        node: Node = self.tree
        real: Path = ()
        left = list(path)
        through: list[Path] = []
        for _ in range(MAX_CHAIN * (len(path) + 1)):  # a circle has no end; it is found and reported elsewhere
            if not left:
                break
            use = self.uses.get(real)
            if use is not None and use.whole:
                through.append(real)
                node, real, left = self.tree, (), [*use.targets[0], *left]
                continue
            name, child = left.pop(0), None
            if isinstance(node.value, dict):
                child = node.value.get(name)
            elif isinstance(node.value, list) and str(name).isdecimal() and len(str(name)) < 6:
                name = int(name)
                child = node.value[name] if name < len(node.value) else None
            if child is None:
                return Followed(None, (*real, name), through)
            node, real = child, (*real, name)
        return Followed(node, real, through)

    def _use(self, path: Path, node: Node) -> None:
        text: str = node.value
        targets: list[Path] = []
        literal, position, refused = 0, 0, 0
        while refused < MAX_REFUSED and (opening := _OPENING.search(text, position)):
            literal += opening.end() - 2 - position
            if len(opening[1]) % 2:
                position = opening.end()
                continue
            start = opening.end() - 2
            written = _REFERENCE.match(text, start)
            if written is None:
                position = self._refuse(path, node, text, start)
                refused += 1
                continue
            targets.append(tuple(written[1].split(".")))
            position = written.end()
        if refused:
            self.unknown.add(path)
        whole = len(targets) == 1 and _REFERENCE.fullmatch(text.strip()) is not None and text == text.strip()
        self.uses[path] = Use(path, node, tuple(targets), literal + len(text) - position, whole)

    def _refuse(self, path: Path, node: Node, text: str, start: int) -> int:
        """Report why the `${` at ``start`` is not a reference, and return where to continue."""
        end = _closing(text, start)
        written = text[start:end] if end else text[start : start + 24].split("\n", maxsplit=1)[0]
        place = self.place(node, written)
        problem = "names joined by dots are expected"
        if re.match(r"\$\{[^{}]*:", written):
            problem = "resolvers, which read the environment or files, are not supported"
        elif not end:
            problem = "its `}` is missing"
        elif "${" in written[2:]:
            problem = "references inside references are not supported"
        elif written[2:].lstrip().startswith("."):
            problem = "it must start from the top of the recipe"
        self.found.append(errors.bad_reference(place, written, problem, dotted(path), node.chain))
        return end or start + 2

    def _unknown_targets(self) -> None:
        for use in self.uses.values():
            for target in use.targets:
                followed = self.follow(target)
                if followed.node is not None:
                    continue
                self.unknown.add(use.path)
                if not self.partial:
                    self._say_unknown(use, target, followed.real)

    def _say_unknown(self, use: Use, target: Path, real: Path) -> None:
        written = dotted(target)
        around = self.follow(real[:-1]).node
        keys = around.value if around is not None and isinstance(around.value, dict) else {}
        near = question((dotted((*real[:-1], key)) for key in nearest(str(real[-1]), keys)), str(real[-1]))
        variables = self.tree.value.get("vars")
        if len(target) == 1 and variables is not None and isinstance(variables.value, dict):
            near = f"did you mean `vars.{written}`?" if written in variables.value else near
        elif (whole := next((one for one in self._beginnings(target)), None)) is not None:
            near = f"did you mean `{dotted(whole)}`?"
        elif not near and len(real) > 1:
            near = f"define it; `{dotted(real[:-1])}` has {listed(keys)}"
        place = self.place(use.node, written)
        missing = dotted(real)
        self.found.append(errors.unknown_reference(place, written, missing, near, dotted(use.path), use.node.chain))

    def _beginnings(self, target: Path) -> Iterator[Path]:
        """Yield the paths that a reference may be the end of: in `vars`, of a stage, in its own stage."""
        for above in (("vars",), ("stages",), *((("stages", name)) for name in self._stages())):
            if self.follow((*above, *target)).node is not None:
                yield (*above, *target)

    def _stages(self) -> Iterator[str]:
        held = self.tree.value.get("stages")
        yield from held.value if held is not None and isinstance(held.value, dict) else ()


def _closing(text: str, start: int) -> int:
    """Return the index after the brace that closes the one opened at ``start``, 0 if there is none near."""
    depth = 0
    for index in range(start, min(len(text), start + 200)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0 and text[index] == "}":
            return index + 1
    return 0


def _texts(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    """Yield every text of the tree with `${` in it, and every value that was refused."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _texts(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _texts(child, (*path, index))
    elif node.refused or (isinstance(node.value, str) and "${" in node.value):
        yield path, node


class _Measure(NamedTuple):
    size: int
    chain: int
    broken: bool


@dataclass(slots=True)
class _Order:
    """A walk over what every reference needs, deepest first: finds circles, sizes and chains without resolving."""

    references: References
    done: dict[Path, _Measure] = field(default_factory=dict)
    below: dict[Path, list[Path]] = field(default_factory=dict)
    """Children that have references in them, of every mapping and list."""
    circled: set[Path] = field(default_factory=set)

    def walk(self) -> None:
        seen: set[Path] = set()
        for path in self.references.uses:
            for length in range(len(path), 0, -1):
                if path[:length] in seen:
                    break
                seen.add(path[:length])
                self.below.setdefault(path[: length - 1], []).append(path[:length])
        for path in self.references.uses:
            if path not in self.done:
                self._visit(path)
        self._growth()

    def _needs(self, path: Path) -> Iterator[Path]:
        use = self.references.uses.get(path)
        if use is None:
            yield from self.below.get(path, ())
            return
        for target in dict.fromkeys(use.targets):
            followed = self.references.follow(target)
            yield from followed.through
            if followed.node is not None:
                yield followed.real

    def _visit(self, start: Path) -> None:
        stack = [(start, self._needs(start))]
        on_the_way = {start: 0}
        while stack:
            path, needs = stack[-1]
            for needed in needs:
                if needed in on_the_way:
                    self._circle([frame[0] for frame in stack[on_the_way[needed] :]])
                elif needed not in self.done:
                    on_the_way[needed] = len(stack)
                    stack.append((needed, self._needs(needed)))
                    break
            else:
                self.done[path] = self._measure(path)
                if self.done[path].broken and path in self.references.uses:
                    self.references.unknown.add(path)
                del on_the_way[path]
                stack.pop()

    def _measure(self, path: Path) -> _Measure:
        nothing = _Measure(0, 0, broken=False)
        needs = [self.done.get(needed, nothing) for needed in self._needs(path)]
        chain = max((measure.chain for measure in needs), default=0)
        unknown = self.references.unknown
        broken = any(measure.broken for measure in needs) or not unknown.isdisjoint((path, *self._needs(path)))
        use = self.references.uses.get(path)
        if use is None:
            node = self.references.follow(path).node
            return _Measure(self._size(path, node) if node else 0, chain, broken)
        size = use.literal
        for target in use.targets:
            size += self.done.get(self.references.follow(target).real, nothing).size
        return _Measure(size, chain + 1, broken)

    def _size(self, path: Path, node: Node) -> int:
        if path in self.done:
            return self.done[path].size
        if isinstance(node.value, dict):
            return sum(len(key) + self._size((*path, key), child) for key, child in node.value.items())
        if isinstance(node.value, list):
            return sum(self._size((*path, index), child) for index, child in enumerate(node.value))
        return len(str(node.value)) + 1

    def _circle(self, circle: list[Path]) -> None:
        references = self.references
        uses = [references.uses[path] for path in circle if path in references.uses]
        references.unknown.update(use.path for use in uses)
        if not self.circled.isdisjoint(use.path for use in uses):
            return
        self.circled.update(use.path for use in uses)
        named = [dotted(path) for path in (*circle[:8], circle[0])]
        first, *others = uses
        spans = tuple(use.node.span.labelled(f"`{dotted(use.path)}` is here") for use in others[:8])
        references.found.append(
            errors.reference_cycle(first.node.span, named, dotted(first.path), (*spans, *first.node.chain))
        )

    def _growth(self) -> None:
        references = self.references
        good = [use for use in references.uses.values() if use.path not in references.unknown]
        if not good:
            return
        total = sum(self.done[use.path].size for use in good)
        longest = max(good, key=lambda use: self.done[use.path].chain)
        if self.done[longest.path].chain > MAX_CHAIN:
            what = f"{MAX_CHAIN} references in a chain"
            largest = longest
        elif sum(len(use.targets) for use in good) > MAX_REFERENCES:
            largest = max(good, key=lambda use: len(use.targets))
            what = f"{MAX_REFERENCES} references"
        elif total > MAX_SIZE:
            largest = max(good, key=lambda use: self.done[use.path].size)
            what = f"{MAX_SIZE // 1024} KiB of text in its references"
        else:
            return
        references.unknown.update(references.uses)
        references.found.append(over_limit(largest.node.span, what, dotted(largest.path), largest.node.chain))
