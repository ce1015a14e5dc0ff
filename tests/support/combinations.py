"""Every combination of components that the test of combinations asks for, and which of them are legal, said anew."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

from recipec.component import components_of


class Combo(NamedTuple):
    """One choice from each list below."""

    environment: str
    sampler: str
    rows: str
    grouping: str
    advantage: str
    loss: str
    attention: str


class World(NamedTuple):
    """What a recipe says of an environment, and what the test knows about it."""

    said: str
    data: str
    branchable: bool
    windowed: bool


_OWN_TASKS = "{type: environment, size: 2}"
_FILE = "{path: tasks.jsonl}"
_SUMS = "{type: reasoning_gym, task: chain_sum, size: 4}"
LAKE = "id: FrozenLake-v1, options: {is_slippery: false}, max_turns: 2"
WORLDS = {
    "none": World("null", _SUMS, branchable=False, windowed=False),
    "search": World("{type: search_qa, max_turns: 1}", _FILE, branchable=True, windowed=False),
    "search, window": World("{type: search_qa, max_turns: 1, history: 4}", _FILE, branchable=True, windowed=True),
    "household": World("{type: alfworld, max_turns: 2}", _OWN_TASKS, branchable=True, windowed=True),
    "household, growing": World(
        "{type: alfworld, max_turns: 2, history: append_only}", _OWN_TASKS, branchable=True, windowed=False
    ),
    "adventure": World(
        "{type: textworld, max_turns: 2, rooms: 1, objects: 1, quest_length: 1, history: append_only}",
        _OWN_TASKS,
        branchable=True,
        windowed=False,
    ),
    "shop": World("{type: webshop, max_turns: 2}", _OWN_TASKS, branchable=True, windowed=True),
    "lake": World(f"{{type: gymnasium, {LAKE}, history: append_only}}", _OWN_TASKS, branchable=False, windowed=False),
    "lake, replayable": World(
        f"{{type: gymnasium, {LAKE}, replayable: true}}", _OWN_TASKS, branchable=True, windowed=True
    ),
    "tries": World("{type: reasoning_gym, max_turns: 2}", _SUMS, branchable=True, windowed=False),
    "own": World("{type: own, name: Count, max_turns: 2}", _OWN_TASKS, branchable=False, windowed=True),
    "own, replayable": World(
        "{type: own, name: Count, max_turns: 2, replayable: true, history: append_only}",
        _OWN_TASKS,
        branchable=True,
        windowed=False,
    ),
}
SAMPLERS = {"chain": "num_generations: 3", "tree": "trees: 2, expansions: 1, rounds: 1"}
ADVANTAGES = {
    "by prompt": "{type: group_relative}",
    "by tree": "{type: group_relative, group: by_tree_R, singleton: raw}",
    "by state": "{type: group_relative, value: score_R, group: by_anchor_R}",
    "rloo": "{type: rloo}",
    "signed": "{type: signed, threshold: 0.5}",
    "batch": "{type: batch_standardised}",
    "histories": "{type: history_groups, value: score_R}",
    "actions": "{type: state_action, value: score_R}",
    "leaves": "{type: leaf_mean}",
    "gae": "{type: gae}",
    "greedy": "{type: remax}",
}
OF_STATES = ("by state", "histories", "actions")
FEWER = ("histories", "actions", "leaves", "gae", "greedy")
"""Advantages that are combined with two ways of attention and the loss that they are for, to save time; `greedy` with
one and whole episodes: its rows are those of `by prompt`."""
LOSSES = {
    "clipped": "{type: clipped}",
    "nll": "{type: nll}",
    "dpo": "{type: dpo}",
}
CHOICES: tuple[Sequence[str], ...] = (
    tuple(WORLDS),
    tuple(SAMPLERS),
    ("trajectory", "step"),
    ("none", "anchor_state"),
    tuple(ADVANTAGES),
    tuple(LOSSES),
    ("dense", "packed", "auto", "trie", "shared_prefix"),
)
RUN = ("none", "search", "household", "adventure", "shop", "lake, replayable", "tries", "own, replayable")
"""One way of saying each environment, for runs."""


def missing(combo: Combo) -> bool:
    """Whether this version lacks a component of the combination."""
    environment = re.match(r"\{type: (\w+)", WORLDS[combo.environment].said)
    named = [("attention", combo.attention), ("sampler", combo.sampler)]
    named += [("environment", environment[1])] if environment else []
    return not all(components_of(slot)[name].available() for slot, name in named)


def every() -> Iterator[Combo]:
    """Yield all combinations."""
    for choice in product(*CHOICES):
        combo = Combo(*choice)
        fewer = combo.loss == "clipped" and combo.attention in {"packed", "trie"}
        if combo.advantage == "greedy":
            fewer = fewer and combo.attention == "packed" and combo.rows == "trajectory"
        if combo.advantage not in FEWER or fewer:
            yield combo


def problems(combo: Combo) -> set[str]:
    """Codes that a combination must be refused with, from the papers' rules and not from the compiler's contracts."""
    world, found = WORLDS[combo.environment], set()
    if missing(combo):
        found.add("RC501")
    if combo.sampler == "tree" and not world.branchable:
        found.add("RC204")  # a tree goes back to where it branches
    if combo.advantage == "by tree" and combo.sampler != "tree":
        found.add("RC204")  # there are no trees
    if combo.advantage in OF_STATES and combo.grouping == "none":
        found.add("RC204")  # nobody compares states
    if combo.grouping == "anchor_state" and (combo.environment == "none" or combo.rows == "trajectory"):
        found.add("RC204")  # no state, or many of them in a row
    if combo.advantage == "gae" and combo.rows == "step":
        found.add("RC474")  # values go from token to token inside of a row
    found |= _without_baseline(combo)
    if world.windowed and combo.rows == "trajectory":
        found.add("RC450")  # no sequence of tokens holds the whole episode
    if combo.loss == "dpo":
        found.add("RC204")  # there are no pairs
    if combo.loss == "nll":
        found.add("RC214")  # imitates every answer, whatever its credit
    return found


def _without_baseline(combo: Combo) -> set[str]:
    """Codes of a combination without the greedy completion that its advantage compares with."""
    if combo.advantage != "greedy":
        return set()
    if combo.sampler == "tree":
        return {"RC204"}  # no completion of a tree is decoded greedily
    return set() if combo.environment == "none" else {"RC478"}  # all episodes are sampled with one temperature


def text(combo: Combo, attention: str = "") -> str:
    """Write the recipe of a combination around a new model of a few thousand parameters."""
    world = WORLDS[combo.environment]
    own = "use: [./worlds.py]\n" if "own" in combo.environment else ""
    reward = "verifier" if combo.environment == "none" else "environment"
    greedy = ", greedy_first: true" if combo.advantage == "greedy" and combo.sampler == "chain" else ""
    length = "max_completion_length" if combo.sampler == "chain" else "max_turn_length"
    return f"""\
