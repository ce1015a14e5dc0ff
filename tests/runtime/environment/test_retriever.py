"""Retrieval services: real ones on this machine that are slow, lie, fail and recover."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.host import http_client
from recipec.host.http_client import HttpService, read_address
from recipec.runtime.environment.retrieval.bm25_index import Document
from recipec.runtime.environment.retrieval.retriever import Failed, Http, probe, start
from recipec.spec.environment import Retriever as Spec

RIGHT = json.dumps({"result": [[{"document": {"contents": '"Lyon"\nA city.'}, "score": 1.0}]]}).encode()
LYON = Document("Lyon", "A city.")
NOT_HTTP = "the answer is not HTTP, or is longer than 64 MiB"
CANNOT_READ = Failed("the answer of the service cannot be read")


class Service(ThreadingHTTPServer):
    """Answers by what it was told to do, one thing a request; the last one again and again."""

    daemon_threads = True

    def __init__(self, *acts):
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts = list(acts)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/retrieve"


class Handler(BaseHTTPRequestHandler):
    """Reads a question and does the next act."""

    def do_POST(self):
        """Answer."""
        service = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.asked.append((self.path, json.loads(body)))
        act = service.acts.pop(0) if len(service.acts) > 1 else service.acts[0]
        act(self) if callable(act) else self.say(200, act)

    def do_GET(self):
        """Note that somebody followed a redirect."""
        self.server.asked.append((self.path, None))
        self.say(200, RIGHT)

    def say(self, status, body, **headers):
        """Send an answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def serve():
    """Start services, and end them."""
    begun = []

    def begin(*acts):
        service = Service(*acts)
        threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        begun.append(service)
        return service

    yield begin
    for service in begun:
        service.shutdown()
        service.server_close()


def asker(service, retries=2, timeout=5.0, top_k=3):
    """Ask a service, without waiting between attempts."""
    found = Http(HttpService(read_address("s", service.url), timeout, retries, (0, "stage")), top_k)
    found.waits = []
    found.service.sleep = found.waits.append
    return found


def status(code):
    """Answer with a status."""
    return lambda handler: handler.say(code, b"{}")


def hang_up(handler):
    """Close the connection without an answer."""
    handler.close_connection = True


def drip(handler):
    """Send an answer a byte at a time, each in time, all of it never."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


def silence(handler):
    """Say nothing for longer than anybody waits."""
    time.sleep(2)


def half(handler):
    """Announce more than is sent, and break the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def noise(handler):
    """Answer in something that is not HTTP."""
    handler.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")


