"""Numbers about episodes and trees: what was written, what it cost, what is shared; names as TRL has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from recipec.runtime.rollout.episodes import Node, breadth_first


def episodes(
    kept: Sequence[Node], rows: Literal["trajectory", "step"], grown: Sequence[Node] | None = None
) -> dict[str, float]:
    """Count over episodes, given by their leaves; ``grown`` are all that were sampled, where fewer are kept.

    Lengths are tokens that the policy wrote in an episode; `terminated` are the episodes that no limit ended.
    Tokens, turns and calls that several episodes share are counted once in ``tokens/generated``, ``tools/calls`` and
    shares of turns and of calls, and in every episode where the number is one of episodes.
    ``tools/failure_frequency`` is the share of calls that failed.
    """
    grown = kept if grown is None else grown
    turns = once(grown)
    generated = sum(len(turn.ids) for turn in turns)
    failures = sum(turn.position.failures for turn in turns)
    each = [leaf.path() for leaf in kept]
    counts = lengths([(sum(len(turn.ids) for turn in leaf.path()), leaf.position.truncated) for leaf in kept])
    counts |= {
        "episodes/turns": _mean(len(path) for path in each),
        "episodes/turns_max": float(max((len(path) for path in each), default=0)),
        "episodes/errors": float(sum(leaf.position.error is not None for leaf in kept)),
        "episodes/truncated_ratio": _mean(leaf.position.truncated for leaf in kept),
        "episodes/reward": _mean(
            sum(turn.position.reward for turn in path) for path in each if path and path[-1].position.error is None
        ),
        "turns/invalid_ratio": _mean(not turn.position.valid for turn in turns),
        "tools/call_frequency": _mean(sum(turn.position.calls for turn in path) for path in each),
        "tools/failure_frequency": failures / max(1, sum(turn.position.calls for turn in turns)),
        "tools/calls": float(sum(turn.position.calls for turn in turns)),
        "tokens/generated": float(generated),
        "tokens/prefix_sharing": row_tokens(kept, rows) / max(1, unique_tokens(kept, rows)),
        "tokens/rows_per_1000": 1000 * (len(kept) if rows == "trajectory" else sum(map(len, each))) / max(1, generated),
    }
    return {f"metric/{name}": value for name, value in counts.items()}


def trees(roots: Sequence[Node]) -> dict[str, float]:
    """Count over whole trees: turns, deepest turn, and turns taken from a node that any was taken from."""
    inside = [breadth_first(root)[1:] for root in roots]
    branching = [
        len(n.children) for root, nodes in zip(roots, inside, strict=True) for n in (root, *nodes) if n.children
    ]
    return {
        "metric/tree/turns": _mean(map(len, inside)),
        "metric/tree/depth": _mean(max((node.depth for node in nodes), default=0) for nodes in inside),
        "metric/tree/branching": _mean(branching),
        "metric/tree/leaves": _mean(sum(node.leaf for node in nodes) for nodes in inside),
    }


def once(ends: Iterable[Node]) -> list[Node]:
    """Return every turn on the way to some leaves, once, in order of first appearance."""
    return list({id(turn): turn for leaf in ends for turn in leaf.path()}.values())


def row_tokens(kept: Sequence[Node], rows: Literal["trajectory", "step"]) -> int:
    """Count the tokens of the rows that some leaves become: context and turn, of the last turn or of every one."""
    return sum(_tokens(turn) for leaf in kept for turn in (leaf.path() if rows == "step" else [leaf]))


def unique_tokens(kept: Sequence[Node], rows: Literal["trajectory", "step"]) -> int:
    """Count the tokens of rows where what one tree's rows begin with alike is counted once.

    The context of a step row is rendered again each turn, so only rows that are copies share; a trajectory shares every
    turn, and the answer to it, that another one has.
    """
    turns = once(kept)
    if rows == "step":
        return sum(_tokens(turn) for turn in turns)
    contexts = {id(turn.parent): turn.parent for turn in turns if turn.parent is not None}
    new = sum(len(node.position.context_ids) - _before(node) for node in contexts.values())
    return new + sum(len(turn.ids) for turn in turns)


def _before(node: Node) -> int:
    """How much of a node's context is counted elsewhere: the context before, and the turn."""
    return _tokens(node) if node.parent is not None else 0


def _tokens(turn: Node) -> int:
    context = turn.parent.position.context_ids if turn.parent is not None else ()
    return len(context) + len(turn.ids)


def lengths(every: Sequence[tuple[int, bool]]) -> dict[str, float]:
    """Describe lengths, each with whether a limit cut it; `terminated` are those that were not cut.

    >>> lengths([(3, False), (8, True)])["completions/mean_terminated_length"]
    3.0
    """
    metrics: dict[str, float] = {}
    ended = [length for length, cut in every if not cut]
    for name, of in {"": [length for length, _ in every], "terminated_": ended}.items():
        for which, value in (("mean", np.mean), ("min", np.min), ("max", np.max)):
            metrics[f"completions/{which}_{name}length"] = float(value(of)) if of else 0.0
    metrics["completions/clipped_ratio"] = 1.0 - len(ended) / max(1, len(every))
    return metrics


def _mean(values: Iterable[float]) -> float:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers) if numbers else 0.0
