"""Which answers make a pair, and what of a pair is kept."""

from dataclasses import replace

import pytest

from recipec.runtime.batch import Task
from recipec.runtime.images.picture import Picture
from recipec.runtime.preference import pair_files
from recipec.runtime.preference.pair_files import Pair
from recipec.runtime.preference.sample_answers import Answer
from recipec.spec.preference import KgRank

TASK = Task(3, "What is it?", (7, 8), {"disease": "lichen planus"})


def answer(text, ended=True, key=0):
    """Return an answer whose ids are its letters."""
    return Answer(tuple(map(ord, text)), text, ended, (0, "align", "answer", 3, key))


@pytest.mark.parametrize(
    ("params", "one", "other", "reason"),
    [
        ({}, "It is lichen planus.", "It is acne.", None),
        ({}, "It is acne.", "it  is ACNE", "equal"),
        ({}, "...", "...", "equal"),
        ({}, "...", "!", None),
        ({}, "", "It is acne.", "empty"),
        ({"max_length_ratio": 2}, "a" * 9, "b" * 4, "length_ratio"),
        ({"max_length_ratio": 2}, "a" * 4, "b" * 9, "length_ratio"),
        ({"max_length_ratio": 2}, "a" * 8, "b" * 4, None),
        ({"label": "disease"}, "It is Lichen  planus.", "Not lichen planus.", None),
        ({"label": "disease"}, "It is lichen planus.", "It is acne.", "label"),
        ({"label": "disease"}, "It is lichen planusoid.", "It is lichen planus.", "label"),
        ({"label": "disease", "tag": "a"}, "<a>lichen planus</a>", "lichen planus <a>acne</a>", "label"),
        ({"label": "disease", "tag": "a"}, "<a>lichen planus</a>", "So <a> Lichen planus </a>", None),
    ],
)
def test_filters(params, one, other, reason):
    """Equal, empty, lopsided answers and those that disagree about the label make no pair."""
    assert pair_files.reason_against(TASK, answer(one), answer(other), KgRank(**params)) == reason


def test_a_label_by_any_of_its_names():
    """Where a task has several right answers, each text must contain one of them."""
    several = Task(3, "What is it?", (7, 8), {"disease": ["lichen planus", "LP"]})
    reasons = [
        pair_files.reason_against(several, answer("It is lichen planus."), answer(other), KgRank(label="disease"))
        for other in ("It is LP.", "It is acne.")
    ]
    assert reasons == [None, "label"]


def test_answers_that_were_cut():
    """With `ended` both answers must have ended by themselves."""
    whole, cut = answer("It is acne."), answer("It is", ended=False)
    assert pair_files.reason_against(TASK, whole, cut, KgRank()) is None
    assert pair_files.reason_against(TASK, whole, cut, KgRank(ended=True)) == "cut"


def test_what_is_trained_is_what_was_sampled():
    """Rows are the task's own prompt and the ids of the answer, the answer alone trained, however its text reads."""
    shown = replace(TASK, images=(Picture("1f", "a.png", {}, (7,)),))
    pair = Pair(shown, Answer((5, 9), "x", True, (0,)), Answer((6,), "y", True, (1,)), 1.0, {})
    made = pair_files.columns([pair])
    (chosen,), (rejected,) = made["chosen_P"], made["rejected_P"]
    assert (chosen.ids, chosen.trained) == ((7, 8, 5, 9), (False, False, True, True))
    assert (rejected.ids, rejected.trained) == ((7, 8, 6), (False, False, True))
    assert made["prompt_P"] == [shown]
    assert chosen.images == rejected.images == shown.images


def test_the_widest_margins_are_kept():
    """Of too many pairs the widest are kept, by margin and then by task."""
    made = [Pair(Task(i, "", (1,)), answer("a"), answer("b"), margin, {}) for i, margin in enumerate((1, 3, 2, 3))]
    assert [pair.task.id for pair in pair_files.widest(made, 3)] == [1, 3, 2]
    assert len(pair_files.widest(made, None)) == 4


def test_pairs_are_read_as_they_were_written(tmp_path):
    """Ids, texts, seeds and evidence come back, half a surrogate pair in a text too; so do the counts."""
    odd = Answer((4,), "\ud83d", False, (0, "align", "answer", 3, 1))
    pair = Pair(TASK, answer("It is acne."), odd, 2.5, {"rule": "kg_rank", "about": ["acne"]})
    pair_files.write_pairs(tmp_path, [pair], {"equal": 2})
    (read,), left_out = pair_files.read_pairs(tmp_path, [Task(1, "", (1,)), TASK])
    assert (read.task, read.chosen, read.margin) == (pair.task, pair.chosen, 2.5)
    assert (read.rejected.ids, read.rejected.seed) == (odd.ids, odd.seed)
    assert read.evidence == pair.evidence
    assert left_out == {"equal": 2}
