"""Attacks by the run directory of somebody else on what reads it: files that do not end, or that nobody writes to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from attacks.attack import DONE, Attack, Scene
from attacks.hostile_checkpoints import home
from support.small_recipes import SFT

RUN = Path("runs/small")
HELD_OUT = """\
evaluate:
  dev:
    data: {path: a.jsonl, limit: 2}
    reward: {right: {type: exact_match}}
    sampler: {max_completion_length: 2}
    metrics: [reward]
"""
RECIPE = SFT + HELD_OUT


def device(path: Path) -> None:
    """Never ends."""
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(path)


def sparse(path: Path) -> None:
    """Has a TB of zeros, and takes no space."""
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


def reads(command: tuple[str, ...], name: str, make: Callable[[Path], None]) -> Callable[[Scene], str]:
    """Call a command on a finished run in which one file was replaced; a message names the file."""

    def act(scene: Scene) -> str:
        shutil.copytree(home(RECIPE), scene.folder, dirs_exist_ok=True)
        path = RUN / name
        path.unlink()
        make(path)
        ended = scene.call(*command)
        named = path.name in scene.last or f"{path.parent} does not match its manifest" in scene.last
        silent = ended == DONE and "warning" not in scene.last
        return ended if named or silent else f"does not name it: {scene.last}"

    return act


COMMANDS = {
    "report": ("report", "runs/small"),
    "diff": ("diff", "r.yaml", "runs/small"),
    "export": ("export", "runs/small", "--to", "exported"),
}
FILES = {
    "run.json": {"report": "RC772", "diff": "RC772", "export": "RC772"},
    "graph.json": {"report": "RC772", "diff": "RC772", "export": "RC772"},
    "resolved.txt": {"report": "RC772", "diff": "RC772", "export": "RC772"},
    "stages/learn/metrics.jsonl": {},
    "stages/learn/samples/eval-dev-000002.jsonl": {},
    "stages/learn/samples/SHA256SUMS": {},
    "stages/learn/policy/MANIFEST.json": {"export": "RC766"},
    "stages/learn/policy/config.json": {"diff": "RC766", "export": "RC766"},
    "stages/learn/inputs.json": {"diff": "RC772"},
    "stages/learn/attention.json": {},
    "stages/learn/digest": {},
}
"""The error of each command; none where it does not need the file, or warns."""
ATTACKS = [
    Attack(
        f"run-folder-{command}-{Path(name).name}-{make.__name__}",
        "CWE-400",
        codes.get(command, DONE),
        reads(arguments, name, make),
        seconds=2.5,
    )
    for command, arguments in COMMANDS.items()
    for name, codes in FILES.items()
    for make in (device, pipe, sparse)
]
