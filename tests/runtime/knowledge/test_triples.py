"""Facts from files: every format, every character, every way a file can be broken, and a store that is built once."""

import multiprocessing
import os
import shutil
import uuid

import networkx as nx
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from support.knowledge_graphs import SKIN, graph_of, setting_in, skin

from recipec.diagnostics.model import RecipeError
from recipec.runtime.knowledge import store_cache as stores, triple_files
from recipec.runtime.knowledge.claims import claims
from recipec.runtime.knowledge.rdf_terms import Names, literal
from recipec.runtime.knowledge.statements import Triple
from recipec.runtime.knowledge.verification import check
from recipec.spec.knowledge import Triples

FACTS = {("psoriasis", "has symptom", "scaling"), ("eczema", "caused by", "allergy, contact")}
HOSTILE = (
    '" . } ; DROP ALL ; #',
    "?subject ?relation ?object",
    "} UNION { ?s ?p ?o",
    "<http://example.com/x>",
    "a\\u0041b",
    "VALUES (?x) { (UNDEF) }",
    "{subject} {0} %s",
    "_:blank",
    '"literal"@en',
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20).map(str.strip)


def refused(code, call, *args, **params):
    """Assert that a call is refused with a code, and return the diagnostic."""
    with pytest.raises(RecipeError) as caught:
        call(*args, **params)
    assert caught.value.diagnostics[0].code == code
    return caught.value.diagnostics[0]


def facts(graph):
    """Every fact of a graph."""
    return {triple.fact for entity, _ in graph._titles for triple in graph.facts_about(entity)}


def test_every_format_says_the_same(tmp_path):
    """TSV, CSV with and without names of columns, N-Triples, Turtle and GraphML give the same facts."""
    drawn = nx.DiGraph()
    for subject, relation, thing in FACTS:
        drawn.add_edge(subject, thing, relation=relation)
    nx.write_graphml(drawn, tmp_path / "g.graphml")
    lines = sorted(FACTS)
    spelled = [[f"<urn:x-name:{'%20'.join(part.replace(',', '%2C').split(' '))}>" for part in fact] for fact in lines]
    files = {
        "a.tsv": "".join("\t".join(fact) + "\n" for fact in lines),
        "a.csv": "\ufeff" + "".join(",".join(f'"{part}"' for part in fact) + "\r\n" for fact in lines),
        "a.nt": "# comment\n" + "".join(" ".join(fact) + " .\n" for fact in spelled),
        "a.ttl": "".join(" ".join(fact) + " .\n" for fact in spelled),
        "g.graphml": (tmp_path / "g.graphml").read_bytes(),
    }
    for name, text in files.items():
        graph = graph_of(tmp_path, {name: text})
        found = {t.fact for s in ("psoriasis", "eczema") for t in graph.facts_about(s)}
        assert found == FACTS, name
        graph.close()
    named = "id,object,relation,subject\n1,scaling,has symptom,psoriasis\n"
    graph = graph_of(tmp_path, {"n.csv": named}, columns=("subject", "relation", "object"))
    assert graph.facts_about("psoriasis") == [Triple("psoriasis", "has symptom", "scaling", "n.csv:2")]


def test_sources_are_lines(tmp_path):
    """A fact says the line that it stands in; of Turtle, whose facts have none, the file."""
    graph = skin(tmp_path)
    (fever,) = [t for t in graph.facts_about("psoriasis") if t.object == "fever"]

    assert fever.source == "skin.tsv:3"
    assert graph.facts_about("blisters")[0].source == "classes.ttl"


@pytest.mark.parametrize(
    ("name", "text", "line", "says"),
    [
        ("a.tsv", "a\tb\tc\na\tb\n", 2, "3 columns"),
        ("a.tsv", "a\tb\tc\n\na\t \tc\n", 3, "empty"),
        ("a.csv", 'a,b,c\na,"b,c\n', 2, "unexpected end"),
        ("a.tsv", b"a\tb\tc\n\xff\tb\tc\n", 2, "UTF-8"),
        ("a.nt", "<urn:a> <urn:b> <urn:c> .\n<urn:a> <urn:b> .\n", 2, ""),
        ("a.ttl", "@prefix e: <urn:e:> .\ne:a e:b e:c .\ne:a x:b e:c .\n", 3, "prefix"),
        ("a.graphml", "<graphml><graph><node id='a'/>\n<edge source='a' target='a'/></graph></graphml>", 2, "relation"),
        ("a.graphml", "<graphml>\n<graph><node></graph></graphml>", 2, ""),
        ("a.graphml", "<html/>", 1, "graphml"),
        ("a.graphml", "<?xml version='1.0' encoding='none-such'?><graphml/>", 1, "encoding"),
        ("a.graphml", "<?xml version='1.0' encoding='shift_jis'?><graphml/>", 1, "encoding"),
        ("a.tsv", b"a\tb\tc\na\tb\0\tc\n", 2, "zero byte"),
        ("a.csv", b"a,b,c\ra,b,d\r", 1, "CR alone"),
        (
            "a.graphml",
            "<!DOCTYPE x [<!ENTITY a 'b'>]>\n<graphml><graph><node id='&a;'/></graph></graphml>",
            1,
            "document type",
        ),
        (
            "a.graphml",
            (
                "<graphml><key id='r' attr.name='relation'/><graph>\n"
                "<edge source='a' target='b'><data key='r'>x</data></edge></graph></graphml>"
            ),
            2,
            "is not in the file",
        ),
    ],
)
def test_broken_lines_have_a_place(tmp_path, name, text, line, says):
    """A line that is no fact is refused with file and line, and nothing is left in the cache."""
    found = refused("RC870", graph_of, tmp_path, {name: text})

    assert (found.spans[0].file, found.spans[0].line) == (name, line)
    assert says in found.message
    assert not list((tmp_path / "cache" / "knowledge").glob("*"))


