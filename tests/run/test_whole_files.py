"""All rows of a small file are looked at before the first stage, without their tokens."""

import json

import pytest
from support.small_recipes import AGAIN, RL, SFT, rows

from recipec.runtime.model import scratch
from recipec.spec.policy import Scratch

GOOD = [{"prompt": f"p{i}", "completion": f"c{i}", "answer": str(i)} for i in range(500)]
MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
PAIRED = """\
  prefer:
    kind: dpo
    from: learn
    data: {path: b.jsonl}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, pairs_per_step: 2}
"""
EXACT = RL.replace("use: [./rewards.py]\n", "").replace("{type: function, name: score}", "{type: exact_match}")
TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("last", "code", "says"),
    [
        ("{\n", "RC703", "not JSON"),
        (rows({"prompt": "x"}), "RC705", "no column `completion`"),
        (rows({"prompt": "x", "completion": None}), "RC706", "this is null"),
        (rows({"prompt": " ", "completion": "x"}), "RC707", "`prompt` is empty"),
        (rows({"prompt": [{"role": "bot", "content": "x"}], "completion": "x"}), "RC706", "has the role 'bot'"),
        (rows({"prompt": "x", "completion": "y" * 90}), "RC708", "the model has 64 positions"),
    ],
)
def test_a_bad_row_of_the_second_stage_is_found_before_the_first(folder, last, code, says):
    """The last of 501 rows is refused with its line and text, and nothing was trained."""
    ended = folder.run(SFT + AGAIN, a__jsonl=rows(*GOOD[:4]), b__jsonl=rows(*GOOD) + last)
    assert (ended.code, ended.first) == (1, code), ended.err
    assert says in ended.err
    assert "--> b.jsonl:501:" in ended.err
    assert f"501 | {last[:8]}" in ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_rows_with_the_same_fault_are_one_message(folder):
    """The first row is shown, and how many more are like it; another fault is a message of its own."""
    bad = rows(*GOOD[:100], *[{"prompt": "x", "completion": None}] * 7, {"prompt": "", "completion": "x"})
    folder.write(r__yaml=SFT, a__jsonl=bad)
    found = folder.call("check", "r.yaml")
    assert found.err.count("error[RC706]") == found.err.count("error[RC707]") == 1
    assert "row 101: `completion` must be text or a list of chat messages, this is null, and 6 more rows" in found.err
    assert "all 108 rows checked" in found.out


def test_a_template_that_refuses_an_order_of_roles(folder):
    """The chat template is rendered for every order of roles, not only for those of the first rows."""
    system = [{"role": "system", "content": "s"}, *MESSAGES]
    folder.write(
        r__yaml=SFT.replace("    data:", f'      chat_template: "{TEMPLATE}"\n    data:'),
        a__jsonl=rows(*[{"messages": MESSAGES, "row": row} for row in range(100)], {"messages": system}),
    )
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC730"), found.err
    assert "--> a.jsonl:101:1" in found.err


@pytest.mark.parametrize(("value", "code"), [({}, "RC741"), ({"answer": None}, "RC742"), ({"answer": " "}, "RC742")])
def test_right_answers_of_all_rows(folder, value, code):
    """A row of which a reward cannot read the right answer is refused at its line."""
    folder.write(r__yaml=EXACT, a__jsonl=rows(*GOOD[:100], {"prompt": "x", **value}))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, code), found.err
    assert "--> a.jsonl:101:1" in found.err


def test_equal_pairs_warn(folder):
    """Pairs without a difference are counted; the first is shown."""
    pairs = [{"prompt": f"p{i}", "chosen": "a", "rejected": "a" if i in {40, 60} else "b"} for i in range(100)]
    folder.write(r__yaml=SFT + PAIRED, a__jsonl=rows(*GOOD[:4]), b__jsonl=rows(*pairs))
    found = folder.call("check", "r.yaml")
    assert found.code == 0, found.err
    assert "warning[RC941]: `chosen` and `rejected` are equal in 2 of 100 rows" in found.err
    assert "--> b.jsonl:41:1" in found.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"score_chosen": 1.0, "score_rejected": 2.0}, "`score_chosen` is lower than `score_rejected` in 5 of 5 rows"),
        ({"score_chosen": 2.0, "score_rejected": 1.0}, "the other way round in 2 of 5 rows"),
    ],
)
def test_pairs_the_other_way_round_warn(folder, more, says):
    """A pair that another row contradicts, and scores that contradict the columns."""
    pairs = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b", **more} for i in range(4)]
    pairs.append({**pairs[0], "chosen": "b", "rejected": "a"})
    folder.write(r__yaml=SFT + PAIRED, a__jsonl=rows(*GOOD[:4]), b__jsonl=rows(*pairs))
    found = folder.call("check", "r.yaml")
    assert found.code == 0, found.err
    assert "warning[RC941]: " in found.err
    assert says in found.err


