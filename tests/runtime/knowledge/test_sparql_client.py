"""SPARQL services: real ones on this machine that answer, hang, fail, recover and lie."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pyoxigraph as ox
import pytest
from support.knowledge_graphs import CLASSES, SKIN, setting_in, skin

from recipec.diagnostics.model import RecipeError
from recipec.host import http_client
from recipec.runtime.knowledge import sparql_queries
from recipec.runtime.knowledge.claims import claims
from recipec.runtime.knowledge.statements import Claim, Triple
from recipec.runtime.knowledge.verification import check
from recipec.spec.knowledge import Sparql


class Service(ThreadingHTTPServer):
    """Answers by what it was told to do, one thing a request; the last one again and again."""

    daemon_threads = True

    def __init__(self, store, *acts):
        super().__init__(("127.0.0.1", 0), Handler)
        self.store, self.acts, self.asked = store, list(acts) or ["answer"], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/sparql"


class Handler(BaseHTTPRequestHandler):
    """Reads a question and does the next act."""

    def do_POST(self):
        """Answer."""
        service = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (query,) = parse_qs(body.decode())["query"]
        service.asked.append(query)
        act = service.acts.pop(0) if len(service.acts) > 1 else service.acts[0]
        if act == "hang":
            time.sleep(3)
            return
        if act == "drip":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # whoever asked has gone
                for _ in range(30):
                    self.wfile.write(b" ")
                    time.sleep(0.1)
            return
        status, answer = act if isinstance(act, tuple) else (200, act)
        if act == "answer":
            answer = service.store.query(query).serialize(format=ox.QueryResultsFormat.JSON)
        self.send_response(status)
        if status in {301, 307}:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Keep quiet."""


def store():
    """The facts of the two skin diseases, as a service would have them."""
    made = ox.Store()
    made.load(input=CLASSES.encode(), format=ox.RdfFormat.TURTLE)
    label = ox.NamedNode("http://www.w3.org/2000/01/rdf-schema#label")
    for line in SKIN.splitlines():
        nodes = [ox.NamedNode("urn:x-name:" + part.replace(" ", "%20")) for part in line.split("\t")]
        made.add(ox.Quad(*nodes))
        for node, part in zip(nodes, line.split("\t"), strict=True):
            made.add(ox.Quad(node, label, ox.Literal(part)))
    return made


@pytest.fixture
def serve():
    """Start services, and stop them at the end."""
    begun = []

    def start(*acts):
        service = Service(store(), *acts)
        threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        begun.append(service)
        return service

    yield start
    for service in begun:
        service.shutdown()
        service.server_close()


def opened(folder, service, **params):
    """Open the graph of a service, waiting little."""
    spec = Sparql(service="facts", **{"timeout": 0.4, "retries": 2, **params})
    url = service if isinstance(service, str) else service.url
    return spec.load()(spec, setting_in(folder, services={"facts": url}))


