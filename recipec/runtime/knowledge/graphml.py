"""GraphML as NetworkX writes it, read by a parser that refuses document types and entities.

``networkx.read_graphml`` builds the whole graph and has no line numbers, which are the sources of facts here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NoReturn
from xml.parsers import expat

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.model import RecipeError

_CHUNK = 1 << 16
LABELS = ("label", "name")
"""Attributes of a node that are its label."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge and its line in the file.

    Example: ``Edge("n0", "has symptom", "n1", 12, directed=True)``.
    """

    source: str
    relation: str
    target: str
    line: int
    directed: bool


@dataclass(frozen=True, slots=True)
class Named:
    """A node with a label.

    Example: ``Named("n0", "psoriasis", 4)``.
    """

    node: str
    label: str
    line: int


def read_graphml(stream: IO[bytes], shown: str, attribute: str) -> Iterator[Edge | Named]:
    """Yield the edges of a file, and its nodes with labels.

    Raises:
        RecipeError: RC870; a document type is refused too, since it can name files and multiply entities.
    """
    reader = _Reader(shown, attribute)
    while chunk := stream.read(_CHUNK):
        yield from reader.feed(chunk, final=False)
    yield from reader.feed(b"", final=True)
    reader.check()


class _Reader:
    """The state of the parser."""

    def __init__(self, shown: str, attribute: str) -> None:
        self.shown = shown
        self.attribute = attribute
        self.found: list[Edge | Named] = []
        self.keys: dict[str, str] = {}
        self.nodes: set[str] = set()
        self.asked: dict[str, int] = {}
        """Nodes that edges name, with the first line of each."""
        self.directed = True
        self.open: dict[str, Any] | None = None
        self.values: dict[str, str] = {}
        self.key: str | None = None
        self.text: list[str] = []
        self.root = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.doctype
        self.parser.ExternalEntityRefHandler = self.doctype

    def feed(self, chunk: bytes, *, final: bool) -> list[Edge | Named]:
        """Parse a chunk; return the edges and nodes that it completed."""
        try:
            self.parser.Parse(chunk, final)
        except expat.ExpatError as error:
            problem = expat.errors.messages.get(error.code, str(error))
            raise RecipeError(errors.broken_fact(self.shown, error.lineno, problem, error.offset + 1)) from None
        except (LookupError, ValueError):  # the encoding in the first line of the file
            raise RecipeError(errors.broken_fact(self.shown, 1, "its encoding is not supported; use UTF-8")) from None
        done, self.found = self.found, []
        return done

    def check(self) -> None:
        """Refuse edges to missing nodes, at the end of the file: a node may follow its edges."""
        for node, line in self.asked.items():
            if node not in self.nodes:
                raise RecipeError(
                    errors.broken_fact(self.shown, line, f"the node `{node}` of the edge is not in the file")
                )

    def refuse(self, problem: str) -> NoReturn:
        raise RecipeError(errors.broken_fact(self.shown, self.parser.CurrentLineNumber, problem))

    def doctype(self, *_: object) -> NoReturn:
        self.refuse("document types and entities are not supported")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        if not self.root:
            self.root = tag
            if tag != "graphml":
                self.refuse(f"its root is `{tag}`, and GraphML begins with `graphml`")
        if tag == "key":
            self.keys[attributes.get("id", "")] = attributes.get("attr.name", "")
        elif tag == "graph":
            self.directed = attributes.get("edgedefault", "directed") != "undirected"
        elif tag in {"node", "edge"}:
            self.open = {"tag": tag, "line": self.parser.CurrentLineNumber, **attributes}
            self.values = {}
        elif tag == "data":
            self.key = self.keys.get(attributes.get("key", ""), "")
            self.text = []

    def characters(self, text: str) -> None:
        if self.key is not None:
            self.text.append(text)

    def end(self, name: str) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "data" and self.key is not None:
            self.values[self.key] = "".join(self.text).strip()
            self.key = None
        elif tag == "node" and self.open is not None:
            self.node(self.open)
        elif tag == "edge" and self.open is not None:
            self.edge(self.open)

    def node(self, element: dict[str, Any]) -> None:
        name = element.get("id", "").strip()
        if not name:
            self.refuse("a node has no id")
        self.nodes.add(name)
        label = next((self.values[key] for key in LABELS if self.values.get(key)), "")
        if label and label != name:
            self.found.append(Named(name, label, element["line"]))
        self.open = None

    def edge(self, element: dict[str, Any]) -> None:
        ends = [element.get(side, "").strip() for side in ("source", "target")]
        relation = self.values.get(self.attribute, "")
        if not all(ends):
            self.refuse("an edge lacks its source or its target")
        if not relation:
            self.refuse(f"the edge from `{ends[0]}` to `{ends[1]}` has no attribute `{self.attribute}`")
        for end in ends:
            self.asked.setdefault(end, element["line"])
        directed = {"true": True, "false": False}.get(element.get("directed", ""), self.directed)
        self.found.append(Edge(ends[0], relation, ends[1], element["line"], directed))
        self.open = None
