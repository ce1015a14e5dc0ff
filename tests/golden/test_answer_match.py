"""Answers of the search dialogue against scores made by the authors' own functions (`data/qa_reward.json`)."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.reward.answer_match import AnswerMatch, follows, inside, matches, overlap
from recipec.spec import reward as specs

CASES = json.loads((Path(__file__).parent / "data" / "qa_reward.json").read_text())["cases"]
MARKER = "<|im_start|>assistant"
TRAIN = {"structure_format": 0.2, "final_format": 0.1}


def reward(**params):
    """Make the reward as a stage does."""
    context = StageContext(Path(), Path(), 0, "explore")
    policy = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda ids, **_: f"{'<answer>x</answer>' * len(ids)}"))
    return AnswerMatch(specs.AnswerMatch(**params), context, policy=policy)


@pytest.mark.parametrize("metric", ["em", "f1"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_published_reading(case, metric):
    """Prompt and response together, with the scores of training and those of validation."""
    for name, params in (("train", TRAIN), ("validation", {})):
        made = reward(metric=metric, chat_marker=MARKER, **params).score(case["text"], case["targets"])
        assert made == pytest.approx(case[f"{metric}_{name}"], abs=1e-12)
    assert follows(case["text"], MARKER) is case["format_valid"]


SEARCH = "<think>a</think><search>q</search>\n\n<information>It was Jane Austen.</information>\n\n"
TEXTS = [
    ("<think>a</think><answer>Jane Austen</answer>", 1.0, 1.0),
    (" <think>a</think>\n<answer>Jane Austen</answer> \n", 1.0, 1.0),
    (f"{SEARCH}{SEARCH}<think>b</think><answer>the JANE   austen!</answer>", 1.0, 1.0),
    (f"{SEARCH}<think>b</think><answer>Mark Twain</answer>", 0.25, 0.25),
    ("<think>a</think><answer>Mark Twain</answer>", 0.2, 0.2),
    ("<think>a</think><answer>Jane</answer>", 0.2, 2 / 3),
    ("<answer>Jane Austen</answer>", 0.8, 0.8),
    ("<answer>Jane</answer>", 0.1, 2 / 3 - 0.2),
    ("<answer>Mark Twain</answer>", 0.1, 0.0),
    ("<think>a</think><answer>Mark</answer><think>b</think><answer>Jane Austen</answer>", 0.8, 0.8),
    ("<think>a <answer>x</answer></think><answer>Jane Austen</answer>", 0.8, 0.8),
    ("<think>a</think><search>q</search><think>b</think><answer>Jane Austen</answer>", 0.8, 0.8),
    ("<think>a</think><think>b</think><answer>Jane Austen</answer>", 0.8, 0.8),
    ("<Think>a</Think><answer>Jane Austen</answer>", 0.8, 0.8),
    ("<think>a</think>", 0.0, 0.0),
    ("<answer>", 0.0, 0.0),
    ("", 0.0, 0.0),
]


@pytest.mark.parametrize(("text", "em", "f1"), TEXTS)
def test_the_response_alone(text, em, f1):
    """Every field of the tables: answers right, wrong and missing, formats valid and not, documents that held it."""
    assert reward(**TRAIN, retrieval=0.05).score(text, ["Jane Austen"]) == pytest.approx(em)
    assert reward(metric="f1", **TRAIN, retrieval=0.05).score(text, ["Jane Austen"]) == pytest.approx(f1)


def test_normalisation():
    """Case, ASCII punctuation, articles as words and space do not count; letters of other alphabets do."""
    assert matches("A  Côte d'Ivoire.", ["côte divoire"]) == 1.0
    assert matches("Theatre", ["atre"]) == matches("Zürich", ["Zurich"]) == matches("", ["x"]) == 0.0
    assert overlap("yes", ["yes it is"]) == overlap("it is yes", ["yes"]) == overlap("noanswer", ["no"]) == 0.0
    assert overlap("Yes.", ["no", "yes"]) == 1.0
    assert overlap("a a b", ["a b b", "c"]) == overlap("b", ["b b"]) == pytest.approx(2 / 3)


def test_an_episode_is_scored_once():
    """Of the rows of an episode the last step has the score, in whatever order they are."""
    task = Task(0, "", (1, 1), {"answer": ["right", "other"]})
    texts = ["<think>a</think><answer>right</answer>"] * 3 + [""]
    columns = (torch.tensor([0, 0, 0, 0]), texts, torch.tensor([5, 5, 6, 6]), torch.tensor([1, 0, 0, 1]))
    assert reward()([task], *columns)["reward_R"].tolist() == [1.0, 0.0, 0.0, 0.0]
    # two examples in the prompt: whoever never answers is scored by the last of them, as published
    shown = reward(chat_marker=MARKER, final_format=0.1)([task], *columns)["reward_R"].tolist()
    assert shown == [1.0, 0.0, 0.0, 0.1]


@pytest.mark.parametrize("text", ["<answer>", "<think>", "</answer>", "<", "<think>a</think>", "<information>" * 2])
def test_long_text_is_linear(text):
    """A megabyte of tags is read at once."""
    made = reward(metric="f1", **TRAIN).score(text * (10**6 // len(text)), ["x"])
    assert made == 0.0
    assert inside("<a>" * 9, "a") == []
