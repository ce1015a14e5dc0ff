"""BM25 search over the full-text index of SQLite, built once for the content of a corpus."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import data as data_errors, search as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.build_once import build_once
from recipec.host.jsonl import lines_of, read_objects

FORMAT = 1
"""Increased whenever the table or its weights change, so that older files are not found."""
MAX_WORDS = 64
"""Most different words of a query that are used; a long query only costs time."""
GLANCE = 32 << 20
"""Bytes of a corpus that are checked before a model is loaded: about a second."""
_TITLE = 10.0  # a word of the title counts as ten of the text, so that the page about a thing is first
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a corpus.

    Example: ``Document("France", "France is a country in Europe.", id="fr")``.
    """

    title: str
    text: str
    id: str = ""


class Index:
    """A read-only index of documents; the file belongs to the cache and may be deleted at any time.

    Scores are Okapi BM25 with k1 = 1.2 and b = 0.75, words folded to lower case without diacritics.

    References:
        Robertson and Zaragoza, `The Probabilistic Relevance Framework: BM25 and Beyond
        <https://doi.org/10.1561/1500000019>`_, 2009.
        SQLite, `FTS5 <https://www.sqlite.org/fts5.html>`_.
    """

    def __init__(self, path: Path) -> None:
        """Open an index that :meth:`of` built."""
        self.path = path
        self._base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)

    @classmethod
    def of(cls, documents: Iterable[Document], cache: Path, key: str) -> Index:
        """Open the index with this key, building it first where it is absent or damaged.

        ``key`` identifies the documents, such as the hash of their file; ``documents`` are read only to build.

        Raises:
            RecipeError: RC761, the cache cannot be written; RC802, SQLite has no full-text index.
        """
        name = hashlib.sha256(f"{FORMAT}\x1f{key}".encode()).hexdigest()[:32]
        path = cache / "index" / f"{name}.sqlite"
        return build_once(path, lambda path: cls(path) if _whole(path) else None, lambda path: _build(documents, path))

    def search(self, text: str, top_k: int) -> list[Document]:
        """Return the best documents for the words of ``text``, best first; equal ones in the order of the corpus.

        Only plain words count: nothing in ``text`` is read as syntax.
        """
        words = list(dict.fromkeys(word.casefold() for word in _WORD.findall(text)))[:MAX_WORDS]
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self._base.execute(
            "SELECT title, text, id FROM documents WHERE documents MATCH ?"
            " ORDER BY bm25(documents, ?, 1.0), rowid LIMIT ?",
            (match, _TITLE, top_k),
        )
        return [Document(*row) for row in rows]

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._base.execute("SELECT count(*) FROM documents").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def of_corpus(corpus: Path, cache: Path) -> Index:
    """Open the index of a JSONL corpus, keyed by the content of the file.

    Raises:
        RecipeError: RC700, RC702, RC800; and what :meth:`Index.of` raises.
    """
    with _opened(corpus) as stream:
        key = hashlib.file_digest(stream, "sha256").hexdigest()
    return Index.of(read_corpus(corpus), cache, key)


def check_beginning(corpus: Path) -> None:
    """Check the first ``GLANCE`` bytes of a corpus, which find most mistakes; building the index checks all.

    Raises:
        RecipeError: what :func:`read_corpus` raises.
    """
    for _ in read_corpus(corpus, GLANCE):
        pass


def read_corpus(corpus: Path, most: int | None = None) -> Iterator[Document]:
    """Yield the documents of a JSONL file: ``title`` and ``text``, or ``contents`` with the title in its first line.

    With ``most``, reading stops after that many bytes, at the end of a line.

    Raises:
        RecipeError: RC700, the file cannot be read; RC800, a line is not a document; RC702, the file has no document.
    """
    empty = True

    def broken(line: int, problem: str, column: int = 1) -> Diagnostic:
        return errors.broken_document(str(corpus), line, problem, column)

    with _opened(corpus) as stream:
        for number, row in read_objects(lines_of(stream) if most is None else _first(lines_of(stream), most), broken):
            empty = False
            try:
                yield _document(row)
            except ValueError as error:
                raise RecipeError(broken(number, str(error))) from None
    if empty:
        raise RecipeError(data_errors.no_rows(str(corpus)))


def _first(lines: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield lines as long as fewer than ``most`` bytes were read."""
    seen = 0
    for line in lines:
        yield line
        seen += len(line)
        if seen >= most:
            return


@contextmanager
def _opened(corpus: Path) -> Iterator[BufferedReader]:
    """Open a corpus.

    Raises:
        RecipeError: RC700; also for a device or a pipe, which may have no end.
    """
    try:
        if corpus.exists() and not corpus.is_file():
            problem = "it is a folder" if corpus.is_dir() else "it is not a regular file"
            raise RecipeError(data_errors.data_missing(str(corpus), f"{problem}; a corpus is one JSONL file"))
        stream = corpus.open("rb")
    except OSError as error:
        raise RecipeError(data_errors.data_missing(str(corpus), error.strerror or str(error))) from error
    with stream:
        yield stream


def titled(contents: str, name: str = "") -> Document:
    r"""Split off the first line as the title, the form of the corpora of dense retrievers.

    >>> titled('"Lyon"\nA city in France.')
    Document(title='Lyon', text='A city in France.', id='')
    """
    title, _, text = contents.partition("\n")
    return Document(title.strip().strip('"'), text, name)


def _document(row: Mapping[str, Any]) -> Document:
    """Read the object of one line.

    Raises:
        ValueError: it is not a document.
    """
    name = row.get("id", "")
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError("`id` must be text or a whole number")  # noqa: TRY004 - reported as bad data
    if "contents" in row and "text" not in row:
        return titled(_text(row, "contents"), str(name))
    return Document(_text(row, "title"), _text(row, "text"), str(name))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"`{key}` must be text" if key in row else f"there is no `{key}`")  # noqa: TRY004 - as above
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"`{key}` holds half a surrogate pair")
    return value


def _whole(path: Path) -> bool:
    """Whether an index is complete: the version is written last."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as base:
            base.execute("SELECT rowid FROM documents LIMIT 1").fetchall()
            return bool(base.execute("PRAGMA user_version").fetchone()[0] == FORMAT)
    except sqlite3.DatabaseError:
        return False


def _build(documents: Iterable[Document], path: Path) -> None:
    with closing(sqlite3.connect(path)) as base:
        _fill(base, documents)


def _fill(base: sqlite3.Connection, documents: Iterable[Document]) -> None:
    """Write the documents in their order, and the version when all are there.

    Raises:
        RecipeError: RC802.
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")  # a file that nothing reads yet
        base.execute("CREATE VIRTUAL TABLE documents USING fts5(title, text, id UNINDEXED)")
    except sqlite3.OperationalError as error:
        if "fts5" in str(error):
            raise RecipeError(errors.no_full_text_search(sqlite3.sqlite_version)) from error
        raise OSError(str(error)) from error
    rows = ((d.title, d.text, d.id) for d in documents)
    try:
        base.executemany("INSERT INTO documents(title, text, id) VALUES (?, ?, ?)", rows)
        base.execute("INSERT INTO documents(documents) VALUES ('optimize')")
        base.execute(f"PRAGMA user_version={FORMAT:d}")
        base.commit()
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error
