"""Trackers get every step of a stage once, whatever happens to the run, and a recipe that cannot use one is refused."""

import importlib.util
import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_recipes import ROWS, SFT

from recipec.host.jsonl import read_lines
from recipec.run.executor import quiet_threads
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.logging.tensorboard_tracker import TensorBoardTracker
from recipec.runtime.logging.tracker import LenientTracker, TrackedStage, Tracker
from recipec.spec.tracker import Trackio

STEPS = list(range(1, 9))
LONG = SFT.replace("steps: 2", "steps: 8, save_every: 3")
TRACKERS = {
    "wandb": "{type: wandb, mode: offline, project: mine}",
    "mlflow": '{type: mlflow, uri: "sqlite:///flow.db"}',
    "trackio": "{type: trackio, project: mine}",
}
KILLED_AT_5 = """\
import os, signal, sys, time
from recipec import cli
from recipec.runtime.logging.metrics_writer import MetricsWriter
write = MetricsWriter.write
def write_and_die(self, step, metrics):
    write(self, step, metrics)
    if step == 5:
        time.sleep(1.5)  # trackers send in threads
        os.kill(os.getpid(), signal.SIGKILL)
MetricsWriter.write = write_and_die
sys.argv = ["recipec", "run", "r.yaml", "--quiet"]
cli.main()
"""


class Shelf(Tracker):
    """Keeps what it is told in a list that outlives it."""

    def __init__(self, kept: list[int], *, fails_at: int = -1) -> None:
        """Continue from what was kept; raise at a step."""
        super().__init__(Trackio(), TrackedStage("r", "learn", Path("runs/r"), "0"))
        self.kept, self.fails_at = kept, fails_at

    def begin(self) -> int:
        """Return the last step."""
        return self.kept[-1] if self.kept else -1

    def write(self, step, metrics) -> None:
        """Keep a step."""
        if step == self.fails_at:
            raise ConnectionError("gone")
        assert metrics == {"loss": float(step)}
        self.kept.append(step)

    def close(self) -> None:
        """Keep everything."""


def write(folder: Path, steps, *trackers: Tracker) -> None:
    """Write steps to the journal of a folder as a run does that is ended after them."""
    writer = MetricsWriter(folder, "learn", trackers)
    for step in steps:
        writer.write(step, {"loss": float(step), "kl": float("nan")})
    writer.complete()
    writer.close()


def test_a_tracker_gets_each_step_once(tmp_path):
    """One that has more than the journal is not told again; one that has less gets the rest from the journal."""
    ahead, behind = [], []
    write(tmp_path, (0, 1, 2), Shelf(ahead))
    write(tmp_path, (3, 4), Shelf(ahead))
    MetricsWriter(tmp_path, "learn").cut(0)
    write(tmp_path, range(4), Shelf(ahead), Shelf(behind))
    assert ahead == [0, 1, 2, 3, 4]
    assert behind == [0, 1, 2, 3]
    write(tmp_path, (), Shelf(behind), late := Shelf([]))
    assert late.kept == behind


def test_trackers_are_closed_before_a_stage_is_saved(tmp_path):
    """A run that is killed once its policy is saved has sent everything: the stage is not run again."""
    closed = []

    class Closing(Shelf):
        def close(self) -> None:
            closed.append(list(self.kept))

    writer = MetricsWriter(tmp_path, "learn", [Closing([])])
    writer.write(1, {"loss": 1.0})
    writer.complete()
    assert closed == [[1]]
    writer.close()
    assert closed == [[1]]


def test_events_that_cannot_be_written_are_an_error(tmp_path):
    """What the thread of TensorBoard's writer could not write is raised when the tracker is closed."""
    tracker = TensorBoardTracker(TrackedStage("r", "learn", tmp_path, "0"))
    tracker.begin()
    shutil.rmtree(tmp_path / "tensorboard")
    (tmp_path / "tensorboard").write_text("in the way")

    def send() -> None:
        tracker.write(1, {"loss": 1.0})
        tracker.close()

    with quiet_threads(), pytest.raises(NotADirectoryError):
        send()


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path):
    """It is reported once, with its name, gets nothing more, and has all steps after the next run."""
    told, kept = [], []
    write(tmp_path, range(6), LenientTracker("team", Shelf(kept, fails_at=3), told.append))
    assert kept == [0, 1, 2]
    assert [(one.code, one.path) for one in told] == [("RC973", "trackers.team")]
    assert "ConnectionError: gone" in told[0].message
    write(tmp_path, (6,), LenientTracker("team", Shelf(kept), told.append))
    assert (kept, len(told)) == ([0, 1, 2, 3, 4, 5, 6], 1)


def records(path: Path):
    """Yield the records of a file of Weights & Biases: those of LevelDB's log, after a header of 7 bytes."""
    data, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        held += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in {1, 4}:
            yield held
            held = b""


def wandb_steps(folder: Path) -> list[int]:
    """Return the steps in the files that `wandb sync` would send."""
    from wandb.proto import wandb_internal_pb2 as protocol

    found = []
    for path in sorted((folder / "runs/small/wandb").glob("offline-run-*/*.wandb")):
        for data in records(path):
            record = protocol.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                names = {item.key or ".".join(item.nested_key) for item in record.history.item}
                assert {"loss", "grad_norm"} <= names
                found.append(record.history.step.num)
    return found


