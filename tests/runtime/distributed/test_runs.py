"""Runs over two processes: the samples and weights of one, and what happens when a process is lost."""

import os
import shutil
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
    outcome_here,
    ran_here,
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
    ran_here(path, "one")
    ran_here(path, "shards", *SHARDED)
    return path


@pytest.fixture(scope="module")
def joined(folder):
    """What torchrun says, whose two ranks the run `exact` joins."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recipec"]
    variables = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "run", "r.yaml", "--out", "exact", "-q", "--set", "machine.exactness=exact"],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("run", [pytest.param("copies", marks=pytest.mark.slow), "shards"])
def test_two_processes_are_one(folder, run):
    """Samples are identical; losses, gradient norms and weights are equal up to rounding; the files are the same."""
    one, two = folder / "one", folder / run
    if run == "copies":
        ran_here(folder, run, DEVICES)
    assert sampled(two) == sampled(one)
    for stage in ("learn", "explore"):
        assert difference(one, two, stage) < 5e-6
        for mine, its in zip(journal(one, stage), journal(two, stage), strict=True):
            assert mine.keys() == its.keys() - {PROBE}
            for name in ("loss", "grad_norm", "entropy", "kl", "reward"):
                assert its.get(name, 0.0) == pytest.approx(mine.get(name, 0.0), rel=1e-4, abs=1e-6)
    made = {path.name for path in (one / "stages" / "explore" / "policy").iterdir()}
    assert {path.name for path in (two / "stages" / "explore" / "policy").iterdir()} == made


def test_two_processes_give_the_bits_of_one(folder, joined):
    """With `exactness: exact`, whole copies of the policy are trained to the same bits.

    The ranks are torchrun's; that they are others than the recipe's is a warning (RC793).
    """
    assert joined.count("warning[RC793]") == 1, joined
    exact = folder / "exact"
    assert sampled(exact) == sampled(folder / "one")
    assert difference(folder / "one", exact, "learn") == difference(folder / "one", exact, "explore") == 0.0


def test_a_callback_is_refused_where_the_steps_are_in_other_processes(folder):
    """`recipec.run` starts processes as the command does (`shards` was made so); `on_step` is not in them (RC980)."""
    with pytest.raises(recipec.RecipeError, match="RC980"):
        recipec.run(folder / "r.yaml", [DEVICES], out=folder / "watched", on_step=lambda *_: None)
    assert not (folder / "watched").exists()


def test_a_lost_process_changes_nothing(folder):
    """A rank that is killed restarts all of them from the last checkpoint, to the same bits.

    Each process has written a share of the checkpoint, no tensor twice.  The recipe comes by a pipe.
    """
    whole = folder / "shards"
    process = started(folder, "lost", *SHARDED, text=(folder / "r.yaml").read_text())
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


def test_a_checkpoint_of_shards_continues_in_one_process(folder):
    """What two processes with shards have written is read by one, which says that the layout is another (RC788)."""
    shutil.copytree(folder / "shards", folder / "moved", symlinks=True)
    stage = folder / "moved" / "stages" / "explore"
    for made in ("policy", "checkpoints/step-000004"):
        shutil.rmtree(stage / made)
    ended = outcome_here(folder, "moved")
    assert "RC788" in {warning.code for warning in ended.diagnostics}, ended
    assert sampled(folder / "moved") == sampled(folder / "one")
    assert 0.0 < difference(folder / "one", folder / "moved", "explore") < 5e-6


@pytest.mark.slow
def test_a_run_goes_on_under_another_layout(folder):
    """A run of two processes with shards that is stopped continues in one, and says so."""
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
    with pytest.raises(recipec.RecipeError) as caught:
        ran_here(folder, "refused", DEVICES, "stages.learn.optimizer.learning_rate=1.0e+30")
    assert [one.code for one in caught.value.diagnostics] == ["RC763"]


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
