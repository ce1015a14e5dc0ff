"""The verifiable instructions of IFEval: one text that follows each and one that does not."""

import json

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward.instructions import CHECKS
from recipec.spec.reward import Ifeval

CASES = [
    ("keywords:existence", {"keywords": ["sea", "C++"]}, ["The Sea, C++"], ["The sea, C"]),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, ["banana"], ["fun a"]),
    ("keywords:frequency", {"keyword": "go", "frequency": 2, "relation": "less than"}, ["go"], ["go GO"]),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, ["category"], ["The Cat."]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, ["eeE"], ["ee"]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"},
     ["Is 3.5 a number? Yes.", 'He said "Go!" Then he went.'], ["Only 3.5 sentences"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["two words"], ["it's two"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2},
     ["a\n***\nb", "a***b***"], ["a", "a ****** b *** c"]),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Sea"},
     ["one\n\n'sea, the wide"], ["sea\n\none", "one\n\nseal", "a\n\nsea\n\nb"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[name], [town]"], ["[name] [", "name"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye.\nP. S. more"], ["Bye ps"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["p.p.s: more"], ["P.S. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n - b"],
     ["* a", "**a**\n* b", "* a\n* b\n* c"]),
    ("detectable_format:constrained_response", {}, ["My answer is no."], ["No."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2},
     ["*a* **b**", "*a* *b*"], ["*a*", "* * *"]),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     ["Section 1\nx\nSection 2\ny"], ["Section 1\nx\nSection two"]),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```JSON\n[1]\n```"], ["{a: 1}", "[" * 99_999]),
    ("detectable_format:title", {}, ["<<Sea>>"], ["<< >>", "<Sea>"]),
    ("combination:two_responses", {}, ["a\n******\nb"], ["a******a", "a", "a******b******c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, [" why? Because."], ["Because. Why?"]),
    ("startend:end_checker", {"end_phrase": "The end."}, ['"So. the END."'], ["The end. Really"]),
    ("startend:quotation", {}, [' "Sea" '], ['"Sea', '"']),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     ["NATO and THE-SEA"], ["NATO and sea"]),
    ("change_case:english_capital", {}, ["THE SEA, 3"], ["THE sea"]),
    ("change_case:english_lowercase", {}, ["the sea"], ["The sea"]),
    ("punctuation:no_comma", {}, ["the sea"], ["the, sea"]),
]  # fmt: skip


def scored(rows, texts, **params):
    """Return the rewards of texts, all of them answers to one row of ``(instruction, arguments)``."""
    names, given = zip(*rows, strict=True)
    everything = dict.fromkeys(key for _, arguments, *_ in CASES for key in arguments)
    columns = {"instruction_id_list": list(names), "kwargs": [everything | more for more in given]}
    spec = Ifeval(**params)
    made = spec.load()(
        [Task(0, "?", (1,), columns)], torch.zeros(len(texts), dtype=torch.int64), texts, **spec.params()
    )
    return made["reward_R"].tolist()


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_each_instruction(name, arguments, good, bad):
    """The names and arguments are those of the public dataset, which has every argument in every row, mostly null."""
    assert scored([(name, arguments)], [*good, *bad, ""]) == [1.0] * len(good) + [0.0] * (len(bad) + 1)


def test_every_instruction_has_a_case():
    """The table of checks and the cases have the same names, 24 of the paper's 25."""
    assert {name for name, *_ in CASES} == set(CHECKS)
    assert len(CHECKS) == 24


def test_shares_loose_forms_and_what_is_ignored():
    """A share of the instructions counts, or all; loosely, an introduction and emphasis do no harm."""
    rows = [("change_case:english_lowercase", {}), ("punctuation:no_comma", {}), ("language:response_language", {})]
    skip = ("language:response_language",)
    assert scored(rows, ["a, b", "a b"], ignore=skip) == [0.5, 1.0]
    assert scored(rows, ["a, b", "a b"], ignore=skip, score="all") == [0.0, 1.0]
    assert scored(rows[:2], ["Sure, here:\nthe sea", "Sure, the sea"], loose=True) == [1.0, 0.0]
    assert scored([("startend:end_checker", {"end_phrase": "end."})], ["The **end.**"], loose=True) == [1.0]


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"kwargs": []}, "no column `instruction_id_list`"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "arguments of each"),
        ({"instruction_id_list": [], "kwargs": []}, "not a list of instructions"),
        ({"instruction_id_list": ["language:response_language"], "kwargs": [{}]}, "ignore"),
        ({"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]}, "no_comma"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": None}]}, "keywords:existence"),
        ({"instruction_id_list": ["keywords:frequency"], "kwargs": [{"keyword": "a"}]}, "without"),
        ({"instruction_id_list": "no", "kwargs": "[{}]"}, "not a list of instructions"),
    ],
)
def test_rows_that_cannot_be_checked(columns, word):
    """A row without instructions, or with one that is not known or lacks an argument, names what is wrong."""
    spec = Ifeval()
    with pytest.raises(RecipeError) as caught:
        spec.load()([Task(7, "?", (1,), columns)], torch.zeros(1, dtype=torch.int64), ["x"], **spec.params())
    (found,) = caught.value.diagnostics
    assert found.code in {"RC741", "RC742"}
    assert word in f"{found.message} {found.help}"


def test_columns_as_json_text():
    """Lists may be their JSON text, as some datasets store them."""
    spec = Ifeval()
    columns = {"instruction_id_list": '["punctuation:no_comma"]', "kwargs": json.dumps([None])}
    made = spec.load()([Task(0, "?", (1,), columns)], torch.zeros(1, dtype=torch.int64), ["x"], **spec.params())
    assert made["reward_R"].tolist() == [1.0]