def mlflow_steps(folder: Path) -> list[int]:
    """Return the steps of the metric `loss` in the store."""
    with sqlite3.connect(folder / "flow.db") as store:
        assert store.execute("select count(*), max(status) from runs").fetchone() == (1, "FINISHED")
        assert ("stages.learn.optimizer.learning_rate", "0.001") in store.execute("select key, value from params")
        return [step for (step,) in store.execute("select step from metrics where key = 'loss' order by step")]


def trackio_steps(folder: Path) -> list[int]:
    """Return the steps in the store."""
    with sqlite3.connect(folder / "trackio/mine.db") as store:
        rows = store.execute("select step, metrics from metrics order by step, id").fetchall()
    assert all("loss" in json.loads(metrics) for _, metrics in rows)
    return [step for step, _ in rows]


STEPS_OF = {"wandb": wandb_steps, "mlflow": mlflow_steps, "trackio": trackio_steps}


@pytest.mark.parametrize("name", ["wandb", "trackio", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_a_killed_run_is_tracked_as_one(tmp_path, name):
    """After a kill at step 5, a run that continues from step 3 has the steps 1 to 8 in the tracker, each once."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install {name}")
    (tmp_path / "r.yaml").write_text(f"{LONG}trackers: {{team: {TRACKERS[name]}}}\n")
    (tmp_path / "a.jsonl").write_text(ROWS)
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for script, code in ((KILLED_AT_5, -signal.SIGKILL), ("from recipec.cli import main; main()", 0)):
        command = [sys.executable, "-c", script, "run", "r.yaml", "--quiet"]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
        assert ended.returncode == code, ended.stderr
        assert ended.stdout == ""
        if code:
            journal = read_lines(tmp_path / "runs/small/stages/learn/metrics.jsonl")
            assert [line["step"] for line in journal] == [1, 2, 3, 4, 5]
    assert "RC973" not in ended.stderr
    assert STEPS_OF[name](tmp_path) == STEPS


def test_a_missing_package_is_found_first(folder, monkeypatch):
    """Every tracker names the extra that installs it, at its own place, before a step; `validate` needs none."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in TRACKERS else find(name))
    named = "".join(f"  {name}_one: {text}\n" for name, text in TRACKERS.items())
    folder.write(r__yaml=f"{SFT}trackers:\n{named}", a__jsonl=ROWS)
    assert folder.call("validate", "r.yaml").code == 0
    for command in ("check", "run"):
        ended = folder.call(command, "r.yaml")
        assert ended.code == 1
        assert ended.err.count("error[RC716]") == 3
        for name in TRACKERS:
            assert f'pip install "recipec[{name}]"' in ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_a_recipe_has_no_password(folder):
    """A user name in the address of a server is refused, a password too, and so is a key that no tracker has."""
    for wrong, codes in (
        ('uri: "http://me@host"', ["RC132"]),
        ('uri: "http://me:secret@host"', ["RC651", "RC132"]),
        ("api_key: secret", ["RC130", "RC651"]),
    ):
        ended = folder.run(f"{SFT}trackers: {{team: {{type: mlflow, {wrong}}}}}\n", a__jsonl=ROWS)
        assert ended.code == 1
        assert re.findall(r"error\[(RC\d+)\]", ended.err) == codes, ended.err
        assert "me:secret" not in ended.err


def test_a_server_that_does_not_answer_is_found_first(tmp_path):
    """RC972 names the address; a local store is not asked."""
    from recipec.host.preflight import PreflightRequest
    from recipec.runtime.logging.mlflow_tracker import check
    from recipec.spec.tracker import Mlflow

    found = list(check(Mlflow(uri="http://127.0.0.1:9"), PreflightRequest(tmp_path)))
    assert [one.code for one in found] == ["RC972"]
    assert "http://127.0.0.1:9/health" in found[0].message
    assert list(check(Mlflow(uri="sqlite:///a.db"), PreflightRequest(tmp_path))) == []
    assert list(check(Mlflow(), PreflightRequest(tmp_path))) == []


def test_no_login_is_found_first(tmp_path, monkeypatch):
    """RC971 where Weights & Biases has no key, unless metrics are written to files."""
    pytest.importorskip("wandb")
    from recipec.host.preflight import PreflightRequest
    from recipec.runtime.logging.wandb_tracker import check
    from recipec.spec.tracker import Wandb

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert [one.code for one in check(Wandb(), PreflightRequest(tmp_path))] == ["RC971"]
    assert list(check(Wandb(mode="offline"), PreflightRequest(tmp_path))) == []


def test_credentials_go_to_their_own_server_alone(tmp_path, monkeypatch):
    """RC982 where a recipe's address is not that of the environment's credentials; without any, the server is asked."""
    from recipec.host.preflight import PreflightRequest
    from recipec.runtime.logging.mlflow_tracker import check
    from recipec.spec.tracker import Mlflow

    def codes() -> list[str]:
        return [one.code for one in check(Mlflow(uri="http://127.0.0.1:9/"), PreflightRequest(tmp_path))]

    for name in ("TOKEN", "USERNAME", "PASSWORD", "URI"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    assert codes() == ["RC972"]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sesame")
    assert codes() == ["RC982"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert codes() == ["RC972"]


def test_a_failure_points_at_the_tracker(folder):
    """RC973 of a run has the place of the tracker in the recipe; the run ends well."""
    wrong = f'{SFT}trackers:\n  team: {{type: mlflow, uri: "nothing://x"}}\n'
    pytest.importorskip("mlflow")
    ended = folder.run(wrong, a__jsonl=ROWS)
    assert ended.code == 0
    assert f"--> r.yaml:{wrong[: wrong.index('team:')].count(chr(10)) + 1}:" in ended.err.partition("RC973]: ")[2]