def test_what_is_missing_is_refused(tmp_path):
    """No file, a file without facts, a column and a relation that are not there: each has its code."""
    spec = Triples(path="none.tsv")
    refused("RC700", spec.load(), spec, setting_in(tmp_path))
    refused("RC871", graph_of, tmp_path, {"labels.ttl": '<urn:a> <http://www.w3.org/2000/01/rdf-schema#label> "a" .'})
    columns = ("subject", "relation", "object")
    assert "`relation`" in refused("RC870", graph_of, tmp_path, {"a.csv": "subject,object\n"}, columns=columns).message
    found = refused("RC872", skin, tmp_path, relations=("has symptoms of", "treated by"))
    assert "has symptom" in found.help
    assert refused("RC872", skin, tmp_path, closed=("cures",)).path == "knowledge.closed"


def test_relations_are_found_by_label(tmp_path):
    """A relation may be named as its label is written; what denies it comes with it."""
    graph = skin(tmp_path, relations=("Has Symptoms",))

    assert {t.relation for t in graph.facts_about("psoriasis")} == {"has symptom", "not_has symptom"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("http://example.com/a b")
@example("urn:")
@example("%41")
@example("<urn:x>")
@given(NAMES.filter(bool))
def test_names_come_back(name):
    """A name of any characters is an IRI and comes back as it was."""
    names = Names()
    node = names.node(name)

    assert names.term(names.id(node)) == node
    assert names.id(node).strip("<>") == name.strip("<>")


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.filter(lambda name: name and name.isprintable()), min_size=3, max_size=3))
@example([*HOSTILE[:3]])
@example([*HOSTILE[3:6]])
@example([*HOSTILE[6:9]])
def test_any_names_are_facts(tmp_path, parts):
    """A fact of any names goes through the store, is found from either side, and is said."""
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    graph = graph_of(folder, {"a.tsv": "\t".join(parts) + "\n"})
    subject, relation, thing = (graph.names.id(graph.names.node(part)) for part in parts)

    assert {t.fact for t in graph.facts_about(subject)} == {(subject, relation, thing)}
    assert {t.fact for t in graph.facts_with_object(thing)} == {(subject, relation, thing)}
    assert graph.label(subject) in graph.verbalize(graph.facts_about(subject)[0])
    assert check(graph, graph_claim(graph, subject, relation, thing)).verdict == "supported"
    graph.close()


def graph_claim(graph, *fact):
    """Claim a fact."""
    from recipec.runtime.knowledge.statements import Claim

    return Claim(Triple(*fact), "")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_labels_are_data(tmp_path, hostile):
    """What looks like SPARQL is a name like any other: asking by it finds nothing, and changes nothing."""
    graph = skin(tmp_path)

    assert graph.neighborhood([hostile], 2) == []
    assert graph.labels(hostile)
    assert check(graph, graph_claim(graph, hostile, hostile, hostile)).verdict == "unknown"
    assert claims(graph, f"{hostile} has scaling. Psoriasis {hostile}.", [hostile]) == claims(
        graph, f"{hostile} has scaling. Psoriasis {hostile}.", [hostile]
    )
    assert len(graph.facts_about("psoriasis")) == 5


def test_literals_come_back():
    """A literal's id is what N-Triples writes; what is none is a plain name."""
    for text in ('"a"', '"a\\"b"@en', '"3"^^<http://www.w3.org/2001/XMLSchema#integer>'):
        assert str(literal(text)) == text
        assert Names().id(Names().term(text)) == text
    for text in ('"a', '"a" "b"', '"a" . <urn:x> <urn:x> "b"'):
        assert literal(text) is None


def test_a_store_is_built_once(tmp_path, monkeypatch):
    """The same files are read once; other contents, and other ways to read them, make another store."""
    built = []
    build = stores._build
    monkeypatch.setattr(stores, "_build", lambda *args: (built.append(1), build(*args)))
    for _ in range(2):
        skin(tmp_path).close()
    assert len(built) == 1
    skin(tmp_path, names="http://example.com/").close()
    graph_of(tmp_path, {"skin.tsv": SKIN + "acne\thas symptom\tpustules\n"}).close()
    assert len(built) == 3


