"""Time forward and backward over a prefix tree that is larger than the budget of a pass.

The same passes compute shared prefixes again, or hand them over.  *Tokens* and *operations* are relative to those of
one pass over the whole tree, which is measured too.  Memory is the most bytes saved for backward passes at once.
"""

from __future__ import annotations

import time
from contextlib import nullcontext

import numpy as np
import torch
from trie_cases import CASES, SMALL, Text, batch_of

from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.handover import Handover
from recipec.runtime.training.packing import pack_rows

CUT = ("GRPO 2048/128, G 8", "Tree-GRPO: 4 trees of 3, 4 turns", "binary tree, 32 a node")
SHARES = (2, 4)
"""The budget of a pass is the tree divided by these, or the longest row if that is more."""


class Saved:
    """Counts bytes that are saved for backward passes."""

    def __init__(self, model):
        self.own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.held, self.now, self.most = {}, 0, 0

    def keep(self, tensor):
        """Count a tensor until its graph is gone."""
        return Held(self, tensor)

    def counting(self):
        """Count the tensors of all graphs made in this context."""
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda held: held.tensor)


class Held:
    """A saved tensor; several of them may have the same storage."""

    def __init__(self, saved, tensor):
        self.saved, self.tensor = saved, tensor
        storage = tensor.untyped_storage()
        self.place, self.size = storage.data_ptr(), storage.nbytes()
        saved.held[self.place] = saved.held.get(self.place, 0) + 1
        if saved.held[self.place] == 1 and self.place not in saved.own:
            saved.now += self.size
            saved.most = max(saved.most, saved.now)

    def __del__(self):
        self.saved.held[self.place] -= 1
        if not self.saved.held[self.place] and self.place not in self.saved.own:
            self.saved.now -= self.size


def run(policy, batch, packing, *, hands_over):
    """Run forward and backward of all passes; return the number of tokens computed."""
    counts = policy.attention.shared
    before, passes = counts.tokens, range(len(packing.parts))
    handover = Handover(policy, batch, packing, passes if hands_over else ())
    for place in passes:
        part = batch.rows(packing.parts[place])
        with handover.during(place):
            made = policy.logprobs(part["tokens_RT"], part["attend_RT"], part["trained_RT"], entropy=False)
            made["logprob_RT"].sum().backward()
    return counts.tokens - before


def measure(policy, batch, budgets, repeats):
    """Return tokens, operations, seconds, bytes and gradient of each budget, with and without hand-over."""
    found = {}
    for turn in range(repeats + 1):
        for budget in budgets:
            packing = pack_rows(batch, budget, padded=False, sharing="prefixes")
            for hands_over in (False, True)[: min(2, len(packing.parts))]:
                policy.model.zero_grad()
                saved = Saved(policy.model)
                counter = nullcontext() if turn else flops.counting()
                with counter as operations, nullcontext() if turn else saved.counting():
                    began = time.process_time()
                    tokens = run(policy, batch, packing, hands_over=hands_over)
                    took = time.process_time() - began
                key = budget, hands_over
                if turn:
                    found[key]["seconds"] = min(took, found[key]["seconds"])
                else:
                    grads = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
                    found[key] = {
                        "passes": len(packing.parts), "tokens": tokens, "operations": operations.get_total_flops(),
                        "seconds": float("inf"), "bytes": saved.most, "gradient": torch.cat(grads),
                    }  # fmt: skip
    return found


def lines(policy, options):
    """Yield the lines of the table of cut trees; the policy has attention `trie`."""
    yield (
        "| case | tokens of the tree | of a pass | passes | computed again: tokens | operations | ms | MB "
        "| handed over: tokens | operations | ms | MB | gradient error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    cases = SMALL if options.small else {name: CASES[name] for name in CUT}
    for case, make in cases.items():
        batch = batch_of(make(Text(np.random.default_rng(0), policy.vocabulary)))
        lengths_R = batch["attend_RT"].sum(-1)
        size = prefix_tree.build(batch["tokens_RT"].numpy(), lengths_R.numpy()).size
        least = [max(-(-size // share), int(lengths_R.max())) for share in SHARES]
        budgets = list(dict.fromkeys([size, *least]))
        found = measure(policy, batch, budgets, options.repeats)
        whole = found[size, False]
        yield f"| {case} | {whole['tokens']} | {size} | 1 | | | | | | | {_cost(whole)} | |"
        for budget in budgets[1:]:
            again, handed = found[budget, False], found.get((budget, True))
            if handed is None:
                continue
            off = float((handed["gradient"] - whole["gradient"]).norm() / whole["gradient"].norm())
            ratios = (
                f"{one['tokens'] / whole['tokens']:.3f} | {one['operations'] / whole['operations']:.3f} | {_cost(one)}"
                for one in (again, handed)
            )
            yield f"| | | {budget} | {again['passes']} | {' | '.join(ratios)} | {off:.1e} |"


def _cost(one):
    return f"{1e3 * one['seconds']:.0f} | {one['bytes'] / 1e6:.0f}"
