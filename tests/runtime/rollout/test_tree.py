"""The tree sampler: counts, draws and rows for any sizes, in a real environment under a real policy."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from support.counting_game import Counting, make_policy, tasks

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Batch, Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import EpisodeState
from recipec.runtime.rollout import metrics
from recipec.runtime.rollout.episodes import Node
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.runtime.rollout.tree import TreeSampler, candidates, keep, leaves, uncertainty, value_gap
from recipec.signals import SIGNALS
from recipec.spec.rollout_engine import Hf
from recipec.spec.sampler import Tree as Spec

POLICY = make_policy()


def sampler_of(spec, seed=5, **game):
    """Build a sampler of the one policy."""
    context = StageContext(root=Path(), cache=Path(), seed=seed, stage="explore")
    engine = HfEngine(Hf(), context, policy=POLICY)
    return TreeSampler(spec, context, policy=POLICY, rollout_engine=engine, environment=Counting(POLICY, **game))


def sampled(prompts, spec, seed=5, step=0, attempt=0, **game):
    """Sample trees; the columns, and the statistics."""
    found = sampler_of(spec, seed, **game)(prompts, step=step, attempt=attempt)
    batch = Batch({name: value for name, value in found.items() if not name.startswith("metric/")})
    batch.check()
    return batch, {name: value for name, value in found.items() if name.startswith("metric/")}


def rows_of(batch, prompt):
    """The rows of one task, as sampled, with their trees counted from 0."""
    index = [i for i, task in enumerate(batch["prompt_id_R"].tolist()) if task == prompt]
    first = min(int(batch["by_tree_R"][i]) for i in index)
    return [
        (int(batch["by_tree_R"][i]) - first, batch["tokens_RT"][i][batch["attend_RT"][i]].tolist(), batch["text_R"][i])
        for i in index
    ]


@pytest.mark.parametrize(("rows", "window"), [("trajectory", False), ("step", False), ("step", True)])
def test_gives_what_it_declares(rows, window):
    """The columns are those that the spec provides, in the table's dtypes, whatever a row is."""
    spec = Spec(max_turn_length=8, rows=rows)
    batch, _ = sampled(tasks(), spec, window=window)
    assert set(batch) == set(spec.provides())
    assert len(set(zip(batch["by_prompt_R"].tolist(), batch["by_tree_R"].tolist(), strict=True))) == 6
    assert len(set(batch["episode_id_R"].tolist())) == 3 * 2 * 3
    for name, column in batch.items():
        if isinstance(column, torch.Tensor):
            assert str(column.dtype) == f"torch.{SIGNALS[name].dtype}"


SIZES = {"trees": st.integers(1, 3), "expansions": st.integers(0, 3), "rounds": st.integers(0, 3)}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), policy=st.sampled_from(["random", "entropy", "value_gap"]), **SIZES)
def test_any_sizes(data, policy, trees, expansions, rounds):
    """A tree has 1 + N L leaves and K rows, the same ones whatever stands beside it; trunks are equal copies."""
    grown = 1 + expansions * rounds
    kept = data.draw(st.none() | st.integers(1, grown))
    spec = Spec(trees=trees, expansions=expansions, rounds=rounds, keep=kept, expansion=policy, max_turn_length=5)
    batch, numbers = sampled(tasks(2), spec, turns=2)
    assert numbers["metric/tree/leaves"] == grown
    assert batch.num_rows == 2 * trees * (kept or grown)
    sizes = torch.unique(batch["by_tree_R"], return_counts=True)[1].tolist()
    assert sizes == [kept or grown] * (2 * trees)
    other, _ = sampled(tasks(2)[::-1], spec, turns=2)
    for task in tasks(2):
        rows = rows_of(batch, task.id)
        assert rows == rows_of(other, task.id)
        assert all(tokens[: len(task.prompt_ids)] == list(task.prompt_ids) for _, tokens, _ in rows)


