"""What a search agent lacks is found before a model is loaded, with its place in the recipe."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.small_recipes import RL, rows

ASKED = rows({"prompt": "Who? ", "answer": "x"}, {"prompt": "What? ", "answer": "y"})
HTTP = RL.replace("use: [./rewards.py]\n", 'machine: {services: {wiki: {url: "URL"}}}\n').replace(
    "right: {type: function, name: score}", "right: {type: environment}"
)
HTTP = HTTP.replace(
    "    sampler:",
    "    environment: {type: search_qa, max_turns: 1, max_observation_length: 8,"
    " retriever: {type: http, service: wiki, retries: 0, timeout: 2}}\n    sampler:",
)
LOCAL = HTTP.replace('machine: {services: {wiki: {url: "URL"}}}\n', "").replace(
    "type: http, service: wiki, retries: 0, timeout: 2", "corpus: CORPUS"
)


class Wiki(BaseHTTPRequestHandler):
    """A retrieval service that knows one document."""

    def do_POST(self):
        """Answer every query with it."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked["queries"])
        found = {"result": [[{"document": {"contents": "T\nx"}, "score": 1.0}] for _ in asked["queries"]]}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def wiki():
    """Such a service, running."""
    server = HTTPServer(("127.0.0.1", 0), Wiki)
    server.asked = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/retrieve"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("url", "code"), [("http://127.0.0.1:9/retrieve", "RC804"), ("file:///etc/passwd", "RC803")])
def test_silent_service(folder, url, code):
    """A service that does not answer, and an address that is none, end the run before anything was made."""
    ended = folder.run(HTTP.replace("URL", url), a__jsonl=ASKED)
    assert (ended.code, ended.first) == (1, code)
    assert "r.yaml:" in ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_service_that_answers(folder, wiki):
    """A recipe whose service answers runs, and is asked once before; a finished one needs it no more."""
    ended = folder.run(HTTP.replace("URL", wiki.url), a__jsonl=ASKED)
    assert ended.code == 0, ended.err
    assert wiki.asked[0] == ["capital of France"]
    before = len(wiki.asked)
    assert folder.call("run", "r.yaml").code == 0
    assert len(wiki.asked) == before


@pytest.mark.parametrize(
    ("corpus", "text", "code"), [("none.jsonl", None, "RC700"), ("c.jsonl", '{"title": 1}\n', "RC800")]
)
def test_missing_or_broken_corpus(folder, corpus, text, code):
    """A corpus that is not there, or has a line that is no document, is named."""
    if text is not None:
        folder.write(**{corpus.replace(".", "__"): text})
    ended = folder.run(LOCAL.replace("CORPUS", corpus), a__jsonl=ASKED)
    assert (ended.code, ended.first) == (1, code)
    assert ("r.yaml:" if text is None else "c.jsonl:1:") in ended.err


def test_shipped_corpus(folder):
    """Without a corpus of its own a recipe searches the shipped one."""
    ended = folder.run(LOCAL.replace(", retriever: {corpus: CORPUS}", ""), a__jsonl=ASKED)
    assert ended.code == 0, ended.err
