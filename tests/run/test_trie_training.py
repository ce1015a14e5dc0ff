"""Updates over shared prefixes are those over padded rows: GRPO, trees, steps of episodes and pairs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.combinations import Combo, text
from support.small_recipes import MODEL, Folder, rows

from recipec.runtime.attention.trie_attention import TrieAttention
from recipec.runtime.training.optimizer import AdamW

QUICKSTART = Path(__file__).parents[2] / "recipes/tiny/quickstart.yaml"
KINDS = ("trie", "shared_prefix")
QUESTIONS = rows(
    {"prompt": "Capital of France?", "question": "capital of France", "answer": "Paris"},
    {"prompt": "Capital of Peru?", "question": "capital of Peru", "answer": "Lima"},
)
CHEAP = "{type: regex_format, pattern: '[ -P].*'}"
PAIRS = f"""\
recipec: 1
name: small
stages:
  prefer:
    kind: dpo
{MODEL}\
    data: {{path: pairs.jsonl}}
    attention: {{type: ATTENTION}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, pairs_per_step: 6, microbatch_tokens: 100}}
"""


class Updates:
    """What updates of runs were: gradients before each, metrics after."""

    def __init__(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.found = folder, []
        original = AdamW.step

        def step(optimizer: AdamW, *about: Any) -> dict[str, float]:
            grads = {n: p.grad.clone() for n, p in optimizer.named.items() if p.grad is not None}
            self.found.append(grads)
            return original(optimizer, *about)

        monkeypatch.setattr(AdamW, "step", step)

    def of(self, recipe: str, name: str, *args: str, **files: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Run a recipe; return the gradients of its last update, and the metrics of its last step."""
        self.found.clear()
        ended = self.folder.run(recipe, "--out", f"runs/{name}", *args, **files)
        assert ended.code == 0, ended.err
        (stage, *_) = sorted(self.folder.path.glob(f"runs/{name}/stages/*"), key=lambda p: -p.stat().st_mtime_ns)
        metrics = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
        return self.found[-1], metrics[-1]


@pytest.fixture
def updates(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Updates]:
    """Watch updates."""
    return Updates(folder, monkeypatch)


def equal(found, expected) -> None:
    """Compare gradients and losses at 1e-5 of their size."""
    (grads, metrics), (dense, dense_metrics) = found, expected
    assert grads.keys() == dense.keys()
    whole = torch.cat([g.flatten() for g in dense.values()]).norm()
    assert whole > 0
    off = torch.cat([(grads[n] - g).flatten() for n, g in dense.items()]).norm()
    assert off <= 1e-5 * whole
    for name in ("loss", "grad_norm", "entropy"):
        if name in dense_metrics:
            assert metrics[name] == pytest.approx(dense_metrics[name], rel=1e-5, abs=1e-6), name


def grpo(attention: str) -> str:
    """The quickstart's practice, one step of it, from a new model."""
    recipe = QUICKSTART.read_text()
    explore = recipe[recipe.index("  explore:") : recipe.index("  prefer:")]
    scratch = re.search(r"scratch: (\{.*\})", recipe)
    assert scratch
    explore = explore.replace("from: imitate", f"from: scratch\n    policy: {{scratch: {scratch[1]}}}")
    explore = explore.replace("steps: 100, prompts_per_step: 64", "steps: 1, prompts_per_step: 6")
    explore = explore.replace("temperature: 0.5", "temperature: 1.0")
    # a new model spells nothing: what decides is how an answer begins
    explore = explore.replace("right: {type: exact_match}", f"right: {CHEAP}")
    return f"recipec: 1\nname: small\nstages:\n{explore}    attention: {{type: {attention}}}\n"


@pytest.mark.parametrize("kind", KINDS)
def test_grpo_of_the_quickstart(kind, updates):
    """One update of the shipped recipe: same rows, loss and gradients, though prompts are computed once a group."""
    prompt = (QUICKSTART.parent / "prompts/spell.j2").read_text()
    (updates.folder.path / "prompts").mkdir()
    (updates.folder.path / "prompts/spell.j2").write_text(prompt)
    expected = updates.of(grpo("dense"), "dense")
    found = updates.of(grpo(kind), kind)
    equal(found, expected)
    assert found[1]["lost_tokens"] == 0


