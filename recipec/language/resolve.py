"""Text with its includes, overrides and references -> plain data, where each value came from kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from recipec.diagnostics.errors import include as errors
from recipec.diagnostics.model import COMMAND_LINE, Diagnostic, Span, dotted
from recipec.language.includes import Includes
from recipec.language.nodes import Node, Path, Source
from recipec.language.overrides import override
from recipec.language.references import References, Use


@dataclass(frozen=True, slots=True)
class Resolved:
    """Plain data, and for every path of it the places that set it.

    Example: ``resolved.span(("stages", "explore", "loss", "epsilon"))`` is where the 0.2 stands.
    """

    data: dict[str, Any]
    graph: References
    texts: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...] = ()
    is_fragment: bool = False
    """Whether it has no stages: slots or settings that a recipe may extend."""
    complete: bool = True
    """False where a file could not be read to its end: what is absent may have been written."""
    references: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    """For each path with `${…}`, the paths it names."""
    unknown: frozenset[Path] = frozenset()
    """Paths with a wrong reference: their value in ``data`` is the text as written."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that was read, the recipe first."""
        return tuple(file for file in self.texts if file != COMMAND_LINE)

    def text(self, file: str) -> str:
        """Return the text of a file that was read, or the arguments of the command line, one on each line."""
        return self.texts.get(file, "")

    def span(self, path: Path, *, key: bool = False) -> Span:
        """Return where the value of ``path`` stands, or its key; the nearest place above it if it is absent."""
        return self.spans(path, key=key)[0]

    def spans(self, path: Path, *, key: bool = False) -> tuple[Span, ...]:
        """Return every place that had a part in the value: its own, what it refers to, and what included its file."""
        followed = self.graph.follow(path)
        node, real = followed.node, followed.real
        missing = node is None
        while node is None:
            real = real[:-1]
            node = self.graph.follow(real).node
        own = node.span
        if (key or missing) and node.key:
            own = node.key
        elif missing and node is self.graph.tree and isinstance(node.value, dict) and node.value:
            own = next(iter(node.value.values())).key or own
        uses = self.graph.uses
        notes = [
            uses[use].node.span.labelled(f"used through `{uses[use].node.value}` here")
            for use in reversed(followed.through)
        ]
        if not (key or missing):
            notes = [*self._definitions(real), *notes]
        if node.anchor is not None and not key:
            notes.append(node.anchor.span.labelled("what it repeats is here"))
        return tuple(dict.fromkeys((own, *notes, *node.chain)))

    def file(self, path: Path) -> str:
        """Return the file that set the value of ``path``: for `${vars.x}` alone, the file that defines it."""
        followed = self.graph.follow(path)
        while (use := self._whole(followed.real)) is not None and use.path not in self.unknown:
            followed = self.graph.follow(use.targets[0])
        return followed.node.span.file if followed.node is not None else self.span(path).file

    def listing(self) -> str:
        """Return every value with the place that set it, one per line."""
        rows = [(f"{dotted(path)}: {value!r}", self.span(path)) for path, value in _leaves(self.data, ())]
        width = min(max((len(row[0]) for row in rows), default=0), 72)
        return "\n".join(f"{says:<{width}}  # {span.file}:{span.line}:{span.column}" for says, span in rows)

    def _whole(self, real: Path) -> Use | None:
        use = self.graph.uses.get(real)
        return use if use is not None and use.whole else None

    def _definitions(self, real: Path) -> list[Span]:
        """Return the places of what the text at ``real`` refers to, and of what that refers to."""
        places: dict[Span, None] = {}
        pending = [real]
        seen: set[Path] = set()
        while pending and len(places) < 8:
            use = self.graph.uses.get(pending.pop(0))
            if use is None or use.path in seen:
                continue
            seen.add(use.path)
            for target in use.targets:
                followed = self.graph.follow(target)
                if followed.node is not None:
                    places[followed.node.span.labelled(f"`{dotted(target)}` is defined here")] = None
                    pending.append(followed.real)
        return list(places)


