"""Every broken dataset ends in a code with file and row, before anything was trained."""

import pytest
from support.small_recipes import AGAIN, RL, ROWS, SFT, rows

ROW_FAULTS = [
    ('{"prompt": "x", \n', "RC703", "a.jsonl:5:"),
    ("[1]\n", "RC703", "a.jsonl:5:1"),
    ('{"prompt": "a", "completion": "b", "prompt": "c"}\n', "RC703", "`prompt` stands twice"),
    (
        '{"prompt": "a", "completion": "b", "n": ' + '{"a": ' * 300 + "1" + "}" * 300 + "}\n",
        "RC703",
        "nested more than",
    ),
    ('{"prompt": "a", "completion": NaN}\n', "RC703", "a.jsonl:5:1"),
    ('{"prompt": "a", "completion": "b", "n": ' + "1" * 6000 + "}\n", "RC703", "thousands of digits"),
    ('{"prompt": ' + "[" * 100_000 + "\n", "RC703", "a.jsonl:5:1"),
    (rows({"prompt": "x"}), "RC705", "row 5 has no column `completion`"),
    (rows({"prompt": "x", "completion": None}), "RC706", "a.jsonl:5:1"),
    (rows({"prompt": 3, "completion": "x"}), "RC706", "a.jsonl:5:1"),
    (rows({"prompt": "x", "completion": ""}), "RC707", "a.jsonl:5:1"),
    (rows({"prompt": "", "completion": "x"}), "RC707", "a.jsonl:5:1"),
    (rows({"prompt": "x" * 100, "completion": "y"}), "RC708", "a.jsonl:5:1"),
]
MESSAGES = [
    ([{"role": "user"}], "RC706"),
    ([{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}], "RC706"),
    ([{"role": "user", "content": "a"}], "RC706"),
    ([{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "b"}], "RC866"),
    ([{"role": "user", "content": [{"type": "video"}]}, {"role": "assistant", "content": "b"}], "RC868"),
    ([{"role": "user", "content": 7}, {"role": "assistant", "content": "b"}], "RC706"),
    ([], "RC707"),
    ("hi", "RC706"),
]
FILES = [
    ("a.jsonl", b"", "RC702"),
    ("a.jsonl", b"\n\n", "RC702"),
    ("a.jsonl", b'{"prompt": "\xe9", "completion": "x"}\n', "RC703"),
    ("a.jsonl", ROWS.encode("utf-16"), "RC703"),
    ("a.json", b'[{"prompt": "a", "completion": "b"}, 7]', "RC703"),
    ("a.xml", b"<rows/>", "RC704"),
    ("a.csv", b"prompt,completion\na,b\n", "RC172"),
    ("a.parquet", b"garbage", "RC704"),
    ("a.parquet", b"", "RC704"),
]
TEMPLATES = [
    ("{{ nope }}", "RC711"),
    ("{{ prompt", "RC712"),
    ("{% include 'x' %}", "RC712"),
    ("{{ prompt.__class__.__mro__ }}", "RC713"),
    ("{{ prompt.upper }}", "RC713"),
    ("{{ 1/0 }}", "RC713"),
    ("{% for i in range(10**9) %}x{% endfor %}", "RC713"),
    ("", "RC707"),
    (b"\xe9", "RC700"),
]
DROPPED = "{path: a.jsonl, max_length: 1, overlong: drop}"


@pytest.mark.parametrize(("line", "code", "place"), ROW_FAULTS)
def test_a_broken_row_is_named(folder, line, code, place):
    """A row that cannot be learnt from is refused by code, file and row, with exit 1."""
    ended = folder.run(SFT, a__jsonl=ROWS + line)
    assert (ended.code, ended.first) == (1, code)
    assert place in ended.err


@pytest.mark.parametrize(("messages", "code"), MESSAGES)
def test_broken_conversations(folder, messages, code):
    """A conversation that is no list of turns of text with an answer is refused by row."""
    ended = folder.run(SFT, a__jsonl=rows({"messages": messages}))
    assert (ended.code, ended.first) == (1, code)
    assert "a.jsonl:1:1" in ended.err


@pytest.mark.parametrize(("name", "data", "code"), FILES)
def test_broken_files(folder, name, data, code):
    """A file that holds no rows, or is none of the formats, is refused by name."""
    folder.write(**{name.replace(".", "__"): data})
    ended = folder.run(SFT.replace("a.jsonl", name))
    assert (ended.code, ended.first) == (1, code)
    assert name in ended.err


@pytest.mark.parametrize(("template", "code"), TEMPLATES)
def test_broken_templates(folder, template, code):
    """A template that cannot be read or rendered is refused by name, whatever it tries."""
    recipe = SFT.replace("{path: a.jsonl}", "{path: a.jsonl, template: t.j2}")
    ended = folder.run(recipe, a__jsonl=ROWS, t__j2=template)
    assert (ended.code, ended.first) == (1, code)
    assert "t.j2" in ended.err


