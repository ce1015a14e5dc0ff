"""Text to data with positions: YAML 1.2 scalars, one mapping a file, every key and value with its span.

The text is read as events, never composed or constructed by the YAML library: no tag can make an object,
an alias bomb is counted before anything is expanded, and depth is bounded before anything recurses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from recipec.diagnostics.errors import text as errors
from recipec.diagnostics.errors.reading import not_a_mapping
from recipec.diagnostics.model import COMMAND_LINE, Diagnostic, Span
from recipec.language.nodes import Node, Source
from recipec.language.repairs import BEFORE_BRACKET, meant_without_quotes, repair
from recipec.language.scalars import LEADING_ZERO, Scalar, read_scalar
from recipec.language.text_positions import Text, clean, read_text
from recipec.language.yaml_mistakes import entry_without_value, refuse_quotes, refuse_syntax

try:
    from yaml import CSafeLoader as _Parser
except ImportError:  # a PyYAML built without libyaml: the same events, slower
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]

MAX_DEPTH = 64
"""Deep enough for any recipe, far from the recursion limit of what walks it."""
_MOST_REPAIRS = 10
"""Each costs another reading."""
_MOST_READ = 400_000
"""Characters that are read again after repairs: each reads the whole text."""
MAX_NODES = 10_000
"""Values of one file with every alias expanded; a long recipe has 500."""

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*(?:[&!]\S*)?")
_TAG = re.compile(r"!\S*")


def read_source(
    path: str | os.PathLike[str],
    text: str | None = None,
    *,
    chain: tuple[Span, ...] = (),
    name: str = "",
    merge_keys: bool = False,
) -> Source:
    r"""Read one YAML file, or ``text`` under the name ``path``, never raising for what it says.

    ``chain`` are the places that include it, ``name`` is another name than its path, ``merge_keys`` keeps keys ``<<``.

    >>> read_source("r.yaml", "lr: 1e-5\nshuffle: no\n").root.plain()
    {'lr': 1e-05, 'shuffle': 'no'}
    """
    file = name or os.fspath(path)
    problems: list[Diagnostic] = []
    content = read_text(os.fspath(path), file, chain, problems) if text is None else clean(file, text, chain, problems)
    if content is None:
        return Source(file, text or "", None, tuple(problems), complete=False)
    reader = _read(Text(file, content, chain), merge_keys=merge_keys)
    root = reader.root
    if root is None and reader.complete:
        reader.found.append(_not_a_mapping(Span(file, 1, 1, 1, 1), "empty", chain))
    elif root is not None and not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else "a single value" if root.value is not None else "empty"
        if reader.complete:
            reader.found.append(_not_a_mapping(_first_line(root.span), kind, chain))
        root = None
    return Source(file, content, root, (*problems, *reader.found), reader.complete and root is not None)


def _not_a_mapping(place: Span, kind: str, chain: tuple[Span, ...]) -> Diagnostic:
    remedy = "start it with `recipec: 1`; `recipec new` writes a starter"
    return not_a_mapping(place.file, kind, "", (place, *chain), remedy)


def read_value(text: str, line: int, column: int, argument: str) -> tuple[Node | None, list[Diagnostic]]:
    """Read the value of a command line override, given at ``line`` and ``column`` of the command line."""
    problems: list[Diagnostic] = []
    if clean(COMMAND_LINE, text, (), problems) is None:
        place = Span(COMMAND_LINE, line, 1, line, len(argument) + 1)
        return None, [replace(diagnostic, spans=(place,)) for diagnostic in problems]
    reader = _read(Text(COMMAND_LINE, text, (), line, column))
    return (reader.root if reader.complete else None), reader.found


def _first_line(span: Span) -> Span:
    if span.end_line == span.line:
        return span
    return span._replace(end_line=span.line, end_column=span.column + 1)


class _Ended(Exception):  # noqa: N818 - it ends the reading, after the reason has been noted
    """The rest of the text must not be read."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that has not ended yet."""

    value: dict[str, Node] | list[Node]
    start: Any
    flow: bool
    anchor: str | None
    key: str | None = None
    key_span: Span | None = None
    key_end: int = 0
    """Where in the text the key ends."""
    skip: bool = False
    """The key was refused: read its value and drop it."""
    size: int = 1
    last: Span | None = None
    template: str = ""
    """The name in `{{ name }}`, where that is all it holds."""


