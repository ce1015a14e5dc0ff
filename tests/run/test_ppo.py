"""PPO: a critic learns next to the policy, first alone, from weights of several kinds, and is continued to the bit."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.ranks import TASKS, difference, journal, ran_forked, sampled
from support.small_recipes import MODEL, Folder, rows

from recipec.runtime.objective.critic import ValueModel

PAIRS = rows(*({"prompt": f"p{i}", "chosen": "yes", "rejected": f"no {i}"} for i in range(8)))
PPO = f"""\
recipec: 1
name: small
machine: {{device: cpu, timeout: 60}}
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 2, max_completion_length: 6}}
    reward: {{early: {{type: regex_format, pattern: "[ -7].*"}}}}
    critic: {{warmup_steps: 1, cliprange_value: 0.2, optimizer: {{learning_rate: 2.0e-2, schedule: linear}}}}
    advantage: {{credit: {{type: gae, beta: 0.05}}, whiten: tokens}}
    loss: {{type: clipped}}
    attention: {{type: packed}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 4, prompts_per_step: 4, updates_per_step: 2, microbatch_tokens: 48, save_every: 1}}
"""
JUDGED = (
    PPO.replace(
        "  explore:\n",
        f"""\
  talk:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 1, rows_per_step: 4}}
  judge:
    kind: rm
    from: talk
    data: {{path: b.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 1, pairs_per_step: 4}}
  explore:
""",
        1,
    )
    .replace("    kind: rl\n" + MODEL, "    kind: rl\n    from: talk\n    policy: {lora: {r: 2}}\n")
    .replace("warmup_steps: 1, cliprange_value: 0.2", "warmup_steps: 0, from: judge, dtype: bfloat16")
    .replace("steps: 4, prompts", "steps: 2, prompts")
)


def test_the_critic_learns_alone_and_then_beside_the_policy(folder: Any) -> None:
    """In warm-up steps only the critic moves, and its values explain more and more; later both move."""
    assert isinstance(folder, Folder)
    text = PPO.replace("steps: 4, prompts", "steps: 24, prompts").replace("warmup_steps: 1", "warmup_steps: 12")
    # the loss is mostly the variance of the rewards; 64 rows a step leave less noise in what is explained of it
    text = text.replace("num_generations: 2", "num_generations: 16").replace("tokens: 48", "tokens: 512")
    ended = folder.run(text, a__jsonl=TASKS)
    assert ended.code == 0, ended.err
    found = journal(folder.path / "runs/small", "explore")
    assert all("loss" not in line and line["critic/grad_norm"] > 0 for line in found[:12])
    assert all("loss" in line and line["critic/grad_norm"] > 0 for line in found[12:])
    first, alone, last = (
        sum(line["critic/explained_variance"] for line in found[steps]) / 4
        for steps in (slice(4), slice(8, 12), slice(20, 24))
    )
    assert first < 0 < alone < last
    rates = [line["critic/learning_rate"] for line in found]
    assert rates == sorted(rates, reverse=True)
    assert {"critic/kl", "critic/value", "critic/target", "critic/clip_ratio"} <= found[0].keys()


def test_a_stopped_run_goes_on_to_the_bit(folder: Any, monkeypatch: Any) -> None:
    """Weights and moments of the critic are in checkpoints: the end is that of a run that was not stopped."""
    assert isinstance(folder, Folder)
    assert folder.run(PPO, "--out", "whole", a__jsonl=TASKS).code == 0
    update, count = ValueModel.update, [0]

    def struck(*args: Any, **named: Any) -> dict[str, float]:
        count[0] += 1
        if count[0] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*args, **named)

    monkeypatch.setattr(ValueModel, "update", struck)
    assert folder.call("run", "r.yaml", "--out", "part").code == 75
    monkeypatch.setattr(ValueModel, "update", update)
    assert folder.call("run", "r.yaml", "--out", "part").code == 0
    one, two = folder.path / "whole", folder.path / "part"
    assert journal(one, "explore") == journal(two, "explore")
    assert difference(one, two, "explore") == 0.0
    last = "stages/explore/checkpoints/step-000004/state.safetensors"
    mine, its = load_file(one / last), load_file(two / last)
    assert mine.keys() == its.keys()
    assert any("critic" in name for name in mine)
    assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_a_critic_starts_from_a_reward_model(folder: Any) -> None:
    """The head is that of the reward model; next to an adapter, and in bfloat16, a critic trains all of its weights."""
    assert isinstance(folder, Folder)
    ended = folder.run(JUDGED, a__jsonl=TASKS, b__jsonl=PAIRS)
    assert ended.code == 0, ended.err
    state = folder.path / "runs/small/stages/explore/checkpoints/step-000002/state.safetensors"
    tensors = {name: tensor for name, tensor in load_file(state).items() if "explore/critic/model" in name}
    judge = load_file(folder.path / "runs/small/stages/judge/policy/model.safetensors")
    moved = {name: tensor for name, tensor in tensors.items() if name.endswith("score.weight")}
    assert len(moved) == 1
    head = next(iter(moved.values())).float()
    assert 0 < float((head - judge["score.weight"]).abs().max()) < 0.1
    assert len(tensors) == len(judge)
    first = journal(folder.path / "runs/small", "explore")[0]
    assert "critic/clip_ratio" not in first


@pytest.mark.parametrize("train", ["local", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_are_one(tmp_path: Path, train: str) -> None:
    """Over two ranks, values, losses and weights are those of one process up to rounding."""
    (tmp_path / "r.yaml").write_text(PPO)
    (tmp_path / "a.jsonl").write_text(TASKS)
    one = ran_forked(tmp_path, "one")
    two = ran_forked(tmp_path, "two", "machine.devices=2", f"machine.train.type={train}")
    assert sampled(two) == sampled(one)
    assert difference(one, two, "explore") < 2e-5
    for mine, its in zip(journal(one, "explore"), journal(two, "explore"), strict=True):
        for name in mine:
            if name.startswith("critic/") or name in {"loss", "grad_norm"}:
                assert its[name] == pytest.approx(mine[name], rel=1e-3, abs=1e-5), name
