"""The index: built once by content, read-only, deterministic; words are words, whatever they look like."""

import json
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.environment.retrieval import bm25_index as module
from recipec.runtime.environment.retrieval.bm25_index import Document, Index, check_beginning, of_corpus, read_corpus

CORPUS = [
    {"id": "fr", "title": "France", "text": "France lies in Europe. Its capital is Paris."},
    {"id": 7, "title": "Paris", "text": "Paris is the capital of France."},
    {"title": "São Tomé", "text": "An island."},
    {"id": "c", "contents": '"Peru"\nPeru lies in South America.\nIts capital is Lima.'},
]


def written(path, rows=CORPUS):
    """Write a corpus."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    """A small corpus."""
    return written(tmp_path / "c.jsonl")


@pytest.fixture
def index(corpus, tmp_path):
    """Its index, closed at the end."""
    found = of_corpus(corpus, tmp_path / "cache")
    yield found
    found.close()


def test_finds_by_words(index):
    """The page about a thing comes before pages that mention it; diacritics and case do not matter."""
    assert [d.title for d in index.search("FRANCE?", 3)] == ["France", "Paris"]
    assert index.search("sao tome", 1) == [Document("São Tomé", "An island.")]
    assert index.search("lima", 1) == [Document("Peru", "Peru lies in South America.\nIts capital is Lima.", "c")]
    assert [d.id for d in index.search("paris", 2)] == ["7", "fr"]
    assert len(index.search("capital", 1)) == 1
    assert len(index) == 4


@pytest.mark.parametrize(
    "query",
    [
        "", "  ", '"', "'; DROP TABLE documents; --", "title:France", "NEAR(a b)", "France*", "a AND", "(", "^x", "NOT",
        "\x00", "-France", "{title} : France", "\ud800", "क्षि", "OR OR OR", "_" * 50, "a " * 100_000,
        " ".join(map(str, range(5000))),
    ],
)  # fmt: skip
def test_no_query_is_syntax(index, query):
    """Whatever a model writes is searched as words, or finds nothing; the index stays."""
    assert isinstance(index.search(query, 3), list)
    assert index.search("France", 1)[0].title == "France"


def test_operators_are_words(index):
    """A query that spells a column filter or an operator finds what its words find."""
    assert index.search("title:France NOT", 2) == index.search("title France not", 2)


def test_equal_documents_keep_their_order(tmp_path):
    """Ties are broken by the place in the corpus."""
    rows = [{"id": i, "title": "same", "text": "words"} for i in range(20)]
    found = of_corpus(written(tmp_path / "c.jsonl", rows), tmp_path)
    assert [d.id for d in found.search("words", 20)] == [str(i) for i in range(20)]
    found.close()


def test_built_once_and_anew_for_other_content(index, corpus, tmp_path, monkeypatch):
    """The same bytes under another name use the same file; other bytes make another."""
    copied = tmp_path / "other.jsonl"
    copied.write_bytes(corpus.read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(module, "_build", None)
        again = of_corpus(copied, tmp_path / "cache")
    changed = of_corpus(written(copied, CORPUS[:2]), tmp_path / "cache")
    assert again.path == index.path != changed.path
    assert sorted(p.suffix for p in index.path.parent.iterdir()) == [".sqlite"] * 2
    again.close()
    changed.close()


def test_read_only(index):
    """Nothing can be written through an open index."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index._base.execute("DELETE FROM documents")


@pytest.mark.parametrize("damage", [b"", b"not a database", None])
def test_damaged_file_is_built_anew(corpus, tmp_path, damage):
    """A cached file that was cut short or overwritten is made again, not trusted."""
    first = of_corpus(corpus, tmp_path)
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    again = of_corpus(corpus, tmp_path)
    assert [d.title for d in again.search("France", 3)] == ["France", "Paris"]
    again.close()


def build(corpus, cache, found):
    """Build in another process."""
    index = of_corpus(corpus, cache)
    found.put([d.title for d in index.search("France", 3)])
    index.close()


