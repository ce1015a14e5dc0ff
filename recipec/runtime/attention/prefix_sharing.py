"""A forward pass over a prefix tree: each unique token goes through the model once, forward and backward."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import handover, interface, prefix_tree
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Attention, Policy, Sharing
from recipec.spec import attention as specs

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

_KEPT = 64  # trees kept for later passes over the same rows: old policy, reference policy, next epochs


class PrefixSharing(Attention):
    """Common prefixes are shared, whether or not the architecture certifies; ``bind`` comes from its subclasses."""

    padded = False
    sharing: Sharing = "prefixes"

    def __init__(self, spec: specs.PrefixSharing, context: StageContext) -> None:
        """Count the tokens of this policy's passes, and keep their trees."""
        super().__init__(spec, context)
        self.layers = 0
        self.shared: prefix_tree.TokensShared = prefix_tree.TokensShared()
        self._trees: OrderedDict[bytes, prefix_tree.PrefixTree] = OrderedDict()

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position, shared ones once.

        The last token of a sequence predicts no scored token and is omitted.

        Raises:
            RecipeError: RC832, a row is not right-padded; RC833, a layer did not use prefix-tree attention.
        """
        device = tokens_RT.device
        tokens, attend, scored = (t.cpu().numpy() for t in (tokens_RT, attend_RT, scored_RT))
        lengths = attend.sum(-1)
        if not (attend == (np.arange(attend.shape[1]) < lengths[:, None])).all():
            raise RecipeError(errors.mask_from_outside("a row does not begin at its first token, or has holes"))
        tree = self.tree(tokens, np.maximum(lengths - 1, 0), scored)
        assert tree.size, "no row has two tokens"
        shared = handover.shared_tokens(tree, device)
        if shared is None or shared.kept is None:
            self.shared.dense_tokens += tree.dense_tokens
        turned_3RT = policy.position_ids(tokens_RT)
        places_3RT = None if turned_3RT is None else turned_3RT.cpu().numpy()
        hidden_NH = self._hidden(policy, tree, positions(tree, places_3RT), shared)
        row, column = scored.nonzero()
        # a token may be followed by several targets: each (predictor, target) is a pair
        pair_M = tree.node_RT[row, column - 1] * policy.vocabulary + tokens[row, column]
        known = [] if shared is None else shared.scored(tokens, scored)
        known_K = np.concatenate([pair_M[:0], *(node * policy.vocabulary + target for _, node, target in known)])
        own_K = np.setdiff1d(pair_M, known_K)
        pair_K = np.concatenate([own_K, known_K])
        order_K = np.argsort(pair_K)
        gather_M = order_K[np.searchsorted(pair_K, pair_M, sorter=order_K)]
        nodes, predictor = np.unique(own_K // policy.vocabulary, return_inverse=True)
        at_U = np.concatenate([nodes, known_K // policy.vocabulary])
        predictor_K = np.concatenate([predictor, len(nodes) + np.arange(len(known_K))])
        at, which, target, back = (
            torch.from_numpy(array).to(device) for array in (at_U, predictor_K, pair_K % policy.vocabulary, gather_M)
        )
        scored_before = tuple(
            partial(prefix.scored, target_K=torch.from_numpy(targets).to(device)) for prefix, _, targets in known
        )
        return TargetHiddenStates(hidden_NH[at], which, target, back, scored_before=scored_before)

    def _hidden(
        self, policy: Policy, tree: prefix_tree.PrefixTree, position_N: Tensor, shared: handover.SharedTokens | None
    ) -> Tensor:
        """Return the hidden states of all tokens of a tree."""
        token_N = torch.from_numpy(tree.tokens_N)
        if shared is not None:
            token_N, position_N = token_N[shared.own], position_N[..., shared.own]
            if not len(shared.own):
                return shared.all_hidden(None)
        self.shared.tokens += len(token_N)
        tree_pass = interface.TreeForward(tree if shared is None else shared.tree, self.spec.kernel, shared)
        with interface.activate(tree_pass, policy.model):
            hidden_1NH = policy.hidden_states(
                input_ids=token_N[None].to(policy.device), position_ids=position_N.to(policy.device)
            )
        if tree_pass.calls != self.layers:
            raise RecipeError(errors.layer_missed(tree_pass.calls, self.layers))
        return hidden_1NH[0] if shared is None else shared.all_hidden(hidden_1NH[0])

    def tree(self, tokens: Any, lengths: Any, scored: Any) -> prefix_tree.PrefixTree:
        """Return the prefix tree of rows; those of earlier passes are kept."""
        prompts = prefix_tree.prompt_lengths(scored, lengths) if self.sharing == "prompts" else None
        digest = hashlib.blake2b(digest_size=16)
        for part in (tokens, lengths, prompts):
            digest.update(b"|" if part is None else np.ascontiguousarray(part).tobytes())
        digest.update(repr(tokens.shape).encode())
        key = digest.digest()
        if key not in self._trees:
            self._trees[key] = prefix_tree.build(tokens, lengths, prompts)
            while len(self._trees) > _KEPT:
                self._trees.popitem(last=False)
        return self._trees[key]


def positions(tree: prefix_tree.PrefixTree, turned_3RT: Any = None) -> Tensor:
    """Return the positions of a tree's tokens: their depth [1, N], or those of M-RoPE [3, 1, N]."""
    if turned_3RT is None:
        return torch.from_numpy(tree.position_N)[None]
    place_RT = np.arange(tree.node_RT.shape[1]) < tree.lengths_R[:, None]
    found_3N = np.zeros((3, tree.size), dtype=np.int64)
    found_3N[:, tree.node_RT[place_RT]] = turned_3RT[:, :, : place_RT.shape[1]][:, place_RT]
    return torch.from_numpy(found_3N)[:, None]
