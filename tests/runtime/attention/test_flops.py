"""A compiled step makes hardly more operations than it must: executed against minimal, counted by torch.

The model is 512 wide: in much narrower ones small subtrees are computed as one masked square, whose hidden pairs cost
less than the calls that they replace and more operations (:mod:`recipec.runtime.attention.kernels.tiling`).
"""

import numpy as np
import pytest
import torch
from support.combinations import Combo, text
from support.small_recipes import Folder, rows

from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.training.local_engine import LocalEngine, rows_to_train
from recipec.runtime.training.scoring import ScoringPass

WIDE = """\
    from: scratch
    policy:
      type: causal_lm
      scratch: {hidden_size: 512, layers: 1, heads: 8, kv_heads: 4, max_positions: 128}
"""
GRPO = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: rl
{WIDE}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 8, max_completion_length: 6}}
    reward:
      early: {{type: regex_format, pattern: "[ -7].*"}}
    advantage:
      group: {{type: group_relative}}
    loss: {{type: clipped, beta: BETA}}
    attention: {{type: auto}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 2, prompts_per_step: 4}}
"""
DPO = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: dpo
{WIDE}\
    data: {{path: a.jsonl}}
    attention: {{type: auto}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 3, pairs_per_step: 6, epochs: null}}
"""
PROMPTS = rows(*({"prompt": f"a prompt that is rather long, with the number {i}"} for i in range(8)))
PAIRS = rows(
    *({"prompt": f"a prompt of some length with number {i}", "chosen": f"yes {i}", "rejected": f"no, {i}"}
      for i in range(6))
)  # fmt: skip
QUESTIONS = rows(
    {"prompt": "Capital of France?", "question": "capital of France", "answer": "Paris"},
    {"prompt": "Capital of Peru?", "question": "capital of Peru", "answer": "Lima"},
)


class Counted:
    """Operations of a run's scoring passes and updates, and the least that their rows need."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.executed, self.minimal, self.dense = 0.0, 0.0, 0.0
        self.passes: list[str] = []
        self.left_out = 0
        updated, scored = LocalEngine.update, ScoringPass.__call__

        def update(engine, minibatch, nodes, runner, *, tokens, step):
            with flops.counting() as counter:
                made = updated(engine, minibatch, nodes, runner, tokens=tokens, step=step)
            kept = minibatch.rows(rows_to_train(minibatch, next(n for n in nodes if n.slot == "policy")))
            self.left_out += minibatch.num_rows - kept.num_rows
            self.add("update", counter, engine.policy, kept, backward=True)
            return made

        def score(node, tokens_RT, attend_RT, trained_RT):
            with flops.counting() as counter:
                made = scored(node, tokens_RT, attend_RT, trained_RT)
            batch = {"tokens_RT": tokens_RT, "attend_RT": attend_RT, "trained_RT": trained_RT}
            self.add(next(iter(node.outputs)), counter, node.scorer, batch, backward=False)
            return made

        monkeypatch.setattr(LocalEngine, "update", update)
        monkeypatch.setattr(ScoringPass, "__call__", score)

    def add(self, name, counter, policy, batch, *, backward) -> None:
        """Set what a pass made beside the closed formula over its forest."""
        tokens, attend = batch["tokens_RT"].numpy(), batch["attend_RT"].numpy()
        trained = (batch["trained_RT"] & batch["attend_RT"]).numpy().copy()
        if not len(tokens):
            return
        trained[:, 0] = False
        read = np.maximum(attend.sum(-1) - 1, 0)
        forest = prefix_tree.build(tokens, read)
        row, column = trained.nonzero()
        unique = len(np.unique(forest.node_RT[row, column - 1]))
        of = flops.sizes(policy.model)
        self.passes.append(name)
        self.executed += counter.get_total_flops()
        self.minimal += flops.required(of, forest.size, forest.pairs, unique, backward=backward)
        self.dense += flops.required(of, forest.dense_tokens, forest.dense_pairs, len(row), backward=backward)

    @property
    def ratio(self) -> float:
        """Executed over minimal."""
        return self.executed / self.minimal


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Count every pass of a run."""
    return Counted(monkeypatch)


def test_grpo(folder: Folder, counted: Counted) -> None:
    """Without KL an update is all there is, of the rows with credit; the dense rows' operations were far more."""
    ended = folder.run(GRPO.replace("BETA", "0"), a__jsonl=PROMPTS)
    assert ended.code == 0, ended.err
    assert counted.passes == ["update", "update"]
    assert counted.left_out > 0
    assert 0.999 < counted.ratio <= 1.03
    assert counted.dense > 2 * counted.executed


def test_grpo_with_kl(folder: Folder, counted: Counted) -> None:
    """With KL the reference reads every row once more, and the old policy still none."""
    ended = folder.run(GRPO.replace("BETA", "0.1"), a__jsonl=PROMPTS)
    assert ended.code == 0, ended.err
    assert sorted(set(counted.passes)) == ["ref_logprob_RT", "update"]
    assert 0.999 < counted.ratio <= 1.03


def test_pairs_with_a_cached_reference(folder: Folder, counted: Counted) -> None:
    """DPO: the reference reads each pair once, before the first of three passes over the data."""
    ended = folder.run(DPO, a__jsonl=PAIRS)
    assert ended.code == 0, ended.err
    assert counted.passes == ["ref_logprob_RT", "update", "update", "update"]
    assert 0.999 < counted.ratio <= 1.03


def test_trees(folder: Folder, counted: Counted) -> None:
    """Tree-GRPO: turns that leaves have in common go through once, forward and backward."""
    combo = Combo("search", "tree", "trajectory", "none", "by prompt", "clipped", "dense")
    recipe = text(combo, "trie").replace("{type: environment}", "{type: regex_format, pattern: '[ -P].*'}")
    ended = folder.run(recipe, tasks__jsonl=QUESTIONS)
    assert ended.code == 0, ended.err
    assert "update" in counted.passes
    assert 0.999 < counted.ratio <= 1.03
    assert counted.dense > 1.2 * counted.executed


def test_what_is_counted_is_what_is_multiplied() -> None:
    """A product by oneDNN and attention on a CPU, forwards and backwards, have the operations of their shapes."""
    q, k, v = (torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3))
    with flops.counting() as counter:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        forward = counter.get_total_flops()
        out.sum().backward()
    assert forward == 4 * 8 * 2 * 21
    assert counter.get_total_flops() == 3.5 * forward
    layer = torch.nn.Linear(32, 48)
    with flops.counting() as counter:
        torch.ops.mkldnn._linear_pointwise.default(torch.randn(4, 5, 32), layer.weight, None, "none", [], "")
    assert counter.get_total_flops() == 2 * 20 * 32 * 48
