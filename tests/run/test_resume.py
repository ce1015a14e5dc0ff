"""Runs that were killed end with the bits of one that was not."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import tensorboard.summary
import torch
import transformers
from support.small_recipes import MODEL, rows

import recipec.report.page
from recipec import cli
from recipec.host import artifacts
from recipec.runtime.stage.build_stage import run_stage
from recipec.runtime.training.local_engine import LocalEngine

RECIPE = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{epochs: 1, rows_per_step: 3, save_every: 2}}
  explore:
    kind: rl
    from: learn
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 4, max_completion_length: 5, group_filter: {{max_tries: 3}}}}
    reward:
      early: {{type: regex_format, pattern: "[ -7].*"}}
    advantage:
      group: {{type: group_relative}}
    loss: {{type: clipped, beta: 0.1}}
    reference: {{type: lagged, sync_every_updates: 3}}
    optimizer: {{learning_rate: 1.0e-2, schedule: linear}}
    budget: {{steps: 5, prompts_per_step: 2, updates_per_step: 2, save_every: 1}}
  prefer:
    kind: dpo
    from: explore
    preference: {{type: best_vs_worst, rollouts: explore.rollouts}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{epochs: 2, pairs_per_step: 3, save_every: 1}}
evaluate:
  held_out:
    data: {{path: a.jsonl, limit: 3}}
    sampler: {{max_completion_length: 5, temperature: 1.0, num_generations: 2}}
    metrics: [reward]
    every: 2
"""
ROWS = rows(*({"prompt": f"p{i}", "completion": f"c{i}", "answer": str(i)} for i in range(10)))
CLOCK = ("seconds/", "rate/")
UPDATE = LocalEngine.update
# children are forked: what they need is imported once, here
NEEDED = (run_stage, recipec.report.page, tensorboard.summary.Writer, transformers.LlamaForCausalLM)


def furnish(folder: Path) -> Path:
    """Write the recipe and its data."""
    (folder / "r.yaml").write_text(RECIPE)
    (folder / "a.jsonl").write_text(ROWS)
    return folder


@pytest.fixture
def home(tmp_path):
    """Return a folder with the recipe and its data."""
    return furnish(tmp_path)


class Events:
    """Counts what is worth being killed at: each update of the weights, each promise of the disk, each rename."""

    def __init__(self, strike: int, number: int) -> None:
        """Send the signal ``number`` to this process before event ``strike``; 0: never.

        Less than 0, it is an error of the disk, and every promise and rename from then on fails with it.
        """
        self.strike = strike
        self.number = number
        self.count = 0
        for owner, name in ((LocalEngine, "update"), (os, "fsync"), (Path, "rename"), (Path, "replace")):
            setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, function: Callable) -> Callable:
        """Count the calls of a function."""

        def call(*args, **kwargs):
            self.count += 1
            if 0 < self.strike <= self.count and self.number < 0 and function is not UPDATE:
                raise OSError(-self.number, os.strerror(-self.number))
            if self.count == self.strike and self.number > 0:
                os.kill(os.getpid(), self.number)
            return function(*args, **kwargs)

        return call


def run(out: Path, strike: int = 0, number: int = signal.SIGKILL, *more: str) -> int:
    """Run the recipe in a child; return its exit code, or less than 0 where a signal ended it."""
    child = os.fork()
    if child == 0:
        lead(out, strike, number, *more)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def lead(out: Path, strike: int = 0, number: int = signal.SIGKILL, *more: str) -> NoReturn:
    """Run the recipe in this process, and end it."""
    code = 3
    try:
        os.chdir(out.parent)
        torch.cuda.is_available = lambda: False  # a fork cannot use a GPU that its parent may have used
        sys.argv = ["recipec", "run", "r.yaml", "--out", str(out), "--quiet", *more]
        err = os.open(out.parent / f"{out.name}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(err, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w") for fd in (1, 2))
        events = Events(strike, number)
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        (out.parent / "events").write_text(str(events.count))
        sys.stderr.flush()
    finally:
        os._exit(code)


def said(out: Path) -> str:
    """Return what the last run wrote for people."""
    return (out.parent / f"{out.name}.err").read_text()


