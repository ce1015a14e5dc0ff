"""Runs over two processes: the samples and weights of one, and what happens when a process is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from support.ranks import (
    ODD_STAGES,
    PROBE,
    TASKS,
    TWO_STAGES,
    children,
    difference,
    journal,
    ran,
    ran_poisoned,
    sampled,
    started,
)

import recipec

DEVICES = "machine.devices=2"
SHARDED = ("machine.devices=2", "machine.train.type=fsdp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recipe, and its run in one process."""
    path = tmp_path_factory.mktemp("ranks")
    (path / "r.yaml").write_text(TWO_STAGES)
    (path / "a.jsonl").write_text(TASKS)
    ran(path, "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        recipec.run(path / "r.yaml", [DEVICES], out=path / "copies")
    ran(path, "shards", *SHARDED)
    return path


@pytest.mark.parametrize("run", ["copies", "shards"])
def test_two_processes_are_one(folder, run):
    """Samples are identical; losses, gradient norms and weights are equal up to rounding; the files are the same."""
    one, two = folder / "one", folder / run
    assert sampled(two) == sampled(one)
    for stage in ("learn", "explore"):
        assert difference(one, two, stage) < 5e-6
        for mine, its in zip(journal(one, stage), journal(two, stage), strict=True):
            assert mine.keys() == its.keys() - {PROBE}
            for name in ("loss", "grad_norm", "entropy", "kl", "reward"):
                assert its.get(name, 0.0) == pytest.approx(mine.get(name, 0.0), rel=1e-4, abs=1e-6)
    made = {path.name for path in (one / "stages" / "explore" / "policy").iterdir()}
    assert {path.name for path in (two / "stages" / "explore" / "policy").iterdir()} == made


def test_two_processes_give_the_bits_of_one(folder):
    """With `exactness: exact`, whole copies of the policy are trained to the same bits; a recipe may come by a pipe."""
    text = (folder / "r.yaml").read_text()
    process = started(folder, "exact", DEVICES, "machine.exactness=exact", text=text)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    exact = folder / "exact"
    assert sampled(exact) == sampled(folder / "one")
    assert difference(folder / "one", exact, "learn") == difference(folder / "one", exact, "explore") == 0.0


def test_a_callback_is_refused_where_the_steps_are_in_other_processes(folder):
    """`recipec.run` starts processes as the command does (`copies` was made so); `on_step` is not in them (RC980)."""
    with pytest.raises(recipec.RecipeError, match="RC980"):
        recipec.run(folder / "r.yaml", [DEVICES], out=folder / "watched", on_step=lambda *_: None)
    assert not (folder / "watched").exists()


def test_a_lost_process_changes_nothing(folder):
    """A rank that is killed restarts all of them from the last checkpoint, to the same bits.

    Each process has written a share of the checkpoint, no tensor twice.
    """
    whole = folder / "shards"
    process = started(folder, "lost", *SHARDED)
    checkpoint = folder / "lost" / "stages" / "explore" / "checkpoints" / "step-000001"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    named = [set(load_file(checkpoint / f"state{part}.safetensors")) for part in ("", "-0001")]
    assert all(named)
    assert not named[0] & named[1]
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    assert sampled(folder / "lost") == sampled(whole)
    assert difference(whole, folder / "lost", "explore") == 0.0


def test_a_run_goes_on_under_another_layout(folder):
    """A stopped run of two processes with shards continues in one, and says so."""
    process = started(folder, "hop", *SHARDED)
    checkpoint = folder / "hop" / "stages" / "explore" / "checkpoints" / "step-000001"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=240)
    assert process.returncode in {0, 75}
    again = started(folder, "hop")
    err = again.communicate(timeout=240)[1]
    assert again.returncode == 0, err
    assert process.returncode == 0 or "RC788" in err
    assert sampled(folder / "hop") == sampled(folder / "one")
    assert difference(folder / "one", folder / "hop", "explore") < 5e-6


def test_a_refusal_ends_all_processes(folder):
    """What one rank is refused is reported once, and nobody waits for the others."""
    process = started(folder, "refused", DEVICES, "stages.learn.optimizer.learning_rate=1.0e+30")
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 4
    assert err.count("error[RC763]") == 1, err


def test_a_run_joins_the_processes_of_a_launcher(folder):
    """Under torchrun the ranks are torchrun's; another number than the recipe's is a warning (RC793)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recipec"]
    variables = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "run", "r.yaml", "--out", "joined", "-q"],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning[RC793]") == 1, done.stderr
    assert difference(folder / "copies", folder / "joined", "explore") == 0.0


@pytest.mark.slow
def test_odd_updates_are_those_of_one_process(tmp_path):
    """All ranks skip what one finds to be not a number; ranks without rows take part; bfloat16 keeps float32 copies."""
    (tmp_path / "r.yaml").write_text(ODD_STAGES)
    (tmp_path / "a.jsonl").write_text(TASKS)
    one = ran_poisoned(tmp_path, "one", 1)
    for name, machine in {"copies": (DEVICES,), "shards": SHARDED}.items():
        two = ran_poisoned(tmp_path, name, 2, *machine)
        assert [step["skipped_updates"] for step in journal(two, "poisoned")] == [0.0, 1.0, 0.0]
        assert difference(one, two, "poisoned") < 1e-5
        assert difference(one, two, "single") < 1e-5
        assert difference(one, two, "narrow") < 1e-2
