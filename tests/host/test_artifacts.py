"""Folders that exist whole or not at all."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import (
    MANIFEST,
    RunFolder,
    committed,
    hash_tree,
    read_manifest,
    verify_folder,
    write_atomic,
)


def commit(path: Path, text: str = "weights", digest: str = "d1") -> None:
    """Commit a folder with one file."""
    with committed(path, {"digest": digest}) as folder:
        (folder / "a.txt").write_text(text)


def test_a_committed_folder_verifies(tmp_path: Path) -> None:
    """Its manifest names every file with size and hash."""
    commit(tmp_path / "policy")
    manifest = verify_folder(tmp_path / "policy")

    assert manifest is not None
    assert manifest["digest"] == "d1"
    assert list(manifest["files"]) == ["a.txt"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """An exception while the folder is filled leaves neither the folder nor a temporary one."""
    with pytest.raises(KeyError), committed(tmp_path / "policy", {}):
        raise KeyError

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_harm_is_seen(tmp_path: Path, harm: str) -> None:
    """A flipped bit, a cut file and a missing file each void the folder."""
    commit(tmp_path / "policy")
    victim = tmp_path / "policy" / "a.txt"
    data = victim.read_bytes()
    if harm == "flip":
        victim.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif harm == "cut":
        victim.write_bytes(data[:-1])
    else:
        victim.unlink()

    assert verify_folder(tmp_path / "policy") is None


def test_what_is_replaced_is_kept_aside(tmp_path: Path) -> None:
    """A folder of the same name moves to NAME@DIGEST, each time to another name."""
    for text in ("one", "two", "three"):
        commit(tmp_path / "policy", text)

    assert (tmp_path / "policy" / "a.txt").read_text() == "three"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy", "policy@d1", "policy@d1.2"]


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    """Garbage in its place reads as no manifest."""
    (tmp_path / MANIFEST).write_text(json.dumps([1]))

    assert read_manifest(tmp_path) is None


def test_a_full_disk_is_a_diagnostic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC at any fsync ends in RC761, and what stood there before stays."""
    commit(tmp_path / "policy", "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecipeError) as refused:
        commit(tmp_path / "policy", "new")

    assert refused.value.diagnostics[0].code == "RC761"
    assert (tmp_path / "policy" / "a.txt").read_text() == "old"


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with RunFolder(path).locked():
        ready.set()
        done.wait(30)


def test_a_file_that_cannot_be_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fails, the file has its old content, and no temporary one stays next to it."""
    write_atomic(tmp_path / "a", "old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "a", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_one_process_has_a_run(tmp_path: Path) -> None:
    """A second one is refused and told whose it is; a dead one's lock is no obstacle."""
    spawn = multiprocessing.get_context("fork")
    ready, done = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(RecipeError) as refused, RunFolder(tmp_path).locked():
        pass
    holder.kill()
    holder.join()
    with RunFolder(tmp_path).locked():
        pass

    assert refused.value.diagnostics[0].code == "RC762"
    assert str(holder.pid) in refused.value.diagnostics[0].message


def test_a_lock_that_a_dead_process_left_behind(tmp_path: Path) -> None:
    """What the holder forked keeps its lock; it is taken over once the holder is gone, and not before."""
    fork = "import os, sys, time; from pathlib import Path; from recipec.host.artifacts import RunFolder\n"
    fork += "with RunFolder(Path(sys.argv[1])).locked():\n    os.write(1, b'%d\\n' % os.fork())\n    time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", fork, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    left = max(int(holder.stdout.readline()), int(holder.stdout.readline()))
    try:
        with pytest.raises(RecipeError, match=f"process {holder.pid} on") as refused, RunFolder(tmp_path).locked():
            pass
        assert "only if its machine is lost" in (refused.value.diagnostics[0].help or "")
        holder.kill()
        holder.wait()
        with RunFolder(tmp_path).locked(), pytest.raises(RecipeError), RunFolder(tmp_path).locked(wait=0.6):
            pass
    finally:
        os.kill(left, signal.SIGKILL)
        holder.stdout.close()


def test_old_checkpoints_go(tmp_path: Path) -> None:
    """Only the latest ones stay, however many there were."""
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        commit(run.stage("explore") / "checkpoints" / f"step-{step:06d}")
    run.prune("explore", 2)

    assert ["step-000003", "step-000002"] == [p.name for p in run.checkpoints("explore")]


def test_a_tree_has_one_hash(tmp_path: Path) -> None:
    """It changes with a name as with a byte."""
    (tmp_path / "a").write_text("x")
    first = hash_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert first != hash_tree(tmp_path)


def test_what_another_digest_left_is_set_aside(tmp_path: Path) -> None:
    """Checkpoints, samples and metrics of a changed stage are kept under their digest; its own are found again."""
    run = RunFolder(tmp_path)
    run.begin("explore", "first")
    commit(run.stage("explore") / "checkpoints" / "step-000009", digest="first")
    (run.stage("explore") / "samples").mkdir()
    (run.stage("explore") / "samples" / "step-000009.jsonl").write_text("{}")
    run.begin("explore", "first")
    assert len(run.checkpoints("explore")) == 1

    run.begin("explore", "second")

    assert run.checkpoints("explore") == []
    assert not (run.stage("explore") / "samples").exists()
    assert (run.stage("explore") / "samples@first" / "step-000009.jsonl").exists()


def test_a_stage_begins_again_when_told(tmp_path: Path) -> None:
    """Its own checkpoints are set aside, not deleted, and not found any more."""
    run = RunFolder(tmp_path)
    run.begin("explore", "one")
    commit(run.stage("explore") / "checkpoints" / "step-000009", digest="one")

    run.begin("explore", "one", again=True)

    assert run.checkpoints("explore") == []
    assert (run.stage("explore") / "checkpoints@one" / "step-000009").exists()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    """A run directory below a file is refused with the name of that file."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(RecipeError) as refused, RunFolder(tmp_path / "runs/one").locked():
        pass
    (found,) = refused.value.diagnostics
    assert (found.code, found.message.endswith(f"{tmp_path / 'runs'} is a file")) == ("RC761", True)
    assert "rename that file" in found.help
