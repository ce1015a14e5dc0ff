"""Runs over two processes with DeepSpeed: the samples and weights of one process, in every ZeRO stage."""

from importlib.util import find_spec

import pytest
from support.ranks import FOUR_STAGES, PROBE, TASKS, difference, journal, ran, sampled

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