def test_copies_of_a_trunk_are_equal():
    """Rows of one tree that begin with the same turns hold the same tokens and log-probabilities there."""
    spec = Spec(trees=1, expansions=4, rounds=2, max_turn_length=8)
    batch, numbers = sampled(tasks(1), spec, turns=4)
    shared = 0
    for i in range(batch.num_rows):
        for j in range(i):
            same = batch["tokens_RT"][i] == batch["tokens_RT"][j]
            length = int((~same).float().argmax()) if not same.all() else len(same)
            turns = batch["turn_RT"][i][:length]
            whole = int(turns.max()) - 1  # the last of them may part inside
            inside = (turns > 0) & (turns <= whole)
            shared += bool(inside.any())
            one, other = (batch["sampler_logprob_RT"][row][:length][inside] for row in (i, j))
            assert torch.equal(one, other)
    assert shared
    assert numbers["metric/tokens/prefix_sharing"] > 1.2
    assert numbers["metric/tree/branching"] > 1


def test_seed_step_and_attempt_draw_anew():
    """Each of them gives other trees, and the same one the same tree."""
    spec = Spec(max_turn_length=8)
    plain, _ = sampled(tasks(1), spec)
    assert torch.equal(plain["tokens_RT"], sampled(tasks(1), spec)[0]["tokens_RT"])
    for key in ({"seed": 6}, {"step": 1}, {"attempt": 1}):
        assert rows_of(sampled(tasks(1), spec, **key)[0], 10) != rows_of(plain, 10)


def test_a_task_twice_has_other_trees():
    """No two trees of a step draw the same numbers."""
    batch, _ = sampled([*tasks(1), *tasks(1)], Spec(trees=1, expansions=0, max_turn_length=8))
    assert batch["by_prompt_R"].tolist() == [0, 1]
    assert batch["text_R"][0] != batch["text_R"][1]


def test_counters_go_on():
    """Episodes and trees are counted over steps, and a loaded sampler continues."""
    one, again = (sampler_of(Spec(max_turn_length=4)) for _ in range(2))
    first = one(tasks(1))
    again.load(one.state())
    second = again(tasks(1))
    assert not set(first["by_tree_R"].tolist()) & set(second["by_tree_R"].tolist())
    assert second["episode_id_R"].tolist() == list(range(6, 12))
    assert second["metric/num_tokens"] == first["metric/num_tokens"] * 2


def test_errors_stop_the_run_or_are_marked():
    """A leaf in error is marked; where more than a fifth are, the run is stopped."""
    spec = Spec(trees=1, expansions=0, rounds=0, max_turn_length=4)
    batch, numbers = sampled(tasks(5), spec, errors=[(11, 1)])
    assert batch["error_R"].tolist() == [False, True, False, False, False]
    assert batch["error_text_R"] == ["", "the world broke", "", "", ""]
    assert numbers["metric/episodes/errors"] == 1.0
    with pytest.raises(RecipeError, match="1 of 3 rollouts") as refused:
        sampled(tasks(3), spec, errors=[(11, 1)])
    assert refused.value.diagnostics[0].code == "RC785"


# bookkeeping and policies, on trees made by hand

TASK = Task(0, "", (1, 2, 3))


def turn(parent, *, ended=False, logprob=(), reward=0.0, **more):
    """Hang a turn below a node."""
    context = (*parent.position.context_ids, *range(len(logprob)))
    ids = tuple(range(len(logprob)))
    position = EpisodeState(TASK, context, ended=ended, reward=reward, kept=len(logprob), calls=1, **more)
    node = Node(parent, position, ids, tuple(logprob))
    parent.children.append(node)
    return node


