"""Time one update of an RL stage: as the compiler optimises it, and without any optimisation.

Samples and rewards are fixed: groups of answers to a prompt, a quarter of the groups with equal rewards.  Everything
after the rewards is what a real stage does: advantages, old-policy and reference passes, loss, gradient, AdamW.
The naive update pads rows, scores the old policy and the reference, and trains on every group.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trie_cases import Text, batch_of, flat

from recipec.compile import check_recipe
from recipec.graph import Value
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options, StageRun
from recipec.host.progress import Progress
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.model.weights import quiet
from recipec.runtime.stage import loop
from recipec.runtime.stage.build_stage import build, make_context

GROUP, VOCABULARY = 8, 4096
NEAR = 1.06
"""Micro-batch sizes slower than the best by more than this factor are not timed again."""
RECIPE = """\
recipec: 1
name: timed
machine: {{device: cpu}}
stages:
  explore:
    kind: rl
    from: ./model
    policy: {{type: causal_lm}}
    attention: {{type: {attention}}}
    data: {{path: rows.jsonl}}
    sampler: {{num_generations: 8, max_completion_length: {answer}}}
    reward:
      any: {{type: regex_format, pattern: ".*"}}
    advantage:
      group: {{type: group_relative}}
    reference: {{type: frozen}}
    loss: {{type: clipped, beta: {beta}}}
    optimizer: {{learning_rate: 1.0e-6}}
    budget: {{steps: 1000, prompts_per_step: 4, microbatch_tokens: {tokens}}}