@dataclass(slots=True)
class _Reader:
    """Events in, one tree and its diagnostics out."""

    text: Text
    merge_keys: bool = False
    root: Node | None = None
    complete: bool = True
    found: list[Diagnostic] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    count: int = 0
    documents: int = 0

    def read(self) -> None:
        """Read every event; raises the YAML library's errors."""
        for event in _events(self.text.text):
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close(event.end_mark)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self._stop(errors.several_documents(self._at(event), self.text.chain))

    def abandon(self, *, suspect: bool = False) -> None:
        """Close what is open and keep what was understood, less the last value in braces where it is ``suspect``."""
        self.complete = False
        top = self.stack[-1] if self.stack else None
        if suspect and top is not None and top.flow and top.value and not top.key:
            top.value.popitem() if isinstance(top.value, dict) else top.value.pop()
        while self.stack:
            self._close(None)

    def _at(self, event: Any) -> Span:
        return self.text.span(event.start_mark, event.end_mark)

    def _stop(self, diagnostic: Diagnostic) -> None:
        self.found.append(diagnostic)
        raise _Ended

    def _place(self) -> str:
        return ".".join(frame.key for frame in self.stack if frame.key)

    def _own_start(self, event: Any) -> Any:
        """Report a tag, and return the mark where the value itself starts, after its anchor."""
        start = event.start_mark
        if event.anchor is None and event.tag is None:
            return start
        written = _PROPERTIES.match(self.text.text, start.index)
        end = written.end() if written else start.index
        if event.tag is not None:
            tag = _TAG.search(self.text.text, start.index, end)
            span = (
                self.text.span(self.text.mark(tag.start(), start), self.text.mark(tag.end(), start))
                if tag
                else self._at(event)
            )
            self.found.append(errors.tag(span, tag[0] if tag else str(event.tag), self._place(), self.text.chain))
        return self.text.mark(min(end, event.end_mark.index), start)

    def _counted(self, size: int, span: Span) -> None:
        self.count += size
        if self.count > MAX_NODES:
            self._stop(errors.over_limit(_first_line(span), f"{MAX_NODES} values", chain=self.text.chain))

    def _scalar(self, event: Any) -> None:
        start = self._own_start(event)
        end = event.end_mark
        if event.style in {"|", ">"}:  # the library ends a block text where the next token starts
            written = self.text.text[start.index : end.index].rstrip()
            end = self.text.mark(start.index + len(written), start)
        span = self.text.span(start, end)
        if not self._awaits_key():
            self._counted(1, span)
        text, refused = event.value, False
        value: Scalar = text
        if not event.style:
            text = self._without_quotes(text, span)
            if self._awaits_key() and not self.stack[-1].flow and BEFORE_BRACKET.fullmatch(text):
                raise yaml.MarkedYAMLError("", event.start_mark, "could not find expected ':'", event.end_mark)
            value, refused = self._resolve(text, span)
        node = Node(value, span, self._key_span(), self.text.chain, refused=refused)
        if event.anchor is not None:
            self._anchor(event.anchor, node)
        elif not text and not event.style and self._no_colon(event.start_mark.index):
            node = self._repaired(node)
        self._attach(node, text, plain=not event.style)
        if self.stack and self.stack[-1].key_span == span:
            self.stack[-1].key_end = event.end_mark.index

    def _resolve(self, text: str, span: Span) -> tuple[Scalar, bool]:
        """Return the value of a plain scalar, and whether it is refused."""
        value, problem = read_scalar(text)
        if problem:
            self.found.append(errors.number_out_of_range(span, text, problem, self._place(), self.text.chain))
            return text, True
        if LEADING_ZERO.fullmatch(text) and not self._awaits_key():
            self.found.append(errors.leading_zero(span, text, self._place(), self.text.chain))
        return value, False

    def _without_quotes(self, text: str, span: Span) -> str:
        """Refuse typographic quotes around a plain scalar, and return what is between them."""
        inner = meant_without_quotes(text)
        if inner is None:
            return text
        key = self.stack[-1].key if self.stack else None
        self.found.append(refuse_quotes(span, inner, key or inner, self._place(), self.text.chain))
        return inner

    def _anchor(self, name: str, node: Node) -> None:
        first = self.anchors.get(name)
        if first is not None:
            place = self._place()
            self.found.append(errors.duplicate_key(node.span, first.span, f"&{name}", place, self.text.chain))
        self.anchors[name] = node

    def _no_colon(self, index: int) -> bool:
        """Whether the empty value at ``index`` follows a key in braces that has no colon."""
        top = self.stack[-1] if self.stack else None
        if top is None or not top.flow or not isinstance(top.value, dict) or top.key_span is None:
            return False
        return ":" not in self.text.text[top.key_end : index]

    def _repaired(self, node: Node) -> Node:
        """Refuse a key without a value, and read the value that was probably meant."""
        frame = self.stack[-1]
        assert isinstance(frame.value, dict)
        assert frame.key_span is not None
        written, place = frame.key or "", frame.key_span
        if self.found and self.found[-1].spans[0] == place:  # of a key that is not text
            self.found.pop()
        before = next(reversed(frame.value.items()), ("", None))
        last = (before[0], before[1].value) if before[1] is not None else None
        refused, meant = entry_without_value(place, written, last, self._place(), self.text.chain)
        self.found.append(refused)
        value = read_scalar(meant[1])[0] if meant is not None else None
        if meant is None or meant[0] in frame.value:
            frame.key, frame.skip = None, True
            if meant is not None:
                frame.value[meant[0]] = replace(frame.value[meant[0]], value=value)
            return node
        frame.key = meant[0]
        return replace(node, value=value)

    def _awaits_key(self) -> bool:
        top = self.stack[-1] if self.stack else None
        return top is not None and isinstance(top.value, dict) and top.key is None and not top.skip

    def _key_span(self) -> Span | None:
        return self.stack[-1].key_span if self.stack else None

    def _open(self, event: Any) -> None:
        start = self._own_start(event)
        span = self._at(event)
        self._counted(1, span)
        if len(self.stack) >= MAX_DEPTH:
            self._stop(errors.over_limit(_first_line(span), f"{MAX_DEPTH} levels of nesting", chain=self.text.chain))
        if event.anchor is not None:
            self.anchors.setdefault(event.anchor, None)  # an alias to it from inside would have no end
        empty: dict[str, Node] | list[Node] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(empty, start, bool(event.flow_style), event.anchor))

    def _close(self, end: Any | None) -> None:
        frame = self.stack.pop()
        if frame.flow and end is not None:
            span = self.text.span(frame.start, end)
        else:
            span = self.text.span(frame.start, frame.start)
            if frame.last is not None:
                span = span._replace(end_line=frame.last.end_line, end_column=frame.last.end_column)
        value = frame.template or frame.value  # a template has its message
        refused = bool(frame.template)
        node = Node(value, span, self._key_span(), self.text.chain, None, frame.size, refused=refused)
        if frame.anchor is not None:
            self._anchor(frame.anchor, node)
        self._attach(node)

    def _alias(self, event: Any) -> None:
        span = self._at(event)
        target = self.anchors.get(event.anchor)
        if target is None:
            inside = event.anchor in self.anchors
            names = list(self.anchors)
            self.found.append(errors.bad_alias(span, event.anchor, inside, names, self.text.chain))
            self._attach(Node(f"*{event.anchor}", span, self._key_span(), self.text.chain, refused=True))
            return
        self._counted(target.size, span)
        node = replace(target, span=span, key=self._key_span(), anchor=target)
        self._attach(node, node.value if isinstance(node.value, str) else None)

    def _attach(self, node: Node, text: str | None = None, *, plain: bool = False) -> None:
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.last = node.span
        if isinstance(frame.value, list):
            frame.value.append(node)
        elif frame.key is None and not frame.skip:
            self._take_key(frame, frame.value, node, text if plain or isinstance(node.value, str) else None, plain)
            return
        else:
            if frame.key is not None:  # the last of equal keys counts, as in most readers
                frame.value[frame.key] = node
            frame.key, frame.key_span, frame.skip = None, None, False
        frame.size += node.size

    def _take_key(self, frame: _Open, keys: dict[str, Node], node: Node, text: str | None, plain: bool) -> None:
        chain = self.text.chain
        if plain and text == "<<" and not self.merge_keys:
            self.found.append(errors.merge_key(node.span, chain))
            frame.skip = True
            return
        written = _TEMPLATE.match(self.text.text, frame.start.index) if isinstance(node.value, dict) else None
        if written is not None:
            frame.template = written[1]
            self.found = [one for one in self.found if not _inside(one.spans[0], node.span)]
        if not text or not isinstance(node.value, str):
            self.found.append(errors.key_not_text(node.span, text, self._place(), chain, frame.template))
        if not text:
            frame.skip = True
            return
        if text in keys:
            first = keys[text].key or keys[text].span
            self.found.append(errors.duplicate_key(node.span, first, text, self._place(), chain))
        frame.key, frame.key_span = text, node.span