def refused(code, *args, **params):
    """Assert that opening is refused with a code; return the message."""
    with pytest.raises(RecipeError) as caught:
        opened(*args, **params)
    (found,) = caught.value.diagnostics
    assert found.code == code
    return found.message


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Wait no longer than a moment between attempts."""
    monkeypatch.setattr(http_client, "PAUSE", 0.01)


def test_a_service_is_a_graph_like_files(tmp_path, serve):
    """Links, facts, words, claims and verdicts are those of the same facts in files."""
    there, here = opened(tmp_path, serve(), timeout=10), skin(tmp_path)
    text = "Psoriasis has scaling, itching, but no pyrexia. It is a fungal infection. Eczema shows vesicles."

    assert [t.fact for t in there.neighborhood(["eczema"], 3)] == [t.fact for t in here.neighborhood(["eczema"], 3)]
    assert claims(there, text) == claims(here, text)
    for claim in claims(there, text):
        assert check(there, claim).verdict == check(here, claim).verdict
    assert there.labels("blisters") == here.labels("blisters")
    assert there.facts_about("psoriasis")[0].source == there.source.address.geturl()


def test_questions_are_asked_once(tmp_path, serve):
    """What was answered is remembered."""
    service = serve()
    graph = opened(tmp_path, service, timeout=10)
    first = graph.neighborhood(["psoriasis"], 2)
    asked = len(service.asked)

    assert graph.neighborhood(["psoriasis"], 2) == first
    assert len(service.asked) == asked


def test_pages_are_put_together(tmp_path, serve):
    """An answer of many pages is the answer."""
    graph = opened(tmp_path, serve(), timeout=10, page=3)

    assert graph.labels("blisters") == ("blisters", "vesicles")
    assert graph.size["entities"] > 9


@pytest.mark.parametrize("act", ["hang", "drip"])
def test_a_service_that_hangs(tmp_path, serve, act):
    """The deadline holds for the whole answer, each attempt has its own, and then the run is told."""
    service, begun = serve(act), time.monotonic()

    assert "no answer within 0.4 s" in refused("RC804", tmp_path, service, retries=1)
    assert time.monotonic() - begun < 2.5
    assert len(service.asked) == 2


def test_a_service_that_recovers(tmp_path, serve):
    """Errors that pass by are asked again."""
    service = serve((500, b"oops"), (429, b""), "answer")

    assert opened(tmp_path, service, timeout=10).facts_about("psoriasis")


@pytest.mark.parametrize(("act", "asked"), [((500, b""), 3), ((404, b""), 1), ((400, b""), 1), ((307, b""), 1)])
def test_a_service_that_fails(tmp_path, serve, act, asked):
    """A server's error is asked again, the questioner's is not, and a redirect is not followed."""
    service = serve(act)

    assert f"status {act[0]}" in refused("RC804", tmp_path, service)
    assert len(service.asked) == asked


def test_nobody_there(tmp_path):
    """A service that is not up, and an address that is none."""
    assert "cannot be reached" in refused("RC804", tmp_path, "http://127.0.0.1:9/sparql")
    refused("RC803", tmp_path, "file:///etc/passwd")


def results(variables, *rows):
    """Write results as a service would."""
    return json.dumps({"head": {"vars": list(variables)}, "results": {"bindings": list(rows)}}).encode()


URI = {"type": "uri", "value": "urn:x-name:a"}
LITERAL = {"type": "literal", "value": "a"}


@pytest.mark.parametrize(
    "lie",
    [
        b"<html>Welcome</html>",
        b"",
        b"[" * 100_000,
        b'{"head": {}, "boolean": true}',
        results(["other"], {"other": URI}),
        results(["relation"], {"relation": LITERAL}),
        results(["relation"], {"relation": {"type": "bnode", "value": "b"}}),
        results(["relation"], {}),
        results(["relation"], {"relation": {"type": "uri", "value": "no iri"}}),
        results(["relation"], *({"relation": {"type": "uri", "value": f"urn:x:{i}"}} for i in range(9))),
    ],
)
def test_a_service_that_lies(tmp_path, serve, lie):
    """What is no answer to the question is a coded fault, and nothing is made of it."""
    refused("RC804", tmp_path, serve(lie), page=8)


def test_a_service_that_repeats_itself(tmp_path, serve):
    """A service that gives its first page again and again is found out."""
    page = results(["relation"], *({"relation": {"type": "uri", "value": f"urn:x:{i}"}} for i in range(4)))

    assert "twice" in refused("RC804", tmp_path, serve(page), page=4)


def test_a_service_that_answers_about_something_else(tmp_path, serve):
    """The bound term comes back with each row: another one is a lie."""
    service = serve()
    graph = opened(tmp_path, service, timeout=10)
    named = {"relation": {"type": "uri", "value": "urn:x-name:has%20symptom"}, "object": URI}
    service.acts[:] = [results(["relation", "object", "subject"], {**named, "subject": URI})]
    with pytest.raises(RecipeError) as caught:
        graph.facts_about("psoriasis")
    assert caught.value.diagnostics[0].code == "RC804"


def test_more_than_wanted(tmp_path, serve):
    """An answer longer than the recipe wants is refused, and what a service sends is bounded anyway."""
    refused("RC875", tmp_path, serve(), timeout=10, max_rows=2)


def test_terms_serialise_themselves(tmp_path, serve):
    """What looks like SPARQL reaches the service as a term: the question stays the constant it was."""
    service = serve()
    graph = opened(tmp_path, service, timeout=10)
    for hostile in ('" } DROP ALL #', "a> <b", "} UNION { ?s ?p ?o", '"x"@en . } #', "\\u003e", "http://e.org/}a{"):
        assert graph.facts_about(hostile) == []
        assert check(graph, Claim(Triple("psoriasis", hostile, hostile), "")).verdict == "unknown"
    shape = sparql_queries.OUT.pattern
    for asked in service.asked:
        bare = asked.partition("VALUES (?subject)")[2]
        term = bare.partition("{ (")[2].partition(") }")[0]
        if bare:
            assert not set(term[1:-1]) & set(' <>"{}|\\^`')
            assert shape in bare
