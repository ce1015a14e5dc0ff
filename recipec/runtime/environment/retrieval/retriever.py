"""Retrievers: documents for queries, from an index here or from a service.

A search that fails is an answer like any other: a :class:`Failed` that the policy reads, never an exception.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from recipec.diagnostics.errors import search as errors
from recipec.diagnostics.model import RecipeError
from recipec.package_files import shipped
from recipec.runtime.environment.retrieval.bm25_index import Document, of_corpus, titled
from recipec.runtime.rng import rng_for
from recipec.spec.environment import Retriever as Spec

CORPUS = "tree_grpo/data/corpus.jsonl"
"""The shipped corpus, under ``recipes``."""
MAX_ANSWER = 64 << 20
"""Longest answer of a service, in bytes."""
PAUSE = 0.5
"""Seconds before the first further attempt; each later one waits twice as long, up to ``MAX_PAUSE``."""
MAX_PAUSE = 8.0
PROBE = "capital of France"
"""What a service is asked before the run: any words would do."""
AGAIN = frozenset({408, 425, 429})
"""Of the answers that blame the question, those that pass by themselves."""
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Failed:
    """A search that brought nothing because the tool failed, in words of ours.

    Example: ``Failed("no answer within 10 s")``.
    """

    problem: str


Found = tuple[Document, ...] | Failed


class Retriever(Protocol):
    """Finds documents."""

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Answer each query, in order; the same query is asked once."""

    def close(self) -> None:
        """Let go of files and connections."""


def start(spec: Spec, root: Path, cache: Path, services: Mapping[str, str], *key: int | str) -> Retriever:
    """Build the retriever of a spec; ``key`` seeds the jitter of its further attempts.

    Raises:
        RecipeError: RC700, RC761, RC702, RC800, RC802 of a corpus; RC803 of a service's address.
    """
    if spec.type == "sqlite":
        return Sqlite(corpus_of(spec, root), cache, spec.top_k)
    name = str(spec.service)
    assert name in services, "the compiler looked for it"
    address = read_address(name, services[name])
    return Http(address, spec.top_k, timeout=spec.timeout, retries=spec.retries, key=key)


def corpus_of(spec: Spec, root: Path) -> Path:
    """Return the file of documents: the recipe's, or the shipped one."""
    return shipped("recipes") / CORPUS if spec.corpus is None else root / spec.corpus


def probe(spec: Spec, services: Mapping[str, str]) -> None:
    """Ask the service of a retriever once, as the run will.

    Raises:
        RecipeError: RC803, its address is none; RC804, it does not answer.
    """
    name = str(spec.service)
    (answer,) = start(spec, Path(), Path(), services).search([PROBE])
    if isinstance(answer, Failed):
        raise RecipeError(errors.service_fails(name, services[name], answer.problem))