@pytest.mark.parametrize(
    ("row", "code", "says"),
    [
        ({"instruction": "x", "response": "y"}, "RC705", "`columns: {prompt: instruction, completion: response}`"),
        ({"messages": json.dumps(MESSAGES)}, "RC706", "json.loads(row['messages'])"),
        ({"prompt": [{"from": "human", "value": "x"}], "completion": "y"}, "RC706", "write `role` for `from`"),
    ],
)
def test_rows_in_the_form_of_another_file(folder, row, code, says):
    """The message says which of our names the columns have, or what to do to the row."""
    folder.write(r__yaml=SFT, a__jsonl=rows(*[row] * 4))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, code), found.err
    assert says in found.err


def test_a_chat_template_that_is_broken_or_leaves_the_messages_out(folder):
    """A template that is not valid is refused at its key, and one without the messages at the first row."""
    talk = rows(*({"messages": [{"role": "user", "content": f"q{i}"}, MESSAGES[1]]} for i in range(4)))
    folder.write(
        r__yaml=SFT.replace("    data:", '      chat_template: "{% for m in messages %}"\n    data:'), a__jsonl=talk
    )
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC730"), found.err
    assert "correct the template: `policy.chat_template`" in found.err
    rl = EXACT.replace(
        "    data: {path: a.jsonl}", "      chat_template: \"{{ 'fixed' }}\"\n    data: {path: a.jsonl, chat: true}"
    )
    folder.write(r__yaml=rl, a__jsonl=sums(8))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC878"), found.err
    assert "a.jsonl, row 1: `messages[0].content` is not written by the chat template" in found.err
    asked = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    folder.write(r__yaml=SFT.replace("    data:", f'      chat_template: "{asked}"\n    data:'), a__jsonl=talk)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC878"), found.err
    assert "`messages[1].content` is not written by the chat template: there would be nothing to learn" in found.err


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ messages[0].content.nope.more }}", "line 1, cannot render the messages: "),
        ("{% for m in messages %}\n{{ m.content + 1 }}{% endfor %}", "line 2, cannot render the messages: "),
        ("{{ mesages[0].content }}", "'mesages' is undefined"),
    ],
)
@pytest.mark.parametrize("by", ["recipe", "tokenizer"])
def test_a_chat_template_that_fails_on_any_conversation(folder, template, says, by):
    """It is refused once, at the key that names it, and no row of the data is blamed."""
    talk = rows(*({"messages": [{"role": "user", "content": f"q{i}"}, MESSAGES[1]]} for i in range(4)))
    recipe = SFT.replace("    data:", "      chat_template: t.jinja\n    data:")
    place = "stages.learn.policy.chat_template"
    if by == "tokenizer":
        made = scratch.build_model(Scratch(hidden_size=16, layers=1, heads=2), tokenizer := scratch.characters())
        tokenizer.chat_template = template
        for one in (made, tokenizer):
            one.save_pretrained(folder.path / "model")
        begin, end = SFT.index("    from:"), SFT.index("    data:")
        recipe, place = f"{SFT[:begin]}    from: ./model\n{SFT[end:]}", "stages.learn.from"
    folder.write(r__yaml=recipe, a__jsonl=talk, t__jinja=template)
    found = json.loads(folder.call("check", "r.yaml", "--format", "json").out)["diagnostics"]
    assert [(one["code"], one["path"]) for one in found] == [("RC730", place)]
    assert says in found[0]["message"]
    assert [span["file"] for span in found[0]["spans"]] == ["r.yaml"]


@pytest.mark.parametrize(("reward", "warned"), [("exact_match", True), ("answer_match", True), ("math_verify", False)])
@pytest.mark.parametrize("answer", ["{0} and {0} is {0}. #### {0}", "\\boxed{{{0}}}"])
def test_solutions_are_not_compared_as_a_whole(folder, reward, answer, warned):
    """Right answers that are solutions with a marked answer warn, unless the reward reads the mark."""
    data = rows(*({"prompt": f"What is {i}?", "answer": answer.format(i)} for i in range(9)))
    folder.write(r__yaml=EXACT.replace("exact_match", reward), a__jsonl=data)
    found = folder.call("check", "r.yaml")
    assert ("RC757" in found.err) == warned, found.err
    assert ("use `math_verify`" in found.err) == warned