def _inside(span: Span, around: Span) -> bool:
    return (around.line, around.column) <= (span.line, span.column) <= (around.end_line, around.end_column)


def _events(text: str) -> Iterator[Any]:
    parser = _Parser(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


def _read(text: Text, *, merge_keys: bool = False) -> _Reader:
    """Read a text past the mistakes of syntax that can be mended."""
    mended: list[Diagnostic] = []
    left = most = max(1, min(_MOST_REPAIRS, _MOST_READ // max(1, len(text.text))))
    spare = "".join([c for c in map(chr, range(0xE000, 0xE010)) if c not in text.text][:2])
    while True:
        reader = _Reader(text, merge_keys)
        try:
            reader.read()
        except _Ended:
            reader.abandon()
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two from impossible escapes
            repaired = repair(text, error, spare) if left else None
            if repaired is not None:
                text, left = repaired.text, left - 1
                mended += [repaired.found] if repaired.found is not None else []
                continue
            reader.abandon(suspect=True)  # what comes next may have been meant as a part of it
            reader.found.append(refuse_syntax(text, error))
        reader.found[:0] = mended
        if left < most and reader.root is not None and spare[1:]:
            reader.root = _unpatched(reader.root, str.maketrans({spare[0]: "{", spare[1]: "}"}))
        return reader


def _unpatched(node: Node, table: dict[int, str]) -> Node:
    if isinstance(node.value, dict):
        return replace(node, value={k.translate(table): _unpatched(v, table) for k, v in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[_unpatched(v, table) for v in node.value])
    return replace(node, value=node.value.translate(table)) if isinstance(node.value, str) else node
