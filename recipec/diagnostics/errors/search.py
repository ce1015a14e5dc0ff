"""What can go wrong with documents and the services that find them: RC800 to RC809."""

from __future__ import annotations

from recipec.diagnostics.errors.data import at
from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC800", "broken-document")
def broken_document(path: str, line: int, problem: str, column: int = 1) -> Finding:
    """A line of a corpus is no document.

    What it checks: every line: valid UTF-8, a JSON object with text under `title` and `text` (or both in `contents`,
    the title in its first line), and text or a number under `id` where there is one.
    Why it matters: a document that is skipped in silence makes questions unanswerable, and nobody knows why.
    Example: `{"title": "France"}`.
    Use instead: `{"title": "France", "text": "France is a country in Europe."}`.
    """
    return Finding(
        f"{path}, line {line}: {problem}",
        at(path, line, column),
        help='write one JSON object a line: {"title": "...", "text": "..."}',
    )


@diagnostic("RC801", "empty-corpus")
def empty_corpus(path: str) -> Finding:
    """A corpus holds no document.

    What it checks: that there is at least one line that is not blank.
    Why it matters: every search would come back empty, and the policy would learn not to search.
    Example: `retriever.corpus` names an empty file.
    Use instead: a corpus with documents.
    """
    return Finding(f"{path} holds no documents", at(path, 0))


@diagnostic("RC802", "no-full-text-search")
def no_full_text_search(version: str) -> Finding:
    """Python's SQLite was built without its full-text index.

    What it checks: that a table of the FTS5 module can be made.
    Why it matters: the embedded retriever and the catalogue of products are searched with it.
    Example: a Python whose SQLite was compiled without `SQLITE_ENABLE_FTS5`.
    Use instead: a Python with a complete SQLite, as python.org and the distributions ship it, or
    `retriever: {type: http, ...}`.
    """
    return Finding(
        f"SQLite {version} of this Python has no FTS5",
        help="use a Python with a complete SQLite, or a retriever of `type: http`",
    )


@diagnostic("RC803", "service-address")
def bad_address(name: str, problem: str) -> Finding:
    """The address of a service is none that can be asked.

    What it checks: that `machine.services.NAME.url` is an `http` or `https` address with a host and without a
    password in it.
    Why it matters: other schemes read local files, and a password in a recipe ends up in every copy of the run.
    Example: `url: file:///etc/passwd`.
    Use instead: `url: "http://127.0.0.1:8000/retrieve"`.
    """
    return Finding(f"the address of the service `{name}` {problem}", help='write it as "http://HOST:PORT/retrieve"')


@diagnostic("RC804", "service-does-not-answer")
def service_silent(name: str, url: str, problem: str) -> Finding:
    """A service that the recipe needs gives no usable answer when the run starts.

    What it checks: one search, before the model is loaded, with the retriever's own deadline and retries.
    Why it matters: every search of every episode would fail, and the policy would learn that searching is useless.
    Example: the retrieval server is not running, or listens on another port.
    Use instead: start the service, and run again; nothing has been done yet.
    """
    return Finding(
        f"the service `{name}` at {url} gives no usable answer: {problem}",
        why="every search of every episode would fail",
        help="start the service, or correct machine.services; then run again",
    )
