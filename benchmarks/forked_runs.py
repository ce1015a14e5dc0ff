"""Runs in forked children, and failures of their calls to the disk: what `kill.py` and `corruption.py` start.

A child has the imports of this process, so that a run of three stages takes a second.  Three stages train one policy
that sees: `learn` an adapter on images, `explore` the adapter on trees of searched dialogues, `align` a new adapter on
pairs that a knowledge graph ranks.  Held-out dialogues are evaluated at every step.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import IO, ClassVar

from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from recipec import cli
from recipec.host.journal import CLOCK
from recipec.host.ranks import end_with_parent

RECIPE = """\
recipec: 1
name: killed
machine: {device: cpu, timeout: 600}
stages:
  learn:
    kind: sft
    from: scratch
    policy:
      type: vision_lm
      scratch: {architecture: qwen2_vl, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 16, max_positions: 128,
                image_size: 16, patch_size: 4, vision_layers: 1}
      lora: {r: 2}
    data: {path: seen.jsonl}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 2, rows_per_step: 2, save_every: 1}
  explore:
    kind: rl
    from: learn
    adapter: continue
    allow: {RC215: "dialogues have no images"}
    data: {path: dialogues.jsonl, columns: {images: ""}}
    environment: {type: search_qa, max_turns: 2, max_observation_length: 12}
    sampler: {type: tree, trees: 2, expansions: 1, keep: 2, max_turn_length: 4, group_filter: {max_tries: 2}}
    reward:
      early: {type: regex_format, pattern: "[ -N].*"}
    advantage:
      group: {type: group_relative, singleton: raw}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 3, prompts_per_step: 2, save_every: 1}
  align:
    kind: dpo
    from: explore
    adapter: merge
    policy: {type: vision_lm, lora: {r: 2}}
    data: {path: seen.jsonl}
    knowledge: {type: triples, path: facts.tsv, closed: [has sign]}
    sampler: {num_generations: 4, max_completion_length: 12}
    preference: {type: kg_rank, topic: disease}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 2, pairs_per_step: 2, save_every: 1}
evaluate:
  dev:
    data: {path: dialogues.jsonl, limit: 2, columns: {images: ""}}
    sampler: {max_completion_length: 3, temperature: 1.0}
    metrics: [reward]
    every: 1