def test_a_store_is_that_of_the_columns_that_were_read(tmp_path):
    """A file that is read the other way around gives its own facts, though another store of it is in the cache."""
    table = {"facts.csv": "from,how,to\npsoriasis,causes,itching\n"}
    there, back = (graph_of(tmp_path, table, columns=way) for way in (("from", "how", "to"), ("to", "how", "from")))
    assert [t.object for t in there.facts_about("psoriasis")] == ["itching"]
    assert [t.object for t in back.facts_about("itching")] == ["psoriasis"]
    assert back.facts_about("psoriasis") == []


def test_a_damaged_store_is_built_again(tmp_path):
    """A store in the cache that lost files or was never finished is no store."""
    skin(tmp_path).close()
    (home,) = (tmp_path / "cache" / "knowledge").iterdir()
    (home / "done.json").write_text("{}")
    graph = skin(tmp_path)

    assert len(graph.facts_about("psoriasis")) == 5
    assert [p.name for p in (tmp_path / "cache" / "knowledge").iterdir()] == [home.name]


def _halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _turn(path):
    held = bytearray(path.read_bytes())
    held[len(held) // 3] ^= 255
    path.write_bytes(bytes(held))


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("store/CURRENT", _halve),
        ("store/*.sst", _turn),
        ("store/*.sst", lambda path: path.unlink()),
        ("done.json", lambda path: path.write_text("[]")),
        ("", lambda path: (shutil.rmtree(path), path.write_text("x"))),
        ("", lambda path: (shutil.rmtree(path), path.symlink_to("nowhere"))),
    ],
)
def test_whatever_happened_to_a_store(tmp_path, pattern, harm):
    """Files of a store that were cut, changed, lost or replaced are noticed before a question is asked."""
    skin(tmp_path).close()
    (home,) = (tmp_path / "cache" / "knowledge").iterdir()
    harm(max(home.glob(pattern)) if pattern else home)
    graph = skin(tmp_path)

    assert len(graph.facts_about("psoriasis")) == 5
    assert [p.name for p in (tmp_path / "cache" / "knowledge").iterdir()] == [home.name]


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    """Facts of other contents are not kept under the hash of the old ones."""

    def swapped(path, *more):
        path.write_text("eczema\thas symptom\titching\n")
        return triple_files.read_file(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr("recipec.runtime.knowledge.triples.read_file", swapped)
        found = refused("RC700", graph_of, tmp_path, {"a.tsv": "psoriasis\thas symptom\tscaling\n"})
    assert "changed while it was read" in found.message
    graph = graph_of(tmp_path, {"a.tsv": "psoriasis\thas symptom\tscaling\n"})
    assert facts(graph) == {("psoriasis", "has symptom", "scaling")}


def test_what_killed_processes_left_is_removed(tmp_path):
    """A half-filled store of yesterday goes when another one is built; one of today may still be filled."""
    home = tmp_path / "cache" / "knowledge"
    for name in (".tmp-a-1", ".tmp-b-2"):
        (home / name / "store").mkdir(parents=True)
    os.utime(home / ".tmp-a-1", (0, 0))
    skin(tmp_path)

    assert [path.name for path in home.glob(".*")] == [".tmp-b-2"]


def _open(folder):
    graph = skin(folder)
    return len(graph.facts_about("psoriasis"))


@pytest.mark.slow
def test_processes_share_a_store(tmp_path):
    """Several processes that begin at once all end with the whole store, one of them having built it."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_open, [tmp_path] * 2) == [5, 5]
    assert len(list((tmp_path / "cache" / "knowledge").iterdir())) == 1


def test_labels_of_one_language(tmp_path):
    """Labels of other languages are left out where the recipe names one; preferred labels come first."""
    text = (
        "@prefix s: <http://www.w3.org/2004/02/skos/core#> . <urn:p> s:prefLabel 'psoriasis'@en, 'Schuppenflechte'@de ;"
        " s:altLabel 'plaque disease'@en ; <urn:has> <urn:q> ."
    )
    graph = graph_of(tmp_path, {"a.ttl": text}, language="en")
    assert graph.labels("urn:p") == ("psoriasis", "plaque disease")
    assert graph_of(tmp_path, {"a.ttl": text}).link("Die Schuppenflechte")[0].entity == "urn:p"
    assert graph.labels("http://example.com/v#hasDrySkin") == ("has dry skin",)


def test_an_undirected_graph_says_both(tmp_path):
    """An edge without a direction is stated from both ends."""
    drawn = nx.Graph()
    drawn.add_edge("a", "b", relation="touches")
    drawn.nodes["a"]["label"] = "Alpha"
    nx.write_graphml(drawn, tmp_path / "g.graphml")
    graph = graph_of(tmp_path, {"g.graphml": (tmp_path / "g.graphml").read_bytes()})

    assert facts(graph) == {("a", "touches", "b"), ("b", "touches", "a")}
    assert "Alpha" in graph.labels("a")
