"""Right answers of every usual notation: each is read whole, and only what equals it is right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward.math_verify import MathVerify
from recipec.spec import reward as specs

Case = tuple[str, list[str], list[str]]


def cases() -> Iterator[Case]:
    """Read ``math_answers.txt``: a right answer, a line ``=`` of equal ones, a line ``!`` of others."""
    text = Path(__file__).with_name("math_answers.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    for gold, equal, other in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert (equal[:2], other[:2]) == ("= ", "! "), gold
        yield gold.replace("\\n#", "\n#"), equal[2:].split(" ; "), other[2:].split(" ; ")


@pytest.fixture(scope="module")
def judge() -> Iterator[MathVerify]:
    """Compare with time enough for a busy machine."""
    made = MathVerify(specs.MathVerify(timeout=60.0), None)
    yield made
    made.close()


def scores(judge: MathVerify, golds: list[str], texts: list[tuple[int, str]]) -> list[float]:
    """Score the answers, each to the gold of its number."""
    tasks = [Task(i, "?", (1,), {"answer": gold}) for i, gold in enumerate(golds)]
    by_prompt_R = torch.tensor([i for i, _ in texts])
    return judge(tasks, by_prompt_R, [text for _, text in texts])["reward_R"].tolist()


def test_golds_of_every_notation_are_read_whole(judge):
    """A box with the gold itself or an equal one is right; with another value, or a number inside the gold, wrong."""
    read = list(cases())
    assert len(read) >= 200
    assert all(len(equal) >= 3 and len(other) >= 3 for _, equal, other in read)
    asked = [
        (i, f"so it is \\boxed{{{answer}}}", float(right))
        for i, (gold, equal, other) in enumerate(read)
        for right, answers in ((True, [*equal, gold] if is_bare(gold) else equal), (False, other))
        for answer in answers
    ]
    found = scores(judge, [gold for gold, *_ in read], [(i, text) for i, text, _ in asked])
    wrong = [(read[i][0], text) for (i, text, right), score in zip(asked, found, strict=True) if score != right]
    assert wrong == []


def is_bare(gold: str) -> bool:
    """Whether a gold is an answer alone and not a solution around it."""
    return "boxed" not in gold and "####" not in gold and "$" not in gold.removeprefix("\\$")


@pytest.mark.parametrize("form", ["the answer is ${}$, as shown.", "{}"])
def test_answers_without_a_box_are_read_whole_too(judge, form):
    """Between dollar signs, or alone, an answer that merely begins with the gold is wrong."""
    golds = ["3", "10", "6", "7", "5", "1", "1011", "3\\sqrt{13}", "12\\text{ cm}"]
    wrong = ["3\\sqrt{13}", "10^{10}", "6\\pi", "7!", "x < 5", "1\\frac{3}{4}", "1011_2", "3", "12\\text{ km}"]
    right = ["3", "10^1", "2\\cdot 3", "\\frac{14}{2}", "x=5", "1.0", "1,011", "\\sqrt{117}", "12"]
    assert scores(judge, golds, list(enumerate(form.format(answer) for answer in wrong))) == [0.0] * 9
    assert scores(judge, golds, list(enumerate(form.format(answer) for answer in right))) == [1.0] * 9


@pytest.mark.parametrize(
    "gold",
    [
        "The answer is 5",
        "see appendix 5",
        "5 6",
        "\\frac{1}{",
        "3 hours 20 minutes",
        "5'7\"",
        "January 5",
        "3.14159...",
        "$5$ and another 6",
        "II and III",
        "5 (approx)",
    ],
)
def test_a_gold_that_is_not_mathematics_as_a_whole_stops_the_run(judge, gold):
    """A number that occurs in the text is never taken for the right answer: RC742."""
    with pytest.raises(RecipeError) as caught:
        scores(judge, [gold], [(0, "\\boxed{5}")])
    assert caught.value.diagnostics[0].code == "RC742"


def test_answers_in_languages_without_spaces(judge):
    """Digits and signs of full width are those of ASCII, and a number next to an ideograph is found."""
    golds = ["12", "12%", "-3", "1/2", "5"]
    right = [
        "答案是\uff11\uff12。",
        "\uff11\uff12\uff05",
        "答えは-3です",
        "答案是$\\frac{1}{2}$。",
        "所以x\uff1d\uff15。",
    ]
    assert scores(judge, golds, list(enumerate(right))) == [1.0] * 5
    assert scores(judge, ["\uff11\uff12", "13"], [(0, "所以一共有12个苹果"), (1, "所以一共有12个苹果")]) == [1.0, 0.0]


def test_a_box_that_is_not_closed_has_no_answer(judge):
    """A completion that was cut inside of its last box gets nothing for what it has so far, or for a box before."""
    texts = [r"\boxed{7", r"\boxed{7} or \boxed{", r"\boxed{7} or \boxed", r"\boxed{7} {", r"\boxed 7"]
    assert scores(judge, ["7"], [(0, text) for text in texts]) == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert scores(judge, [r"\{1, 2\}"], [(0, r"\boxed{\{1, 2\}}"), (0, r"\boxed{\{1, 2\}")]) == [1.0, 0.0]


def test_what_is_thought_is_no_answer(judge):
    """A box within thoughts earns nothing: what follows the last `</think>` is compared, all of it where none is."""
    texts = [r"<think>\boxed{5}</think>It is 7.", r"maybe 7</think>\boxed{5}", r"\boxed{5}</think>", r"\boxed{5}"]
    assert scores(judge, ["5"], [(0, text) for text in texts]) == [0.0, 1.0, 0.0, 1.0]


def test_the_last_box_alone_is_the_answer(judge):
    """As MATH grades: boxes before it are neither part of the answer nor right themselves, however close they are."""
    texts = [
        r"\boxed{3} and \boxed{5}",
        r"\boxed{3}, \boxed{5}",
        r"wait, $\boxed{3}$. No. $\boxed 5$.",
        r"\fbox{3}\boxed{5}",
    ]
    assert scores(judge, ["5"], [(0, text) for text in texts]) == [1.0] * 4
    assert scores(judge, ["3"], [(0, text) for text in texts]) == [0.0] * 4
    assert scores(judge, ["3,5", texts[0]], [(0, texts[0]), (1, r"\boxed{5}")]) == [0.0, 1.0]
