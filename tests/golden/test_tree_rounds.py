"""Trees against rounds, draws and rows made by the authors' own tree (`data/tree_rounds.json`)."""

import json
import math
from pathlib import Path

import pytest

from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import EpisodeState
from recipec.runtime.rollout.episodes import Node
from recipec.runtime.rollout.tree import breadth_first, candidates, grow, keep, leaves, mean_reward

CASES = json.loads((Path(__file__).parent / "data" / "tree_rounds.json").read_text())["cases"]


class Listed:
    """Grows the chains that a case lists, whose nodes are numbered in the order in which the authors made them."""

    def __init__(self, case):
        self.case = case
        roots = case["parent"].count(None)
        self.nodes = [self.node(None, i) for i in range(roots)]
        self.roots = self.nodes[:]

    def node(self, parent, number):
        """Make the next listed node."""
        position = EpisodeState(Task(0, "", ()), (), turns=0, ended=bool(self.case["leaf"][number]), notes=number)
        return Node(parent, position)

    def grow(self, starts, keys):
        """Give each start the next listed chain."""
        assert len(starts) == len(keys) == len(set(keys))
        ends = []
        for start in starts:
            node = start
            while not node.leaf:
                number = len(self.nodes)
                assert self.case["parent"][number] == node.position.notes
                child = self.node(node, number)
                node.children.append(child)
                self.nodes.append(child)
                node = child
            ends.append(node)
        return ends


def numbers(nodes):
    """The case's names of nodes."""
    return [node.position.notes for node in nodes]


def grown(case):
    """Replay a case's draws; each round must offer the listed candidates."""
    growth = Listed(case)

    def draw(tree, number, nodes):
        assert numbers(nodes) == case["candidates"][number - 1][tree]
        return [growth.nodes[i] for i in case["chosen"][number - 1][tree]]

    grow(growth, growth.roots, [(i,) for i in range(len(growth.roots))], case["rounds"], draw)
    return growth


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_rounds_and_rows(case):
    """Given the draws, every round offers the authors' candidates and the rows come in their order."""
    growth = grown(case)
    assert len(growth.nodes) == len(case["parent"])
    rows = []
    for root in growth.roots:
        assert candidates(root)[0] is root
        found = leaves(root)
        assert len(found) == 1 + case["expansions"] * case["rounds"]
        kept = keep(root, [leaf for leaf in reversed(found) if leaf.position.notes in case["rows"]])
        assert len(kept) == case["keep"]
        rows += numbers(kept)
    if case["shuffled"]:  # by the authors' trainer, after the trees
        assert sorted(rows) == sorted(case["rows"])
    else:
        assert rows == case["rows"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_mean_rewards(case):
    """The mean reward below a node is the one in the authors' (unused) score of a node."""
    growth = grown(case)
    reward = dict(zip(case["rows"], case["reward"], strict=True))
    for root in growth.roots:
        prune(root, reward)
        for node in breadth_first(root)[1:]:
            mean, above = mean_reward(node), mean_reward(node.parent)
            below = sum(leaf.leaf for leaf in breadth_first(node))
            score = (mean + max(mean - above - case["margin"], 0)) / math.sqrt(below)
            assert score == pytest.approx(case["score"][str(node.position.notes)], abs=1e-9)


def prune(node, reward):
    """Leave only branches with a listed leaf, which gets its reward."""
    for child in node.children:
        prune(child, reward)
    node.children = [c for c in node.children if c.children or c.position.notes in reward]
    if node.leaf:
        node.position = replace_reward(node.position, reward.get(node.position.notes, 0.0))


def replace_reward(position, reward):
    """The same position with another reward."""
    return EpisodeState(position.task, (), ended=True, reward=reward, notes=position.notes)
