"""Measure the speed-up of shared prefixes in forward and backward, and compare it with the ratio of FLOPs.

    python benchmarks/trie.py [--write docs/benchmarks.md] [CASE ...]

A random Llama computes log-probabilities and gradients of the rows of each case in three ways: padded rows with the
fastest of a few micro-batch sizes (each micro-batch is padded to its own longest row), as a prefix tree, and with the
package `prefix-grouper` in one batch or group by group.  Then one update of a compiled stage is compared with an update
that scores the old policy and the reference and shares nothing, and trees are cut into passes that hand prefixes over.

Times are CPU seconds of one thread; the variants take turns, and the minimum of the repeats counts.  *Ideal* is the
ratio of FLOPs: 6 per parameter and token, 14 per attended pair and unit of width, 6 per weight of the head and scored
token.  *Efficiency* is the measured speed-up divided by the ideal one.  All variants compute logits of trained tokens
only, except `pg`, which follows the documentation of the package.
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
import trie_cut
import trie_peer
import trie_update
from pages import write_between
from transformers import LlamaConfig, LlamaForCausalLM
from trie_cases import CASES, SMALL, Text, batch_of, flat, tree

from recipec.component import find_component
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.certification import verb as proof
from recipec.runtime.model.cpu_linear import use_onednn
from recipec.runtime.model.given_model import GivenModel

VOCABULARY = 4096
BEGIN, END = "<!-- python benchmarks/trie.py --write docs/benchmarks.md -->", "<!-- end -->"


def config_of(options):
    return LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=1 << 16,
    )


def attention(policy, name):
    spec = find_component("attention", name)()
    return spec.load()(spec, policy.context)


class Side:
    """Score rows with one attention, in one forward pass or several."""

    def __init__(self, policy, kind, batch, parts):
        self.policy, self.kind, self.batch, self.parts = policy, kind, batch, parts

    def prepare(self):
        """Install the attention; this is not timed."""
        bind(self.policy, self.kind)

    def run(self, weight_RT):
        """Run forward and backward; return the log-probabilities of trained tokens."""
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
    """Install an attention in the model, in place of that of the package."""
    policy.model.set_attn_implementation("sdpa")
    policy.set_attention(kind)


class PeerSide:
    """Score rows with the package `prefix-grouper` and the same model."""

    def __init__(self, policy, peer):
        self.policy, self.peer = policy, peer

    def prepare(self):
        """Install the attention of the package."""
        self.policy.model.set_attn_implementation(trie_peer.NAME)

    def run(self, weight_RT):
        """Run forward and backward."""
        return self.peer.run(weight_RT)


def sides_of(policy, rows, batch):
    """Return every variant by name and split into micro-batches, ours first."""
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
    """Return the minimum seconds of each variant, and the largest errors of the others against dense rows."""
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
    policy.set_attention(attention(policy, "dense"))
    least = {name: min(took for (other, _), took in seconds.items() if other == name) for name, _ in seconds}
    expected = results["dense", 1]
    off = {name: result.off(expected) for (name, place), result in results.items() if place in {0, True}}
    return least, off


def counted(policy, batch):
    """Count tokens and FLOPs of padded rows and of their prefix tree: those that are needed and those executed."""
    scored = batch["trained_RT"].numpy()
    merged = prefix_tree.build(batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy() - 1)
    row, column = scored.nonzero()
    logits = len(np.unique(merged.node_RT[row, column - 1]))
    of = flops.sizes(policy.model)
    shared = flops.required(of, merged.size, merged.pairs, logits, backward=True)
    dense = flops.required(of, merged.dense_tokens, merged.dense_pairs, len(row), backward=True)
    side = Side(policy, attention(policy, "trie"), batch, (torch.arange(batch.num_rows),))
    side.prepare()
    with flops.counting() as counter:
        side.run(torch.ones(batch["tokens_RT"].shape))
    return {
        "dense": merged.dense_tokens,
        "trie": merged.size,
        "ideal": dense / shared,
        "executed": counter.get_total_flops() / shared,
    }


def built(batch, repeats=10):
    """Return millions of tokens per second at which a prefix tree is built."""
    tokens, lengths = batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        prefix_tree.build(tokens, lengths)
        best = min(best, time.process_time() - began)
    return lengths.sum() / best / 1e6


def passes(policy, options, cases):
    """Yield the lines of the table of forward and backward passes."""
    yield (
        "| case | tokens: rows → prefix tree | ideal | measured | efficiency | `pg*` | `pg` | dense, ms "
        "| prefix tree, ms | executed / minimal | log-prob. error | gradient error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for case, make in cases.items():
        rows = make(Text(np.random.default_rng(0), VOCABULARY))
        batch = batch_of(rows)
        count = counted(policy, batch)
        seconds, off = measure(policy, rows, batch, options.repeats)
        gain = {name: seconds["dense"] / took for name, took in seconds.items()}
        peers = [f"{gain[name]:.2f}" if name in gain else "not installed" for name in ("pg*", "pg")]
        yield (
            f"| {case} | {count['dense']} → {count['trie']} | {count['ideal']:.2f} | {gain['trie']:.2f} "
            f"| **{gain['trie'] / count['ideal']:.2f}** | {' | '.join(peers)} | {1e3 * seconds['dense']:.0f} "
            f"| {1e3 * seconds['trie']:.0f} | {count['executed']:.3f} | {off['trie'][0]:.1e} | {off['trie'][1]:.1e} |"
        )


def single(policy, options):
    """Yield the lines of the table of single figures."""
    yield "| what | figure |"
    yield "|---|---|"
    text = Text(np.random.default_rng(1), VOCABULARY)
    prompt, answer = (24, 6) if options.small else (2048, 128)
    batch = batch_of(flat(text, prompt, [answer] * 8))
    kinds = {name: attention(policy, name) for name in ("dense", "trie")}
    bind(policy, kinds["dense"])
    size = {name: proof._saved(policy, kind, batch) for name, kind in kinds.items()}  # noqa: SLF001
    one = proof._saved(policy, kinds["dense"], batch.rows(torch.tensor([0])))  # noqa: SLF001
    yield (
        f"| activations kept for the backward at {prompt}/{answer}, G 8: all rows dense / prefix tree "
        f"| {size['dense'] / 1e6:.0f} MB / {size['trie'] / 1e6:.0f} MB = {size['dense'] / size['trie']:.2f} |"
    )
    yield f"| the same for one dense row at a time (micro-batches of one row) | {one / 1e6:.0f} MB |"
    groups, prompt, answer = (4, 24, 6) if options.small else (64, 512, 64)
    many = batch_of([row for _ in range(groups) for row in flat(text, prompt, [answer] * 8)])
    yield f"| building the prefix tree of {many.num_rows} rows, million tokens per second | {built(many):.0f} |"
    yield f"| bf16: gradient error of the prefix tree / of dense rows, both against float32 | {_rounded(policy):.2f} |"
    docs = Path(__file__).parents[1] / "docs/attention.md"
    found = re.search(r"\*\*(\d+) of (\d+)\*\* causal model types", docs.read_text("utf-8"))
    yield f"| causal model types certified equal (`docs/attention.md`) | {found[1]} of {found[2]} |"


def _rounded(policy):
    text = Text(np.random.default_rng(2), VOCABULARY)
    batch = batch_of(tree(text, trees=2, prompt=64, turn=16, read=24, turns=3))
    kinds = {"dense": attention(policy, "dense"), "shared": attention(policy, "trie")}
    return proof._rounded(policy, kinds, batch, torch.float32, torch.bfloat16)  # noqa: SLF001


def report(options):
    """Yield every line as soon as it is measured."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    trie_peer.register()
    model = LlamaForCausalLM(config_of(options)).train()
    use_onednn(model)  # as for every policy
    cases = SMALL if options.small else CASES
    cases = {name: make for name, make in cases.items() if not options.cases or name.startswith(tuple(options.cases))}
    yield (
        f"{platform.machine()}, one thread, torch {torch.__version__}, transformers {transformers.__version__}; "
        f"Llama, hidden {options.hidden}, {options.layers} layers, vocabulary {VOCABULARY}, float32; "
        f"minimum of {options.repeats}."
    )
    yield ""
    with tempfile.TemporaryDirectory() as cache:
        policy = GivenModel(model, Path(cache))
        yield from passes(policy, options, cases)
        if options.cases:
            return
        yield ""
        yield from trie_update.lines(options)
        yield ""
        bind(policy, attention(policy, "trie"))
        yield from trie_cut.lines(policy, options)
        yield ""
        yield from single(policy, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="beginnings of names of cases; default: all cases")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="tiny rows: test that everything works")
    parser.add_argument("--write", type=Path, help="replace the tables between the markers of this page")
    options = parser.parse_args()
    lines = []
    for line in report(options):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        write_between(options.write, BEGIN, END, lines)


if __name__ == "__main__":
    main()
