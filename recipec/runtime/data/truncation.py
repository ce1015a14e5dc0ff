"""The beginning or the end of a prompt or an example that is too long; an image is kept whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from recipec.runtime.batch import Example, Task
from recipec.runtime.images.picture import Picture, places

Side = Literal["left", "right"]


def shortened(example: Example, bound: int, side: Side = "right") -> Example:
    """Return at most ``bound`` tokens of an example; ``side`` is where it is cut.

    >>> shortened(Example(0, (1, 2, 3, 4), (False, False, True, True)), 3, "left").trained
    (False, True, True)
    """
    start, end, images = _kept(example.ids, example.images, bound, side)
    trained = example.trained[start:end]
    return replace(
        example, ids=example.ids[start:end], trained=(False, *trained[1:]) if start else trained, images=images
    )


def shortened_pair(examples: Sequence[Example], bound: int, side: Side) -> list[Example]:
    """Return examples with at most ``bound`` tokens that begin with one prompt, and still do where it is cut.

    >>> long, short = Example(0, (1, 2, 3, 4), (False, False, True, True)), Example(0, (1, 2, 5), (False, False, True))
    >>> [example.ids for example in shortened_pair([long, short], 3, "left")]
    [(2, 3, 4), (2, 5)]
    """
    over = max(len(example.ids) for example in examples) - bound
    bounds = [bound if side == "right" else len(example.ids) - over for example in examples]
    return [shortened(example, bound, side) for example, bound in zip(examples, bounds, strict=True)]


def shortened_prompt(task: Task, bound: int, side: Side) -> Task | None:
    """Return a task with at most ``bound`` tokens of its prompt; ``None`` where nothing would be left.

    >>> shortened_prompt(Task(0, "abcd", (1, 2, 3, 4)), 3, "left").prompt_ids
    (2, 3, 4)
    """
    start, end, images = _kept(task.prompt_ids, task.images, bound, side)
    return replace(task, prompt_ids=task.prompt_ids[start:end], images=images) if start < end else None


def _kept(
    ids: Sequence[int], images: tuple[Picture, ...], bound: int, side: Side
) -> tuple[int, int, tuple[Picture, ...]]:
    """Return where what is kept begins and ends, and its images."""
    where = places(tuple(ids), images)
    if side == "right":
        within = sum(end <= bound for _, end in where)
        end = min(bound, where[within][0]) if within < len(where) else bound
        return 0, min(end, len(ids)), images[:within]
    start = max(0, len(ids) - bound)
    lost = sum(begin < start for begin, _ in where)
    start = max(start, where[lost - 1][1]) if lost else start
    return start, len(ids), images[lost:]
