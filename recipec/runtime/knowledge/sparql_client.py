"""Questions asked of a SPARQL service: with deadlines, further attempts, and answers that are looked at."""

from __future__ import annotations

from itertools import islice
from urllib.parse import SplitResult, urlencode

import pyoxigraph as ox

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.errors.search import service_fails
from recipec.diagnostics.model import RecipeError
from recipec.run.http_client import HttpService, read_address
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
"""An answer of fewer rows is the last one: no service cuts its answers below that."""
_LITERALS = frozenset({"label", "object"})


class Sparql(KnowledgeGraph):
    """A SPARQL service; see :class:`recipec.spec.knowledge.Sparql`."""

    def __init__(self, spec: specs.Sparql, context: StageContext) -> None:
        """Ask the service for its relations.

        Raises:
            RecipeError: RC803 of its address, RC871 to RC875.
        """
        assert spec.service in context.services, "the compiler looked for it"
        address = read_address(spec.service, context.services[spec.service])
        super().__init__(Endpoint(address, spec), reads(spec), resembling(spec, context), spec.min_similarity)


class Endpoint:
    """One address, and nothing else: proxies are not used, redirects are not followed.

    A question is constant text; terms stand in its ``VALUES`` as they serialise themselves.  Of the answer everything
    is checked that can be: its variables, the kind of each term, that it is about what was asked, how much it is.

    References:
        W3C, `SPARQL 1.1 Protocol <https://www.w3.org/TR/sparql11-protocol/>`_, 2013.
    """

    def __init__(self, address: SplitResult, spec: specs.Sparql) -> None:
        self.address = address
        self.spec = spec
        self.service = HttpService(address, spec.timeout, spec.retries, ("endpoint",))

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"service `{self.spec.service}`"

    def select(self, query: Query, **terms: Node) -> list[Answer]:
        """Answer a question, a page at a time.

        Raises:
            RecipeError: RC804, no attempt was answered or the answer is none; RC875, it is too long.
        """
        found: list[Answer] = []
        while True:
            page = self._page(query, terms, len(found))
            if page and page == found[-len(page) :]:
                raise self._lie("it gives the same page of an answer twice")
            found += page
            if len(found) > self.spec.max_rows:
                raise RecipeError(errors.too_much(self.spec.service, self.spec.max_rows))
            if len(page) < min(_FULL, self.spec.page):
                return found

    def close(self) -> None:
        """Nothing is kept open."""

    def _page(self, query: Query, terms: dict[str, Node], offset: int) -> list[Answer]:
        text = query.bound(terms, limit=self.spec.page, offset=offset)
        body = self._answer(urlencode({"query": text}).encode())
        rows = _rows(body, self.spec.page + 1)
        if rows is None:
            raise self._lie("its answer cannot be read as SPARQL results in JSON")
        if len(rows) > self.spec.page:
            raise self._lie(f"it gives more rows than the {self.spec.page:,} that were asked for")
        return [self._row(query, terms, row) for row in rows]

    def _row(self, query: Query, terms: dict[str, Node], row: dict[str, object]) -> Answer:
        for name, term in terms.items():
            if row.get(name) != term:
                raise self._lie("its answer is about something else than the question")
        wanted = query.variables[:-1] if query.sourced else query.variables
        found: list[Node | None] = []
        for name in wanted:
            said = row.get(name)
            literal = isinstance(said, ox.Literal)
            if not isinstance(said, ox.NamedNode | ox.Literal) or (literal and name not in _LITERALS):
                raise self._lie(f"its answer has no usable `{name}`")
            found.append(said)
        return (*found, ox.NamedNode(self.address.geturl())) if query.sourced else tuple(found)

    def _answer(self, body: bytes) -> bytes:
        """Return the first answer.

        Raises:
            RecipeError: RC804.
        """
        problem = ""
        for answer in self.service.attempts(body, _HEADERS):
            if isinstance(answer, bytes):
                return answer
            problem = answer.problem
        raise self._lie(problem)

    def _lie(self, problem: str) -> RecipeError:
        return RecipeError(service_fails(self.spec.service, self.address.geturl(), problem, "knowledge.service"))


def _rows(body: bytes, most: int) -> list[dict[str, object]] | None:
    """Read the first ``most`` rows of results; None where they are not a table.

    The parser's objects belong to this thread: an exception that kept hold of them could end on another.
    """
    try:
        solutions = ox.parse_query_results(body, format=ox.QueryResultsFormat.JSON)
        if not isinstance(solutions, ox.QuerySolutions):
            return None
        variables = {variable.value for variable in solutions.variables}
        return [{name: solution[name] for name in variables} for solution in islice(solutions, most)]
    except (SyntaxError, ValueError, OSError, RecursionError):
        return None
