"""Compare the attention that `auto` chooses with the fastest one, over shapes of models and rows.

    python benchmarks/trie_auto.py [--repeats 5] [--only MODEL] [--write docs/benchmarks.md]

Forward and backward passes of the same rows with `trie`, `packed` and `dense`, in micro-batches of 4,096 tokens as an
update has them; CPU seconds of one thread, the variants take turns, and the minimum of the repeats counts.  *Chosen* is
what `auto` takes for these rows, and *slower* by how much it is slower than the fastest of the three.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pages import write_between
from transformers import LlamaConfig, LlamaForCausalLM
from trie import attention, bind
from trie_cases import Text, batch_of, binary, episodes, flat, tree

from recipec.runtime.attention.auto import AutoAttention
from recipec.runtime.model.cpu_linear import use_onednn
from recipec.runtime.model.given_model import GivenModel
from recipec.runtime.training.packing import pack_rows
from recipec.spec.attention import Auto

VOCABULARY, BUDGET = 1024, 4096
MODELS = {"0.1M": (64, 2), "0.8M": (128, 4), "3M": (256, 4)}
"""Hidden size and layers."""
NAMES = ("trie", "packed", "dense")
BEGIN, END = "<!-- python benchmarks/trie_auto.py --write docs/benchmarks.md -->", "<!-- end of auto -->"
CASES = {
    "GRPO 8/8, G 8, 8 prompts": lambda t: [row for _ in range(8) for row in flat(t, 8, [8] * 8)],
    "GRPO 32/16, G 4, 8 prompts": lambda t: [row for _ in range(8) for row in flat(t, 32, [16] * 4)],
    "GRPO 64/64, G 8": lambda t: flat(t, 64, [64] * 8),
    "GRPO 64/256, G 4": lambda t: flat(t, 64, [256] * 4),
    "GRPO 512/32, G 3": lambda t: flat(t, 512, [32] * 3),
    "GRPO 512/64, G 8": lambda t: flat(t, 512, [64] * 8),
    "GRPO 512/512, G 4": lambda t: flat(t, 512, [512] * 4),
    "DPO 24/24, 8 pairs": lambda t: [row for _ in range(8) for row in flat(t, 24, [24] * 2)],
    "DPO 512/128, 4 pairs": lambda t: [row for _ in range(4) for row in flat(t, 512, [128] * 2)],
    "trees 64/16, 4 turns": lambda t: tree(t, trees=4, prompt=64, turn=16, read=16, turns=4),
    "steps 40/20/8: 4 x 6": lambda t: episodes(t, rollouts=4, turns=6, system=40, read=20, written=8),
    "binary tree, 8 a node": lambda t: binary(t, prompt=64, depth=4, node=8),
}


def seconds(policy, batch, name):
    """Return the CPU seconds of forward and backward passes with one attention."""
    kind = attention(policy, name)
    bind(policy, kind)
    packing = pack_rows(
        batch, max(BUDGET, int(batch["attend_RT"].sum(-1).max())), padded=kind.padded, sharing=kind.sharing
    )
    began = time.process_time()
    for part in packing.parts:
        rows = batch.rows(part)
        width = int(rows["attend_RT"].sum(-1).max())
        made = policy.logprobs(*(rows[key][:, :width] for key in ("tokens_RT", "attend_RT", "trained_RT")))
        (made["logprob_RT"].sum() + made["entropy_RT"].sum()).backward()
    return time.process_time() - began


def chosen(policy, batch):
    """Return what `auto` chooses for these rows."""
    auto = AutoAttention(Auto(), policy.context)
    bind(policy, auto)
    auto.choose(batch["tokens_RT"], batch["attend_RT"], batch["trained_RT"], BUDGET)
    return auto


def lines(options):
    """Yield the table, a model and a shape at a time."""
    torch.set_num_threads(1)
    yield "| model | rows | ideal | trie, ms | packed, ms | dense, ms | fastest | chosen | slower |"
    yield "|---|---|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as cache:
        for size, (hidden, layers) in MODELS.items():
            if options.only not in (None, size):
                continue
            torch.manual_seed(0)
            config = LlamaConfig(
                hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, vocab_size=VOCABULARY,
                num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, max_position_embeddings=4096,
            )  # fmt: skip
            model = LlamaForCausalLM(config).train()
            use_onednn(model)
            policy = GivenModel(model, Path(cache))
            for case, make in CASES.items():
                batch = batch_of(make(Text(np.random.default_rng(0), VOCABULARY)))
                auto = chosen(policy, batch)
                least = dict.fromkeys(NAMES, float("inf"))
                for _ in range(options.repeats):
                    for name in NAMES:
                        least[name] = min(least[name], seconds(policy, batch, name))
                fastest = min(least, key=least.__getitem__)
                columns = " | ".join(f"{1e3 * least[name]:.1f}" for name in NAMES)
                slower = least[auto.name] / least[fastest] - 1
                ideal = auto.why.removeprefix("ideal ")
                yield f"| {size} | {case} | {ideal} | {columns} | {fastest} | {auto.name} | {slower:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--write", type=Path, help="replace the table between the markers of this page")
    options = parser.parse_args()
    table = []
    for line in lines(options):
        print(line, flush=True)
        table.append(line)
    if options.write:
        write_between(options.write, BEGIN, END, table)


if __name__ == "__main__":
    main()