recipec: 1
name: small
{own}stages:
  explore:
    kind: rl
    from: scratch
    policy:
      scratch:
        {{hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 4096, tokenizer: bytes}}
    environment: {world.said}
    data: {world.data}
    sampler: {{type: {combo.sampler}, {SAMPLERS[combo.sampler]}, rows: {combo.rows}, {length}: 12{greedy}}}
    reward: {{task: {{type: {reward}}}}}
    grouping: {"null" if combo.grouping == "none" else "{type: anchor_state}"}
    critic: {"{}" if combo.advantage == "gae" else "null"}
    advantage: {{level: {ADVANTAGES[combo.advantage]}}}
    loss: {LOSSES[combo.loss]}
    attention: {{type: {attention or combo.attention}}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, prompts_per_step: 2}}
"""


def pair_up(combos: Sequence[Combo]) -> Iterator[set[tuple[tuple[int, str], tuple[int, str]]]]:
    """Yield the pairs of choices of each combination."""
    for combo in combos:
        yield set(combinations(enumerate(combo), 2))


def some_of(combos: Iterable[Combo], share: int) -> Iterator[Combo]:
    """Yield one of ``share`` combinations, and each that has two choices which none before it had together."""
    met: set[tuple[tuple[int, str], tuple[int, str]]] = set()
    for number, combo in enumerate(combos):
        pairs = set(combinations(enumerate(combo), 2))
        if number % share == 0 or not pairs <= met:
            met |= pairs
            yield combo


def covering(combos: Sequence[Combo]) -> list[Combo]:
    """Choose combinations so that every two choices that occur together anywhere occur together in one of them.

    Greedy: the next is the one that has most pairs not met yet, and of several the one whose choices were made least.
    """
    left = dict(zip(combos, pair_up(combos), strict=True))
    unmet = set().union(*left.values())
    used: Counter[tuple[int, str]] = Counter()
    chosen = []
    while unmet:
        best = max(left, key=lambda combo: (len(left[combo] & unmet), -sum(used[one] for one in enumerate(combo))))
        used.update(enumerate(best))
        chosen.append(best)
        unmet -= left.pop(best)
    return chosen
