"""Rows merged into a forest: each unique token goes through the model once, forward and backward."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recipec.component import Component
from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import interface, prefix_tree
from recipec.runtime.attention.certification.cache import certificate
from recipec.runtime.attention.kernels import flash
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Attention, Policy, Sharing

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

_KEPT = 64  # forests kept for the next pass over the same rows: the old policy's, the reference's, the next epoch's


class TrieAttention(Attention):
    """A forest of all prefixes; see :class:`recipec.spec.attention.Trie`."""

    padded = False
    sharing: Sharing = "prefixes"

    def __init__(self, spec: Component, context: StageContext) -> None:
        """Take the parameters."""
        self.spec, self.context = spec, context
        self.kernel: interface.Kernel = getattr(spec, "kernel", "auto")  # `auto` and `packed` have no kernels to choose
        self.layers = 0
        self.shared: prefix_tree.TokensShared = prefix_tree.TokensShared()
        self._forests: OrderedDict[bytes, prefix_tree.PrefixTree] = OrderedDict()

    def again(self) -> TrieAttention:
        """Return an unbound one, for a second model."""
        return type(self)(self.spec, self.context)

    def bind(self, policy: Policy) -> None:
        """Take the model over, after one of its architecture has shown that it computes forests as it does rows.

        Raises:
            RecipeError: RC830, it does not; RC831, the kernel cannot.
        """
        config: Any = policy.model.config
        name = str(self.spec.type_name)
        if self.kernel == "flex" and policy.device.type != "cuda":
            raise RecipeError(errors.kernel_not_here("flex", "it has no backward on a CPU"))
        capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
        if self.kernel == "flash" and capped and not flash.caps(policy.device):
            raise RecipeError(errors.kernel_not_here("flash", "the layers cap their scores"))
        found = certificate(config, self.context.cache)
        if not found.equal:
            raise RecipeError(errors.not_certified(name, str(config.model_type), found.why, shares=True))
        self.layers, _ = interface.bind(policy.model)

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position, those that rows share once.

        The last token of a row predicts nothing that is scored, and is left out.

        Raises:
            RecipeError: RC832, rows do not begin at their first token or have holes; RC833, a layer went another way.
        """
        device = tokens_RT.device
        tokens, attend, scored = (t.cpu().numpy() for t in (tokens_RT, attend_RT, scored_RT))
        lengths = attend.sum(-1)
        if not (attend == (np.arange(attend.shape[1]) < lengths[:, None])).all():
            raise RecipeError(errors.mask_from_outside("a row does not begin at its first token, or has holes"))
        forest = self.forest(tokens, np.maximum(lengths - 1, 0), scored)
        assert forest.size, "no row has two tokens"
        self.shared.dense_tokens += forest.dense_tokens
        self.shared.tokens += forest.size
        made = interface.Pass(forest, self.kernel)
        turned_3RT = policy.positions(tokens_RT)
        with interface.over(made, policy.model):
            hidden_1NH = policy.hidden(
                input_ids=torch.from_numpy(forest.tokens_N)[None].to(device),
                position_ids=positions(forest, None if turned_3RT is None else turned_3RT.cpu().numpy()).to(device),
            )
        if made.calls != self.layers:
            raise RecipeError(errors.layer_missed(made.calls, self.layers))
        row, column = scored.nonzero()
        # what follows a token is a pair of its own: one predictor may have several targets
        asked = forest.node_RT[row, column - 1] * policy.vocabulary + tokens[row, column]
        pairs, gather = np.unique(asked, return_inverse=True)
        nodes, predictor = np.unique(pairs // policy.vocabulary, return_inverse=True)
        at, which, target, back = (
            torch.from_numpy(found).to(device) for found in (nodes, predictor, pairs % policy.vocabulary, gather)
        )
        return TargetHiddenStates(hidden_1NH[0, at], which, target, back)

    def forest(self, tokens: Any, lengths: Any, scored: Any) -> prefix_tree.PrefixTree:
        """Merge rows; those of an earlier pass are looked up."""
        prompts = None
        if self.sharing == "prompts":
            prompts = np.minimum(np.where(scored.any(-1), scored.argmax(-1), lengths), lengths)
        digest = hashlib.blake2b(digest_size=16)
        for part in (tokens, lengths, prompts):
            digest.update(b"|" if part is None else np.ascontiguousarray(part).tobytes())
        digest.update(repr(tokens.shape).encode())
        key = digest.digest()
        if key not in self._forests:
            self._forests[key] = prefix_tree.build(tokens, lengths, prompts)
            while len(self._forests) > _KEPT:
                self._forests.popitem(last=False)
        return self._forests[key]


def positions(forest: prefix_tree.PrefixTree, turned_3RT: Any = None) -> Tensor:
    """Return positions of a forest's tokens: their depth [1, N], or those they have in any of their rows [3, 1, N]."""
    if turned_3RT is None:
        return torch.from_numpy(forest.position_N)[None]
    place_RT = np.arange(forest.node_RT.shape[1]) < forest.lengths_R[:, None]
    found_3N = np.zeros((3, forest.size), dtype=np.int64)
    found_3N[:, forest.node_RT[place_RT]] = turned_3RT[:, :, : place_RT.shape[1]][:, place_RT]
    return torch.from_numpy(found_3N)[:, None]


class SharedPrefix(TrieAttention):
    """One shared prompt and its answers; see :class:`recipec.spec.attention.SharedPrefix`."""

    sharing: Sharing = "prompts"
