"""Attacks by files of facts: XML, RDF, tables, and the names in them."""

from __future__ import annotations

import os
from pathlib import Path

from attacks.attack import DONE, Attack, Scene


def read(name: str, content: str | bytes, **options):
    """Read a graph of one file, and link and query what it names."""

    def act(scene: Scene) -> None:
        from support.knowledge_graphs import graph_of

        text = content if isinstance(content, bytes) else content.replace("CANARY", str(scene.canary)).encode()
        graph = graph_of(scene.folder, {name: text}, **options)
        try:
            graph.link("a and b")
            assert "root:" not in repr([list(graph.facts_about(entity.entity)) for entity in graph.link("a and b")])
        finally:
            graph.close()

    return act


def at(make, name: str = "a.tsv"):
    """Read a graph where `make` puts something that is no file."""

    def act(scene: Scene) -> None:
        from support.knowledge_graphs import setting_in

        from recipec.spec.knowledge import Triples

        make(Path(name))
        spec = Triples(path=(name,))
        spec.load()(spec, setting_in(scene.folder)).close()

    return act


def graphml(inside: str, doctype: str = "") -> str:
    """Write a GraphML file."""
    return f'<?xml version="1.0"?>{doctype}<graphml><key id="r" attr.name="relation"/><graph>{inside}</graph></graphml>'


_EDGE = '<node id="a"/><node id="b"/><edge source="a" target="b"><data key="r">REL</data></edge>'
_LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a0 'x'>" + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12)) + "]>"
)
_T = "<urn:x-name:a> <urn:x-name:r> "


def _refused(scene: Scene) -> str:
    from support.small_recipes import SFT

    scene.write("r.yaml", SFT.replace("    optimizer:", "    knowledge: {type: triples, path: a.rdf}\n    optimizer:"))
    return scene.call("validate", "r.yaml")


