"""`attention: auto` takes a tree where that pays, says so once, and changes no number."""

import json
from typing import Any

import pytest
import torch
from support.small_recipes import MODEL, Folder, rows

from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.optimizer import AdamW

LONG = rows(*({"prompt": f"a question with the number {i}", "completion": f"c{i}"} for i in range(6)))
PAIRS = rows(
    *({"prompt": f"a long prompt with number {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(6))
)
RL = """\
    data: {path: a.jsonl, max_length: MOST}
    sampler: {num_generations: 4, max_completion_length: 4}
    reward:
      early: {type: regex_format, pattern: "[ -P].*"}
    advantage:
      group: {type: group_relative}
    loss: {type: clipped, beta: 0.1}
    budget: {steps: 3, prompts_per_step: 3, updates_per_step: 2, save_every: 1}
"""
KINDS = {
    "rl": RL,
    "sft": "    data: {path: a.jsonl}\n    budget: {steps: 2, rows_per_step: 4}\n",
    "dpo": "    data: {path: pairs.jsonl}\n    budget: {steps: 2, pairs_per_step: 4}\n",
}


def recipe(kind: str, attention: str, most: int = 40, more: str = "") -> str:
    """One stage from a new model."""
    said = f"    attention: {{type: {attention}}}\n    optimizer: {{learning_rate: 1.0e-2}}\n{more}"
    body = KINDS[kind].replace("MOST", str(most))
    return f"recipec: 1\nname: small\nstages:\n  learn:\n    kind: {kind}\n{MODEL}{body}{said}"


def metrics_writer(folder: Folder, name: str) -> list[dict[str, float]]:
    """Metrics of a run."""
    text = (folder.path / f"runs/{name}/stages/learn/metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """All gradients of every update."""
    found = []
    original = AdamW.step

    def step(optimizer: AdamW, *about: Any) -> dict[str, float]:
        found.append(torch.cat([p.grad.flatten().clone() for p in optimizer.named.values() if p.grad is not None]))
        return original(optimizer, *about)

    monkeypatch.setattr(AdamW, "step", step)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_dense_rows(kind: str, folder: Folder, gradients: list[torch.Tensor]) -> None:
    """GRPO, SFT and DPO: losses and gradients are those of padded rows; one line tells the choice."""
    files = {"a__jsonl": LONG, "pairs__jsonl": PAIRS}
    made = {}
    for attention in ("dense", "auto"):
        gradients.clear()
        ended = folder.run(recipe(kind, attention), "--out", f"runs/{attention}", **files)
        assert ended.code == 0, ended.err
        made[attention] = gradients[0].clone(), metrics_writer(folder, attention)[0], ended.err
    expected, grads = made["dense"][0], made["auto"][0]
    assert (grads - expected).norm() <= 1e-5 * expected.norm()
    for name in ("loss", "kl", "entropy"):
        if name in made["dense"][1]:
            assert made["auto"][1][name] == pytest.approx(made["dense"][1][name], rel=1e-5, abs=1e-6)
    assert made["auto"][2].count("attention trie: ideal ") == 1
    assert made["auto"][1]["token_ratio"] > 1.1
    assert "attention" not in made["dense"][2]


def test_rows_that_share_nothing_are_packed(folder: Folder) -> None:
    """Where prompts are of a letter, the first rows say that a tree does not pay."""
    ended = folder.run(recipe("sft", "auto"), a__jsonl=rows(*({"prompt": c, "completion": c} for c in "abcd")))
    assert ended.code == 0, ended.err
    assert "learn: attention packed: ideal 1.0" in ended.err


def test_dropout_is_packed(folder: Folder) -> None:
    """Rows that would share a draw of a mask are not merged, and the run says why."""
    dropped = recipe("rl", "auto").replace("max_positions: 64}", "max_positions: 64}\n      dropout: 0.1")
    ended = folder.run(dropped, a__jsonl=LONG)
    assert ended.code == 0, ended.err
    assert "attention packed: with dropout rows cannot share a computation" in ended.err


def test_a_model_that_does_not_certify_is_packed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not shown to be equal is not used, though it would pay."""
    refused = type("C", (), {"equal": False, "why": "it is made up"})
    monkeypatch.setattr("recipec.runtime.attention.trie_attention.certificate", lambda *_: refused)
    ended = folder.run(recipe("rl", "auto"), a__jsonl=LONG)
    assert ended.code == 0, ended.err
    assert "attention packed: ideal" in ended.err
    assert "it is made up" in ended.err


@pytest.mark.parametrize("known", [True, False])
def test_an_interrupted_run_goes_on_with_its_choice(known: bool, folder: Folder, monkeypatch) -> None:
    """Predicted or by the first rows: what was chosen is in the checkpoint, and the run ends with the same bits."""
    text = recipe("rl", "auto") if known else recipe("rl", "auto").replace(", max_length: 40", "")
    assert folder.run(text, "--out", "runs/whole", a__jsonl=LONG).code == 0
    original, count = LocalEngine.update, [0]

    def update(*args, **more):
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(LocalEngine, "update", update)
    assert folder.run(text, "--out", "runs/cut").code != 0
    assert len(metrics_writer(folder, "cut")) == 2
    monkeypatch.setattr(LocalEngine, "update", original)
    # other rows would speak for another attention: they are not asked again
    monkeypatch.setattr("recipec.runtime.attention.auto.ideal", lambda *_: 1.0)
    ended = folder.run(text, "--out", "runs/cut")
    assert ended.code == 0, ended.err
    assert "attention trie" in ended.err
    weights = [(folder.path / f"runs/{n}/model/model.safetensors").read_bytes() for n in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_the_choice_is_the_plans(folder: Folder) -> None:
    """What `plan` says of a recipe that fixes its lengths is what its run does."""
    folder.write(r__yaml=recipe("rl", "auto"), a__jsonl=LONG)
    said = json.loads(folder.call("plan", "r.yaml", "--format", "json").out)["stages"][0]["sharing"]
    assert said["fixed"]
    ended = folder.call("run", "r.yaml")
    assert f"attention {said['best']}: {said['reason']}" in ended.err
    (kept,) = folder.path.glob("runs/*/stages/learn/attention.json")
    assert json.loads(kept.read_text())["attention"] == said["best"]
    assert f"Attention {said['best']}: ideal" in (kept.parents[2] / "report.html").read_text()


def test_adapters_and_activations_computed_again(folder: Folder, gradients: list[torch.Tensor]) -> None:
    """With an adapter and gradient checkpointing, a tree's gradients are those of padded rows."""
    made = {}
    for attention in ("dense", "auto"):
        gradients.clear()
        text = recipe("rl", attention, more="machine: {train: {type: local, gradient_checkpointing: true}}\n")
        text = text.replace("      type: causal_lm\n", "      type: causal_lm\n      lora: {r: 2}\n")
        ended = folder.run(text, "--out", f"runs/{attention}", a__jsonl=LONG)
        assert ended.code == 0, ended.err
        made[attention] = gradients[1].clone()  # the first has no credit, and changes no weight
    assert made["dense"].norm() > 0
    assert (made["auto"] - made["dense"]).norm() <= 1e-5 * made["dense"].norm()
    assert "attention trie" in ended.err


def test_lower_precision(folder: Folder) -> None:
    """In bfloat16 a run under `auto` takes a tree too: the choice is by operations, not by format."""
    text = recipe("rl", "auto").replace("      type: causal_lm\n", "      type: causal_lm\n      dtype: bfloat16\n")
    ended = folder.run(text, a__jsonl=LONG)
    assert ended.code == 0, ended.err
    assert "attention trie" in ended.err


def test_a_run_takes_the_passes_of_its_plan(folder) -> None:
    """`microbatch_tokens: auto` runs with the value that the plan chose, and trains as that value does."""
    for name, tokens in (("auto", "auto"), ("said", "16384")):
        text = recipe("sft", "packed").replace("rows_per_step", f"microbatch_tokens: {tokens}, rows_per_step")
        assert folder.run(text.replace("name: small", f"name: {name}"), a__jsonl=LONG).code == 0
    graph, plan = (json.loads((folder.path / f"runs/auto/{one}.json").read_text()) for one in ("graph", "plan"))
    assert plan["stages"][0]["chosen"][0]["value"] == graph["stages"][0]["settings"]["budget"]["microbatch_tokens"]
    losses = [[row["loss"] for row in metrics_writer(folder, name)] for name in ("auto", "said")]
    assert losses[0] == losses[1]
