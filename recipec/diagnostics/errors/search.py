"""Documents, and services of the machine: RC800 to RC804."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, diagnostic, file_span


@diagnostic("RC800", "broken-document")
def broken_document(path: str, line: int, problem: str, column: int = 1) -> Finding:
    """A line of a corpus is not a document.

    What it checks: every line is a JSON object in UTF-8 with text under `title` and `text` (or both in `contents`, the
    title in its first line), and text or a number under `id` if there is one.
    Why it matters: skipping the document could silently make questions unanswerable.
    Example: `{"title": "France"}`.
    How to fix: write one JSON object per line, as in `{"title": "France", "text": "France is a country in Europe."}`.
    """
    return Finding(f"{path}, line {line}: {problem}", file_span(path, line, column))


@diagnostic("RC802", "no-full-text-search")
def no_full_text_search(version: str) -> Finding:
    """Python's SQLite was built without the full-text index FTS5.

    Why it matters: the built-in retriever and the product catalogue are searched with it.
    Example: a SQLite that was compiled without `SQLITE_ENABLE_FTS5`.
    How to fix: use a Python with a complete SQLite, such as those of python.org and of the Linux distributions, or
    `retriever: {type: http, …}`.
    """
    return Finding(f"SQLite {version} of this Python has no FTS5")


@diagnostic("RC803", "service-address")
def bad_address(name: str, problem: str) -> Finding:
    """The address of a service is not an `http` or `https` URL with a host and without a password.

    Why it matters: other schemes can read local files, and a password would be copied into every run directory.
    Example: `url: file:///etc/passwd`.
    How to fix: write it as `"http://HOST:PORT/retrieve"`.
    """
    return Finding(f"the address of the service `{name}` {problem}")


@diagnostic("RC804", "service-fails")
def service_fails(name: str, url: str, problem: str, path: str = "") -> Finding:
    """A service does not answer in time, or its answer is not valid.

    What it checks: one request before the model is loaded, and every request of the run, with timeout and retries. A
    retriever returns documents; a SPARQL endpoint returns results in JSON with the variables that were queried.
    Why it matters: searches would fail and answers could not be checked, so the policy would learn from wrong rewards.
    Example: the server is not running, or the URL is that of a web page.
    How to fix: start the service, or correct its URL under `machine.services`; then run the same command again: it
    continues.
    """
    return Finding(f"the service `{name}` at {url} gives no usable answer: {problem}", path=path)
