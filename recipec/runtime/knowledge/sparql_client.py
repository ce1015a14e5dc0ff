"""Knowledge graphs of SPARQL services, with deadlines, retries, and checked results."""

from __future__ import annotations

from itertools import islice
from urllib.parse import SplitResult, urlencode

import pyoxigraph as ox

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.errors.search import service_fails
from recipec.diagnostics.model import RecipeError
from recipec.host.http_client import HttpService, read_address
from recipec.runtime.context import StageContext
from recipec.runtime.knowledge.embedding_search import resembling
from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph
from recipec.runtime.knowledge.rdf_terms import Node
from recipec.runtime.knowledge.sparql_queries import Answer, Query
from recipec.runtime.knowledge.triples import reads
from recipec.spec import knowledge as specs

_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/sparql-results+json",
    "User-Agent": "recipec",
}
_FULL = 1000
"""A page with fewer rows is the last one: no service limits its results below that."""
_LITERALS = frozenset({"label", "object"})


class Sparql(KnowledgeGraph):
    """A SPARQL service; see :class:`recipec.spec.knowledge.Sparql`."""

    def __init__(self, spec: specs.Sparql, context: StageContext) -> None:
        """Query the relations of the service.

        Raises:
            RecipeError: RC803 of its address, RC871 to RC875.
        """
        assert spec.service in context.services, "the compiler looked for it"
        address = read_address(spec.service, context.services[spec.service])
        super().__init__(Endpoint(address, spec), reads(spec), resembling(spec, context), spec.min_similarity)


class Endpoint:
    """The queries of a knowledge graph to one SPARQL service.

    A query is constant text; terms are serialised into its ``VALUES``.  Results are checked: their variables, the kind
    of each term, that they belong to the terms of the query, and their size.

    References:
        W3C, `SPARQL 1.1 Protocol <https://www.w3.org/TR/sparql11-protocol/>`_, 2013.
    """

    def __init__(self, address: SplitResult, spec: specs.Sparql) -> None:
        self.address = address
        self.spec = spec
        self.service = HttpService(address, spec.timeout, spec.retries, ("endpoint",))

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"service `{self.spec.service}`"

    def select(self, query: Query, **terms: Node) -> list[Answer]:
        """Return the results of a query, page by page.

        Raises:
            RecipeError: RC804, no attempt succeeded or the answer is not valid; RC875, it has too many rows.
        """
        answers: list[Answer] = []
        while True:
            page = self._page(query, terms, len(answers))
            if page and page == answers[-len(page) :]:
                raise self._invalid("it returns the same page twice")
            answers += page
            if len(answers) > self.spec.max_rows:
                raise RecipeError(errors.too_much(self.spec.service, self.spec.max_rows))
            if len(page) < min(_FULL, self.spec.page):
                return answers

    def close(self) -> None:
        """Nothing is kept open."""

    def _page(self, query: Query, terms: dict[str, Node], offset: int) -> list[Answer]:
        text = query.bound(terms, limit=self.spec.page, offset=offset)
        body = self._answer(urlencode({"query": text}).encode())
        rows = _rows(body, self.spec.page + 1)
        if rows is None:
            raise self._invalid("its answer is not SPARQL results in JSON")
        if len(rows) > self.spec.page:
            raise self._invalid(f"it returns more rows than the {self.spec.page:,} of a page")
        return [self._row(query, terms, row) for row in rows]

    def _row(self, query: Query, terms: dict[str, Node], row: dict[str, object]) -> Answer:
        for name, term in terms.items():
            if row.get(name) != term:
                raise self._invalid("its answer has other terms than the query")
        wanted = query.variables[:-1] if query.sourced else query.variables
        nodes: list[Node | None] = []
        for name in wanted:
            value = row.get(name)
            literal = isinstance(value, ox.Literal)
            if not isinstance(value, ox.NamedNode | ox.Literal) or (literal and name not in _LITERALS):
                raise self._invalid(f"its answer has no valid `{name}`")
            nodes.append(value)
        return (*nodes, ox.NamedNode(self.address.geturl())) if query.sourced else tuple(nodes)

    def _answer(self, body: bytes) -> bytes:
        """Return the first answer of the service.

        Raises:
            RecipeError: RC804.
        """
        problem = ""
        for answer in self.service.attempts(body, _HEADERS):
            if isinstance(answer, bytes):
                return answer
            problem = answer.problem
        raise self._invalid(problem)

    def _invalid(self, problem: str) -> RecipeError:
        return RecipeError(service_fails(self.spec.service, self.address.geturl(), problem, "knowledge.service"))


def _rows(body: bytes, most: int) -> list[dict[str, object]] | None:
    """Read the first ``most`` rows of results; None where they are not a table.

    The objects of the parser belong to this thread, so no exception may keep them alive.
    """
    try:
        solutions = ox.parse_query_results(body, format=ox.QueryResultsFormat.JSON)
        if not isinstance(solutions, ox.QuerySolutions):
            return None
        variables = {variable.value for variable in solutions.variables}
        return [{name: solution[name] for name in variables} for solution in islice(solutions, most)]
    except (SyntaxError, ValueError, OSError, RecursionError):
        return None
