"""Measure what shared prefixes save on a GPU, with a random model of the size of Qwen2.5-1.5B.

    python benchmarks/trie_gpu.py [--write docs/benchmarks.md]

Correctness comes first: outputs and gradients of the kernels, then a whole model in float32 and bfloat16, are compared
with dense rows.  If they differ, nothing is timed.  Then it measures forward and backward with CUDA events (median of
5) against packed rows and dense rows with the fastest of a few micro-batch sizes; peak memory; useful FLOPs per second
as a share of the device's peak; the attention alone against flex attention; and the cost of the first step with a new
shape.  Without a GPU it prints a note and measures nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pages import write_between
from transformers import Qwen2Config, Qwen2ForCausalLM
from trie_cases import Text, batch_of, flat, tree

from recipec.component import find_component
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.kernels import flex, reference, varlen
from recipec.runtime.model.given_model import GivenModel

BEGIN, END = "<!-- python benchmarks/trie_gpu.py --write docs/benchmarks.md -->", "<!-- end of GPU -->"
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Peak FLOPs per second in bfloat16 for dense matrices, from the data sheets."""
WORSE = 1.15
GOALS = {
    "G1": ("4k/512, G 8: speed-up over the best dense", "efficiency ≥ 0.85"),
    "G2": ("8k/512, G 16: speed-up over the best dense", "efficiency ≥ 0.85"),
    "G3": ("useful FLOPs / peak: 1.5B; layers of a 7B", "≥ 0.40; ≥ 0.45"),
    "G4": ("peak memory dense / prefix tree, 4k/512, G 8, all rows at once", "≥ 3.5"),
    "G5": ("attention forward and backward, flex / ours, same tree", "≥ 1.2"),
    "G6": ("planning a new shape; first call of flex on it", "< 5 ms"),
}


@dataclass(frozen=True)
class Scale:
    """Sizes of models and rows."""

    small: dict
    large: dict
    groups: tuple
    tree: dict
    repeats: int = 5