ATTACKS = [
    Attack(
        "xml-billion-laughs",
        "CVE-2003-1564",
        "RC870",
        read("a.graphml", graphml(_EDGE.replace("REL", "&a11;"), _LAUGHS)),
    ),
    Attack(
        "xml-quadratic-entity",
        "CVE-2013-1664",
        "RC870",
        read(
            "a.graphml", graphml(_EDGE.replace("REL", "&a;" * 50_000), f"<!DOCTYPE x [<!ENTITY a '{'x' * 50_000}'>]>")
        ),
    ),
    Attack(
        "xml-external-entity",
        "CVE-2013-1665",
        "RC870",
        read(
            "a.graphml", graphml(_EDGE.replace("REL", "&x;"), "<!DOCTYPE x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>")
        ),
    ),
    Attack(
        "xml-external-address",
        "CWE-918",
        "RC870",
        read(
            "a.graphml", graphml(_EDGE.replace("REL", "&x;"), "<!DOCTYPE x [<!ENTITY x SYSTEM 'http://127.0.0.1:1/'>]>")
        ),
    ),
    Attack(
        "xml-parameter-entity",
        "CVE-2024-28757",
        "RC870",
        read(
            "a.graphml",
            graphml(_EDGE.replace("REL", "x"), "<!DOCTYPE x [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>"),
        ),
    ),
    Attack(
        "xml-external-dtd",
        "CWE-611",
        "RC870",
        read("a.graphml", graphml(_EDGE.replace("REL", "x"), "<!DOCTYPE graphml SYSTEM 'http://127.0.0.1:1/x.dtd'>")),
    ),
    Attack(
        "xml-include",
        "CWE-611",
        DONE,
        read(
            "a.graphml",
            graphml(
                _EDGE.replace("REL", "x") + '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>'
            ),
        ),
    ),
    Attack("xml-deep", "CWE-674", "RC870", read("a.graphml", "<graphml>" + "<a>" * 300_000)),
    Attack("xml-encoding", "CWE-838", "RC870", read("a.graphml", b'<?xml version="1.0" encoding="utf-7"?><graphml/>')),
    Attack(
        "xml-stylesheet",
        "CWE-611",
        DONE,
        read(
            "a.graphml",
            '<?xml-stylesheet href="http://127.0.0.1:1/x.xsl"?>'
            + graphml(_EDGE.replace("REL", "x")).partition("?>")[2],
        ),
    ),
    Attack("xml-huge-name", "CWE-770", DONE, read("a.graphml", graphml(_EDGE.replace("REL", "x" * 5_000_000)))),
    Attack("turtle-base-file", "CWE-73", DONE, read("a.ttl", "@base <file:///etc/> .\n<passwd> <r> <b> .\n")),
    Attack(
        "turtle-prefix-bomb",
        "CWE-400",
        DONE,
        read("a.ttl", "".join(f"@prefix p{i}: <urn:{i}:> .\n" for i in range(20_000)) + "p1:a p1:r p1:b .\n"),
    ),
    Attack("turtle-deep-blank", "CWE-674", "RC870", read("a.ttl", "<urn:a> <urn:r> " + "[ <urn:r> " * 100_000)),
    Attack("turtle-deep-list", "CWE-674", "RC870", read("a.ttl", "<urn:a> <urn:r> " + "( " * 100_000)),
    Attack(
        "turtle-service", "CWE-918", "RC870", read("a.ttl", "SELECT * { SERVICE <http://127.0.0.1:1/> { ?a ?b ?c } }\n")
    ),
    Attack(
        "turtle-import",  # an `owl:imports` alone states no fact: nothing is fetched
        "CWE-918",
        "RC871",
        read("a.ttl", "<urn:a> <http://www.w3.org/2002/07/owl#imports> <http://127.0.0.1:1/x.owl> .\n"),
    ),
    Attack("nt-file-iri", "CWE-73", DONE, read("a.nt", "<file:///etc/passwd> <urn:x-name:r> <file:///etc/shadow> .\n")),
    Attack(
        "nt-huge-literal",
        "CWE-770",
        "RC870",
        read("a.nt", _T + '"' + "x" * 20_000_000 + '" .\n'),
        memory=600,
        seconds=15,
    ),
    Attack(
        "nt-huge-number",
        "CVE-2020-10735",
        DONE,
        read("a.nt", _T + '"' + "9" * 100_000 + '"^^<http://www.w3.org/2001/XMLSchema#integer> .\n'),
    ),
    Attack("nt-quads", "CWE-436", "RC870", read("a.nt", _T + "<urn:x-name:b> <urn:other-graph> .\n")),
    Attack("nt-relative-iri", "CWE-20", "RC870", read("a.nt", "<../../etc/passwd> <urn:x-name:r> <urn:x-name:b> .\n")),
    Attack("nt-surrogate", "CWE-176", "RC870", read("a.nt", _T + '"\\uD800" .\n')),
    Attack("nt-escape", "CWE-150", "RC870", read("a.nt", b"<urn:x-name:a> \x1b]0;x\x07\x1b[2J\n")),
    Attack("nt-nul", "CWE-158", "RC870", read("a.nt", b"<urn:x-name:a>\0 <urn:x-name:r> <urn:x-name:b> .\n")),
    Attack("nt-query-in-name", "CWE-943", DONE, read("a.tsv", "a> } ; DROP ALL #\tr\tb\n")),
    Attack("tsv-escape", "CWE-150", DONE, read("a.tsv", "a\x1b[2J\tr\tb\n")),
    Attack("tsv-many-columns", "CWE-400", "RC870", read("a.tsv", "a\t" * 1_000_000 + "\n")),
    Attack("csv-field-bomb", "CWE-770", "RC870", read("a.csv", '"' + "x" * 5_000_000)),
    Attack("csv-formula-cell", "CWE-1236", DONE, read("a.csv", "=cmd|'/c calc'!A0,r,b\n")),
    Attack("rdf-xml", "CWE-611", "RC135", _refused),
    Attack("facts-endless-device", "CWE-400", "RC700", at(lambda path: path.symlink_to("/dev/zero"))),
    Attack("facts-fifo", "CWE-400", "RC700", at(os.mkfifo)),
    Attack("facts-link-to-itself", "CWE-61", "RC700", at(lambda path: path.symlink_to("a.tsv"))),
]