"""
STAGES = ("learn", "explore", "align")
FAULTS = Path(__file__).with_name("disk_faults.c")
KILLED, TORN, FULL, BROKEN, READ_ONLY, STOPPED = range(1, 7)
"""What `disk_faults.c` can do at a call; its enum has the same numbers."""
NOT_COMPARED = {".lock", ".guard", "plan.json"}
"""Locks, and the plan: what was left to do when the run was started last."""


@dataclass(frozen=True)
class Fault:
    """What happens at a call, counted from 1, on the files of a run or on those of TensorBoard."""

    call: int = 0
    way: int = 0
    events: bool = False
    shift: int = 0
    """Seconds by which the clock is wrong."""
    until: str = ""
    """Where it stands still, if that is the fault: before it creates this folder; without one, before each call."""
    whom: int = 0
    """Which process of a launched run is killed at a call of its leader."""


WELL = Fault()


@dataclass(frozen=True)
class Ended:
    """How a run ended, what it printed, and its CPU seconds."""

    code: int
    text: str
    seconds: float


def preloaded() -> ctypes.CDLL:
    """Return the library of faults, with which this process is started again if it has none."""
    if "disk_faults" not in os.environ.get("LD_PRELOAD", ""):
        library = Path(tempfile.mkdtemp(prefix="recipec-")) / "disk_faults.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(FAULTS), "-ldl"], check=True)  # noqa: S607
        variables = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], variables)  # noqa: S606
    shutil.rmtree(Path(os.environ["LD_PRELOAD"]).parent, ignore_errors=True)
    disk, text, number, word = ctypes.CDLL(None), ctypes.c_char_p, ctypes.c_long, ctypes.c_int
    disk.disk_arm.argtypes = [text, number, word, word, number, word, text, ctypes.c_void_p]
    return disk


def furnish(folder: Path) -> None:
    """Write the recipe and its files."""
    (folder / "seen").mkdir(parents=True)
    for i, colour in enumerate([(220, 30, 30), (30, 30, 220)]):
        Image.new("RGB", (16, 16), colour).save(folder / "seen" / f"d{i}.png")
    rows = [
        {"prompt": "?", "disease": f"d{i % 2}", "completion": "a", "images": [f"seen/d{i % 2}.png"]} for i in range(6)
    ]
    facts = "".join(f"d{i}\thas sign\t{letter}\n" for i in range(2) for letter in ascii_lowercase[i::2])
    written = {
        "r.yaml": RECIPE,
        "seen.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "dialogues.jsonl": "".join(json.dumps({"prompt": f"who {i}?", "answer": "x"}) + "\n" for i in range(4)),
        "facts.tsv": facts,
        "pyproject.toml": "",
    }
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Call:
    """A counted call of a run."""

    number: int
    events: bool
    word: str
    path: str

    @classmethod
    def read(cls, log: Path) -> list[Call]:
        """Read the calls that a run wrote down."""
        lines = (line.split(" ", 3) for line in log.read_text().splitlines())
        return [cls(int(number), which == "1", word, path) for which, number, word, path in lines]


@dataclass(frozen=True)
class Part:
    """A stage of a run that nothing disturbed: where it begins, what it leaves, and its calls."""

    number: int
    begin: Path | None
    """The folder of the run before the stage; none before the first."""
    left: dict[str, object]
    calls: list[Call]

    @property
    def first(self) -> int:
        """Number of the first call that is of the stage, and not of the start of the command."""
        mine = f"/stages/{STAGES[self.number]}"
        return 1 if self.begin is None else next(call.number for call in self.calls if call.path.endswith(mine))


def following(number: int) -> str:
    """Return the folder by which the stage after begins; empty after the last."""
    return f"stages/{STAGES[number + 1]}" if number + 1 < len(STAGES) else ""


@dataclass
class Runs:
    """Starts runs of the recipe in a folder, each in a child, or in one for each rank.

    Example: ``Runs(folder, disk).run("out", Fault(12, KILLED)).code`` is -9.
    """

    folder: Path
    disk: ctypes.CDLL
    ranks: int = 1
    settings: tuple[str, ...] = ()
    launched: ClassVar[bool] = False
    """Whether one process starts the ranks."""

    @cached_property
    def parts(self) -> list[Part]:
        """Make a run that nothing disturbs, stage by stage, and import what it imported for the children of later runs.

        It is made twice, since imports read files of their own.
        """
        log = self.folder / f"calls-{self.ranks}"
        whole = self.run("whole", log=log)
        for name in log.with_suffix(".modules").read_text().splitlines() if not whole.code else ():
            if name not in sys.modules:
                with suppress(Exception):  # parts of a package that only import each other
                    importlib.import_module(name)
        gc.collect()
        gc.freeze()  # else a child copies most pages of this process
        found, begin = [], None
        for number in range(len(STAGES)):
            home, until = self.folder / "part", following(number)
            if begin is not None:
                shutil.copytree(begin, home)
            run = self.begun("part", Fault(way=STOPPED, until=until) if until else WELL, log)
            stands = next(run, False)
            calls = [one for one in Call.read(log) if not until or one.path != f"{home}/{until}"]
            found.append(Part(number, begin, result(home, ended=not until), calls))
            begin = self.folder / f"before-{self.ranks}-{number + 1}"
            home.rename(begin)
            run.kill()
            if not until and (stands or run.ended.code or result(self.folder / "whole") != found[-1].left):
                sys.exit(f"the undisturbed run ended with exit code {run.ended.code}\n{whole.text}{run.ended.text}")
        shutil.rmtree(self.folder / "whole")
        return found

    def run(self, out: str, fault: Fault = WELL, log: Path | None = None) -> Ended:
        """Start or continue a run, and wait for its end."""
        run = self.begun(out, fault, log)
        list(run)
        return run.ended

    def begun(self, out: str, fault: Fault = WELL, log: Path | None = None) -> Run:
        """Start or continue a run."""
        port, output = free_port(), tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the run
        processes = list[int]()
        for rank in range(1 if self.launched else self.ranks):
            processes.append(self._start(out, rank, port, fault, output, log))
            os.setpgid(processes[-1], processes[0])  # one wait is for all of them
        return Run(output, processes)

    def _placed(self, root: Path, rank: int, port: int, fault: Fault) -> Fault:  # noqa: ARG002 - for a launcher
        """Name the place of this process as torchrun does; return what happens to it."""
        if self.ranks > 1:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.ranks, "MASTER_PORT": port}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}
        return Fault(shift=fault.shift) if rank else fault

    def _start(self, out: str, rank: int, port: int, fault: Fault, output: IO[str], log: Path | None) -> int:
        if child := os.fork():
            return child
        code = 99
        try:
            end_with_parent(signal.SIGKILL)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
            os.chdir(self.folder)
            mine = self._placed((self.folder / out).absolute(), rank, port, fault)
            trace = -1 if log is None or rank else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            root = bytes((self.folder / out).absolute())
            until = root + f"/{mine.until}".encode() if mine.until else b""
            self.disk.disk_arm(root, mine.call, mine.way, int(mine.events), mine.shift, trace, until, None)
            chosen = (part for setting in self.settings for part in ("--set", setting))
            code = called("run", "r.yaml", "--out", out, "--quiet", *chosen)
            if log is not None:
                log.with_suffix(".modules").write_text("\n".join(sys.modules))
        finally:
            os._exit(code)


class Run:
    """A run that has begun; iterating waits, and yields True whenever its first process stands still at a call."""

    def __init__(self, output: IO[str], processes: list[int]) -> None:
        self.ended = Ended(0, "", 0.0)
        self._output, self._leader, self._going, self._stands = output, processes[0], set(processes), False

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> bool:
        """Go on to the next stop.

        Raises:
            StopIteration: every process has ended.
        """
        if self._stands:
            self._stands = False
            os.kill(self._leader, signal.SIGCONT)
        while self._going:
            pid, status, used = os.wait4(-self._leader, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                self._stands = True
                return True
            self._going.remove(pid)
            self._note(os.waitstatus_to_exitcode(status), pid == self._leader, used.ru_utime + used.ru_stime)
        self._output.seek(0)
        self.ended = replace(self.ended, text=self._output.read())
        raise StopIteration

    def kill(self) -> None:
        """End it by SIGKILL."""
        for process in self._going:
            os.kill(process, signal.SIGKILL)
        list(self)

    def _note(self, code: int, leads: bool, seconds: float) -> None:
        """Keep how a process ended; where it was killed, the others are, too, as by a launcher."""
        worst = code if code < 0 or (leads and self.ended.code >= 0) else self.ended.code
        self.ended = replace(self.ended, code=worst, seconds=self.ended.seconds + seconds)
        if code < 0:
            for other in self._going:
                os.kill(other, signal.SIGKILL)


def called(*arguments: str) -> int:
    """Call the command line in this process; 99 where it raises."""
    sys.argv, sys.stdin = ["recipec", *arguments], io.StringIO()
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - a traceback is what is looked for
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def result(out: Path, *, ended: bool = True) -> dict[str, object]:
    """Return what a person sees of a run, less what depends on the clock: every file, and the events by their tags.

    While it goes on, the report may be that of an earlier step, and the lock has an owner.
    """
    found: dict[str, object] = {}
    left_out = NOT_COMPARED if ended else {*NOT_COMPARED, "report.html", ".owner"}
    for path in sorted(path for path in out.rglob("*") if path.is_file() or path.is_symlink()):
        name = path.relative_to(out).as_posix()
        if name.startswith("tensorboard/") and ".tfevents." in name:
            events = found.setdefault(f"events of {name.split('/')[1]}", Counter[tuple[str, int, str]]())
            assert isinstance(events, Counter)
            events.update(scalars(path))
        elif not name.startswith("logs/") and name not in left_out:
            found[name] = hashlib.sha256(without_clock(path).encode("latin-1")).hexdigest()
    return found


def without_clock(path: Path) -> str:
    """Return the content of a file, byte by byte, less what depends on the clock; all of it where it is damaged."""
    text = path.read_bytes().decode("latin-1")
    with suppress(ValueError, AttributeError):  # JSON of another type
        return _stripped(path, text)
    return text


def _stripped(path: Path, text: str) -> str:
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        return json.dumps([{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows])
    if path.name == "report.html":
        text = re.sub(r'<figure>\s*<svg[^>]*aria-label="(seconds|rate)/.*?</figure>', "", text, flags=re.DOTALL)
        return re.sub(r"(learn|explore|align)( \d+ (s|min|h))+", r"\1", text)
    known = {"run.json": ("begun",), "state.json": ("journal", "journal_sha256")}
    if "checkpoints" in path.parts:
        known["MANIFEST.json"] = ("files",)
    if path.name in known:
        return json.dumps({k: v for k, v in json.loads(text).items() if k not in known[path.name]})
    return text


def scalars(path: Path) -> Iterator[tuple[str, int, str]]:
    """Yield the tag, the step and the value of every event; no value where it is a time."""
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            clock = any(f"/{begin}" in value.tag for begin in CLOCK)
            yield value.tag, event.step, "" if clock else repr(value.tensor.float_val)
