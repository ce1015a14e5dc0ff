"""GRPO++: what its fragments say, and that the lagged reference takes the place of the old policy."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from support.small_recipes import Folder, rows
from torch import Tensor
from torch.nn import Parameter
from transformers import AutoModelForCausalLM

from recipec.compile import compile_recipe
from recipec.runtime.objective.reference import Lagged
from recipec.runtime.stage import loop
from recipec.runtime.stage.running_stage import RunningStage

ALGORITHMS = Path(__file__).parents[2] / "recipes/algorithms"
TEMPERATURE, EVERY, STEPS, RATE = 0.7, 3, 7, 2e-2
RECIPE = f"""\
recipec: 1
name: small
stages:
  begin:
    kind: sft
    from: scratch
    policy:
      scratch: {{architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 64}}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, rows_per_step: 2}}
  explore:
    kind: rl
    from: begin
    extends: [recipec:algorithms/grpo_pp]
    data: {{path: a.jsonl}}
    sampler: {{temperature: {TEMPERATURE}, max_completion_length: 6}}
    reward: {{right: {{type: regex_format, pattern: '[ -P].*', match: 7.0, mismatch: -1.0}}}}
    reference: {{sync_every_updates: {EVERY}}}
    optimizer: {{learning_rate: {RATE}, schedule: constant, warmup_updates: 0}}
    budget: {{steps: {STEPS}, prompts_per_step: 2}}
"""
ROWS = rows(*({"prompt": f"p{i}", "completion": f"c{i}"} for i in range(4)))
TRAINER = {
    "reference": {"type": "lagged", "sync_every_updates": 10},
    "loss": {
        "type": "clipped", "ratio": "token", "ratio_to": "ref_logprob_RT", "epsilon": 0.2, "beta": 0.001, "kl": "k1",
        "entropy": 0.001, "aggregate": "token_mean",
    },
    "sampler": {"num_generations": 3, "temperature": 0.7, "max_completion_length": 250},
    "optimizer": {
        "learning_rate": 3e-5, "schedule": "cosine", "warmup_updates": 50, "weight_decay": 0.01, "max_grad_norm": 1.0,
    },
    "budget": {"prompts_per_step": 4, "updates_per_step": 1},
}  # fmt: skip
"""What the trainer of the first author says; the two fragments share it."""


@pytest.mark.parametrize(
    ("name", "advantage"),
    [
        ("grpo_pp", {"sign": {"type": "signed", "threshold": 0.0, "positive": 1.0, "negative": -1.0}}),
        (
            "grpo_graphiq",
            {"group": {"type": "group_relative", "group": "by_prompt_R", "scale": "std", "epsilon": 1e-8}},
        ),
    ],
)
def test_fragments_have_the_values_of_their_sources(name, advantage):
    """Both say what the trainer says, and differ in nothing but the advantage."""
    said = yaml.safe_load((ALGORITHMS / f"{name}.yaml").read_text())
    assert said.pop("allow").keys() == {"RC422"}
    assert said == {"recipec": 1, "advantage": advantage, **TRAINER}


@pytest.mark.parametrize("name", ["grpo_pp", "grpo_graphiq"])
def test_fragments_mark_the_source_of_every_value(name):
    """Beside every value stands whether it is the paper's, the authors' code's, or ours."""
    lines = (ALGORITHMS / f"{name}.yaml").read_text().partition("recipec: 1\n")[2].splitlines()
    valued = [
        line for line in lines if not line.startswith("allow") and not line.partition("#")[0].rstrip().endswith(":")
    ]
    assert len(valued) > 20
    assert [
        line for line in valued if not any(f"# {who}" in line for who in ("paper:", "authors' code", "ours:"))
    ] == []


def test_the_old_pass_is_dropped(tmp_path):
    """With the ratio to the reference nothing asks for an old policy: the stage has one pass of that kind."""
    (tmp_path / "r.yaml").write_text(RECIPE)
    graph = compile_recipe(tmp_path / "r.yaml").graph
    assert graph is not None
    nodes = {node.id: node for node in graph.stage("explore").nodes()}
    assert "explore/old" not in nodes
    assert not any("old_logprob_RT" in node.outputs for node in nodes.values())
    taken = {given.parameter: given.value for given in nodes["explore/loss"].inputs}
    assert taken["ratio_to_RT"] == taken["ref_logprob_RT"]
    assert taken["ratio_to_RT"].node == "explore/reference"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunningStage]]:
    """Keep the stage that ran last."""
    seen: list[RunningStage] = []
    original = loop.planned_updates

    def planned_updates(stage: RunningStage) -> int:
        seen[:] = [stage]
        return original(stage)

    monkeypatch.setattr(loop, "planned_updates", planned_updates)
    yield seen
    seen.clear()