FULL = Scale(
    small={"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
           "num_key_value_heads": 2, "vocab_size": 151936},
    large={"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 8, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064},
    groups=((4096, 512, 8), (8192, 512, 16)),
    tree={"trees": 4, "prompt": 1024, "turn": 128, "read": 512, "turns": 4},
)  # fmt: skip
TINY = Scale(
    small={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
           "num_key_value_heads": 2, "vocab_size": 64},
    large={"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
           "num_key_value_heads": 2, "vocab_size": 64},
    groups=((20, 5, 3), (24, 4, 4)),
    tree={"trees": 2, "prompt": 8, "turn": 3, "read": 4, "turns": 3},
    repeats=1,
)  # fmt: skip


class Bench:
    """A device, and the sizes to measure there."""

    def __init__(self, device, scale, cache):
        self.device, self.scale, self.cache = torch.device(device), scale, cache
        self.text = Text(np.random.default_rng(0), scale.small["vocab_size"])

    def policy(self, shape, dtype, **more):
        """Build a random model of a size."""
        config = Qwen2Config(**{**shape, "tie_word_embeddings": True, "max_position_embeddings": 1 << 16, **more})
        torch.manual_seed(0)
        with torch.device(self.device):
            return GivenModel(Qwen2ForCausalLM(config).to(dtype).train(), self.cache)

    def milliseconds(self, run):
        """Return the median time of a run, after two warm-up runs."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - began)
        for _ in range(2):
            run()
        took = []
        for _ in range(self.scale.repeats):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            torch.cuda.synchronize()
            took.append(begin.elapsed_time(end))
        return statistics.median(took)

    def peak(self, run):
        """Return the peak of bytes allocated by a run, without those allocated before; inf if memory runs out."""
        if self.device.type != "cuda":
            return float("nan")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            run()
        except torch.OutOfMemoryError:
            return float("inf")
        return torch.cuda.max_memory_allocated() - before

    def share(self, operations, milliseconds):
        """Return FLOPs per second as a share of the device's peak; nan if the peak is not known."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        peak = next((found for part, found in PEAK.items() if part in name), float("nan"))
        return operations / (milliseconds / 1e3) / peak


def attention(policy, name, **params):
    spec = find_component("attention", name)(**params)
    return spec.load()(spec, policy.context)


def scored(policy, kind, batch, parts=None):
    """Return log-probabilities of rows with an attention, and the gradient of a random sum of them."""
    policy.set_attention(kind)
    return gradient(policy, batch, parts)


def gradient(policy, batch, parts=None):
    policy.model.zero_grad(set_to_none=True)
    weight = torch.randn(batch["tokens_RT"].shape, generator=torch.Generator().manual_seed(0)).to(policy.device)
    made = []
    for index in parts or (torch.arange(batch.num_rows),):
        part = batch.rows(index)
        width = int(part["attend_RT"].sum(-1).max())
        columns = [part[name][:, :width] for name in ("tokens_RT", "attend_RT", "trained_RT")]
        logprob = policy.logprobs(*columns, entropy=False)["logprob_RT"]
        (logprob * weight[index, :width]).sum().backward()
        made.append(logprob.detach()[columns[2].to(logprob.device)])
    return torch.cat(made), torch.cat([p.grad.flatten().float() for p in policy.model.parameters()])


def off(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def kernels_agree(bench):
    """Return the largest ratio of the kernel's error to that of plain bfloat16 products, outputs and gradients."""
    rows = tree(bench.text, **bench.scale.tree)[:6]
    merged = merge(batch_of(rows))
    drawn = torch.Generator().manual_seed(1)
    heads, groups, width = 4, 2, 64
    shapes = [(heads, merged.size, width), (groups, merged.size, width), (groups, merged.size, width)]
    exact = [torch.randn(s, generator=drawn, dtype=torch.float64).to(bench.device) for s in shapes]
    weight = torch.randn(shapes[0], generator=drawn, dtype=torch.float64).to(bench.device)
    layer = reference.Layer(width**-0.5)

    def run(attend, dtype):
        given = [t.to(dtype).requires_grad_() for t in exact]
        out = attend(*given)
        return [t.detach().double() for t in (out, *torch.autograd.grad(out, given, weight.to(dtype)))]

    def ours(q, k, v):
        plan = varlen.calls(merged, bench.device)
        return varlen.attend(*(t.transpose(0, 1) for t in (q, k, v)), plan, layer.scale).transpose(0, 1)

    def plain(q, k, v):
        return reference.by_mask(q, k, v, merged, layer, stock=False)

    expected, low = run(plain, torch.float64), run(plain, torch.bfloat16)
    found = run(ours, torch.bfloat16)
    return max(off(f, e) / off(x, e) for f, e, x in zip(found, expected, low, strict=True))


def models_agree(bench):
    """Return the error in float32, and the ratio of bfloat16 errors: prefix tree to dense rows."""
    batch = batch_of(tree(bench.text, **bench.scale.tree)[:6])
    policy = bench.policy(bench.scale.small, torch.float32, num_hidden_layers=2)
    kinds = {name: attention(policy, name) for name in ("dense", "trie")}
    expected = scored(policy, kinds["dense"], batch)
    found = scored(policy, kinds["trie"], batch)
    exact = max(float((found[0] - expected[0]).abs().max()), off(found[1], expected[1]))
    policy.model.to(torch.bfloat16).to(torch.float32)  # rounded weights, so that only sums differ
    expected = scored(policy, kinds["dense"], batch)
    policy.model.to(torch.bfloat16)
    low = {name: off(scored(policy, kind, batch)[1], expected[1]) for name, kind in kinds.items()}
    return exact, low["trie"] / low["dense"]


def merge(batch):
    return prefix_tree.build(batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy() - 1)


def minimal(policy, batch):
    """Return the FLOPs that forward and backward need: with dense rows, and as a prefix tree."""
    merged, of = merge(batch), flops.sizes(policy.model)
    row, column = batch["trained_RT"].numpy().nonzero()
    logits = len(np.unique(merged.node_RT[row, column - 1]))
    dense = flops.required(of, merged.dense_tokens, merged.dense_pairs, len(row), backward=True)
    return dense, flops.required(of, merged.size, merged.pairs, logits, backward=True)


def speed(bench, policy, batch, sizes=(1, 2, 4)):
    """Return milliseconds of every attention, dense with several micro-batch sizes."""
    rows = torch.arange(batch.num_rows)
    ways = [("trie", attention(policy, "trie"), None), ("packed", attention(policy, "packed"), torch.split(rows, 4))]
    ways += [(f"dense {size}", attention(policy, "dense"), torch.split(rows, size)) for size in sizes]
    found = {}
    for name, kind, parts in ways:
        try:
            policy.set_attention(kind)
            found[name] = bench.milliseconds(lambda p=parts: gradient(policy, batch, p))
        except (torch.OutOfMemoryError, RecipeError):
            found[name] = float("inf")
    return found


def kernels_race(bench):
    """Return milliseconds of the attention alone, forward and backward: ours, flex, and the first call of flex."""
    merged = merge(batch_of(tree(bench.text, **bench.scale.tree)))
    heads, groups, width = 12, 2, 128
    shapes = [(heads, merged.size, width), (groups, merged.size, width), (groups, merged.size, width)]
    given = [torch.randn(s, device=bench.device, dtype=torch.bfloat16).requires_grad_() for s in shapes]
    layer = reference.Layer(width**-0.5)
    plan = varlen.calls(merged, bench.device)

    def ours():
        out = varlen.attend(*(t.transpose(0, 1) for t in given), plan, layer.scale)
        torch.autograd.grad(out.sum(), given)

    def other():
        torch.autograd.grad(flex.attend(*given, merged, layer).sum(), given)

    if bench.device.type != "cuda":
        return bench.milliseconds(ours), float("nan"), float("nan")
    bench.milliseconds(other)  # the shape before the new one
    merged = merge(batch_of(tree(bench.text, **{**bench.scale.tree, "read": bench.scale.tree["read"] + 3})))
    given = [torch.randn((s[0], merged.size, s[2]), device=bench.device, dtype=torch.bfloat16) for s in shapes]
    given = [t.requires_grad_() for t in given]
    plan = varlen.calls(merged, bench.device)
    began = time.perf_counter()
    other()
    torch.cuda.synchronize()
    first = 1e3 * (time.perf_counter() - began)
    return bench.milliseconds(ours), bench.milliseconds(other), first


def planned(bench):
    """Return the milliseconds from new rows to the kernel calls of their prefix tree."""
    took = []
    for extra in range(bench.scale.repeats):
        batch = batch_of(tree(bench.text, **{**bench.scale.tree, "turn": bench.scale.tree["turn"] + extra}))
        tokens, lengths = batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy()
        began = time.perf_counter()
        varlen.calls(prefix_tree.build(tokens, lengths - 1), bench.device)
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took)


def figures(bench):
    """Yield the lines of the table: the name of a figure, and what was measured.

    Raises:
        SystemExit: the prefix tree differs from dense rows; nothing is timed.
    """
    kernel = kernels_agree(bench)
    exact, low = models_agree(bench)
    yield (
        "errors: kernels in bf16 / plain products; model in float32; model in bf16 / dense rows",
        (f"{kernel:.2f}; {exact:.1e}; {low:.2f}"),
    )
    if not (kernel <= 2 and exact <= 1e-4 and low <= WORSE):
        raise SystemExit(f"the prefix tree differs from dense rows: {kernel:.2f}, {exact:.1e}, {low:.2f}")
    policy = bench.policy(bench.scale.small, torch.bfloat16)
    useful = []
    for name, (prompt, answer, rows) in zip(("G1", "G2"), bench.scale.groups, strict=True):
        batch = batch_of(flat(bench.text, prompt, [answer] * rows))
        dense, least = minimal(policy, batch)
        took = speed(bench, policy, batch)
        best = min((k for k in took if k != "trie"), key=took.__getitem__)
        gain = took[best] / took["trie"]
        yield (
            name,
            (
                f"{gain:.2f} over {best} ({took[best]:.0f} → {took['trie']:.0f} ms), ideal {dense / least:.2f}, "
                f"**efficiency {gain / (dense / least):.2f}**"
            ),
        )
        useful.append(bench.share(least, took["trie"]))
    batch = batch_of(flat(bench.text, *_group(bench.scale.groups[0])))
    held = {}
    for name in ("dense", "trie"):
        policy.set_attention(attention(policy, name))
        held[name] = bench.peak(lambda: gradient(policy, batch))
    del policy
    policy = bench.policy(bench.scale.large, torch.bfloat16)
    took = speed(bench, policy, batch, ())["trie"]
    useful.append(bench.share(minimal(policy, batch)[1], took))
    yield "G3", f"{useful[0]:.2f} (4k), {useful[1]:.2f} (8k); {useful[2]:.2f}"
    memory = f"{held['dense'] / 2**30:.1f} / {held['trie'] / 2**30:.1f} GiB = {held['dense'] / held['trie']:.2f}"
    yield "G4", f"{memory}; without the weights"
    ours, other, first = kernels_race(bench)
    yield "G5", f"{other:.2f} / {ours:.2f} ms = {other / ours:.2f}"
    yield "G6", f"{planned(bench):.1f} ms; flex {first:.0f} ms"


def _group(group):
    prompt, answer, rows = group
    return prompt, [answer] * rows


def table(found, device):
    """Return the lines of the table; figures that are missing are `not measured`."""
    lines = [f"{device}.", "", "| # | what | goal | measured |", "|---|---|---|---|"]
    lines += [f"| | {name} | ≤ 2; ≤ 1e-4; ≤ {WORSE} | {what} |" for name, what in found.items() if name not in GOALS]
    lines += [f"| {n} | {what} | {goal} | {found.get(n, 'not measured')} |" for n, (what, goal) in GOALS.items()]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="replace the table between the markers of this page")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: not measured")
        return
    device = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, random weights"
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, what in figures(Bench("cuda", FULL, Path(cache))):
            print(f"{name}: {what}", flush=True)
            found[name] = what
    lines = table(found, device)
    print("\n".join(lines))
    if options.write:
        write_between(options.write, BEGIN, END, lines)


if __name__ == "__main__":
    main()
