"""What is done to rewards and advantages, and which rows are left out: runs, recomputed from the rows they recorded."""

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from support.small_recipes import MODEL, Folder, rows

from recipec.compile import compile_recipe
from recipec.runtime.objective import token_baseline
from recipec.runtime.objective.compiler_ops import exclude_greedy
from recipec.spec.advantage import TokenBaseline

PROMPTS = rows(*({"prompt": f"p{i}"} for i in range(6)))
RECIPE = f"""\
recipec: 1
name: small
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl, shuffle: false}}
    sampler: {{num_generations: 5, max_completion_length: 40SAMPLER}}
    reward:
      low: {{type: regex_format, pattern: "[ -n].*"SHAPE}}
      short: {{type: length, max_length: 40, soft: 39, weight: 0.5}}
    advantage: {{ADVANTAGE}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, prompts_per_step: 6, updates_per_step: 2}}
"""
GROUP = "group: {type: group_relative, scale: none}"


def recipe(advantage: str = GROUP, sampler: str = "", shape: str = "") -> str:
    """Fill the recipe in."""
    return RECIPE.replace("SAMPLER", sampler).replace("ADVANTAGE", advantage).replace("SHAPE", shape)


def ran(folder: Any, text: str, name: str = "small", *args: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the recorded rows of the step, and its metrics."""
    assert isinstance(folder, Folder)
    ended = folder.run(text, *args, a__jsonl=PROMPTS)
    assert ended.code == 0, ended.err
    stage: Path = folder.path / f"runs/{name}/stages/explore"
    (path,) = (stage / "samples").glob("step-*.jsonl")
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return [json.loads(line) for line in path.read_text().splitlines()], lines[-1]


def groups(found: list[dict[str, Any]], value: Any) -> list[list[float]]:
    """Collect a value of the rows, prompt by prompt."""
    made: dict[int, list[float]] = defaultdict(list)
    for row in found:
        made[row["prompt_id"]].append(value(row))
    return list(made.values())


def z(values: list[float]) -> list[float]:
    """Standardise a group as `group_relative` does."""
    return [(v - mean(values)) / (stdev(values) + 1e-6) if len(set(values)) > 1 else 0.0 for v in values]


def whitened(values: list[float], counts: list[int]) -> list[float]:
    """Standardise as verl's `masked_whiten` does, each value as often as its row has tokens."""
    total = sum(counts)
    middle = sum(n * v for n, v in zip(counts, values, strict=True)) / total
    variance = sum(n * (v - middle) ** 2 for n, v in zip(counts, values, strict=True)) / (total - 1)
    return [(v - middle) * (variance + 1e-8) ** -0.5 for v in values]


def test_each_reward_is_standardised_and_then_their_sum(folder):
    """GDPO: z-scores of each level in its group, weighted and added, whitened over the rows of the batch."""
    levels = "low: {type: group_relative, value: reward.low}"
    levels += ", short: {type: group_relative, value: reward.short, weight: 0.5}, whiten: rows"
    found, _ = ran(folder, recipe(levels))
    low, short = (
        [x for group in groups(found, lambda row, level=level: row["rewards"][level]) for x in z(group)]
        for level in ("low", "short")
    )
    expected = whitened([a + 0.5 * b for a, b in zip(low, short, strict=True)], [1] * len(found))
    assert [row["advantage"] for row in found] == pytest.approx(expected, abs=1e-6)


SOMETIMES = """\
def first(completions, **columns): return [None if n % 5 in (1, 2) else n * n / 9 for n in range(len(completions))]
def second(completions, **columns): return [None if n % 5 in (2, 3) else n * n / 7 for n in range(len(completions))]
"""


@pytest.mark.parametrize("alone", [False, True], ids=["sum", "each level"])
def test_rows_to_which_a_reward_does_not_apply(folder, alone):
    """None adds nothing to the total, and a row without any reward is in no baseline and counted as failed."""
    rewards = "first: {type: function, name: first}\n      second: {type: function, name: second, weight: 2.0}"
    levels = ", ".join(f"{n}: {{type: group_relative, scale: none, value: reward.{n}}}" for n in ("first", "second"))
    text = re.sub(r"low: \{.*\n +short: \{.*\}", rewards, recipe(levels if alone else GROUP))
    folder.write(rewards__py=SOMETIMES)
    found, metrics = ran(
        folder, text.replace("name: small\n", "name: small\nuse: [./rewards.py]\n"), "small", "--use", "./rewards.py"
    )
    assert metrics["failed_rows"] == 6
    for number in range(0, 30, 5):
        group = found[number : number + 5]
        first, second = [0, None, None, 3, 4], [0, 1, None, None, 4]
        own = [None if n is None else (number + n) ** 2 / 9 for n in first]
        other = [None if n is None else (number + n) ** 2 / 7 for n in second]
        total = [None if n == 2 else (own[n] or 0) + 2 * (other[n] or 0) for n in range(5)]
        assert [row["reward"] for row in group] == pytest.approx(total)
        assert [row["rewards"]["first"] for row in group] == pytest.approx(own)
        parts = (own, other) if alone else (total,)
        expected = [0.0] * 5
        for values in parts:
            middle = mean(value for value in values if value is not None)
            expected = [e if v is None else e + v - middle for e, v in zip(expected, values, strict=True)]
        assert [row["advantage"] for row in group] == pytest.approx(expected, abs=1e-6)


def test_whitening_over_tokens_without_groups(folder):
    """REINFORCE++: the reward itself, whitened over all trained tokens of the batch, and bounded."""
    found, _ = ran(folder, recipe("plain: {type: reinforce}, whiten: tokens, clip: 1.2"))
    expected = whitened([row["reward"] for row in found], [len(row["ids"]) for row in found])
    assert max(map(abs, expected)) > 1.2
    assert [row["advantage"] for row in found] == pytest.approx([max(-1.2, min(1.2, a)) for a in expected], abs=1e-6)


def test_rewards_are_shifted_and_clipped_before_their_weight(folder):
    """The total is the sum of weight times the bounded, shifted level; the level itself is recorded as it was."""
    found, metrics = ran(folder, recipe(shape=", shift: -0.25, clip: [0.0, 0.5], weight: 4.0"))
    for row in found:
        low, short = row["rewards"]["low"], row["rewards"]["short"]
        assert row["reward"] == pytest.approx(4.0 * max(0.0, min(0.5, low - 0.25)) + 0.5 * short)
    assert metrics["rewards/low/mean"] == pytest.approx(mean(row["rewards"]["low"] for row in found))


@pytest.mark.parametrize(
    ("sampler", "left"),
    [
        (", truncated: drop", lambda group: [len(row["ids"]) < 40 for row in group]),
        (
            ", group_filter: {action: drop, level: low}",
            lambda group: [len({r["rewards"]["low"] for r in group}) > 1] * 5,
        ),
        (
            ", truncated: drop, group_filter: {action: drop, between: [0.3, 0.55]}",
            lambda group: [0.3 < mean(r["reward"] for r in group) < 0.55 and len(row["ids"]) < 40 for row in group],
        ),
    ],
)
def test_rows_are_left_out_of_the_loss(folder, sampler, left):
    """Rows that a limit cut, and groups by a level or by their mean, weigh nothing; the others share what is left."""
    found, metrics = ran(folder, recipe(sampler=sampler))
    kept = [flag for group in groups(found, lambda row: row) for flag in left(group)]
    assert 0 < sum(kept) < len(kept)
    if "truncated" in sampler:
        assert metrics["rows/truncated"] == sum(len(row["ids"]) == 40 and row["ids"][-1] != 2 for row in found)
    graph = compile_recipe("r.yaml", text=recipe(sampler=sampler)).graph
    assert graph is not None
    (weigh,) = (node for node in graph.stages[0].nodes() if node.id == "explore/weigh")
    assert next(given.value.signal for given in weigh.inputs if given.parameter == "failed_R") == "excluded_R"


def test_nothing_left_is_an_update_of_nothing(folder):
    """Where every row is out, the gradient is 0."""
    _, metrics = ran(folder, recipe(sampler=", group_filter: {action: drop, between: [7.0, 8.0]}"))
    assert metrics["groups/filtered"] == 6
    assert metrics["grad_norm"] == 0


def test_the_greedy_completion_is_the_baseline(folder):
    """ReMax: rows are credited with what they earn above the first of their prompt, which is in no mean of rewards.

    With the same seed and weights, a stage that samples at a temperature near 0 writes the same first completions.
    """
    text = recipe("greedy: {type: remax}", ", greedy_first: true")
    found, metrics = ran(folder, text)
    rewards = groups(found, lambda row: row["reward"])
    expected = [[0.0, *(reward - first for reward in rest)] for first, *rest in rewards]
    assert groups(found, lambda row: row["advantage"]) == [pytest.approx(group) for group in expected]
    assert any(reward != first for first, *rest in rewards for reward in rest)
    assert metrics["reward"] == pytest.approx(mean(reward for _, *rest in rewards for reward in rest))
    assert metrics["grad_norm"] > 0
    cold, _ = ran(folder, recipe(sampler=", temperature: 1.0e-6").replace("name: small", "name: cold"), "cold")
    assert [row["ids"] for row in found[::5]] == [row["ids"] for row in cold[::5]]


def test_the_greedy_completion_is_out_of_the_loss():
    """It is in no denominator, next to rows that failed and those of groups that are filtered."""
    failed_R, greedy_R = torch.tensor([False, True, False]), torch.tensor([True, False, False])
    assert exclude_greedy(failed_R, greedy_R)["excluded_R"].tolist() == [True, True, False]
    text = recipe("greedy: {type: remax}", ", truncated: drop, greedy_first: true, group_filter: {action: drop}")
    graph = compile_recipe("r.yaml", text=text).graph
    assert graph is not None
    made = {node.id.removeprefix("explore/"): node for node in graph.stages[0].nodes()}
    chain = ["weigh", "exclude.groups", "exclude.greedy", "exclude.truncated"]
    for reader, source in pairwise(chain):
        given = {read.parameter: read.value for read in made[reader].inputs}
        out = given["failed_R" if reader == "weigh" else "excluded_R"]
        assert (out.node, out.signal) == (f"explore/{source}", "excluded_R")


def test_credit_of_branches_is_added_to_the_outcome(folder):
    """TEMPO: the advantage of tokens is that of the row and that of the prefix; both are trained on."""
    levels = "outcome: {type: group_relative}, branches: {type: prefix_value}"
    _, metrics = ran(folder, recipe(levels))
    assert metrics["grad_norm"] > 0
    graph = compile_recipe("r.yaml", text=recipe(levels)).graph
    assert graph is not None
    (total,) = (node for node in graph.stages[0].nodes() if node.id == "explore/sum.advantage_RT")
    given = {i.value.node for i in total.inputs if i.value.signal == "advantage_RT"}
    assert given == {"explore/broadcast.advantage_RT", "explore/advantage.branches"}
    (loss,) = (node for node in graph.stages[0].nodes() if node.slot == "loss")
    assert total.id in {i.value.node for i in loss.inputs if i.value.signal == "advantage_RT"}


@pytest.mark.parametrize("level", ["prefix_value", "leaf_mean"])
def test_credit_of_tokens_alone(folder, level):
    """A level that credits tokens is enough to train on."""
    found, metrics = ran(folder, recipe(f"branches: {{type: {level}}}"))
    assert metrics["grad_norm"] > 0
    assert len(found) == 30


def test_tokens_are_compared_with_a_baseline_of_their_own(folder, monkeypatch):
    """The pass before the update, though it is the only one, gives the token baseline what it reads."""
    seen: list[dict[str, torch.Tensor]] = []

    def watched(**columns: Any) -> dict[str, torch.Tensor]:
        seen.append(columns)
        return token_baseline.token_baseline(**columns)

    monkeypatch.setattr(TokenBaseline, "load", lambda _: watched)
    text = recipe("group: {type: token_baseline}").replace(", updates_per_step: 2", "")
    found, metrics = ran(folder, text)
    assert metrics["grad_norm"] > 0
    (columns,) = seen
    trained_RT, square_RT = columns["trained_RT"], columns["old_collision_RT"]
    assert square_RT.shape == trained_RT.shape
    assert bool((square_RT[trained_RT] >= columns["old_logprob_RT"][trained_RT].exp().square() - 1e-6).all())
    assert bool((square_RT[trained_RT] < 1).all())
    assert not square_RT[~trained_RT].any()
    assert len(found) == 30
