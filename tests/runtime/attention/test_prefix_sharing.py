"""What a pass over shared prefixes gives a model and takes from it, seen by a model that returns what it is given."""

from pathlib import Path

import pytest
import torch
from torch import nn

from recipec.runtime.attention import prefix_sharing
from recipec.runtime.attention.prefix_sharing import PrefixSharing, positions
from recipec.runtime.attention.prefix_tree import build
from recipec.runtime.attention.trie_attention import SharedPrefix, TrieAttention
from recipec.runtime.context import StageContext
from recipec.spec import attention

CONTEXT = StageContext(root=Path(), cache=Path(), seed=0, stage="s")


class Echo:
    """A policy whose hidden states are the token and its positions; it has no layers."""

    def __init__(self, places_3RT=None):
        self.model, self.device, self.vocabulary = nn.Module(), torch.device("cpu"), 100
        self.places_3RT = places_3RT

    def position_ids(self, tokens_RT):  # noqa: ARG002 - as a policy's
        """Return the positions of M-RoPE, if there are any."""
        return self.places_3RT

    def hidden_states(self, input_ids, position_ids):
        """Return [1, N, 2] or [1, N, 4]."""
        places = position_ids if position_ids.ndim == 3 else position_ids[None]
        return torch.cat([input_ids[..., None], places.permute(1, 2, 0)], -1).double()


def batch(*rows):
    """Pad rows of ids."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return tokens, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]


ROWS = ((5, 6, 7, 8), (5, 6, 9), (4, 6, 7, 8, 9))


def made(kind, policy, tokens, attend, scored=None):
    """Return the hidden state and the target of each scored position."""
    scored = attend & (torch.arange(tokens.shape[1]) > 0) if scored is None else scored
    found = kind.target_hidden_states(policy, tokens, attend, scored)
    return found.hidden_UH[found.predictor_K[found.gather_M]], found.target_K[found.gather_M]


def trie():
    """Return an attention over prefix trees that is bound to nothing."""
    return TrieAttention(attention.Trie(), CONTEXT)


def test_states_are_those_of_the_token_before_each_target():
    """Of every scored position, in the order of rows: the token before it, its position, and the target."""
    tokens, attend = batch(*ROWS)
    states, targets = made(trie(), Echo(), tokens, attend)
    wanted = [(row[i], i, row[i + 1]) for row in ROWS for i in range(len(row) - 1)]
    assert torch.equal(states, torch.tensor([one[:2] for one in wanted]).double())
    assert targets.tolist() == [one[2] for one in wanted]


def test_positions_of_three_axes_reach_the_model():
    """With M-RoPE each token of the tree has the three positions that its rows have; padding has none."""
    tokens, attend = batch(*ROWS)
    places = torch.stack([10 * (axis + 1) + torch.arange(5).expand(3, 5) for axis in range(3)])
    states, _ = made(trie(), Echo(places.where(attend, -7)), tokens, attend)
    wanted = [(row[i], 10 + i, 20 + i, 30 + i) for row in ROWS for i in range(len(row) - 1)]
    assert torch.equal(states, torch.tensor(wanted).double())


def test_positions_of_a_tree():
    """Depths [1, N], or the three positions of each token [3, 1, N]."""
    tokens, attend = batch(*ROWS)
    lengths = attend.sum(-1).numpy()
    tree = build(tokens.numpy(), lengths)
    assert positions(tree).tolist() == [tree.position_N.tolist()]
    places = torch.stack([100 * axis + torch.arange(5).expand(3, 5) for axis in range(3)]).numpy()
    found = positions(tree, places)
    assert found.shape == (3, 1, tree.size)
    assert found[:, 0].tolist() == [(tree.position_N + 100 * axis).tolist() for axis in range(3)]


def test_tokens_are_counted_over_passes():
    """Those of rows and those that are computed add up over the passes of a step."""
    kind, (tokens, attend) = trie(), batch(*ROWS)
    for passes in (1, 2):
        made(kind, Echo(), tokens, attend)
        # the last token of a row predicts nothing: 5 6 7 | 5 6 | 4 6 7 8
        assert (kind.shared.dense_tokens, kind.shared.tokens) == (9 * passes, 7 * passes)


def test_prompts_of_several_lengths_are_shared_alone():
    """Each row's prompt ends before its first scored token; equal answers are computed for each row."""
    kind = SharedPrefix(attention.SharedPrefix(), CONTEXT)
    rows = (5, 6, 7, 8, 9), (5, 6, 7, 8, 9), (5, 6, 3, 3, 3), (5, 6, 3, 3, 3)
    tokens, attend = batch(*rows)
    scored = torch.arange(5) >= torch.tensor([3, 3, 2, 2])[:, None]
    states, _ = made(kind, Echo(), tokens, attend, scored)
    wanted = [(row[i - 1], i - 1) for row, begin in zip(rows, (3, 3, 2, 2), strict=True) for i in range(begin, 5)]
    assert torch.equal(states, torch.tensor(wanted).double())
    # 5 6 7 for two rows and 5 6 for two: whole prompts; of each answer what is before its last token
    assert kind.shared.tokens == (3 + 2 * 1) + (2 + 2 * 2)


def test_rows_that_are_scored_elsewhere_have_a_tree_of_their_own():
    """Prompts that end elsewhere make another tree of the same rows; where all prefixes are shared, it is the same."""
    tokens, attend = batch(*ROWS)
    for kind, trees in ((trie(), 1), (SharedPrefix(attention.SharedPrefix(), CONTEXT), 2)):
        for begin in (1, 2):
            made(kind, Echo(), tokens, attend, attend & (torch.arange(5) >= begin))
        assert len(kind._trees) == trees


def test_the_latest_trees_are_kept(monkeypatch):
    """As many as are kept, the oldest are dropped: memory stays bounded, and the rows of this step are there."""
    monkeypatch.setattr(prefix_sharing, "_KEPT", 2)
    kind, steps = trie(), [batch((4, last, 7), (4, last, 8)) for last in (1, 2, 3)]
    trees = []
    for tokens, attend in steps:
        made(kind, Echo(), tokens, attend)
        trees.append(next(reversed(kind._trees.values())))
    assert list(kind._trees.values()) == trees[1:]


@pytest.mark.parametrize("kind", [TrieAttention, SharedPrefix])
def test_a_copy_for_a_second_model(kind):
    """It has the same spec and context, and is bound to no model: a reference counts and keeps its own."""
    spec = {TrieAttention: attention.Trie, SharedPrefix: attention.SharedPrefix}[kind](kernel="eager")
    first = kind(spec, CONTEXT)
    other: PrefixSharing = first.unbound_copy()
    assert type(other) is kind
    assert (other.spec, other.context) == (spec, CONTEXT)
    assert other.shared is not first.shared
    assert other._trees is not first._trees
