"""Runs over two processes with DeepSpeed: the samples and weights of one process, in every ZeRO stage."""

import os
import signal
import time
from importlib.util import find_spec

import pytest
from support.ranks import (
    FOUR_STAGES,
    ODD_STAGES,
    PROBE,
    TASKS,
    children,
    difference,
    journal,
    ran,
    ran_poisoned,
    sampled,
    started,
)

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed"),
]


def spread(zero: int, *more: str) -> tuple[str, ...]:
    """Settings of a run over two processes in a ZeRO stage."""
    return ("machine.devices=2", "machine.train.type=deepspeed", f"machine.train.zero={zero}", *more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recipe, and its run in one process."""
    path = tmp_path_factory.mktemp("zero")
    (path / "r.yaml").write_text(FOUR_STAGES)
    (path / "a.jsonl").write_text(TASKS)
    ran(path, "one")
    return path


@pytest.mark.parametrize(
    "machine",
    [
        spread(1),
        spread(2),
        spread(3),
        spread(3, "machine.train.offload=true", "machine.train.gradient_checkpointing=true"),
    ],
    ids=["zero1", "zero2", "zero3", "offload"],
)
def test_two_processes_are_one(folder, machine, request):
    """Samples are identical; losses, gradient norms and weights are equal up to rounding; the files are the same."""
    one, two = folder / "one", ran(folder, request.node.callspec.id, *machine)
    for stage in ("learn", "explore", "adapt", "part"):
        assert difference(one, two, stage) < 1e-5
        assert sampled(two, stage) == sampled(one, stage)
        for mine, its in zip(journal(one, stage), journal(two, stage), strict=True):
            assert mine.keys() == its.keys() - {PROBE}
            for name in ("loss", "grad_norm", "entropy", "kl", "reward", "learning_rate"):
                assert its.get(name, 0.0) == pytest.approx(mine.get(name, 0.0), rel=1e-4, abs=1e-6)
        made = {path.name for path in (one / "stages" / stage / "policy").iterdir()}
        assert {path.name for path in (two / "stages" / stage / "policy").iterdir()} == made


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder with the recipe of odd updates, and its run in one process."""
    path = tmp_path_factory.mktemp("odd")
    (path / "r.yaml").write_text(ODD_STAGES)
    (path / "a.jsonl").write_text(TASKS)
    ran_poisoned(path, "one", 1)
    return path


@pytest.mark.parametrize(
    "machine",
    [spread(1), spread(2, "machine.train.offload=true"), spread(3)],
    ids=["zero1", "zero2-offload", "zero3"],
)
def test_odd_updates_are_those_of_one_process(odd, machine, request):
    """All ranks skip what one finds to be not a number; ranks without rows take part; bfloat16 keeps float32 copies."""
    one, two = odd / "one", ran_poisoned(odd, request.node.callspec.id, 2, *machine)
    for run in (one, two):
        assert [step["skipped_updates"] for step in journal(run, "poisoned")] == [0.0, 1.0, 0.0]
    assert difference(one, two, "poisoned") < 1e-5
    assert difference(one, two, "single") < 1e-5
    assert difference(one, two, "narrow") < 1e-2
    for mine, its in zip(journal(one, "narrow"), journal(two, "narrow"), strict=True):
        assert its["loss"] == pytest.approx(mine["loss"], rel=1e-2)


def test_a_lost_process_changes_nothing(folder):
    """A rank that is killed restarts all from the last checkpoint, to the same bits, with weights in parts, too."""
    whole, process = ran(folder, "whole", *spread(3)), started(folder, "lost", *spread(3))
    checkpoint = folder / "lost" / "stages" / "explore" / "checkpoints" / "step-000001"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    err = process.communicate(timeout=400)[1]
    assert process.returncode == 0, err
    assert sampled(folder / "lost") == sampled(whole)
    assert difference(whole, folder / "lost", "part") == difference(whole, folder / "lost", "explore") == 0.0