def test_one_row_without_a_column_that_the_others_have(folder):
    """It is the row that is wrong and not the name of the column: how many rows have it, and no advice to rename."""
    folder.write(r__yaml=SFT, a__jsonl=rows(*GOOD[:30], {"prompt": "x", "compl": "y"}, *GOOD[:9]))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC705")
    assert "a.jsonl, row 31 has no column `completion`, which 39 of the 40 rows read have" in found.err
    assert "--> a.jsonl:31:1" in found.err
    assert '31 | {"prompt": "x", "compl": "y"}' in found.err
    assert "add it to the row, or remove the row" in found.err
    assert "names another column" not in found.err


def test_held_out_rows_in_training_warn(folder):
    """Prompts of an evaluation that a stage trains are counted, unless the stage allows it."""
    recipe = SFT + "evaluate:\n  held_out: {data: {path: b.jsonl}, metrics: [loss]}\n"
    folder.write(r__yaml=recipe, a__jsonl=rows(*GOOD[:100]), b__jsonl=rows(*GOOD[90:140]))
    found = folder.call("check", "r.yaml")
    assert "10 of 50 prompts of evaluation `held_out` are also prompts of stage `learn`" in found.err
    assert "b.jsonl:1:1" in found.err
    assert "a.jsonl:91:1" in found.err
    folder.write(r__yaml=recipe.replace("    kind: sft\n", '    kind: sft\n    allow: {RC942: "on purpose"}\n'))
    allowed = folder.call("check", "r.yaml", "--strict")
    assert allowed.code == 0
    assert [line for line in allowed.err.splitlines() if "RC" in line or "warning" in line] == []
    assert allowed.err.endswith("\nready to run\n")
    folder.write(r__yaml=recipe.replace("path: b.jsonl", "path: a.jsonl, val_share: 0.2, part: val").replace(
        "data: {path: a.jsonl}", "data: {path: a.jsonl, val_share: 0.2}"
    ))  # fmt: skip
    assert "RC942" not in folder.call("check", "r.yaml").err


def test_uneven_columns_of_a_function_warn(folder):
    """A column that a function requires has one type in all rows; other columns may have any."""
    rewards = "def score(completions, answer, **columns): return [float(a == c) for a, c in zip(answer, completions)]\n"
    made = [*GOOD[:100], {"prompt": "x", "answer": 7}, {"prompt": "y", "answer": None}]
    folder.write(r__yaml=RL, rewards__py=rewards, a__jsonl=rows(*made))
    found = folder.call("check", "r.yaml", "--use", "rewards.py")
    assert found.code == 0, found.err
    assert "warning[RC943]" in found.err
    assert "`answer`: it is text in 100, a number in 1, null in 1" in found.err
    assert "--> a.jsonl:101:1" in found.err
    folder.write(rewards__py="def score(completions, **columns): return [float(len(c)) for c in completions]\n")
    assert "RC943" not in folder.call("check", "r.yaml", "--use", "rewards.py").err


def test_larger_files_are_not_read_whole(folder, monkeypatch):
    """Of a file over the limit, the first rows alone are read."""
    monkeypatch.setattr("recipec.runtime.trial.whole_files.LARGEST", 1000)
    folder.write(r__yaml=SFT, a__jsonl=rows(*GOOD) + "{\n")
    found = folder.call("check", "r.yaml")
    assert found.code == 0, found.err
    assert "16 rows read, the longest has 7 tokens\n" in found.out


def test_small_files_of_large_texts_are_not_read_whole(folder, monkeypatch):
    """A compressed file may hold far more text than its bytes: only the longest of its rows are looked at."""
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    text = "".join(row["prompt"] for row in GOOD[:30]) * 40
    parquet.write_table(pa.table({"prompt": [text] * 90, "completion": ["1"] * 90}), folder.path / "a.parquet")
    folder.write(r__yaml=SFT.replace("a.jsonl", "a.parquet"))
    assert "RC944" in folder.call("check", "r.yaml").err
    monkeypatch.setattr("recipec.runtime.trial.whole_files.LARGEST", 20_000)
    assert (folder.path / "a.parquet").stat().st_size < 20_000 < 90 * len(text)
    found = folder.call("check", "r.yaml").err
    assert "RC944" not in found
    assert "RC708" in found


def test_copies_of_rows_warn(folder):
    """A file that was appended to itself twice is reported at its first copy."""
    folder.write(r__yaml=SFT, a__jsonl=rows(*GOOD[:30] * 3))
    found = folder.call("check", "r.yaml")
    assert found.code == 0
    assert "warning[RC944]" in found.err
    assert "60 of 90 rows are copies" in found.err
    assert "--> a.jsonl:31:1" in found.err


