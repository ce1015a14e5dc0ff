"""Shipped recipes with vLLM as the rollout engine, on a CPU: `make test-engines`."""

import importlib.util
import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from support.running_stages import running
from support.small_recipes import RL

from recipec.runtime.stage.loop import run_loop

ROOT = Path(__file__).parents[2]
GAP = "sampling/sampling_logp_difference/max"
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-engines"),
    pytest.mark.filterwarnings("ignore"),  # libraries of vLLM warn of each other
]


def run(folder, recipe, *overrides):
    """Run a shipped recipe with vLLM; return the metrics of its stages, line by line."""
    asked = ("machine.rollout.type=vllm", "machine.rollout.cpu_cache=0.2", *overrides)
    options = [word for override in asked for word in ("--set", override)]
    ended = folder.call("run", str(ROOT / recipe), "--out", str(folder.path / "out"), *options)
    assert ended.code == 0, ended.err
    stages = sorted((folder.path / "out" / "stages").iterdir())
    return {
        stage.name: [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
        for stage in stages
    }


def test_three_stages_and_their_evaluations(folder):
    """SFT, GRPO and DPO: the answers of every evaluation and rollout are those of the policy at that moment."""
    found = run(
        folder,
        "recipes/tiny/quickstart.yaml",
        "stages.imitate.budget.steps=30",
        "stages.explore.budget.steps=4",
        "stages.explore.optimizer.warmup_updates=1",
        "evaluate.held_out.data.size=100",
    )
    rl = [line for line in found["explore"] if GAP in line]
    assert rl  # steps without a right answer have no update
    assert max(line[GAP] for line in rl) < 1e-5
    assert max(line["sampling/probe_logp_difference"] for line in rl) < 1e-5
    assert all("eval/held_out/accuracy" in lines[-1] for lines in found.values())
    assert found["imitate"][-1]["eval/held_out/accuracy"] > 0.0


def test_trees_of_episodes(folder):
    """Tree-GRPO in an environment: branches and later turns continue prefixes that the engine has cached."""
    found = run(
        folder,
        "recipes/tiny/tree_grpo.yaml",
        "stages.imitate.policy.scratch.hidden_size=128",  # vLLM has kernels for heads of 32
        "stages.imitate.budget.epochs=2",
        "stages.explore.budget.steps=3",
        "stages.explore.optimizer.warmup_updates=1",
    )
    rl = [line for line in found["explore"] if GAP in line]
    assert rl
    assert max(line[GAP] for line in rl) < 1e-5


def test_a_stopped_stage_continues_to_the_same_weights(tmp_path):
    """The engine is given the weights of the checkpoint, so that a stopped stage ends in the weights of one go."""
    recipe = RL.replace("hidden_size: 16", "hidden_size: 64").replace("num_generations: 2", "num_generations: 8")
    asked = ("machine.rollout.type=vllm", "machine.rollout.cpu_cache=0.05", "stages.explore.budget.steps=3")
    ended = {}
    for name, turns in {"whole": [[]], "parted": [[False, True], []]}.items():
        folder = tmp_path / name
        folder.mkdir()
        for stops in turns:
            with ExitStack() as closing:
                stop = iter(stops)
                stage = running(folder, recipe, closing, *asked, stopped=lambda stop=stop: next(stop, False))
                run_loop(stage)
                ended[name] = {
                    key: weight.detach().clone() for key, weight in stage.policy.trainable_parameters().items()
                }
        assert stage.step == 3
    assert all(torch.equal(weight, ended["parted"][key]) for key, weight in ended["whole"].items())
