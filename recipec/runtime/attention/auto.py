"""Automatic choice of the attention: ``trie`` if it is predicted to save operations, else ``packed``, else ``dense``.

The compiler chooses if the recipe determines the sharing.  Otherwise the first scored rows decide: they are merged and
divided as the budget requires, and the saving is the operations of a forward and backward pass of each row on its own,
divided by those of the prefix tree.  The choice is made once, kept in checkpoints and reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from recipec.component import Component
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import write_atomic
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.microbatch_packing import pack
from recipec.runtime.model.dropout import rates
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Attention, Policy, Sharing
from recipec.spec.attention import WORTH, Dense, Packed, Trie

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

KEPT = "attention.json"
"""File with the choice in the folder of a stage."""
_CHOICES = {spec.type_name: spec for spec in (Trie(), Packed(), Dense())}
"""From the fastest to the simplest."""


class AutoAttention(Attention):
    """One of the other attentions; see :class:`recipec.spec.attention.Auto`."""

    def __init__(
        self,
        spec: Component,
        context: StageContext,
        *,
        choice: str = "",
        reason: str = "",
        leader: AutoAttention | None = None,
    ) -> None:
        """``choice`` and ``reason`` are the compiler's, empty if rows decide; with a ``leader``, its choice is used."""
        super().__init__(spec, context)
        self.leader, self.choice, self.reason = leader, choice, reason
        self.chosen: Attention = DenseAttention(Dense(), context)
        self.name = ""
        """The chosen attention; empty until rows have decided."""
        self.why = ""
        self._policy: Policy | None = None
        self._before = ""

    def unbound_copy(self) -> AutoAttention:
        """Return an unbound one for a second model; it follows the choice of this one."""
        return AutoAttention(self.spec, self.context, leader=self)

    @property
    def padded(self) -> bool:  # type: ignore[override]
        """Whether a micro-batch costs its longest sample times its number of samples."""
        return self.chosen.padded

    @property
    def sharing(self) -> Sharing:  # type: ignore[override]
        """What samples of one micro-batch share."""
        return self.chosen.sharing

    @property
    def shared(self) -> prefix_tree.TokensShared | None:  # type: ignore[override]
        """Counts of the passes so far, where prefixes are shared."""
        return self.chosen.shared

    @property
    def hands_over(self) -> bool:  # type: ignore[override]
        """Whether a pass can take keys and values of a prefix from an earlier pass."""
        return self.chosen.hands_over

    def bind(self, policy: Policy) -> None:
        """Choose for this policy if that needs no rows."""
        self._policy = policy
        self._before = str(policy.model.config._attn_implementation)  # noqa: SLF001 - the library has no getter
        if self.leader is not None:
            return
        if drops(policy):
            self._take(Packed.type_name, "with dropout rows cannot share a computation")
        elif self.choice:
            self._take(self.choice, self.reason)

    def choose(self, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor, limit: int | None = None) -> None:
        """Choose by the first rows if there is no choice yet; ``limit`` is the budget of a forward pass in tokens."""
        if self.name:
            return
        if self.leader is not None:
            self.leader.choose(tokens_RT, attend_RT, scored_RT, limit)
            self._take(self.leader.name, self.leader.why)
            return
        assert self._policy is not None, "an attention is bound before it chooses"
        gain = ideal(self._policy, tokens_RT, attend_RT, scored_RT, limit)
        self._take(Trie.type_name if gain >= WORTH else Packed.type_name, f"ideal {gain:.2f}x")

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return what the chosen attention returns."""
        self.choose(tokens_RT, attend_RT, scored_RT)
        states: TargetHiddenStates = self.chosen.target_hidden_states(policy, tokens_RT, attend_RT, scored_RT)
        return states

    def state(self) -> dict[str, Any]:
        """The choice and its reason: rows of later steps must not change it."""
        return {"name": self.name, "why": self.why}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        name, why = str(state["name"]), str(state["why"])
        if name and name != self.name:
            self._take(name, why)
        self.why = why

    def _take(self, name: str, why: str) -> None:
        """Use ``name``, or the next simpler attention that supports the policy, and report it."""
        policy = self._policy
        assert policy is not None, "an attention is bound before it chooses"
        for choice in tuple(_CHOICES)[tuple(_CHOICES).index(name) :]:
            spec = _CHOICES[choice]
            attention: Attention = spec.load()(spec, self.context)
            try:
                policy.layout.inside(partial(attention.bind, policy))
            except RecipeError as error:
                policy.model.set_attn_implementation(self._before)
                why += f"; {error.diagnostics[0].message}"
                continue
            self.chosen, self.name, self.why = attention, choice, why
            break
        if self.leader is None:
            self.context.say(f"attention {self.name}: {self.why}")
            if self.context.home is not None:
                described = json.dumps({"attention": self.name, "why": self.why}, ensure_ascii=False) + "\n"
                write_atomic(self.context.home / KEPT, described)


def drops(policy: Policy) -> bool:
    """Whether a policy has dropout."""
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in policy.model.modules()):
        return True
    return any(rate for _, _, rate in rates(policy.model.config.get_text_config()))


def ideal(policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor, limit: int | None) -> float:
    """Return the operations of these rows divided by those of their prefix tree, forward and backward."""
    lengths_R = attend_RT.sum(-1)
    parts: tuple[Tensor, ...] = (torch.arange(len(tokens_RT)),)
    if limit is not None:
        units = list(torch.arange(len(tokens_RT))[:, None])
        parts = pack(tokens_RT, lengths_R, units, max(limit, int(lengths_R.max())), None).parts
    of = flops.sizes(policy.model, policy.layout.shape)
    spent = [0.0, 0.0]
    for part in parts:
        tokens, scored = tokens_RT[part].cpu().numpy(), scored_RT[part].cpu().numpy().astype(bool)
        tree = prefix_tree.build(tokens, np.maximum(lengths_R[part].cpu().numpy() - 1, 0))
        for place, operations in enumerate(flops.of_tree(of, tree, scored)):
            spent[place] += operations
    return spent[0] / spent[1] if spent[1] else 1.0
