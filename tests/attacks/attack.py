"""One attack: a row of the tables in this folder, the place where it acts, and what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DONE = "done"
"""The outcome of an attack that is neutralised: the command ends well, and what the row asserts of its result holds."""


@dataclass(frozen=True)
class Attack:
    """A row of a table.

    Example: ``Attack("yaml-tag", "CVE-2017-18342", "RC107", reads("a: !!python/name:os.system"))``.
    """

    name: str
    after: str
    """The CVE, public report or kind of weakness (CWE) that it descends from."""
    expect: str
    """The code of an error, or `done`."""
    act: Callable[[Scene], str | None]
    """Does it; returns codes, or None for `done`.  A `RecipeError` that it raises is an outcome too."""
    slow: bool = False
    seconds: float = 6.0
    """Most seconds of CPU, of the process and of its children."""
    memory: int = 256
    """Most MiB by which the process may grow."""
    allows: frozenset[str] = frozenset()
    """What the user's own code may do, which `--use` allowed: `process`."""


@dataclass
class Scene:
    """A folder to act in, and the command line."""

    folder: Path
    ports: set[int] = field(default_factory=set)
    printed: list[str] = field(default_factory=list)
    """All that the command line wrote, which must be clean of control characters."""

    @property
    def canary(self) -> Path:
        """The file that a payload creates if it runs."""
        return self.folder / "canary"

    @property
    def touch(self) -> str:
        """A shell command that creates it."""
        return f"touch {self.canary}"

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file, with `CANARY` in its text replaced by the path of the canary."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.replace("CANARY", str(self.canary)).encode("utf-8", "surrogatepass")
        path.write_bytes(content)
        return path

    def call(self, *arguments: str) -> str:
        """Call `recipec`; return the codes of its errors, or `done`."""
        from recipec import cli

        out, err = io.StringIO(), io.StringIO()
        sys.argv = ["recipec", *arguments]
        status: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as ended:
                status = ended.code or 0
        self.printed += [out.getvalue(), err.getvalue()]
        self.last = out.getvalue() + err.getvalue()
        if "internal error" in self.last or "Traceback" in self.last:
            crash = re.search(r"\S*recipec-crash-\S+\.txt", self.last)
            return f"crash: {Path(crash[0]).read_text()[-1500:] if crash else self.last[-1500:]}"
        found = dict.fromkeys(re.findall(r"error(?:\[| )(RC\d{3})", self.last))
        return " ".join(found) or (DONE if status == 0 else f"exit {status}: {self.last[-300:]}")

    def serve(self, answer: Callable[[socket.socket], None]) -> str:
        """Answer every connection to a new port by ``answer``, which gets the socket; return its address."""
        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        self.ports.add(port)

        def loop() -> None:
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5.0)
                    _whole_request(connection)
                    answer(connection)

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{port}/"


def _whole_request(connection: socket.socket) -> None:
    """Read a request up to the end of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            return
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0:
        piece = connection.recv(1 << 16)
        if not piece:
            return
        missing -= len(piece)


ENDED = re.compile(r"done|RC\d{3}(?: RC\d{3})*")
"""An outcome that is no crash."""
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves the cursor, forges lines or reorders text on a terminal."""


def enter(scene: Scene) -> None:
    """Make its folder the working directory, with a cache and temporary files of its own."""
    scene.folder.mkdir(parents=True)
    for name in ("cache", "tmp"):
        (scene.folder / name).mkdir()
    os.chdir(scene.folder)
    os.environ["XDG_CACHE_HOME"] = str(scene.folder / "cache")
