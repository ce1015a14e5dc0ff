"""Generate text adventures with TextWorld, each once, and keep them in the cache.

A game is a function of its name, ``split/seed/index``, and of :class:`GameSize`.  It takes seconds to generate, since
Inform 7, which the package contains, compiles its text.  Each game is generated in its own process.

References:
    Côté et al., `TextWorld <https://arxiv.org/abs/1806.11532>`_, 2018.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SPLITS = {"train": 100, "valid": 20, "test": 20}
"""Number of games of each split, where the data gives none."""
SECONDS = 300.0
"""Longest time to generate a game."""
_ATTEMPTS = 20
_VERSION = 1
"""Part of every random seed; increased when the generator changes."""


@dataclass(frozen=True, slots=True)
class GameSize:
    """The size of every game.

    Example: ``GameSize(rooms=3, objects=5, quest_length=3)``.
    """

    rooms: int
    objects: int
    quest_length: int


class GenerationError(Exception):
    """A game could not be generated."""


def problem(name: str) -> str | None:
    """Return what is wrong with the name of a game, or None.

    >>> problem("train/0/17"), problem("dev/0/17")
    (None, 'there is no split `dev`')
    """
    split, *numbers = name.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return "the name of a game is split/seed/index"
    return None if split in SPLITS else f"there is no split `{split}`"


def place(cache: Path, size: GameSize, name: str) -> Path:
    """Return the file of a game."""
    version = importlib.metadata.version("textworld")
    folder = f"{_VERSION}-{version}-rooms{size.rooms}-objects{size.objects}-quest{size.quest_length}"
    return cache / "textworld" / folder / f"{name.replace('/', '-')}.z8"


def provide(
    cache: Path, size: GameSize, names: Sequence[str], progress: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Generate the missing games, one per processor at a time.

    ``progress`` is called with the number of generated games and of games to generate.

    Raises:
        GenerationError: the generator cannot generate such games.
        OSError: the cache cannot be written.
    """
    missing = [name for name in dict.fromkeys(names) if not place(cache, size, name).is_file()]
    running: dict[str, tuple[subprocess.Popen[str], float]] = {}
    waiting, done = list(reversed(missing)), 0
    try:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                name = waiting.pop()
                running[name] = _start(place(cache, size, name), size, name), time.monotonic()
            for name, (process, began) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    _finish(process)
                    done += 1
                    progress(done, len(missing))
                elif time.monotonic() - began > SECONDS:
                    raise GenerationError(f"a game took more than {SECONDS:.0f} s")
            time.sleep(0.02)
    finally:
        for process, _ in running.values():
            process.kill()
            process.communicate()


def _start(path: Path, size: GameSize, name: str) -> subprocess.Popen[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(  # noqa: S603 - our own module and arguments
        [sys.executable, "-m", __name__, json.dumps({"path": str(path), "name": name, **asdict(size)})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def _finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate()
    if process.returncode:
        lines = output.strip().splitlines()
        raise GenerationError(lines[-1][:300] if lines else f"the generator ended with {process.returncode}")


def main() -> None:
    """Generate one game, in a process of :func:`provide`."""
    import textworld  # noqa: PLC0415 - takes a second

    threading.Thread(target=_end_with_parent, daemon=True).start()
    settings = json.loads(sys.argv[1])
    path = Path(settings["path"])
    problems = []
    for seed in _seeds(settings):
        options = textworld.GameOptions()
        options.nb_rooms, options.nb_objects, options.seeds = settings["rooms"], settings["objects"], seed
        options.quest_length = settings["quest_length"]
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, contextlib.redirect_stdout(sys.stderr):
            options.path = str(Path(folder) / "game.z8")
            try:
                textworld.make(options)
            except textworld.generator.CouldNotCompileGameError:
                raise
            except Exception as error:  # noqa: BLE001 - the generator raises many types for impossible games
                problems.append(f"{type(error).__name__}: {error}")
                continue
            # a game exists once its last file does
            (Path(folder) / "game.json").replace(path.with_suffix(".json"))
            (Path(folder) / "game.z8").replace(path)
        return
    sys.exit(f"{_ATTEMPTS} attempts failed, the last with {problems[-1]}")


def _end_with_parent() -> None:
    """Exit when the parent is killed, which closes the pipe."""
    sys.stdin.read()
    os._exit(1)


def _seeds(settings: dict[str, object]) -> Iterator[int]:
    for attempt in range(_ATTEMPTS):
        key = f"textworld {_VERSION} {settings['name']} {attempt}"
        yield int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1


if __name__ == "__main__":
    main()
