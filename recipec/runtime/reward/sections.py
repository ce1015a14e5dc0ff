"""The shape of a reasoned answer; see :class:`recipec.spec.reward.Sections`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recipec.runtime.batch import Task
from recipec.runtime.reward.answers import folded


def sections(
    prompt_P: Sequence[Task],  # noqa: ARG001 - a reward of text has these columns
    by_prompt_R: Tensor,  # noqa: ARG001
    text_R: Sequence[str],
    *,
    reasoning: str,
    answer: str,
    sections: Sequence[str],
    filled: bool,
    well_formed: float,
    nothing_between: float,
    complete: float,
    malformed: float,
) -> dict[str, Tensor]:
    """Score the shape of each completion; see :class:`recipec.spec.reward.Sections`.

    >>> score = dict(well_formed=0.5, nothing_between=0.2, complete=0.3, malformed=-0.5, filled=False)
    >>> text = "<thinking>Color: brown</thinking><answer>nevus</answer>"
    >>> tags = dict(reasoning="thinking", answer="answer", sections=("Color", "Border"))
    >>> sections([], torch.tensor([0, 0]), [text, "nevus"], **tags, **score)
    {'reward_R': tensor([ 0.8500, -0.5000], dtype=torch.float64)}
    """
    scores = []
    for text in text_R:
        halves = parts(text, reasoning, answer)
        if halves is None:
            scores.append(malformed)
            continue
        thought, between = halves
        share = len(present(thought, sections, filled=filled)) / len(sections) if sections else 1.0
        scores.append(well_formed + (0.0 if between else nothing_between) + complete * share)
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def parts(text: str, reasoning: str, answer: str) -> tuple[str, str] | None:
    """Return the reasoning, and what stands between it and the answer; None where the text is not of this form.

    >>> parts(" <t>why</t> so <a>x</a> ", "t", "a"), parts("<t>why</t><a> </a>", "t", "a")
    (('why', 'so'), None)
    """
    tags = (f"<{reasoning}>", f"</{reasoning}>", f"<{answer}>", f"</{answer}>")
    text = text.strip()
    places = [text.find(tag) for tag in tags]
    once = all(text.count(tag) == 1 for tag in tags)
    if not once or places != sorted(places) or places[0] != 0 or not text.endswith(tags[-1]):
        return None
    inside = [text[place + len(tag) : end] for place, tag, end in zip(places, tags, places[1:], strict=False)]
    thought, between, answered = (part.strip() for part in inside)
    return (thought, between) if thought and answered else None


def present(thought: str, sections: Sequence[str], *, filled: bool) -> list[str]:
    """Return the sections with a name in the reasoning; with ``filled``, those with a letter before the next name.

    >>> present("1. COLOR: 2. Border: sharp", ("Color", "Border"), filled=True)
    ['Border']
    """
    text = folded(thought)
    places = {name: text.find(folded(name)) for name in sections}
    named = [name for name, place in places.items() if place >= 0]
    if not filled:
        return named
    starts = sorted(places[name] for name in named)
    there = []
    for name in named:
        begin = places[name] + len(folded(name))
        end = next((start for start in starts if start > places[name]), len(text))
        if any(letter.isalpha() for letter in text[begin:end]):
            there.append(name)
    return there