def made():
    """A root with two turns; the first goes on to two leaves, the second to one."""
    root = Node(None, EpisodeState(TASK, TASK.prompt_ids))
    left, right = turn(root, logprob=(-1.0, -3.0), reward=0.25), turn(root, logprob=(-0.5,), valid=False)
    ends = [
        turn(left, ended=True, logprob=(-0.1,), reward=1.0),
        turn(left, ended=True, logprob=(-0.3, -0.3), reward=0.0),
        turn(right, ended=True, logprob=(-4.0,), reward=0.5),
    ]
    return root, left, right, ends


def test_bookkeeping():
    """Candidates and leaves come breadth first, the root among the candidates; what is kept keeps the order."""
    root, left, right, ends = made()
    assert candidates(root) == [root, left, right]
    assert leaves(root) == ends
    assert keep(root, [ends[2], ends[0]]) == [ends[0], ends[2]]


def test_uncertainty_is_that_of_the_turns_taken():
    """A node is as unsure as the turns taken from it on average, less for each further branch."""
    root, left, right, ends = made()
    assert uncertainty(root) == pytest.approx((2.0 + 0.5) / 2 - 0.05)
    assert uncertainty(left) == pytest.approx((0.1 + 0.3) / 2 - 0.05)
    assert max(candidates(root), key=uncertainty) is right
    assert uncertainty(ends[0]) == -math.inf


def test_value_gap_is_between_turns():
    """The gap of a node is between its best and its worst turn, each worth the mean of the episodes below it."""
    root, left, right, ends = made()
    assert value_gap(left) == pytest.approx(1.0)
    assert value_gap(root) == pytest.approx((1.25 + 0.25) / 2 - 0.5)
    assert value_gap(right) == 0.0
    ends[1].position = EpisodeState(TASK, (), ended=True, error="lost")
    assert value_gap(left) == 0.0


def test_highest_nodes_first():
    """The policies expand their first nodes, and begin again where there are fewer than asked for."""
    root, left, right, _ = made()
    nodes = candidates(root)
    drawn = {
        name: sampler_of(Spec(expansion=name, expansions=4))._draw((1,), 1, nodes) for name in ("entropy", "value_gap")
    }
    assert drawn["entropy"] == [right, root, left, right]
    assert drawn["value_gap"] == [left, root, right, left]


def test_counts():
    """Every number of episodes and trees, by hand."""
    root, _, _, ends = made()
    found = metrics.episodes(ends, "trajectory") | metrics.trees([root])
    expected = {
        "completions/mean_length": (3 + 4 + 2) / 3,
        "completions/clipped_ratio": 0.0,
        "episodes/turns": 2.0,
        "episodes/reward": (1.25 + 0.25 + 0.5) / 3,
        "turns/invalid_ratio": 1 / 5,
        "tools/call_frequency": 2.0,
        "tools/calls": 5.0,
        "tokens/generated": 7.0,
        "tokens/prefix_sharing": (6 + 7 + 5) / (3 + 7),
        "tokens/rows_per_1000": 3000 / 7,
        "tree/turns": 5.0,
        "tree/depth": 2.0,
        "tree/branching": (2 + 2 + 1) / 3,
        "tree/leaves": 3.0,
    }
    for name, value in expected.items():
        assert found[f"metric/{name}"] == pytest.approx(value), name
    steps = metrics.episodes(ends, "step")
    assert steps["metric/tokens/rows_per_1000"] == pytest.approx(6000 / 7)
    assert steps["metric/tokens/prefix_sharing"] == pytest.approx((5 + 5 + 4 + 6 + 7 + 5) / (5 + 4 + 6 + 7 + 5))
    ends[0].position = replace(ends[0].position, failures=1)
    assert metrics.episodes(ends, "trajectory")["metric/tools/failure_frequency"] == pytest.approx(1 / 5)
    assert found["metric/tools/failure_frequency"] == 0.0
    fewer = metrics.episodes(ends[:1], "trajectory", ends)
    assert fewer["metric/tokens/generated"] == 7.0
    assert fewer["metric/tokens/prefix_sharing"] == 1.0
