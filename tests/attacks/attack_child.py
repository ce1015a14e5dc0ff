"""The process in which attacks act: watched by an audit hook, with limits.

It is run as a script with a folder.  Names of attacks come from standard input; each is answered by a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from attacks.attack import CONTROL, DONE, Attack, Scene, enter
from attacks.corpus import ATTACKS

MEMORY = 12 << 30
"""Most bytes of address space: what is over the limit of a row but below this is measured and reported."""
WORKERS = ("worker_child.py", "program_child.py")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class TooMuchError(BaseException):
    """The attack took more CPU time than its limit."""


class Watch:
    """What an attack did that it must not, as the audit hook saw it."""

    def __init__(self, home: Path) -> None:
        self.home = str(home)
        self.scene: Scene | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event that is not allowed."""
        if self.scene is None:
            return
        look = LOOKS.get(event)
        seen = look(self, arguments) if look else f"process {event}" if event in PROCESSES else None
        if seen:
            self.seen.append(seen)

    def opened(self, arguments: tuple[Any, ...]) -> str | None:
        """Files outside may be read, and not written."""
        path, mode, flags = arguments
        writes = (isinstance(flags, int) and flags & _WRITES) or (isinstance(mode, str) and set(mode) & set("wax+"))
        return f"writes {path}" if writes and self.outside(path) else None

    def changed(self, arguments: tuple[Any, ...]) -> str | None:
        """Nothing outside is made, moved or removed."""
        return f"changes {arguments[:2]}" if any(map(self.outside, arguments[:2])) else None

    def linked(self, arguments: tuple[Any, ...]) -> str | None:
        """No link is made outside; where one leads is the affair of who reads it."""
        return f"links {arguments[:2]}" if self.outside(Path(arguments[1]).parent) else None

    def started(self, arguments: tuple[Any, ...]) -> str | None:
        """No process is started but our own workers."""
        known = any(str(word).endswith(WORKERS) for word in arguments[1])
        return None if known else f"process {arguments[1]}"

    def connected(self, arguments: tuple[Any, ...]) -> str | None:
        """No socket is opened but to the server of the attack."""
        assert self.scene is not None
        known = isinstance(arguments[1], tuple) and arguments[1][1] in self.scene.ports
        return None if known else f"connects {arguments[1]}"

    def resolved(self, arguments: tuple[Any, ...]) -> str | None:
        """No name is looked up."""
        return None if arguments[0] in {"127.0.0.1", "localhost"} else f"resolves {arguments[0]}"

    def unpickled(self, arguments: tuple[Any, ...]) -> str:
        """Nothing is unpickled."""
        return f"unpickles {arguments}"

    def outside(self, path: object) -> bool:
        """Whether a path is none of the folder of all attacks."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        whole = os.path.realpath(os.fsdecode(path))
        return not whole.startswith((self.home, "/dev/null"))


PROCESSES = {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
LOOKS: dict[str, Callable[[Watch, tuple[Any, ...]], str | None]] = {
    "open": Watch.opened,
    **dict.fromkeys(["os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"], Watch.changed),
    "os.rename": Watch.changed,
    **dict.fromkeys(["os.link", "os.symlink"], Watch.linked),
    "subprocess.Popen": Watch.started,
    "socket.connect": Watch.connected,
    "socket.getaddrinfo": Watch.resolved,
    "pickle.find_class": Watch.unpickled,
}


def used() -> float:
    """Return the seconds of CPU of this process and of the children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def peak(*, begin: bool) -> int:
    """Return the most memory of this process since it was last asked to ``begin``, in MiB; before that, the present."""
    if begin:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() >> 20
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10


def outcome(attack: Attack, scene: Scene) -> str:
    """Let it act; return the code of the first error, `done`, or the exception."""
    from recipec.diagnostics.formats import render
    from recipec.diagnostics.model import RecipeError

    try:
        return attack.act(scene) or DONE
    except RecipeError as refused:
        scene.printed += [render(refused.diagnostics, {}, form, valid=False) for form in ("text", "github")]
        return refused.diagnostics[0].code
    except TooMuchError:
        return "took too much time"
    except BaseException:  # noqa: BLE001 - it is the finding
        return traceback.format_exc()[-1500:]


def too_much(_number: int, _frame: FrameType | None) -> NoReturn:
    """End an attack that takes too long."""
    raise TooMuchError


def judge(attack: Attack, home: Path, watch: Watch) -> dict[str, Any]:
    """Let one attack act, and return what came of it."""
    scene = Scene(home / attack.name)
    enter(scene)
    tempfile.tempdir = str(scene.folder / "tmp")
    before, begun = peak(begin=True), used()
    signal.setitimer(signal.ITIMER_PROF, 3 * attack.seconds + 10)
    watch.seen, watch.scene = [], scene
    try:
        ended = outcome(attack, scene)
    finally:
        watch.scene = None
        signal.setitimer(signal.ITIMER_PROF, 0)
    dirty = [found[0] for text in scene.printed if (found := CONTROL.search(text))]
    broken = [seen for seen in watch.seen if seen.split()[0] not in attack.allows]
    broken += [f"prints {dirty[0]!r}"] if dirty else []
    broken += ["canary"] if scene.canary.exists() else []
    return {
        "name": attack.name,
        "outcome": ended,
        "broken": broken,
        "seconds": round(used() - begun, 2),
        "memory": max(0, peak(begin=False) - before),
    }


def main() -> None:
    """Let each attack act that is named on standard input, one after another."""
    home = Path(sys.argv[1]).resolve()
    names, out = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, too_much)
    warm(home / "warm")
    watch = Watch(home)
    sys.addaudithook(watch)
    known = {attack.name: attack for attack in ATTACKS}
    for name in names:
        out.write(f"{json.dumps(judge(known[name.strip()], home, watch))}\n")
        out.flush()


def warm(folder: Path) -> None:
    """Run a recipe once: an attack is not charged for imports; and shorten limits that other tests check in full."""
    from support.small_recipes import ROWS, SFT

    from recipec.host import chat_template, templates

    scene = Scene(folder)
    enter(scene)
    scene.write("r.yaml", SFT)
    scene.write("a.jsonl", ROWS)
    for command in (["validate", "r.yaml"], ["plan", "r.yaml"], ["run", "r.yaml"]):
        ended = scene.call(*command)
        assert ended == DONE, ended
    templates.SECONDS = chat_template.SECONDS = 1.5


if __name__ == "__main__":
    main()
