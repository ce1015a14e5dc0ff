"""Read facts from TSV, CSV, N-Triples, Turtle and GraphML; nothing in the files is executed."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyoxigraph as ox

from recipec.diagnostics.errors import data as data_errors, knowledge as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.knowledge.graphml import Edge, Named, read_graphml
from recipec.runtime.knowledge.rdf_terms import LABEL, Names, source_graph
from recipec.spec.knowledge import ENDINGS

_LONG = "a part of a statement has more than 16 MiB"
_BOM = b"\xef\xbb\xbf"
_PLACE = re.compile(r"^Parser error at line .*?: ")


@dataclass(frozen=True, slots=True)
class Reading:
    """Options for reading a file.

    Example: ``Reading(columns=("disease", "relation", "finding"))``.
    """

    names: Names = field(default_factory=Names)
    columns: tuple[str, str, str] | None = None
    """Columns of TSV and CSV, named in the first line; None: the file has no header."""
    attribute: str = "relation"
    """The attribute of a GraphML edge that names its relation."""


def read_file(path: Path, shown: str, reading: Reading) -> Iterator[ox.Quad]:
    """Yield the statements of a file, each in the named graph of its place; messages name the file ``shown``.

    Raises:
        RecipeError: RC700, it cannot be read; RC870, a line is not a fact.
    """
    kind = ENDINGS[path.suffix.lower()]
    try:
        if not path.is_file():
            problem = "it is a folder" if path.is_dir() else "there is no such file"
            raise RecipeError(data_errors.data_missing(shown, problem))
        with path.open("rb") as stream:
            if kind in {"tsv", "csv"}:
                yield from _table(stream, shown, reading, "\t" if kind == "tsv" else ",")
            elif kind == "graphml":
                yield from _graphml(stream, shown, reading)
            elif kind == "nt":
                yield from _lines(stream, shown)
            else:
                yield from _turtle(stream, shown)
    except OSError as error:
        raise RecipeError(data_errors.data_missing(shown, os.strerror(error.errno or 0))) from error


def _table(stream: IO[bytes], shown: str, reading: Reading, delimiter: str) -> Iterator[ox.Quad]:
    lines = _decoded(stream, shown)
    if delimiter == ",":
        rows = csv.reader(lines, strict=True)
    else:
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    places: tuple[int, ...] | None = None
    width = 3
    named: set[ox.NamedNode] = set()
    begun = 1
    try:
        for row in rows:
            line, begun = begun, rows.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if places is None and reading.columns is not None:
                places, width = _header(cells, reading.columns, shown, line), len(cells)
                continue
            if len(cells) != width:
                raise RecipeError(
                    errors.broken_fact(shown, line, f"{width} columns are needed, and it has {len(cells)}")
                )
            triple = [cells[place] for place in places or (0, 1, 2)]
            if not all(triple):
                raise RecipeError(errors.broken_fact(shown, line, "a cell is empty"))
            yield from stated(triple, f"{shown}:{line}", reading.names, named)
    except csv.Error as error:
        problem = "its lines end in CR alone" if "new-line" in str(error) else str(error)
        raise RecipeError(errors.broken_fact(shown, rows.line_num, problem)) from None


def _header(cells: list[str], columns: tuple[str, str, str], shown: str, line: int) -> tuple[int, ...]:
    for name in columns:
        if cells.count(name) != 1:
            problem = f"{'two columns are' if name in cells else 'no column is'} called `{name}` in its first line"
            raise RecipeError(errors.broken_fact(shown, line, problem))
    return tuple(cells.index(name) for name in columns)


def _decoded(stream: Iterable[bytes], shown: str) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        if 0 in line:
            raise RecipeError(errors.broken_fact(shown, number, "there is a zero byte in it", line.index(0) + 1))
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(errors.broken_fact(shown, number, "this is not UTF-8", error.start + 1)) from None


def stated(triple: Iterable[str], place: str, names: Names, named: set[ox.NamedNode]) -> Iterator[ox.Quad]:
    """Yield a fact of plain names, and a label for each name the first time it occurs."""
    graph = source_graph(place)
    subject, relation, thing = (names.node(cell) for cell in triple)
    yield ox.Quad(subject, relation, thing, graph)
    for node, name in zip((subject, relation, thing), triple, strict=True):
        if node not in named and node.value.startswith(names.base):
            named.add(node)
            yield ox.Quad(node, LABEL, ox.Literal(name), graph)


def _graphml(stream: IO[bytes], shown: str, reading: Reading) -> Iterator[ox.Quad]:
    named: set[ox.NamedNode] = set()
    labels: list[Named] = []
    for item in read_graphml(stream, shown, reading.attribute):
        if isinstance(item, Edge):
            place = f"{shown}:{item.line}"
            yield from stated((item.source, item.relation, item.target), place, reading.names, named)
            if not item.directed:
                yield from stated((item.target, item.relation, item.source), place, reading.names, named)
        else:
            labels.append(item)
    for item in labels:
        node = reading.names.node(item.node)
        if item.label and (node.value, item.label) != (reading.names.base, item.node):
            yield ox.Quad(node, LABEL, ox.Literal(item.label), source_graph(f"{shown}:{item.line}"))


def _lines(stream: Iterable[bytes], shown: str) -> Iterator[ox.Quad]:
    for number, line in enumerate(_decoded(stream, shown), 1):
        if line.strip():
            graph = source_graph(f"{shown}:{number}")
            try:
                for quad in ox.parse(input=line, format=ox.RdfFormat.N_TRIPLES):
                    yield ox.Quad(quad.subject, quad.predicate, quad.object, graph)
            except SyntaxError as error:
                raise RecipeError(errors.broken_fact(shown, number, _said(error), error.offset or 1)) from None
            except MemoryError:  # what the parser raises when its buffer is full
                raise RecipeError(errors.broken_fact(shown, number, _LONG)) from None


def _turtle(stream: IO[bytes], shown: str) -> Iterator[ox.Quad]:
    graph = source_graph(shown)
    try:
        for quad in ox.parse(input=stream, format=ox.RdfFormat.TURTLE):
            yield ox.Quad(quad.subject, quad.predicate, quad.object, graph)
    except SyntaxError as error:
        raise RecipeError(errors.broken_fact(shown, error.lineno or 1, _said(error), error.offset or 1)) from None
    except MemoryError:
        raise RecipeError(errors.broken_fact(shown, 1, _LONG)) from None


def _said(error: SyntaxError) -> str:
    """Return the message of the parser without the place, which is reported separately."""
    return _PLACE.sub("", error.msg or "it cannot be read")
