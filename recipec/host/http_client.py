"""Requests to the HTTP services of a recipe: a deadline for the whole exchange, bounded answers, further attempts.

A service is reached directly, without proxies, and redirects are not followed: neither can lead elsewhere than the
recipe says.  Client libraries have timeouts of single reads only, with which a service that sends a byte at a time is
never given up.
"""

from __future__ import annotations

import http.client
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Timer
from urllib.parse import SplitResult, urlsplit

from recipec.diagnostics.errors import search as errors
from recipec.diagnostics.model import RecipeError

MAX_ANSWER = 64 << 20
"""Longest answer of a service, in bytes."""
PAUSE = 0.5
"""Seconds before the first further attempt; each later one waits twice as long, up to ``MAX_PAUSE``."""
MAX_PAUSE = 8.0
_TEMPORARY = frozenset({408, 425, 429})
"""Statuses that blame the request and yet may pass."""


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """An attempt without an answer.

    Example: ``HttpFailure("no answer within 10 s")``.
    """

    problem: str


@dataclass(slots=True)
class HttpService:
    """One address; ``timeout`` in seconds is for each of ``1 + retries`` attempts.

    Example: ``HttpService(read_address("wiki", "http://127.0.0.1:8000/retrieve"), timeout=10.0, retries=2)``.
    """

    address: SplitResult
    timeout: float
    retries: int
    key: tuple[int | str, ...] = ()
    """Seeds the pauses between attempts, which are the same in every run."""
    sleep: Callable[[float], None] = time.sleep
    requests: int = field(default=0, init=False)

    def attempts(self, body: bytes, headers: Mapping[str, str]) -> Iterator[bytes | HttpFailure]:
        """Post a request, and again for as long as the caller goes on; stop where another attempt is hopeless."""
        self.requests += 1
        for attempt in range(self.retries + 1):
            if attempt:
                self.sleep(self._pause(attempt))
            try:
                status, answer = post(self.address, body, self.timeout, headers)
            except TimeoutError:
                yield HttpFailure(f"no answer within {self.timeout:g} s")
            except OSError:  # a connection that broke is also an HTTPException
                yield HttpFailure("the service cannot be reached")
            except http.client.HTTPException:
                yield HttpFailure(f"the answer is not HTTP, or is longer than {MAX_ANSWER >> 20} MiB")
            else:
                good = status == http.HTTPStatus.OK
                yield answer if good else HttpFailure(f"the service answered with status {status}")
                if 300 <= status < 500 and status not in _TEMPORARY:
                    return

    def _pause(self, attempt: int) -> float:
        """Return twice the last pause, times a factor from 0.5 to 1 that parts clients which failed together."""
        jitter = random.Random(repr((self.key, self.requests, attempt))).uniform(0.5, 1.0)  # noqa: S311 - no secret
        return min(MAX_PAUSE, PAUSE * 2.0 ** (attempt - 1)) * jitter


def read_address(name: str, url: str) -> SplitResult:
    """Check the address of a service.

    Raises:
        RecipeError: RC803.
    """
    try:
        address = urlsplit(url)
        (address.hostname or "").encode("idna")
        port_is_sound = address.port is None or address.port > 0
    except ValueError:
        raise RecipeError(errors.bad_address(name, "cannot be read")) from None
    if address.scheme not in {"http", "https"}:
        raise RecipeError(errors.bad_address(name, "begins neither with http:// nor with https://"))
    if not address.hostname or not port_is_sound:
        raise RecipeError(errors.bad_address(name, "names no host"))
    if address.username is not None or address.password is not None:
        raise RecipeError(errors.bad_address(name, "has a user or a password in it"))
    if not url.isascii() or not url.isprintable() or " " in url:
        raise RecipeError(errors.bad_address(name, "has letters in it that an address cannot have"))
    return address


def post(address: SplitResult, body: bytes, timeout: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Send one request; return the status and the answer.

    The deadline is for the whole exchange, however slowly the answer comes.

    Raises:
        TimeoutError: the deadline passed.
        OSError: there is no connection, or it broke.
        http.client.HTTPException: the answer is not HTTP, or longer than ``MAX_ANSWER``.
    """
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(address.hostname), address.port, timeout=timeout)
    begun = time.monotonic()
    late = Event()
    try:
        connection.connect()
        # the answer takes the socket from the connection, so the watch must hold it itself
        watch = Timer(max(0.0, begun + timeout - time.monotonic()), _cut, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            answer = _exchange(connection, address, body, headers)
        finally:
            watch.cancel()
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        connection.close()
    if late.is_set():
        raise TimeoutError
    return answer


def _exchange(
    connection: http.client.HTTPConnection, address: SplitResult, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    try:
        content = answer.read(MAX_ANSWER + 1)
    except ValueError as error:  # a chunk of negative size
        raise http.client.HTTPException from error
    if len(content) > MAX_ANSWER:
        raise http.client.HTTPException
    if answer.length:  # bytes that never came, of which `read` with a bound says nothing
        raise ConnectionResetError
    return answer.status, content


def _cut(connected: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):  # it has just ended by itself
        connected.shutdown(socket.SHUT_RDWR)