def tensors() -> list[Tensor]:
    """List every tensor that there is."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) in {Tensor, Parameter} and found.layout == torch.strided]


def test_one_copy_is_kept(folder: Folder, stages):
    """Beside the policy, its gradients and moments, the stage keeps every trained tensor exactly once."""
    before = tensors()  # and held, so that nothing new lies where they lie
    ended = folder.run(RECIPE, a__jsonl=ROWS)
    assert ended.code == 0, ended.err
    stage = stages[-1]
    trained = {name: p.shape for name, p in stage.policy.trainable_parameters().items()}
    lagged = stage.runner.instances["explore/reference"].reference
    assert {name: copy.shape for name, copy in lagged.copies.items()} == trained
    table = next(shape for name, shape in trained.items() if "embed" in name)
    stored = {found.untyped_storage().data_ptr() for found in tensors() if found.shape == table}
    own = {found.untyped_storage().data_ptr() for found in before}
    own |= {p.untyped_storage().data_ptr() for p in stage.policy.model.parameters()}
    own |= {
        m.untyped_storage().data_ptr()
        for part in stage.train_engine.optimizer.weights.optimizers
        for s in part.state.values()
        for m in s.values()
        if m.ndim
    }
    own |= {p.grad.untyped_storage().data_ptr() for p in stage.policy.model.parameters() if p.grad is not None}
    assert len(stored - own) == 1


def test_the_copy_is_refreshed_in_place(folder: Folder, stages, monkeypatch):
    """A refresh writes into the copy that is there: not for a moment are there two."""
    kept: list[dict[str, int]] = []
    original = Lagged.after_update

    def after_update(lagged: Lagged, updates: int) -> None:
        original(lagged, updates)
        kept.append({name: copy.data_ptr() for name, copy in lagged.copies.items()})

    monkeypatch.setattr(Lagged, "after_update", after_update)
    assert folder.run(RECIPE, a__jsonl=ROWS).code == 0
    assert len(kept) == STEPS
    assert all(places == kept[0] for places in kept)


def logprobs(model, row) -> tuple[Tensor, Tensor]:
    """Log-probability of each token that was written, and entropy before it, at the sampling temperature."""
    ids, start = torch.tensor([row["prompt_ids"] + row["ids"]]), len(row["prompt_ids"])
    spread = (model(input_ids=ids).logits[0, start - 1 : -1] / TEMPERATURE).log_softmax(-1)
    return spread.gather(-1, ids[0, start:, None])[:, 0], -(spread.exp() * spread).sum(-1)


def test_training_is_the_loop_written_by_hand(folder: Folder):
    """Over the rows that a run drew, a plain loop with a second model as old policy and reference ends alike."""
    ended = folder.run(RECIPE, a__jsonl=ROWS)
    assert ended.code == 0, ended.err
    stages = folder.path / "runs/small/stages"
    model = AutoModelForCausalLM.from_pretrained(stages / "begin/policy")
    lagged = AutoModelForCausalLM.from_pretrained(stages / "begin/policy")
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], RATE
    )
    moved = 0.0
    for step in range(STEPS):
        drawn = [
            json.loads(line)
            for line in (stages / f"explore/samples/step-{step + 1:06d}.jsonl").read_text().splitlines()
        ]
        tokens = sum(len(row["ids"]) for row in drawn)
        loss = torch.zeros(())
        for row in drawn:
            now, entropy = logprobs(model, row)
            before = logprobs(lagged, row)[0].detach()
            sign = 1.0 if row["reward"] > 0 else -1.0
            ratio = (now - before).exp()
            gain = torch.minimum(ratio * sign, ratio.clamp(0.8, 1.2) * sign)
            loss = loss + (-gain + 0.001 * (now - before) - 0.001 * entropy).sum() / tokens
            moved = max(moved, float((ratio.detach() - 1).abs().max()))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0:
            lagged.load_state_dict(model.state_dict())
    assert moved > 0.2, "no ratio was clipped: the rates of this test are too low"
    trained = AutoModelForCausalLM.from_pretrained(stages / "explore/policy")
    for (name, mine), theirs in zip(model.named_parameters(), trained.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5), name