class Sqlite:
    """Search a corpus here."""

    def __init__(self, corpus: Path, cache: Path, top_k: int) -> None:
        """Open the corpus's index, building it if need be."""
        self.index = of_corpus(corpus, cache)
        self.top_k = top_k

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Answer each query, in order."""
        found = {query: tuple(self.index.search(query, self.top_k)) for query in dict.fromkeys(queries)}
        return [found[query] for query in queries]

    def close(self) -> None:
        """Close the index."""
        self.index.close()


class Http:
    r"""Ask a retrieval service, all queries of a batch in one request.

    The service answers ``POST {"queries": [...], "topk": k, "return_scores": true}`` with
    ``{"result": [[{"document": {"contents": "\"Title\"\ntext"}, "score": s}, ...], ...]}``, a list for each query;
    a document may have ``title`` and ``text`` instead.  It is asked directly, without proxies, and redirects are not
    followed: neither can lead elsewhere than the recipe says.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025, whose retrieval server this is.
    """

    def __init__(
        self, address: SplitResult, top_k: int, *, timeout: float, retries: int, key: tuple[int | str, ...] = ()
    ) -> None:
        """``timeout`` in seconds, for each of ``1 + retries`` attempts."""
        self.address = address
        self.top_k = top_k
        self.timeout = timeout
        self.retries = retries
        self.key = key
        self.asked = 0
        self.sleep: Callable[[float], None] = time.sleep

    def search(self, queries: Sequence[str]) -> list[Found]:
        """Answer each query, in order; what failed in every attempt is :class:`Failed`."""
        words = [query for query in dict.fromkeys(queries) if query.strip()]
        found: dict[str, Found] = dict.fromkeys(queries, ())
        if words:
            found |= dict(zip(words, self._persist(words), strict=True))
        return [found[query] for query in queries]

    def close(self) -> None:
        """Nothing is kept open."""

    def _persist(self, queries: list[str]) -> list[Found]:
        self.asked += 1
        answers: list[Found] = []
        for attempt in range(self.retries + 1):
            if attempt:
                self.sleep(self._pause(attempt))
            answers, hopeless = self._attempt(queries)
            if hopeless or not any(isinstance(answer, Failed) for answer in answers):
                break
        return answers

    def _pause(self, attempt: int) -> float:
        """Seconds before an attempt: twice the last one, times a factor from 0.5 to 1 that parts several askers."""
        jitter = rng_for(*self.key, "retriever", self.asked, attempt).uniform(0.5, 1.0)
        return min(MAX_PAUSE, PAUSE * 2.0 ** (attempt - 1)) * float(jitter)

    def _attempt(self, queries: list[str]) -> tuple[list[Found], bool]:
        """Ask once; also say whether asking again is hopeless."""
        asked = {"queries": queries, "topk": self.top_k, "return_scores": True}
        try:
            status, body = post(self.address, json.dumps(asked).encode(), self.timeout)
        except TimeoutError:
            return [Failed(f"no answer within {self.timeout:g} s")] * len(queries), False
        except (OSError, http.client.HTTPException):
            return [Failed("the service cannot be reached")] * len(queries), False
        if status != http.HTTPStatus.OK:
            hopeless = 300 <= status < 500 and status not in AGAIN
            return [Failed(f"the service answered with status {status}")] * len(queries), hopeless
        return read_answer(body, len(queries), self.top_k), False


def read_address(name: str, url: str) -> SplitResult:
    """Check the address of a service.

    Raises:
        RecipeError: RC803.
    """
    try:
        address = urlsplit(url)
        (address.hostname or "").encode("idna")
        port_is_sound = address.port is None or address.port > 0
    except ValueError:
        raise RecipeError(errors.bad_address(name, "cannot be read")) from None
    if address.scheme not in {"http", "https"}:
        raise RecipeError(errors.bad_address(name, "begins neither with http:// nor with https://"))
    if not address.hostname or not port_is_sound:
        raise RecipeError(errors.bad_address(name, "names no host"))
    if address.username is not None or address.password is not None:
        raise RecipeError(errors.bad_address(name, "has a user or a password in it"))
    if not url.isascii() or not url.isprintable() or " " in url:
        raise RecipeError(errors.bad_address(name, "has letters in it that an address cannot have"))
    return address


def post(address: SplitResult, body: bytes, timeout: float, headers: Mapping[str, str] = _JSON) -> tuple[int, bytes]:
    """Send one request; return the status and the answer.

    The deadline holds for the whole of it, however slowly the answer drips.

    Raises:
        TimeoutError: the deadline passed.
        OSError: there is no connection, or it broke.
        http.client.HTTPException: the answer is not HTTP, or longer than ``MAX_ANSWER``.
    """
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(address.hostname), address.port, timeout=timeout)
    begun = time.monotonic()
    late = Event()
    try:
        connection.connect()
        # the answer takes the socket from the connection, so the watch must hold it itself
        watch = Timer(max(0.0, begun + timeout - time.monotonic()), _cut, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            found = _exchange(connection, address, body, headers)
        finally:
            watch.cancel()
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        connection.close()
    if late.is_set():
        raise TimeoutError
    return found


def _exchange(
    connection: http.client.HTTPConnection, address: SplitResult, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    found = answer.read(MAX_ANSWER + 1)
    if len(found) > MAX_ANSWER:
        raise http.client.HTTPException
    return answer.status, found


def _cut(connected: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):  # it has just ended by itself
        connected.shutdown(socket.SHUT_RDWR)


def read_answer(body: bytes, queries: int, top_k: int) -> list[Found]:
    r"""Read the answer of a service; what is not as it should be is :class:`Failed`.

    >>> read_answer(b'{"result": [[{"document": {"contents": "Lyon\\nA city."}}], null]}', 2, 3)
    [(Document(title='Lyon', text='A city.', id=''),), Failed(problem='the answer of the service cannot be read')]
    """
    unread = Failed("the answer of the service cannot be read")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return [unread] * queries
    lists = found.get("result") if isinstance(found, dict) else None
    if not isinstance(lists, list) or len(lists) != queries:
        return [unread] * queries
    return [_documents(one[:top_k]) or unread if isinstance(one, list) and one else _none(one, unread) for one in lists]


def _none(one: Any, unread: Failed) -> Found:
    return () if one == [] else unread


def _documents(listed: Sequence[Any]) -> tuple[Document, ...]:
    """Read the documents of one query; empty where one of them is none."""
    found = []
    for item in listed:
        inner = item.get("document", item) if isinstance(item, dict) else None
        known = inner if isinstance(inner, dict) else {}
        contents, title, text = (known.get(key) for key in ("contents", "title", "text"))
        if isinstance(contents, str):
            found.append(titled(_whole(contents)))
        elif isinstance(title, str) and isinstance(text, str):
            found.append(Document(_whole(title), _whole(text)))
        else:
            return ()
    return tuple(found)


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON may spell and no tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