def test_a_character_that_the_tokenizer_does_not_know_in_any_row(folder):
    """It is found in row 401, which is not among the first."""
    folder.write(r__yaml=SFT, a__jsonl=rows(*GOOD[:400], {"prompt": "p", "completion": "é"}))
    found = folder.call("check", "r.yaml")
    assert found.code == 0
    assert "warning[RC925]" in found.err
    assert "--> a.jsonl:401:1" in found.err


def test_answers_that_repeat_their_prompts_warn(folder):
    """Pairs in the form without a prompt of its own, with a prompt added, would train the prompt twice."""
    doubled = [{"prompt": f"{i}+2= ", "chosen": f"{i}+2= a", "rejected": f"{i}+2= b"} for i in range(4)]
    folder.write(r__yaml=SFT + PAIRED, a__jsonl=rows(*GOOD[:4]), b__jsonl=rows(*doubled))
    found = folder.call("check", "r.yaml")
    assert found.code == 0
    assert "warning[RC945]: `chosen` begins with the text of `prompt` in 4 of 4 rows" in found.err
    assert "--> b.jsonl:1:1" in found.err


def sums(count=40, **columns):
    """Write rows with sums, each with ``columns`` that are made of the right answer."""
    made = [
        {"prompt": f"{i}+{2 * i}=", "completion": str(3 * i), "answer": str(3 * i)} for i in range(100, 100 + count)
    ]
    return rows(*({**row, **{name: text(row) for name, text in columns.items()}} for row in made))


@pytest.mark.parametrize(
    ("data", "recipe", "says"),
    [
        ({"answer": lambda row: f"It is {row['answer']}."}, EXACT, "warning[RC946]: `answer` has up to 10 tokens"),
        ({"prompt": lambda row: f"{row['prompt']}{row['answer']}?"}, EXACT, "warning[RC947]"),
        ({}, EXACT.replace("path: a.jsonl", 'path: a.jsonl, template: "{{prompt}}{{answer}}"'), "warning[RC947]"),
        ({"completion": lambda row: f"{row['completion']}<|im_end|>"}, SFT, "RC948]: `completion` has `<|im_end|>`"),
        ({"prompt": lambda _: "Q:"}, EXACT, "warning[RC949]: all 40 rows"),
        ({"prompt": lambda row: f"{row['prompt']} in <answer></answer>"}, EXACT, "warning[RC754]"),
        ({"prompt": lambda row: [{"role": "user", "content": said} for said in (row["prompt"], "x")]}, EXACT, ""),
        ({}, EXACT, ""),
        ({}, SFT, ""),
    ],
)  # fmt: skip
def test_answers_and_prompts_that_cannot_be_meant(folder, data, recipe, says):
    """Answers that no completion can hold, prompts with their answer, markup in texts, and one prompt for all rows."""
    folder.write(r__yaml=recipe, a__jsonl=sums(**data))
    found = folder.call("check", "r.yaml")
    assert found.code == 0, found.err
    assert says in found.err
    assert ("warning" in found.err) == bool(says), found.err


def test_the_length_of_an_answer_is_counted_with_its_tag(folder):
    """The place is the key to change, and the message says how long it must be."""
    tagged = EXACT.replace("{type: exact_match}", "{type: exact_match, tag: answer}")
    folder.write(r__yaml=tagged, a__jsonl=sums())
    found = folder.call("check", "r.yaml")
    assert "raise `sampler.max_completion_length` to at least 20" in found.err
    assert " | " + "    sampler: {num_generations: 2, max_completion_length: 4}\n" in found.err


def test_an_evaluation_is_compared_with_all_stages_at_once(folder):
    """Held-out rows that two stages train are one message; what one stage allows is reported for the other."""
    recipe = (
        SFT + AGAIN.replace("b.jsonl", "a.jsonl") + "evaluate:\n  held_out: {data: {path: a.jsonl}, metrics: [loss]}\n"
    )
    folder.write(r__yaml=recipe, a__jsonl=sums())
    found = folder.call("check", "r.yaml")
    assert found.err.count("warning[RC942]") == 1
    assert "`val_share` and the same `val_seed`" in found.err
    assert "40 of 40 prompts of evaluation `held_out` are also prompts of stages `learn`, `again`" in found.err
    folder.write(r__yaml=recipe.replace("    kind: sft\n", '    kind: sft\n    allow: {RC942: "on purpose"}\n', 1))
    assert "are also prompts of stage `again`" in folder.call("check", "r.yaml").err


