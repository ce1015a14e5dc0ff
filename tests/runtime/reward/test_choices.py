"""Options of a multiple choice, boxes, tags and repetition: what counts, and what is refused."""

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward.choices import option
from recipec.spec.reward import Iou, MultipleChoice, Repetition, TagCount


def scored(spec, right, *texts):
    """Return the rewards of completions of one task."""
    task = Task(0, "?", (1,), {} if right is None else {"answer": right})
    made = spec.load()([task], torch.zeros(len(texts), dtype=torch.int64), texts, **spec.params())
    return made["reward_R"].tolist()


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" (B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B. Paris", "B"),
        ("Answer: B", "B"),
        ("First A seems right, but the correct answer is B.", "B"),
        ("The answer is (A). No: the answer is (B).", "B"),
        (r"So \boxed{B}, not option A.", "B"),
        ("I choose option B because of C", "B"),
        ("The answer is B. Option A is wrong, and option C has no source.", "B"),
        ("B. Option A is the capital of Italy.", "B"),
        ("Option B.\nOption C is too large.", "B"),
        ("The correct option is B: choice D is smaller.", "B"),
        ("The answer is B; a wrong answer is A.", "B"),
        ("I take option B. Option A is wrong; option C is not.", "B"),
        ("Option A is wrong, so it is option B", "B"),
        ("Both (A) and then (B)", "B"),
        ("A dog is an animal", None),
        ("The answer is Berlin", None),
        ("the answer is b", None),
        ("B" * 100_000, None),
        ("answer " * 20_000, None),
        ("", None),
    ],
)
def test_the_letter_that_is_chosen(text, letter):
    """Words that begin with a capital letter are no options, and no text takes long."""
    assert option(text) == letter


def test_options_are_compared_with_letters_and_numbers():
    """Letters with or without parentheses, and numbers from 0; what is neither is refused."""
    for right in ("B", "(B)", 1, "1"):
        assert scored(MultipleChoice(correct=2.0, wrong=-1.0), right, "B", "C", "none") == [2.0, -1.0, -1.0]
    assert scored(MultipleChoice(tag="answer"), "B", "A <answer>B</answer>", "B") == [1.0, 0.0]
    for right, code in (("Paris", "RC742"), (True, "RC742"), (-1, "RC742"), (None, "RC741")):
        with pytest.raises(RecipeError) as refused:
            scored(MultipleChoice(), right, "B")
        assert refused.value.diagnostics[0].code == code


def test_overlap_of_boxes():
    """Intersection over union, or whether it reaches the threshold; the last box counts."""
    texts = (
        "[0, 0, 4, 4]",
        "[9, 9, 9, 9] then (2, 0, 6, 4)",
        "[0,0,4]",
        "[4, 4, 0, 0]",
        "<answer>[1.0, 1.0, 3.0, 3.0]</answer>",
    )
    assert scored(Iou(), [0, 0, 4, 4], *texts) == pytest.approx([1.0, 8 / 24, 0.0, 0.0, 4 / 16])
    assert scored(Iou(threshold=0.3), [0, 0, 4, 4], *texts) == [1.0, 1.0, 0.0, 0.0, 0.0]
    for right in ([0, 0, 4], [4, 4, 0, 0], "[0, 0, 4, 4]", [0, 0, 4, float("nan")]):
        with pytest.raises(RecipeError):
            scored(Iou(), right, "[0, 0, 4, 4]")


def test_an_option_that_is_thought_is_not_chosen():
    """The answer after thoughts counts, not the option that they end with."""
    texts = ("The answer is A. No.</think>(B)", "The answer is B.</think>I do not know.")
    assert scored(MultipleChoice(), "B", *texts) == [1.0, 0.0]


def test_tags_and_repetition():
    """Tags that occur once count; repeated runs cost their share."""
    whole = "<think>\na\n</think>\n<answer>\nb\n</answer>"
    assert scored(TagCount(), None, whole, whole.replace("\n", ""), whole + whole, "") == [1.0, 0.0, 0.0, 0.0]
    assert scored(TagCount(newlines=False), None, whole.replace("\n", "")) == [1.0]
    words = "one two three one two three one two three"
    assert scored(Repetition(penalty=-0.5), None, words, "one two", "") == pytest.approx([-0.5 * (1 - 3 / 7), 0.0, 0.0])
