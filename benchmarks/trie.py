"""How much faster are a forward and a backward over shared prefixes, and how near to what the operations allow?

    python benchmarks/trie.py [--write docs/benchmarks.md] [CASE ...]

A random Llama scores the rows of each case and takes the gradient: dense rows in the best of a few micro-batches, each
padded to its own longest row; as a forest; and by the package `prefix-grouper`, in one batch or group by group.  Then
one update of a compiled stage, against one that scores the old policy and the reference and shares nothing.  Seconds
are CPU time of one thread, the sides in turn, the minimum of the repeats.  *Ideal* counts operations (6 a parameter and
token, 14 a pair and width of attention, 6 a weight and row of the head); *efficiency* is measured divided by ideal, the
fair number.  Dense rows compute logits only where something is scored, as the others do, except `pg`, the package's
documented flow.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
import trie_peer
import trie_update
from transformers import LlamaConfig, LlamaForCausalLM
from trie_cases import CASES, SMALL, Text, batch_of, flat, tree

from recipec.component import find_component
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.certification import verb as proof
from recipec.runtime.attention.sequence_logprobs import GivenModel
from recipec.runtime.model.cpu_linear import hasten

VOCABULARY = 4096
BEGIN, END = "<!-- python benchmarks/trie.py --write docs/benchmarks.md -->", "<!-- end -->"


def config_of(asked):
    return LlamaConfig(
        hidden_size=asked.hidden,
        intermediate_size=3 * asked.hidden,
        num_hidden_layers=asked.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=1 << 16,
    )


def attention(policy, name):
    spec = find_component("attention", name)()
    return spec.load()(spec, policy.context)


class Side:
    """A way of scoring rows, in one forward pass or several."""

    def __init__(self, policy, kind, batch, parts):
        self.policy, self.kind, self.batch, self.parts = policy, kind, batch, parts

    def prepare(self):
        """Bind what is not timed."""
        bind(self.policy, self.kind)

    def run(self, weight_RT):
        """Score and take the gradient; return the log-probabilities of trained tokens."""
        found = torch.zeros(self.batch["tokens_RT"].shape)
        for index in self.parts:
            part = self.batch.rows(index)
            width = int(part["attend_RT"].sum(-1).max())
            columns = (part[name][:, :width] for name in ("tokens_RT", "attend_RT", "trained_RT"))
            logprob = self.policy.logprobs(*columns, entropy=False)["logprob_RT"]
            (logprob * weight_RT[index, :width]).sum().backward()
            found[index, :width] = logprob.detach()
        return found[self.batch["trained_RT"]]


def bind(policy, kind):
    """Let an attention take the model over, whatever the package had left there."""
    policy.model.set_attn_implementation("sdpa")
    policy.use(kind)


class PeerSide:
    """The package on the same model."""

    def __init__(self, policy, peer):
        self.policy, self.peer = policy, peer

    def prepare(self):
        """Bind its attention."""
        self.policy.model.set_attn_implementation(trie_peer.NAME)

    def run(self, weight_RT):
        """Score and take the gradient."""
        return self.peer.run(weight_RT)


def sides_of(policy, rows, batch):
    """Return every way by name and division, ours first."""
    whole = torch.arange(len(rows))
    made = {("trie", 0): Side(policy, attention(policy, "trie"), batch, (whole,))}
    dense = attention(policy, "dense")
    for size in sorted({min(size, len(rows)) for size in (1, 2, 4, 8, len(rows))}):
        made["dense", size] = Side(policy, dense, batch, torch.split(whole, size))
    if trie_peer.HERE:
        for name, full in (("pg", True), ("pg*", False)):
            for together in (True, False):
                peer = trie_peer.Peer(policy.model, rows, full=full, together=together)
                if together or len(peer.parts) > 1:
                    made[name, together] = PeerSide(policy, peer)
    return made


def measure(policy, rows, batch, repeats):
    """Return the least seconds of each way, and the worst errors of the forest and of the package against dense."""
    weight = torch.randn(batch["tokens_RT"].shape, generator=torch.Generator().manual_seed(0))
    seconds, results = {}, {}
    for turn in range(repeats):
        for key, side in sides_of(policy, rows, batch).items():
            best = min((took for (name, _), took in seconds.items() if name == key[0]), default=0.0)
            if turn and seconds[key] > trie_update.NEAR * best:
                continue
            side.prepare()
            policy.model.zero_grad()
            began = time.process_time()
            found = side.run(weight)
            seconds[key] = min(seconds.get(key, float("inf")), time.process_time() - began)
            if key not in results:
                grads = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
                results[key] = proof.Scores(found, torch.cat(grads))
    policy.use(attention(policy, "dense"))
    least = {name: min(took for (other, _), took in seconds.items() if other == name) for name, _ in seconds}
    expected = results["dense", 1]
    off = {name: result.off(expected) for (name, place), result in results.items() if place in {0, True}}
    return least, off


def counted(policy, batch):
    """Count a forest and its rows: tokens, operations that they need, and those that a pass makes."""
    scored = batch["trained_RT"].numpy()
    forest = prefix_tree.build(batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy() - 1)
    row, column = scored.nonzero()
    logits = len(np.unique(forest.node_RT[row, column - 1]))
    of = flops.sizes(policy.model)
    shared = flops.least(of, forest.size, forest.pairs, logits, backward=True)
    dense = flops.least(of, forest.dense_tokens, forest.dense_pairs, len(row), backward=True)
    side = Side(policy, attention(policy, "trie"), batch, (torch.arange(batch.num_rows),))
    side.prepare()
    with flops.counting() as counter:
        side.run(torch.ones(batch["tokens_RT"].shape))
    return {
        "dense": forest.dense_tokens,
        "trie": forest.size,
        "ideal": dense / shared,
        "executed": counter.get_total_flops() / shared,
    }


def built(batch, repeats=10):
    """Return millions of tokens a second at which a forest is built."""
    tokens, lengths = batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        prefix_tree.build(tokens, lengths)
        best = min(best, time.process_time() - began)
    return lengths.sum() / best / 1e6


def passes(policy, asked, cases):
    """Yield the lines of the table of forward and backward passes."""
    yield (
        "| case | tokens, rows → forest | ideal | measured | efficiency | `pg*` | `pg` | dense, ms | forest, ms "
        "| executed / minimal | log-prob. error | gradient error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for case, make in cases.items():
        rows = make(Text(np.random.default_rng(0), VOCABULARY))
        batch = batch_of(rows)
        count = counted(policy, batch)
        seconds, off = measure(policy, rows, batch, asked.repeats)
        gain = {name: seconds["dense"] / took for name, took in seconds.items()}
        peers = [f"{gain[name]:.2f}" if name in gain else "not installed" for name in ("pg*", "pg")]
        yield (
            f"| {case} | {count['dense']} → {count['trie']} | {count['ideal']:.2f} | {gain['trie']:.2f} "
            f"| **{gain['trie'] / count['ideal']:.2f}** | {' | '.join(peers)} | {1e3 * seconds['dense']:.0f} "
            f"| {1e3 * seconds['trie']:.0f} | {count['executed']:.3f} | {off['trie'][0]:.1e} | {off['trie'][1]:.1e} |"
        )


def single(policy, asked):
    """Yield lines of what is one figure each."""
    yield "| what | figure |"
    yield "|---|---|"
    text = Text(np.random.default_rng(1), VOCABULARY)
    prompt, answer = (24, 6) if asked.small else (2048, 128)
    batch = batch_of(flat(text, prompt, [answer] * 8))
    kinds = {name: attention(policy, name) for name in ("dense", "trie")}
    bind(policy, kinds["dense"])
    size = {name: proof._saved(policy, kind, batch) for name, kind in kinds.items()}  # noqa: SLF001
    one = proof._saved(policy, kinds["dense"], batch.rows(torch.tensor([0])))  # noqa: SLF001
    yield (
        f"| activations kept for the backward at {prompt}/{answer}, G 8: all rows dense / forest "
        f"| {size['dense'] / 1e6:.0f} MB / {size['trie'] / 1e6:.0f} MB = {size['dense'] / size['trie']:.2f} |"
    )
    yield f"| the same for one dense row at a time, all that micro-batches of one row hold | {one / 1e6:.0f} MB |"
    groups, prompt, answer = (4, 24, 6) if asked.small else (64, 512, 64)
    many = batch_of([row for _ in range(groups) for row in flat(text, prompt, [answer] * 8)])
    yield f"| building the forest of {many.num_rows} rows, million tokens a second | {built(many):.0f} |"
    yield f"| bf16: gradient error of the forest / of dense rows, both against float32 | {_rounded(policy):.2f} |"
    docs = Path(__file__).parents[1] / "docs/attention.md"
    said = re.search(r"\*\*(\d+) of (\d+)\*\* causal model types", docs.read_text("utf-8"))
    yield f"| causal model types certified equal (`docs/attention.md`) | {said[1]} of {said[2]} |"


def _rounded(policy):
    text = Text(np.random.default_rng(2), VOCABULARY)
    batch = batch_of(tree(text, trees=2, prompt=64, turn=16, read=24, turns=3))
    kinds = {"dense": attention(policy, "dense"), "shared": attention(policy, "trie")}
    return proof._rounded(policy, kinds, batch, torch.float32, torch.bfloat16)  # noqa: SLF001


def report(asked):
    """Yield every line, as they are measured."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    trie_peer.register()
    model = LlamaForCausalLM(config_of(asked)).train()
    hasten(model)  # as every policy is
    cases = SMALL if asked.small else CASES
    cases = {name: make for name, make in cases.items() if not asked.cases or name.startswith(tuple(asked.cases))}
    yield (
        f"{platform.machine()}, one thread, torch {torch.__version__}, transformers {transformers.__version__}; Llama, "
        f"hidden {asked.hidden}, {asked.layers} layers, vocabulary {VOCABULARY}, float32; minimum of {asked.repeats}."
    )
    yield ""
    with tempfile.TemporaryDirectory() as cache:
        policy = GivenModel(model, Path(cache))
        yield from passes(policy, asked, cases)
        if asked.cases:
            return
        yield ""
        yield from trie_update.lines(asked)
        yield ""
        yield from single(policy, asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="beginnings of names; all if absent")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="tiny rows: whether it works, not how fast")
    parser.add_argument("--write", type=Path, help="replace the table between the marks of this page")
    asked = parser.parse_args()
    lines = []
    for line in report(asked):
        print(line, flush=True)
        lines.append(line)
    if asked.write:
        before, mark, rest = asked.write.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (mark and end):
            parser.error(f"{asked.write} has no marks")
        asked.write.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]), "utf-8")


if __name__ == "__main__":
    main()