def test_pairs_in_two_forms(folder):
    """An answer as text next to one as messages is refused: they would be encoded in different ways."""
    pair = {"prompt": MESSAGES[:1], "chosen": MESSAGES[1:], "rejected": "c"}
    folder.write(r__yaml=SFT + PAIRED, a__jsonl=rows(*GOOD[:4]), b__jsonl=rows(*[pair] * 4))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC706"), found.err
    assert "`rejected` is text, and `chosen` is a list of chat messages" in found.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt,completion\n1+1=,2\n", "pandas.read_csv"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("<!DOCTYPE html>\n", "download the file itself"),
        ("{'prompt': 'x', 'completion': 'y'}\n", "json.dumps(row)"),
        ('{"prompt": "x", "completion": "y"},\n', "remove the comma"),
        ('{\n "data": [\n  {"prompt": "x"}\n ]\n}\n', "write that list alone"),
        ('{"prompt": "x", "completion": NaN}\n', "leave the row out"),
        (rows(*GOOD[:4])[:-9], "cut short"),
        (b"PAR1\x15\xff", ".parquet"),
    ],
)
def test_a_file_that_is_no_jsonl(folder, text, says):
    """What the first line is, and what to do about it; too few rows are not reported as well."""
    folder.write(r__yaml=SFT, a__jsonl=text)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC703"), found.err
    assert says in found.err
    assert "RC924" not in found.err


@pytest.mark.parametrize(
    ("reward", "answer", "says"),
    [
        ("multiple_choice", "maybe", "neither a capital letter nor a number from 0"),
        ("iou", [1, 2], "not a box"),
        ("exact_match", None, "which no answer can match"),
    ],
)
def test_a_right_answer_that_a_reward_cannot_read_is_shown_in_its_row(folder, reward, answer, says):
    """The last of 40 rows is refused with its place, before anything is trained."""
    good = {"multiple_choice": "B", "iou": [0, 0, 1, 1], "exact_match": "b"}[reward]
    data = rows(*({"prompt": f"p{i}", "answer": good} for i in range(39)), {"prompt": "p", "answer": answer})
    folder.write(r__yaml=EXACT.replace("exact_match", reward), a__jsonl=data)
    found = folder.call("check", "r.yaml")
    assert (found.code, found.err.count("RC742]")) == (1, 1), found.err
    assert "a.jsonl, row 40: `answer` is" in found.err
    assert says in found.err
    assert "--> a.jsonl:40:1" in found.err


def test_a_right_answer_that_is_found_while_rows_are_scored_is_shown_in_its_row(folder):
    """`math_verify` reads answers in other processes, when a row is scored: the message has the row as well."""
    data = rows(*({"prompt": f"p{i}", "answer": "see page 5" if i == 0 else "3"} for i in range(4)))
    folder.write(r__yaml=EXACT.replace("exact_match", "math_verify"), a__jsonl=data)
    found = folder.call("check", "r.yaml")
    assert "a.jsonl, row 1: `answer` is 'see page 5', which is not mathematics in full" in found.err
    assert "--> a.jsonl:1:1" in found.err


def test_answers_that_are_not_mathematics_are_found_in_later_rows(folder):
    """Right answers of `math_verify` are read in all parts of a file, not in its first rows alone."""
    answers = [str(n) for n in range(40)] + ["see page 5"] * 30
    recipe = EXACT.replace("exact_match", "math_verify")
    folder.write(r__yaml=recipe, a__jsonl=rows(*({"prompt": f"p{n}", "answer": one} for n, one in enumerate(answers))))
    found = folder.call("check", "r.yaml")
    assert found.code == 1
    assert "`answer` is 'see page 5', which is not mathematics in full" in found.err


@pytest.mark.parametrize(("first", "letters", "warned"), [(1, False, True), (0, False, False), (1, True, False)])
def test_options_that_seem_to_count_from_one(folder, first, letters, warned):
    """Numbers of right options of which none is 0 warn; letters, and numbers from 0, do not."""
    answers = (first + i % 3 for i in range(12))
    data = rows(*({"prompt": f"p{i}", "answer": chr(64 + a) if letters else a} for i, a in enumerate(answers)))
    folder.write(r__yaml=EXACT.replace("exact_match", "multiple_choice"), a__jsonl=data)
    found = folder.call("check", "r.yaml")
    assert ("RC955" in found.err) == warned, found.err
    assert ("from 1 to 3 in all 12 rows" in found.err) == warned