def resolve(source: Source, overrides: Sequence[str] = ()) -> Resolved:
    r"""Merge what a recipe extends and what the command line sets, and put values in place of references.

    Never raises for what the user wrote: what is wrong is among the diagnostics, the rest is in ``data``.

    >>> from recipec.language.yaml_reader import read_source
    >>> resolve(read_source("r.yaml", "vars: {lr: 1e-5}\nrate: ${vars.lr}\n"), ["vars.lr=2e-5"]).data
    {'vars': {'lr': 2e-05}, 'rate': 2e-05}
    """
    includes = Includes(source)
    tree = includes.expand(source, (source.file,))
    diagnostics = includes.found
    if tree is None:
        tree = Node({}, Span(source.file, 1, 1, 1, 1))
    texts = {name: source_read.text for name, source_read in includes.sources.items()}
    if overrides:
        tree, wrong = override(tree, overrides)
        diagnostics.extend(wrong)
        texts[COMMAND_LINE] = "\n".join(overrides)
    complete = includes.complete
    is_fragment = complete and "stages" not in tree.value
    graph = References(tree, texts, partial=is_fragment or not complete)
    graph.collect()
    diagnostics.extend(graph.found)
    values = _values(graph, diagnostics)
    return Resolved(
        data=_plain(tree, (), values),
        graph=graph,
        texts=texts,
        diagnostics=_once(diagnostics),
        is_fragment=is_fragment,
        complete=complete,
        references={
            use.path: tuple(to.real for to in map(graph.follow, use.targets) if to.node is not None)
            for use in graph.uses.values()
        },
        unknown=frozenset(graph.unknown),
    )


def _once(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return each finding once, also where the file that has it is included several times."""
    return tuple({(each.code, each.message, each.spans[:1]): each for each in reversed(diagnostics)}.values())[::-1]


def _values(graph: References, diagnostics: list[Diagnostic]) -> dict[Path, Any]:
    """Return the value of every text with references that is sound."""
    uses = [use for use in graph.uses.values() if use.path not in graph.unknown]
    if not uses:
        return {}
    from omegaconf import OmegaConf  # noqa: PLC0415 - it costs 40 ms, and most recipes have no references
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    needed: dict[Any, Any] = {}
    for use in uses:
        for path in (use.path, *use.targets):
            _need(needed, path)
    safe = {use.path: use.node.value for use in uses}
    try:
        config = OmegaConf.create(_pruned(graph.tree, (), needed, safe))
        container: Any = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        says = str(error).split("\n", 1)[0]
        use = next((use for use in uses if dotted(use.path) == getattr(error, "full_key", None)), uses[0])
        diagnostics.append(
            errors.bad_reference(use.node.span, use.node.value[:80], says, dotted(use.path), use.node.chain)
        )
        graph.unknown.update(use.path for use in uses)
        return {}
    return {use.path: list(accumulate(use.path, lambda held, step: held[step], initial=container))[-1] for use in uses}


def _need(needed: dict[Any, Any], path: Path) -> None:
    """Note in a tree of names that all below ``path`` is needed."""
    for step in path[:-1]:
        needed = needed.setdefault(step, {})
        if needed is None:
            return
    needed[path[-1]] = None


def _pruned(node: Node, path: Path, needed: dict[Any, Any] | None, safe: Mapping[Path, str]) -> Any:
    """Return the needed part of the tree as plain data; texts with wrong references become empty."""
    if isinstance(node.value, dict):
        return {
            key: _pruned(child, (*path, key), needed[key] if needed is not None else None, safe)
            for key, child in node.value.items()
            if needed is None or key in needed
        }
    if isinstance(node.value, list):  # an item keeps its number only among all items
        return [_pruned(child, (*path, index), None, safe) for index, child in enumerate(node.value)]
    if isinstance(node.value, str) and "${" in node.value:
        return safe.get(path, "")
    return node.value


def _plain(node: Node, path: Path, values: Mapping[Path, Any]) -> Any:
    if not values:
        return node.plain()
    if isinstance(node.value, dict):
        return {key: _plain(child, (*path, key), values) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(child, (*path, index), values) for index, child in enumerate(node.value)]
    return values.get(path, node.value)


def _leaves(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(data, list) and any(isinstance(value, dict | list) for value in data):
        for index, value in enumerate(data):
            yield from _leaves(value, (*path, index))
    else:
        yield path, data