"""


def write_model(folder, options):
    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, VOCABULARY))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=words[0], eos_token=words[1]).save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)


class Update:
    """A built stage and the samples of a step; each call executes the step from the advantages on."""

    def __init__(self, home, closing, batch, *, attention, beta, tokens, rewrites):
        recipe = RECIPE.format(
            attention=attention, beta=beta, tokens=tokens, answer=int(batch["trained_RT"].sum(-1).max())
        )
        checked = check_recipe(str(home / "r.yaml"), text=recipe)
        assert checked.ok, checked.diagnostics
        assert checked.recipe is not None
        graph = optimise(lower(checked.recipe), only=rewrites)
        stage, folder = graph.stages[0], RunFolder(home / f"run-{next(_numbers)}")
        run = StageRun("timed", first=False, progress=Progress(quiet=True), stopped=lambda: False)
        context = make_context(graph, stage, folder, Options(root=home, out=folder.path), run)
        self.running = build(graph, stage, folder, context, run, closing)
        self.running.train_engine.begin(loop.planned_updates(self.running))
        self.once, self.update = loop.nodes_of(stage.loop)
        self.batch = batch
        self.given = self._given()
        self.gradient = None
        self.optimizer = self.running.train_engine.optimizer
        self._step = self.optimizer.step
        self.optimizer.step = self._keep_gradient

    def _keep_gradient(self, *about):
        """Keep the gradient of the first update, for which all variants have the same weights."""
        self.gradient = torch.cat([p.grad.flatten() for p in self.running.policy.trainable_parameters().values()])
        self.optimizer.step = self._step
        return self._step(*about)

    def _given(self):
        """Return the values that sampling and rewards would have produced."""
        values = {}
        rewards_R = torch.tensor(np.random.default_rng(3).random(self.batch.num_rows))
        rewards_R[: len(rewards_R) // 4] = 1.0  # a quarter of the groups
        for node in self.once:
            for signal in node.outputs:
                if node.slot == "reward":
                    values[Value(signal, node.id)] = rewards_R
                elif node.slot in {"data", "sampler"}:
                    values[Value(signal, node.id)] = self._column(signal)
        return {value: column for value, column in values.items() if column is not None}

    def _column(self, signal):
        rows = self.batch.num_rows
        by_R = torch.arange(rows) // GROUP
        made = {
            **self.batch,
            "by_prompt_R": by_R,
            "turn_RT": self.batch["trained_RT"].long() - 1,
            "error_R": torch.zeros(rows, dtype=torch.bool),
        }
        return made.get(signal)

    def __call__(self):
        """Execute the update."""
        values = dict(self.given)
        nodes = [n for n in self.once if n.slot not in {"data", "sampler", "reward"}]
        self.running.policy.eval()
        with torch.no_grad():
            self.running.runner.run(nodes, values)
        batch = loop.build_batch(values, self.update)
        loop.run_updates(self.running, batch, self.update)


_numbers = count()


def least(model, batch, *, naive, beta):
    """Return the operations that the update needs: none for groups of equal rewards, unless there is a KL term."""
    of = flops.sizes(model)
    if not naive and not beta:
        batch = batch.rows(torch.arange(batch.num_rows // 4, batch.num_rows))
    scored = batch["trained_RT"].numpy()
    merged = prefix_tree.build(batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy() - 1)
    row, column = scored.nonzero()
    shared = merged.size, merged.pairs, len(np.unique(merged.node_RT[row, column - 1]))
    dense = merged.dense_tokens, merged.dense_pairs, len(row)
    forward, both = (flops.required(of, *(dense if naive else shared), backward=b) for b in (False, True))
    return both + forward * (2 if naive else int(beta > 0))


def lines(options):
    """Yield the lines of the table of whole updates."""
    yield (
        "| one update, 4 groups of 8, one with equal rewards | ideal | measured | **efficiency** | removals only "
        "| prefix tree only | naive, ms | compiled, ms | executed / minimal | gradient error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    prompt, answer = (24, 6) if options.small else (256, 64)
    text = Text(np.random.default_rng(0), VOCABULARY)
    batch = batch_of([row for _ in range(4) for row in flat(text, prompt, [answer] * GROUP)])
    row = prompt + answer
    with tempfile.TemporaryDirectory() as name, ExitStack() as closing:
        home = Path(name)
        closing.callback(torch.use_deterministic_algorithms, mode=False)
        (home / "rows.jsonl").write_text('{"prompt": "w2", "answer": "w3"}\n' * 4, "utf-8")
        write_model(home / "model", options)
        for beta in (0.0, 0.04):
            sides = {}
            for size in (8,) if options.small else (1, 2, 8):
                common = {"beta": beta, "tokens": size * row}
                sides["naive", size] = Update(home, closing, batch, attention="dense", rewrites=(), **common)
                sides["removals", size] = Update(home, closing, batch, attention="dense", rewrites=None, **common)
            for label, rewrites in (("tree", ()), ("compiled", None)):
                common = {"beta": beta, "tokens": 32 * row, "rewrites": rewrites}
                sides[label, 0] = Update(home, closing, batch, attention="trie", **common)
            yield _line(sides, batch, beta, options.repeats)


def _line(sides, batch, beta, repeats):
    seconds = {}
    for turn in range(repeats):
        for key, update in sides.items():
            best = min((took for (name, _), took in seconds.items() if name == key[0]), default=0.0)
            if turn and seconds[key] > NEAR * best:
                continue
            began = time.process_time()
            update()
            seconds[key] = min(seconds.get(key, float("inf")), time.process_time() - began)
    best = {name: min(took for (other, _), took in seconds.items() if other == name) for name, _ in seconds}
    compiled = sides["compiled", 0]
    needed = {naive: least(compiled.running.policy.model, batch, naive=naive, beta=beta) for naive in (True, False)}
    with flops.counting() as counter:
        compiled()
    ideal, gain = needed[True] / needed[False], best["naive"] / best["compiled"]
    expected = sides["naive", 8].gradient
    off = float((compiled.gradient - expected).norm() / expected.norm())
    return (
        f"| beta {beta} | {ideal:.2f} | {gain:.2f} | **{gain / ideal:.2f}** | {best['naive'] / best['removals']:.2f} "
        f"| {best['naive'] / best['tree']:.2f} | {1e3 * best['naive']:.0f} | {1e3 * best['compiled']:.0f} "
        f"| {counter.get_total_flops() / needed[False]:.3f} | {off:.1e} |"
    )
