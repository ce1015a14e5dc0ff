"""Attacks by the answers of services: retrievers and SPARQL endpoints."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

from attacks.attack import DONE, Attack, Scene

ANSWER = json.dumps({"result": [[{"document": {"contents": "Lyon\nA city."}}]]}).encode()


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """Write a response."""
    told = len(body) if length is None else length
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {told}", *headers))
    return head.encode() + b"\r\n" + body


def searches(answer, expected: str = ""):
    """Search by a service that answers so; the outcome is a failed search with this in its problem, or a document."""

    def act(scene: Scene) -> None:
        from recipec.host.http_client import HttpService, read_address
        from recipec.runtime.environment.retrieval.retriever import Failed, Http

        reply = answer if callable(answer) else lambda connection: connection.sendall(answer)
        url = scene.serve(reply)
        begun = time.monotonic()
        (found,) = Http(HttpService(read_address("wiki", url), 1.5, 0), 3).search(["where?"])
        assert time.monotonic() - begun < 30
        if expected:
            assert isinstance(found, Failed), found
            assert expected in found.problem, found
        else:
            assert not isinstance(found, Failed), found
            assert [document.title for document in found] == ["Lyon"]

    return act


def selects(body: bytes | Any):
    """Query a SPARQL endpoint that answers so."""

    def act(scene: Scene) -> None:
        from support.knowledge_graphs import setting_in

        from recipec.spec.knowledge import Sparql

        reply = body if callable(body) else lambda connection: connection.sendall(http(body))
        url = scene.serve(reply)
        spec = Sparql(service="facts", retries=0, timeout=1.5)
        graph = spec.load()(spec, setting_in(scene.folder, services={"facts": url}))
        _ = graph.size

    return act


def addressed(url: str):
    """Read the address of a service."""

    def act(_scene: Scene) -> None:
        from recipec.host.http_client import read_address

        read_address("wiki", url)

    return act


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.1)


def _drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for i in range(90):
        connection.sendall(f"X-{i}: a\r\n".encode())
        time.sleep(0.1)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(4000):
        connection.sendall(b" " * (1 << 16))


def _endless_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4000):
        connection.sendall(b"10000\r\n" + b" " * (1 << 16) + b"\r\n")


def _endless_continue(connection: socket.socket) -> None:
    for _ in range(20_000):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def _silent(_connection: socket.socket) -> None:
    time.sleep(3)


def _chunked(sizes: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sizes


_ELSEWHERE = http(b"", "302 Found", "Location: http://127.0.0.1:1/secret")
_ROWS = json.dumps(
    {"head": {"vars": ["a"]}, "results": {"bindings": [{"a": {"type": "uri", "value": "file:///etc/passwd"}}] * 5000}}
)
_LONG = 64 << 20

ATTACKS = [
    Attack("service-good", "CWE-20", DONE, searches(http(ANSWER))),
    Attack("service-redirect", "CWE-918", DONE, searches(_ELSEWHERE, "status 302")),
    Attack(
        "service-redirect-to-file",
        "CVE-2009-0037",
        DONE,
        searches(http(b"", "301 Moved", "Location: file:///etc/passwd"), "status 301"),
    ),
    Attack(
        "service-redirect-method",
        "CWE-601",
        DONE,
        searches(http(b"", "307 Temporary Redirect", "Location: //127.0.0.1:1/"), "status 307"),
    ),
    Attack("service-endless-body", "CWE-770", DONE, searches(_endless, "longer than 64 MiB"), memory=400),
    Attack("service-endless-chunks", "CWE-770", DONE, searches(_endless_chunks, "longer than 64 MiB"), memory=400),
    Attack("service-endless-continue", "CVE-2021-3737", DONE, searches(_endless_continue, "a")),
    Attack("service-slow-drip", "CWE-400", DONE, searches(_drip, "no answer within")),
    Attack("service-slow-headers", "CWE-400", DONE, searches(_drip_headers, "no answer within")),
    Attack("service-silent", "CWE-400", DONE, searches(_silent, "no answer within")),
    Attack(
        "service-header-bomb",
        "CVE-2013-1752",
        DONE,
        searches(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", "not HTTP"),
    ),
    Attack(
        "service-many-headers",
        "CVE-2013-1752",
        DONE,
        searches(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", "not HTTP"),
    ),
    Attack("service-status-line-bomb", "CVE-2013-1752", DONE, searches(b"H" * 1_000_000, "not HTTP")),
    Attack("service-negative-chunk", "CWE-1284", DONE, searches(_chunked(b"-5\r\nx\r\n"), "not HTTP")),
    Attack("service-huge-chunk", "CWE-789", DONE, searches(_chunked(b"ffffffffffffffff\r\nx"), "a")),
    Attack("service-negative-length", "CWE-1284", DONE, searches(http(ANSWER, length=-5))),
    Attack(
        "service-gzip-bomb",
        "CVE-2025-66471",
        DONE,
        searches(http(gzip.compress(bytes(_LONG)), "200 OK", "Content-Encoding: gzip"), "cannot be read"),
    ),
    Attack(
        "service-html",
        "CWE-436",
        DONE,
        searches(http(b"<html><script>alert(1)</script>", "200 OK", "Content-Type: text/html"), "cannot be read"),
    ),
    Attack(
        "service-pickle", "CWE-502", DONE, searches(http(b"\x80\x04cos\nsystem\n(S'touch x'\ntR."), "cannot be read")
    ),
    Attack("service-deep-json", "CWE-674", DONE, searches(http(b"[" * 5_000_000), "cannot be read")),
    Attack(
        "service-wide-json",
        "CWE-770",
        DONE,
        searches(http(b"[" + b"[]," * 15_000_000 + b"[]]"), "cannot be read"),
        memory=400,
    ),
    Attack(
        "service-huge-number",
        "CVE-2020-10735",
        DONE,
        searches(http(b'{"result": ' + b"9" * 100_000 + b"}"), "cannot be read"),
    ),
    Attack(
        "service-too-many-results",
        "CWE-130",
        DONE,
        searches(http(json.dumps({"result": [[]] * 9}).encode()), "cannot be read"),
    ),
    Attack(
        "service-surrogate",
        "CWE-176",
        DONE,
        searches(http(b'{"result": [[{"document": {"contents": "Lyon\\nx\\ud800"}}]]}')),
    ),
    Attack("service-address-file", "CWE-918", "RC803", addressed("file:///etc/passwd")),
    Attack("service-address-gopher", "CWE-918", "RC803", addressed("gopher://127.0.0.1:1/_x")),
    Attack("service-address-newline", "CVE-2019-9740", "RC803", addressed("http://127.0.0.1:1/\r\nX-Injected: 1")),
    Attack("service-address-password", "CWE-522", "RC803", addressed("http://user:hunter2@127.0.0.1/")),
    Attack("service-address-unicode", "CVE-2019-9636", "RC803", addressed("http://example.com\uff03@evil.com/")),
    Attack("sparql-html", "CWE-436", "RC804", selects(b"<html>")),
    Attack("sparql-xml-entities", "CWE-776", "RC804", selects(b"<!DOCTYPE x [<!ENTITY a 'x'>]><sparql>&a;</sparql>")),
    Attack("sparql-deep", "CWE-674", "RC804", selects(b'{"head": {"vars": ["a"]}, "results": ' + b"[" * 2_000_000)),
    Attack("sparql-other-terms", "CWE-345", "RC804", selects(_ROWS.encode())),
    Attack("sparql-redirect", "CWE-918", "RC804", selects(lambda connection: connection.sendall(_ELSEWHERE))),
    Attack("sparql-endless", "CWE-770", "RC804", selects(_endless), memory=400),
    Attack("sparql-drip", "CWE-400", "RC804", selects(_drip)),
]