def chunk_of_negative_size(handler):
    """Announce a chunk of -5 bytes."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"-5\r\nhello\r\n0\r\n\r\n")
    handler.close_connection = True


def answer_for(queries):
    """Make a right answer to so many queries."""
    one = {"document": {"contents": "T{}\ntext {}"}, "score": 0.5}
    lists = [[{**one, "document": {"contents": f"T{i}\ntext {i}"}}] for i in range(queries)]
    return json.dumps({"result": lists}).encode()


def test_the_published_request(serve):
    """One request a batch, as the retrieval servers of Search-R1 take it; the same query is asked once."""
    service = serve(answer_for(2))
    found = asker(service).search(["a", "b", "a", " "])
    assert service.asked == [("/retrieve", {"queries": ["a", "b"], "topk": 3, "return_scores": True})]
    assert found == [(Document("T0", "text 0"),), (Document("T1", "text 1"),), (Document("T0", "text 0"),), ()]


def test_no_query_no_request(serve):
    """Blank queries find nothing, and nobody is asked."""
    service = serve(RIGHT)
    assert asker(service).search(["", "\n"]) == [(), ()]
    assert service.asked == []


@pytest.mark.parametrize("act", [status(500), status(503), status(429), hang_up, noise, b"{", b"[]", b'{"result": 1}'])
def test_recovers(serve, act):
    """A failure that passes is retried, each time after a longer pause."""
    service = serve(act, act, RIGHT)
    retriever = asker(service)
    assert retriever.search(["lyon"]) == [(LYON,)]
    assert len(service.asked) == 3
    first, second = retriever.waits
    assert 0.25 <= first <= 0.5 <= second <= 1.0


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (status(500), "the service answered with status 500"),
        (hang_up, "the service cannot be reached"),
        (half, "the service cannot be reached"),
        (noise, NOT_HTTP),
        (chunk_of_negative_size, NOT_HTTP),
        (b"not json", CANNOT_READ.problem),
        (b"[" * 100_000, CANNOT_READ.problem),
        (b'{"result": [[], []]}', CANNOT_READ.problem),
        (b'{"result": [[{"document": {"contents": 3}}]]}', CANNOT_READ.problem),
        (b'{"result": [["text"]]}', CANNOT_READ.problem),
        (b'{"result": [{}]}', CANNOT_READ.problem),
        (b"\xff", CANNOT_READ.problem),
        (b'{"result": [[' + b"[]," * (1 << 20) + b"[]]]}", CANNOT_READ.problem),
    ],
)
def test_lasting_failure_is_an_answer(serve, act, problem):
    """What fails in every attempt is told in our words, after as many attempts as the recipe says."""
    service = serve(act)
    assert asker(service).search(["a"]) == [Failed(problem)]
    assert len(service.asked) == 3


def test_one_bad_list_spoils_one_query(serve):
    """Of a batch, only the queries whose own documents cannot be read fail."""
    lists = [[{"document": {"contents": "Lyon\nA city."}}], "oops", []]
    service = serve(json.dumps({"result": lists}).encode())
    assert asker(service, retries=0).search(["a", "b", "c"]) == [(LYON,), CANNOT_READ, ()]


@pytest.mark.parametrize("act", [silence, drip])
def test_deadline(serve, act):
    """A service that is silent or drips is left at the deadline."""
    service = serve(act)
    begun = time.monotonic()
    assert asker(service, retries=0, timeout=0.3).search(["a"]) == [Failed("no answer within 0.3 s")]
    assert time.monotonic() - begun < 2


def test_nobody_there(serve):
    """A port on which nobody listens is a failed search like any other."""
    service = serve(RIGHT)
    url = service.url
    service.shutdown()
    service.server_close()
    retriever = Http(HttpService(read_address("s", url), 5, 0), 3)
    assert retriever.search(["a"]) == [Failed("the service cannot be reached")]


@pytest.mark.parametrize("code", [400, 401, 404, 413])
def test_a_question_that_is_refused_is_not_repeated(serve, code):
    """Statuses that blame the question are not tried again."""
    service = serve(status(code))
    assert asker(service).search(["a"]) == [Failed(f"the service answered with status {code}")]
    assert len(service.asked) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(serve, code):
    """A service cannot send us elsewhere, not even to itself."""
    other = serve(RIGHT)
    service = serve(lambda handler: handler.say(code, b"", Location=other.url))
    assert asker(service).search(["a"]) == [Failed(f"the service answered with status {code}")]
    assert other.asked == []
    assert len(service.asked) == 1


def test_proxies_are_not_used(serve, monkeypatch):
    """The service is asked directly, whatever the environment says."""
    other, service = serve(RIGHT), serve(RIGHT)
    monkeypatch.setenv("http_proxy", other.url)
    assert asker(service).search(["a"]) == [(LYON,)]
    assert other.asked == []


def test_answers_have_a_limit(serve, monkeypatch):
    """An answer without end is not read to its end."""
    monkeypatch.setattr(http_client, "MAX_ANSWER", 10)
    (found,) = asker(serve(RIGHT), retries=0).search(["a"])
    assert found == Failed("the answer is not HTTP, or is longer than 0 MiB")


def test_other_forms_of_documents(serve):
    """Documents with a title and a text, or without a score around them, are read too; more than asked are cut off."""
    lists = [[{"document": {"title": "Lyon", "text": "A city."}}, {"contents": '"Lyon"\nA city.'}, {"contents": "x"}]]
    service = serve(json.dumps({"result": lists}).encode())
    assert asker(service, top_k=2).search(["a"]) == [(LYON, LYON)]


def test_halves_of_surrogate_pairs(serve):
    """Text that no tokenizer takes is mended."""
    service = serve(b'{"result": [[{"document": {"contents": "a\\ud800\\nb\\ud83d\\ude00"}}]]}')
    ((found,),) = asker(service).search(["a"])
    assert found == Document("a\N{REPLACEMENT CHARACTER}", "b\N{GRINNING FACE}")


def test_pauses_are_drawn_from_the_key(serve):
    """The pauses of a run are the same in every run of the same recipe, and are bounded."""
    waits = []
    for _ in range(2):
        retriever = asker(serve(status(500)), retries=7)
        retriever.search(["a"])
        waits.append(retriever.waits)
    assert waits[0] == waits[1]
    assert max(waits[0]) <= 8.0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://h/x", "127.0.0.1:8000", "http://", "http:///x", "http://u:p@h/x", "http://u@h/x",
        "http://h:99999/x", "http://[::1/x", "http://h/a b", "http://h/\n", "javascript:1", "http://ü/x", "", "http://a..b/x",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url, tmp_path):
    """Only http and https, with a host, without a password, in letters that an address may have."""
    with pytest.raises(RecipeError) as refused:
        start(Spec(type="http", service="s"), tmp_path, tmp_path, {"s": url})
    assert refused.value.diagnostics[0].code == "RC803"


def test_address_without_path_and_with_a_query(serve):
    """The path and the query of the address are kept; without a path it is the root."""
    service = serve(RIGHT)
    for url, path in [(service.url + "?k=v", "/retrieve?k=v"), (service.url.removesuffix("/retrieve"), "/")]:
        Http(HttpService(read_address("s", url), 5, 0), 3).search(["a"])
        assert service.asked[-1][0] == path


def test_probe(serve):
    """A service that answers passes; one that does not is named with its problem."""
    spec = Spec(type="http", service="wiki", timeout=1, retries=0)
    probe(spec, {"wiki": serve(RIGHT).url})
    with pytest.raises(RecipeError, match="status 502") as silent:
        probe(spec, {"wiki": serve(status(502)).url})
    assert silent.value.diagnostics[0].code == "RC804"
    with pytest.raises(RecipeError) as refused:
        probe(spec, {"wiki": "gopher://x"})
    assert refused.value.diagnostics[0].code == "RC803"


def test_sqlite_answers_in_order(tmp_path):
    """The embedded retriever answers queries in their order, each with at most `top_k` documents."""
    (tmp_path / "c.jsonl").write_text('{"title": "A", "text": "a b"}\n{"title": "B", "text": "b"}\n')
    retriever = start(Spec(corpus="c.jsonl", top_k=1), tmp_path, tmp_path / "cache", {})
    assert retriever.search(["b", "a", "b", "c"]) == [
        (Document("B", "b"),), (Document("A", "a b"),), (Document("B", "b"),), (),
    ]  # fmt: skip
    retriever.close()