@pytest.mark.parametrize(
    ("was", "now", "code"),
    [
        ("{path: a.jsonl}", "{path: a.jsonl, split: nope}", "RC701"),
        ("{path: a.jsonl}", DROPPED, "RC702"),
        ("{path: a.jsonl}", "{path: a.jsonl, columns: {prompt: question}}", "RC705"),
        ("rows_per_step: 2", "rows_per_step: 9, remainder: drop", "RC767"),
        ("kind: sft", "kind: dpo", "RC705"),
        ("{path: a.jsonl}", "{type: reasoning_gym, task: nope, size: 4}", "RC714"),
    ],
)
def test_data_that_does_not_suit_the_stage(folder, was, now, code):
    """Splits, columns, lengths and counts that the data does not have are refused before training."""
    recipe = SFT.replace(was, now)
    recipe = recipe.replace("rows_per_step", "pairs_per_step") if "dpo" in now else recipe
    ended = folder.run(recipe, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, code)


def test_every_missing_file_is_named_before_the_first_stage(folder):
    """Data, templates and evaluations of all stages are looked for first, each at its place in the recipe."""
    more = "evaluate:\n  dev: {data: {path: a.jsonl, template: t.j2}, sampler: {max_completion_length: 2}"
    recipe = SFT + AGAIN + more + ", reward: {r: {type: exact_match, answer: answer}}}\n"
    ended = folder.run(recipe, a__jsonl=ROWS)
    assert ended.code == 1
    assert ended.err.count("error[RC700]") == 2
    line = 1 + next(i for i, text in enumerate(recipe.splitlines()) if "b.jsonl" in text)
    assert f"r.yaml:{line}:18" in ended.err
    assert "did you mean `a.jsonl`?" in ended.err
    assert not (folder.path / "runs/small/stages").exists()


def test_a_broken_later_stage_keeps_the_earlier_one(folder, monkeypatch):
    """A late row of a large file, broken in the second stage, exits 4, and the first stage's policy stays."""
    monkeypatch.setattr("recipec.runtime.trial.whole_files.LARGEST", 10)
    ended = folder.run(SFT + AGAIN, a__jsonl=ROWS, b__jsonl=5 * ROWS + "x\n")
    assert (ended.code, ended.first) == (4, "RC703")
    assert (folder.path / "runs/small/stages/learn/policy/MANIFEST.json").exists()
    ended = folder.run(SFT + AGAIN, b__jsonl=ROWS)
    assert ended.code == 0
    assert "learn: finished before, skipped" in ended.err


def test_other_alphabets_and_line_ends_are_fine(folder):
    """Text beyond ASCII, a byte order mark and Windows line ends are no mistakes."""
    made = rows({"prompt": "é🙂", "completion": "日本"}, {"prompt": "b", "completion": "ü"}).replace("\n", "\r\n")
    assert folder.run(SFT, a__jsonl=b"\xef\xbb\xbf" + made.encode()).code == 0


def test_a_prompt_without_room_for_an_answer(folder):
    """A prompt that fills the model's positions is refused by row before anything is sampled."""
    recipe = RL.replace("use: [./rewards.py]\n", "").replace(
        "{type: function, name: score}", "{type: exact_match, answer: answer}"
    )
    ended = folder.run(recipe, a__jsonl=ROWS + rows({"prompt": "x" * 64, "answer": "1"}))
    assert (ended.code, ended.first) == (1, "RC708")
    assert "a.jsonl:5:1" in ended.err


@pytest.mark.parametrize(
    ("change", "row", "says"),
    [
        ("", {"Prompt": "a", " completion": "b"}, 'here: `columns: {prompt: Prompt, completion: " completion"}`'),
        (
            "kind: dpo",
            {"question": "a", "response_j": "b", "response_k": "c"},
            "chosen: response_j, rejected: response_k}",
        ),
        ("", {"data": [{"prompt": "a", "completion": "b"}]}, "the rows are in the list `data`"),
        ("split: train", {"prompt": "a", "completion": "b"}, "leave `split` out"),
        ("org/tasks", {}, "a data set of the hub is `hub: org/tasks`"),
    ],
)
def test_what_to_write_for_data_of_another_form(folder, change, row, says):
    """Columns that are spelt otherwise, rows within a row, splits of a file and data sets of the hub have a remedy."""
    recipe = SFT
    if change.startswith("kind"):
        recipe = SFT.replace("kind: sft", change).replace("rows_per_step", "pairs_per_step")
    elif change.startswith("split"):
        recipe = SFT.replace("{path: a.jsonl}", f"{{path: a.jsonl, {change}}}")
    elif change:
        recipe = SFT.replace("a.jsonl", change)
    folder.write(r__yaml=recipe, a__jsonl=rows(row))
    found = folder.call("check", "r.yaml")
    assert found.code == 1
    assert says in found.err


def test_a_conversation_that_begins_with_the_assistant(folder):
    """Its answers are trained; where it has no question, nothing is asked."""
    talk = [
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    recipe = SFT.replace("    data:", "      chat_template: recipec:chat/tulu\n    data:")
    folder.write(r__yaml=recipe, a__jsonl=rows(*({"messages": talk[:count]} for count in (1, 3, 1, 3))))
    assert folder.call("check", "r.yaml").code == 0
    assert folder.call("run", "r.yaml", "--quiet").code == 0


def test_several_answers_in_a_row(folder):
    """A list of texts is no conversation: each text needs a row."""
    recipe = SFT.replace("kind: sft", "kind: dpo").replace("rows_per_step", "pairs_per_step")
    folder.write(r__yaml=recipe, a__jsonl=rows({"prompt": "p", "chosen": "c", "rejected": ["r", "s"]}))
    found = folder.call("check", "r.yaml")
    assert (found.code, found.first) == (1, "RC706")
    assert "write a row for each text of the list" in found.err