def left(out: Path) -> dict[str, object]:
    """Return all that a run left behind in its stages, less what depends on the clock; checkpoints by their tensors."""
    found: dict[str, object] = {}
    for path in sorted(p for p in (out / "stages").rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if not k.startswith(CLOCK)} for line in lines]
        elif "checkpoints" not in path.parts or path.suffix == ".safetensors":
            found[name] = artifacts.hash_file(path)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what an uninterrupted run leaves, and the number of its events."""
    home = furnish(tmp_path_factory.mktemp("whole"))
    assert run(home / "whole") == 0, said(home / "whole")
    return left(home / "whole"), int((home / "events").read_text())


def test_a_run_that_is_killed_again_and_again(home, whole):
    """Kills in updates, amid checkpoints and samples, between artifacts and stages change no bit of the end."""
    expected, events = whole
    out = home / "killed"
    kills = 0  # a quarter of the events: more than a run has before its first step
    while (code := run(out, events // 4)) == -signal.SIGKILL:
        kills += 1
    assert code == 0, said(out)
    assert kills > 2
    assert left(out) == expected


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_kill_at_every_single_event(home, whole, part):
    """Whatever a run was doing when it was killed, it ends as if it had not been."""
    expected, events = whole
    for strike in range(1 + part, events + 1, 4):
        out = home / f"killed-{strike}"
        assert run(out, strike) == -signal.SIGKILL
        assert run(out) == 0, said(out)
        assert left(out) == expected, strike


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.8])
def test_a_run_that_is_stopped(home, whole, share):
    """SIGTERM at any moment ends with exit 75 after a commit; running again ends as if nothing had happened."""
    expected, events = whole
    out = home / "stopped"
    assert run(out, max(1, int(share * events)), signal.SIGTERM) == 75
    assert (out / "stages").exists()
    assert run(out) == 0, said(out)
    metrics = [name for name in expected if name.endswith(".jsonl")]
    assert {name: left(out)[name] for name in metrics} == {name: expected[name] for name in metrics}
    assert left(out)["stages/prefer/policy/model.safetensors"] == expected["stages/prefer/policy/model.safetensors"]


@pytest.mark.parametrize(("share", "number"), [(0.1, errno.ENOSPC), (0.5, errno.EROFS), (0.95, errno.EIO)])
def test_a_disk_that_fails(home, whole, share, number):
    """A run that cannot write says so with RC761, and continues to the same bits once it can."""
    expected, events = whole
    out = home / "failed"
    assert run(out, int(share * events), -number) in {1, 4}
    assert "error[RC761]" in said(out)
    assert run(out) == 0, said(out)
    assert left(out) == expected


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_flipped_bit_in_a_checkpoint(home, whole, damaged):
    """The newest checkpoint is refused for one bit and named; an older one is taken, or the stage begins again."""
    expected, events = whole
    out = home / "killed"
    assert run(out, events // 2) == -signal.SIGKILL
    checkpoints = [p for stage in ("explore", "prefer") for p in artifacts.RunFolder(out).checkpoints(stage)]
    assert len(checkpoints) >= 2
    for folder in checkpoints[:damaged]:
        weights = folder / "state.safetensors"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    assert run(out) == 0
    assert said(out).count("warning[RC765]") == damaged
    assert f"checkpoints/{checkpoints[0].name}" in said(out)
    assert {k: v for k, v in left(out).items() if "@" not in k} == expected


def test_a_changed_last_stage(home, whole):
    """With --replace only the stage that changed runs again, and its former policy is whole beside the new one."""
    expected, _ = whole
    out = home / "changed"
    assert run(out) == 0
    recipe = home / "r.yaml"
    recipe.write_text(RECIPE.replace("epochs: 2", "epochs: 1"))
    assert run(out) == 1
    assert "error[RC760]" in said(out)
    assert "stages.prefer.budget.epochs" in said(out)
    assert left(out) == expected
    assert run(out, 0, signal.SIGKILL, "--replace") == 0
    (aside,) = (out / "stages/prefer").glob("policy@*")
    assert artifacts.verify_folder(aside)
    kept = [name for name in expected if not name.startswith("stages/prefer")]
    assert {name: left(out)[name] for name in kept} == {name: expected[name] for name in kept}
    assert left(out)["stages/prefer/policy/model.safetensors"] != artifacts.hash_file(aside / "model.safetensors")