@pytest.mark.parametrize("environment", ["search"])
@pytest.mark.parametrize("layout", ["trajectory", "step"])
@pytest.mark.parametrize("kind", KINDS)
def test_trees_over_a_search_dialogue(environment, layout, kind, updates):
    """Leaves share what their tree has in common, at every depth; rows of steps share their histories."""
    combo = Combo(environment, "tree", layout, "none", "by prompt", "clipped", "dense")
    recipes = {name: text(combo, name).replace("{type: environment}", CHEAP) for name in ("dense", kind)}
    expected = updates.of(recipes["dense"], "dense", tasks__jsonl=QUESTIONS)
    found = updates.of(recipes[kind], kind, tasks__jsonl=QUESTIONS)
    equal(found, expected)


def test_pairs_share_their_prompt(updates, monkeypatch):
    """DPO: chosen and rejected are in one forward pass, their prompt once; loss and gradients are those of rows."""
    pairs = rows(
        *(
            {"prompt": f"a long prompt with number {i}", "chosen": f"yes {i}", "rejected": f"yes or no {i}"}
            for i in range(6)
        )
    )
    shared = []
    original = TrieAttention.target_hidden_states

    def target_hidden_states(trie, *args):
        made = original(trie, *args)
        shared.append((trie.shared.tokens, trie.shared.dense_tokens))
        return made

    monkeypatch.setattr(TrieAttention, "target_hidden_states", target_hidden_states)
    expected = updates.of(PAIRS.replace("ATTENTION", "dense"), "dense", pairs__jsonl=pairs)
    assert not shared
    equal(updates.of(PAIRS.replace("ATTENTION", "trie"), "trie", pairs__jsonl=pairs), expected)
    tokens, dense = shared[-1]
    assert tokens < 0.7 * dense


@pytest.mark.parametrize(("machine", "lost"), [("{}", False), ("{exactness: exact}", True)])
def test_a_cut_group_hands_its_prompt_over(machine, lost, updates):
    """Where a group is larger than the micro-batch, its prompt is computed once; with `exact` again, which is told."""
    (updates.folder.path / "prompts").mkdir()
    (updates.folder.path / "prompts/spell.j2").write_text((QUICKSTART.parent / "prompts/spell.j2").read_text())
    small = "budget: {microbatch_tokens: 48, steps: 1"
    expected = updates.of(grpo("dense").replace("budget: {steps: 1", small), "dense")
    recipe = grpo("trie").replace("budget: {steps: 1", small) + f"machine: {machine}\n"
    found = updates.of(recipe, "trie")
    equal(found, expected)
    assert (found[1]["lost_tokens"] > 0) == lost
    whole = updates.of(grpo("trie"), "whole")
    equal(found, whole)
    assert lost or found[1]["token_ratio"] == whole[1]["token_ratio"]


BEGUN = "a question with many words before its answer "
STAGES = {
    "critic": f"""\
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 4, max_completion_length: 6}}
    reward: {{low: {{type: regex_format, pattern: "[ -n].*"}}}}
    critic: {{optimizer: {{learning_rate: 1.0e-3}}}}
    advantage: {{credit: {{type: gae, gamma: 1.0, lam: 0.95}}}}
    loss: {{type: clipped}}
    attention: {{type: trie}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, prompts_per_step: 2, updates_per_step: 2, microbatch_tokens: TOKENS}}
""",
    "reward model": f"""\
  judge:
    kind: rm
{MODEL}\
    data: {{path: b.jsonl}}
    attention: {{type: trie}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, pairs_per_step: 4, microbatch_tokens: TOKENS}}
""",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_small_budget_changes_nothing(stage, updates):
    """Two steps, of the critic and of the policy, or of a reward model over pairs: the gradients of a large budget."""
    files = {
        "a__jsonl": rows(*({"prompt": f"{BEGUN}{i}"} for i in range(4))),
        "b__jsonl": rows(*({"prompt": BEGUN, "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(8))),
    }
    found, metrics = [], {}
    for tokens in ("128", "4096"):
        recipe = "recipec: 1\nname: small\nstages:\n" + STAGES[stage].replace("TOKENS", tokens)
        metrics[tokens] = updates.of(recipe, tokens, **files)[1]
        found.append(list(updates.found))
    assert metrics["128"]["lost_tokens"] == 0
    assert metrics["128"]["token_ratio"] == metrics["4096"]["token_ratio"] > 1.5
    for small, large in zip(*found, strict=True):
        whole = torch.cat([grad.flatten() for grad in large.values()]).norm()
        off = torch.cat([(small[name] - grad).flatten() for name, grad in large.items()]).norm()
        assert off <= 2e-5 * whole