def test_concurrent_builders(corpus, tmp_path):
    """Several processes that build at once all get a whole index, and leave one file."""
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    builders = [context.Process(target=build, args=(corpus, tmp_path, found)) for _ in range(3)]
    for builder in builders:
        builder.start()
    assert [found.get(timeout=60) for _ in builders] == [["France", "Paris"]] * 3
    for builder in builders:
        builder.join(timeout=60)
    assert len(list((tmp_path / "index").iterdir())) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\xff", "UTF-8"),
        (b'{"title": "a", ', "JSON"),
        (b"[1]", "a JSON object is needed, this is a list"),
        (b'{"title": "a"}', "no `text`"),
        (b'{"text": "a"}', "no `title`"),
        (b'{"title": 1, "text": "a"}', "`title` must be text"),
        (b'{"title": "a", "text": null}', "`text` must be text"),
        (b'{"title": "a", "text": "b", "id": [1]}', "`id`"),
        (b'{"title": "a", "text": "\\ud800"}', "surrogate"),
        (b'{"contents": 3}', "`contents`"),
        (b"[" * 100_000, ""),
    ],
)
def test_broken_line_is_named(tmp_path, line, said):
    """A line that is no document is refused with its place, and leaves no half-built index."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"title": "a", "text": "b"}\n\n' + line + b"\n")
    with pytest.raises(RecipeError) as refused:
        of_corpus(path, tmp_path / "cache")
    (found,) = refused.value.diagnostics
    assert found.code == "RC800"
    assert said in found.message
    assert (found.spans[0].file, found.spans[0].line) == (str(path), 3)
    assert list((tmp_path / "cache" / "index").iterdir()) == []


@pytest.mark.parametrize(("content", "code"), [("", "RC702"), ("\n \n", "RC702"), (None, "RC700")])
def test_corpus_without_documents(tmp_path, content, code):
    """An empty corpus and one that is not there are refused."""
    if content is not None:
        (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(RecipeError) as refused:
        of_corpus(tmp_path / "c.jsonl", tmp_path)
    assert refused.value.diagnostics[0].code == code


def test_a_device_is_no_corpus(tmp_path):
    """What is no regular file is refused: it may have no end."""
    for place in (tmp_path, Path("/dev/zero")):
        with pytest.raises(RecipeError, match="one JSONL file"):
            of_corpus(place, tmp_path)


def test_a_glance_is_bounded(corpus, monkeypatch):
    """Before the run only the beginning of a corpus is read."""
    with corpus.open("a") as stream:
        stream.write("{oops")
    with pytest.raises(RecipeError):
        check_beginning(corpus)
    monkeypatch.setattr(module, "GLANCE", 10)
    check_beginning(corpus)


def test_cache_that_cannot_be_written(corpus, tmp_path):
    """A cache folder that is a file is said with its path."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(RecipeError) as refused:
        of_corpus(corpus, tmp_path / "cache")
    assert refused.value.diagnostics[0].code == "RC761"


def test_sqlite_without_its_index(corpus, tmp_path, monkeypatch):
    """A Python whose SQLite lacks FTS5 is told so."""

    class Without(sqlite3.Connection):
        def execute(self, sql, *rest):
            if "fts5" in sql:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(sql, *rest)

    connect = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Without))
    with pytest.raises(RecipeError) as refused:
        of_corpus(corpus, tmp_path)
    assert refused.value.diagnostics[0].code == "RC802"


def test_own_documents(tmp_path):
    """Other documents than a corpus have an index of their own key."""
    one = Index.of([Document("red mug", "a mug", "B01")], tmp_path, "catalogue 1")
    two = Index.of([Document("blue mug", "a mug", "B02")], tmp_path, "catalogue 2")
    assert [d.id for d in one.search("mug", 5)] + [d.id for d in two.search("mug", 5)] == ["B01", "B02"]
    one.close()
    two.close()


def test_documents_are_read_as_they_come(corpus):
    """A corpus is never held in memory as a whole."""
    assert next(read_corpus(corpus)).title == "France"
