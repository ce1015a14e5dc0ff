"""Retrievers: documents for queries, from a local index or from a service.

A failed search is a result, :class:`Failed`, that the policy reads; it raises no exception.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recipec.diagnostics.errors import search as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.http_client import HttpFailure, HttpService, read_address
from recipec.package_files import named_file, shipped
from recipec.runtime.environment.retrieval.bm25_index import Document, of_corpus, titled
from recipec.spec.environment import Retriever as Spec

CORPUS = "tree_grpo/data/corpus.jsonl"
"""The shipped corpus, under ``recipes``."""
MAX_VALUES = 1 << 21
"""Most commas and brackets in an answer: 64 MiB of empty lists would take 20 seconds and 1.4 GiB to read."""
PROBE = "capital of France"
"""Query to a service before the run; any words would do."""
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Failed:
    """A search that failed because of the tool, with the reason.

    Example: ``Failed("no answer within 10 s")``.
    """

    problem: str


Found = tuple[Document, ...] | Failed


class Retriever(Protocol):
    """Finds documents."""

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Return the documents of each query, in order; equal queries are sent once."""

    def close(self) -> None:
        """Close files and connections."""


def start(spec: Spec, root: Path, cache: Path, services: Mapping[str, str], *key: int | str) -> Retriever:
    """Build the retriever of a spec; ``key`` seeds the pauses between its attempts.

    Raises:
        RecipeError: RC700, RC761, RC702, RC800, RC802 of a corpus; RC803 of a service's address.
    """
    if spec.type == "sqlite":
        return Sqlite(corpus_of(spec, root), cache, spec.top_k)
    name = str(spec.service)
    assert name in services, "the compiler looked for it"
    return Http(HttpService(read_address(name, services[name]), spec.timeout, spec.retries, key), spec.top_k)


def corpus_of(spec: Spec, root: Path) -> Path:
    """Return the file of documents: the recipe's, or the shipped one."""
    return shipped("recipes") / CORPUS if spec.corpus is None else named_file(root, spec.corpus)


def probe(spec: Spec, services: Mapping[str, str]) -> None:
    """Send one query to the service of a retriever.

    Raises:
        RecipeError: RC803, its address is not valid; RC804, it does not answer.
    """
    name = str(spec.service)
    (answer,) = start(spec, Path(), Path(), services).search([PROBE])
    if isinstance(answer, Failed):
        raise RecipeError(errors.service_fails(name, services[name], answer.problem))


class Sqlite:
    """Search a local corpus."""

    def __init__(self, corpus: Path, cache: Path, top_k: int) -> None:
        """Open the index of the corpus, building it the first time."""
        self.index = of_corpus(corpus, cache)
        self.top_k = top_k

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Return the documents of each query, in order."""
        documents = {query: tuple(self.index.search(query, self.top_k)) for query in dict.fromkeys(queries)}
        return [documents[query] for query in queries]

    def close(self) -> None:
        """Close the index."""
        self.index.close()


class Http:
    r"""Search with a retrieval service, all queries of a batch in one request.

    The service answers ``POST {"queries": [...], "topk": k, "return_scores": true}`` with
    ``{"result": [[{"document": {"contents": "\"Title\"\ntext"}, "score": s}, ...], ...]}``, a list for each query;
    a document may have ``title`` and ``text`` instead.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025: the protocol of its retrieval server.
    """

    def __init__(self, service: HttpService, top_k: int) -> None:
        """``top_k`` documents are requested of each query."""
        self.service = service
        self.top_k = top_k

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Return the documents of each query in order, :class:`Failed` where every attempt failed."""
        words = [query for query in dict.fromkeys(queries) if query.strip()]
        documents: dict[str, Found] = dict.fromkeys(queries, ())
        if words:
            documents |= dict(zip(words, self._request(words), strict=True))
        return [documents[query] for query in queries]

    def close(self) -> None:
        """Do nothing: no connection is kept open."""

    def _request(self, queries: list[str]) -> list[Found]:
        results: list[Found] = []
        request = {"queries": queries, "topk": self.top_k, "return_scores": True}
        for answer in self.service.attempts(json.dumps(request).encode(), _JSON):
            if isinstance(answer, HttpFailure):
                results = [Failed(answer.problem)] * len(queries)
            else:
                results = read_answer(answer, len(queries), self.top_k)
            if not any(isinstance(one, Failed) for one in results):
                break
        return results


def read_answer(body: bytes, queries: int, top_k: int) -> list[Found]:
    r"""Read the answer of a service; :class:`Failed` for each query without a valid answer.

    >>> read_answer(b'{"result": [[{"document": {"contents": "Lyon\\nA city."}}], null]}', 2, 3)
    [(Document(title='Lyon', text='A city.', id=''),), Failed(problem='the answer of the service cannot be read')]
    """
    unread = Failed("the answer of the service cannot be read")
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return [unread] * queries
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return [unread] * queries
    lists = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or len(lists) != queries:
        return [unread] * queries
    return [_documents(one[:top_k]) or unread if isinstance(one, list) and one else _none(one, unread) for one in lists]


def _none(one: Any, unread: Failed) -> Found:
    return () if one == [] else unread


def _documents(listed: Sequence[Any]) -> tuple[Document, ...]:
    """Read the documents of one query; empty where one of them is not valid."""
    documents = []
    for item in listed:
        inner = item.get("document", item) if isinstance(item, dict) else None
        known = inner if isinstance(inner, dict) else {}
        contents, title, text = (known.get(key) for key in ("contents", "title", "text"))
        if isinstance(contents, str):
            documents.append(titled(_whole(contents)))
        elif isinstance(title, str) and isinstance(text, str):
            documents.append(Document(_whole(title), _whole(text)))
        else:
            return ()
    return tuple(documents)


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON allows and tokenizers refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
