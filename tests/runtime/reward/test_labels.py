"""Answers as labels: what a text names, votes, F1, and the reward that knows them."""

from decimal import Decimal

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.evaluation.metrics import Scored, summary
from recipec.runtime.reward.labels import label_of, macro_f1, right_labels, vote
from recipec.runtime.reward.rule_based import exact_match

DISEASES = ("Dermatitis", "seborrheic dermatitis", "melanoma", "basal cell carcinoma")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("<answer>melanoma</answer>", "melanoma"),
        ("<answer>\n **MELANOMA**. </answer>", "melanoma"),
        ("<answer>It is a basal-cell carcinoma!</answer>", "basal cell carcinoma"),
        ("<answer>dermatitis</answer>", "dermatitis"),
        ("<answer>Seborrheic dermatitis, I think</answer>", "seborrheic dermatitis"),
        ("<answer>seborrheic dermatitis or dermatitis</answer>", None),
        ("<answer>melanoma or dermatitis</answer>", None),
        ("<answer>melanomatous</answer>", None),
        ("<answer>acne</answer>", None),
        ("<answer> </answer>", None),
        ("melanoma", None),
        ("<answer>acne</answer><answer>melanoma</answer>", "melanoma"),
    ],
)
def test_an_answer_is_one_label_or_none(text, label):
    """Case, punctuation and what stands around it do not count; naming several, or parts of words, is no answer."""
    assert label_of(text, "answer", DISEASES) == label


@given(st.text(max_size=40), st.lists(st.text("ab ", min_size=1, max_size=5).filter(str.strip), max_size=4))
def test_no_text_is_more_than_a_label(text, labels):
    """Whatever is written, an answer is one of the labels, folded; a label alone is itself."""
    found = label_of(text, None, labels)
    folded = {" ".join(label.split()) for label in labels}
    assert found is None or not labels or found in folded
    for label in labels:
        assert label_of(label, None, labels) == " ".join(label.split())


def test_no_valid_label_is_wrong():
    """The reward gives its wrong value to another label, to none, to several and to what is no answer."""
    task = Task(0, "?", (1,), {"disease": "Melanoma"})
    texts = ["<a>a melanoma</a>", "<a>dermatitis</a>", "<a>acne</a>", "<a>melanoma, dermatitis</a>", "melanoma"]
    params = {"answer": "disease", "tag": "a", "labels": DISEASES, "correct": 7.0, "wrong": -1.0}
    made = exact_match([task], torch.zeros(5, dtype=torch.int64), texts, **params)
    assert made["reward_R"].tolist() == [7.0, -1.0, -1.0, -1.0, -1.0]


def test_a_right_answer_outside_the_labels_is_refused():
    """A row whose answer is no label could never be answered right: the fault says which, and what labels there are."""
    with pytest.raises(RecipeError) as refused:
        right_labels(Task(3, "?", (1,), {"disease": "melanom"}), "disease", DISEASES)
    (found,) = refused.value.diagnostics
    assert found.code == "RC742"
    assert "task 3" in found.message
    assert "`melanoma`" in found.help


def test_votes():
    """The most frequent answer wins, of equals the first; what is no answer has no vote."""
    assert vote([None, None, "b", "a", "a"]) == "a"
    assert vote(["b", "a"]) == "b"
    assert vote([]) is None


def test_majority_is_over_labels_and_not_over_texts():
    """Three answers that say the same in other words win over two that are written alike."""
    texts = ["<a>red</a>", "so: <a>Red!</a>", "<a>it is red</a>", "<a>blue</a>", "<a>blue</a>"]
    answers = [label_of(text, "a", ("red", "blue")) for text in texts]
    scored = Scored([[1.0, 1.0, 1.0, 0.0, 0.0]], [answers], [["red"]], ("red", "blue"))
    assert summary(("majority",), scored, 1.0) == {"majority": 1.0}
    plain = Scored([[1.0, 1.0, 1.0, 0.0, 0.0]], [list(texts)])
    assert summary(("majority",), plain, 1.0) == {"majority": 0.0}


def test_an_average_over_so_many_takes_the_first():
    """`avg@K` is over the first K answers of each task, whatever the others are."""
    scored = Scored([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]], [["x"] * 4] * 2)
    found = summary(("avg@1", "avg@2", "accuracy"), scored, 1.0)
    assert found == {"avg@1": 1.0, "avg@2": 0.75, "accuracy": 0.5}


def test_macro_f1_by_hand():
    """Classes count alike however frequent; what is no class costs recall; any of several right answers is right."""
    right = [["a"], ["a"], ["a"], ["b"], ["c", "d"]]
    answers = ["a", "b", None, "b", "d"]
    # a: 1 hit of 3 rows and 1 answer; b: 1 of 1 row and 2 answers; c: 1 of 1 and 1
    assert macro_f1(right, answers) == pytest.approx((2 / 4 + 2 / 3 + 1) / 3)
    assert macro_f1(right, answers, ("a", "b", "c", "never")) == pytest.approx((2 / 4 + 2 / 3 + 1) / 3)
    assert macro_f1([["a"]], ["b"], ("a", "b")) == 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=30))
def test_macro_f1_is_the_mean_of_precision_and_recall(rows):
    """It agrees with the harmonic mean of precision and recall of each class that is there or answered."""
    each = []
    for label in "abc":
        hits = sum(t == g == label for t, g in rows)
        there, given_ = sum(t == label for t, _ in rows), sum(g == label for _, g in rows)
        if there or given_:
            precision, recall = hits / max(1, given_), hits / max(1, there)
            each.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    found = macro_f1([[t] for t, _ in rows], [g for _, g in rows], ("a", "b", "c"))
    assert found == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize(
    ("gold", "text"), [(Decimal("72.00"), "72"), (Decimal("1.50"), "1.5"), (0.1, "0.1"), (1e22, "1" + "0" * 22)]
)
def test_numbers_of_tables_are_those_that_people_write(gold, text):
    """A decimal with a scale and a float are the same answer as their digits."""
    task = Task(0, "?", (1,), {"answer": gold})
    parameters = {"answer": "answer", "tag": None, "labels": (), "correct": 1.0, "wrong": 0.0}
    made = exact_match([task], torch.tensor([0, 0]), [text, f"{text}1"], **parameters)
    assert made["reward_R"].tolist() == [1.0, 0.0]
