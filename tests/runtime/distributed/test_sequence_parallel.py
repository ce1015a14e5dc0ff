"""Sequence parallelism: two processes share the tokens of each forward pass, with the numbers of one."""

import pytest
from support.ranks import FOUR_STAGES, TASKS, TWO_STAGES, difference, journal, ran, ran_forked, sampled

SPREAD = ("machine.train.type=fsdp", "machine.train.sequence_parallel=2")
EXACT = ("loss", "grad_norm", "entropy", "kl")


def attention(text, kind):
    """Settings that let every stage of a recipe attend so."""
    names = [line.strip(" :") for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    return tuple(f"stages.{name}.attention.type={kind}" for name in names)


def same(folder, one, two, *stages):
    """Compare rows, losses, gradient norms and weights of two runs."""
    assert sampled(folder / two) == sampled(folder / one)
    for stage in stages:
        assert difference(folder / one, folder / two, stage) < 1e-6
        for mine, its in zip(journal(folder / one, stage), journal(folder / two, stage), strict=True):
            for name in EXACT:
                assert its.get(name, 0.0) == pytest.approx(mine.get(name, 0.0), rel=1e-6, abs=1e-7), (stage, name)


def test_two_processes_share_the_tokens_of_a_pass(tmp_path):
    """Losses, gradient norms and weights of supervised and RL stages are those of one process, to 1e-6."""
    (tmp_path / "r.yaml").write_text(TWO_STAGES)
    (tmp_path / "a.jsonl").write_text(TASKS)
    packed = attention(TWO_STAGES, "packed")
    ran_forked(tmp_path, "one", *packed)
    ran_forked(tmp_path, "two", *packed, "machine.devices=2", *SPREAD)
    same(tmp_path, "one", "two", "learn", "explore")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packed", "dense", "auto"])
def test_two_teams_of_two(tmp_path, kind):
    """Also with padded rows, checkpointing, adapters, a frozen part, and fewer key-value heads than processes."""
    (tmp_path / "r.yaml").write_text(FOUR_STAGES)
    (tmp_path / "a.jsonl").write_text(TASKS)
    shape = ("stages.learn.policy.scratch.heads=4", "stages.learn.policy.scratch.kv_heads=1")
    asked = (*attention(FOUR_STAGES, kind), *shape)
    ran(tmp_path, "one", *asked)
    ran(tmp_path, "four", *asked, "machine.devices=4", *SPREAD, "machine.train.gradient_checkpointing=true")
    same(tmp_path, "one", "four", "learn", "explore", "adapt", "part")
