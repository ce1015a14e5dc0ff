"""Columns and keys that change a prompt are used, or refused with file and row."""

import json

import pytest
from support.encoding_corpus import TOOL, bot, call, policy_of, prepare, source_of, user

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Example
from recipec.runtime.data.encode import all_trained
from recipec.runtime.data.files import Row
from recipec.runtime.images.picture import Picture
from recipec.spec.data import Columns

TALK = [user("hi"), bot("ok")]


def refused(folder, policy, kind, row, **of_data):
    """Return the code, the place and the message of a refusal."""
    with pytest.raises(RecipeError) as error:
        prepare(folder, policy, kind, row, **of_data)
    (found,) = error.value.diagnostics
    return found.code, found.spans[0].file, found.spans[0].line, found.message


def text_of_example(policy, example):
    """Decode an example with its control tokens."""
    return policy.tokenizer.decode(list(example.ids))


@pytest.mark.parametrize("form", [json.dumps, lambda tools: tools, lambda tools: [json.dumps(t) for t in tools]])
def test_tools_are_shown(tmp_path, form):
    """The template gets the tools of a row, given as a list or as JSON text, in every kind of stage."""
    policy = policy_of("gpt2", "tools")
    row = {"prompt": TALK[:1], "completion": TALK[1:], "tools": form([TOOL])}
    (example,) = prepare(tmp_path, policy, "sft", row)["completion_P"]
    assert text_of_example(policy, example).startswith(f"<|im_start|>system\n{json.dumps(TOOL)}")
    (task,) = prepare(tmp_path, policy, "rl", row)["prompt_P"]
    assert example.ids[: len(task.prompt_ids)] == task.prompt_ids
    del row["tools"]
    (task,) = prepare(tmp_path, policy, "rl", row)["prompt_P"]
    assert "get_weather" not in policy.decode(task.prompt_ids)


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}', {"city": "Paris", "unit": None}])
def test_tool_calls_train(tmp_path, arguments):
    """A turn that calls a tool and has no content is trained, its arguments written as an object."""
    policy = policy_of("gpt2", "tools")
    talk = [user("weather?"), call(arguments), {"role": "tool", "content": "sunny"}, bot("sunny")]
    (example,) = prepare(tmp_path, policy, "sft", {"messages": talk})["completion_P"]
    trained = [i for i, t in zip(example.ids, example.trained, strict=True) if t]
    written = policy.tokenizer.decode(trained)
    assert '{"name": "get_weather", "arguments": {"city": "Paris"}}' in written
    assert written.endswith("sunny<|im_end|>")


def test_a_null_in_json_text_is_kept(tmp_path):
    """Files of tables fill objects with nulls; in JSON text they are part of the schema, and of what was called."""
    policy = policy_of("gpt2", "tools")
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"unit": {"default": None, "enum": ["C", None]}}},
    }
    talk = [user("?"), call('{"city": null}'), {"role": "tool", "content": "sunny"}, bot("sunny")]
    (example,) = prepare(tmp_path, policy, "sft", {"messages": talk, "tools": json.dumps([tool])})["completion_P"]
    text = text_of_example(policy, example)
    assert '"unit": {"default": null, "enum": ["C", null]}' in text
    assert '"arguments": {"city": null}' in text


def test_a_template_may_want_arguments_as_text(tmp_path):
    """Where a template joins arguments to a text, it gets them as JSON text."""
    policy = policy_of("gpt2", "tools")
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(
        "{{ c.function.arguments | tojson }}", "{{ '' + c.function.arguments }}"
    )
    (example,) = prepare(tmp_path, policy, "sft", {"messages": [user("w"), call({"city": "Paris"})]})["completion_P"]
    assert '"arguments": {"city": "Paris"}}' in text_of_example(policy, example)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"messages": TALK, "tools": [TOOL]}, "tools"),
        ({"prompt": "hi", "completion": "ok", "tools": [TOOL]}, "tools"),
        ({"messages": [user("hi"), call({"a": 1})]}, "tool_calls"),
        ({"messages": [user("hi"), bot("ok", reasoning_content="hm")]}, "reasoning_content"),
        ({"messages": TALK, "chat_template_kwargs": {"enable_thinking": False}}, "enable_thinking"),
        ({"messages": TALK, "prompt": "other"}, "prompt"),
        ({"messages": TALK, "prompt": TALK[:1], "completion": "other"}, "messages"),
    ],
)
def test_what_nothing_uses_is_refused(tmp_path, row, column):
    """A template without tools, calls, reasoning or the variable, or a prompt that differs, is RC878 with its row."""
    code, file, line, message = refused(tmp_path, policy_of("gpt2", "chatml"), "sft", row)
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert f"`{column}`" in message


WRITTEN = "{{ message.content.rpartition('</think>')[2] if message.content is string else message.content[0].text }}"


@pytest.mark.parametrize(
    ("roles", "talk", "problem"),
    [
        (("user", "assistant"), [{"role": "system", "content": "S"}, *TALK], "messages[0].content"),
        (("user", "assistant"), [*TALK, {"role": "tool", "content": "x"}, bot("so")], "messages[2].content"),
        (("user", "assistant"), [user("hi"), bot("<think>hm</think>ok")], "messages[1].thinking"),
        (("user", "assistant"), [user("hi"), bot("<think>hm</think>ok", weight=0), user("a"), bot("b")], ""),
        (("user", "assistant"), [user("hi"), bot("<think>\n</think>ok")], ""),
        (("user", "assistant"), [user([{"type": "text", "text": "0,1,2,3"}]), bot("0,1,2,3")], ""),
        (("assistant",), [user([{"type": "text", "text": "hi"}]), bot("b")], "messages[0].content"),
    ],
)
def test_content_that_the_template_leaves_out_is_refused(tmp_path, roles, talk, problem):
    """In every kind of stage; but thinking of turns that are not trained may be cut, and white space may change."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = (
        f"{{% for message in messages if message.role in {list(roles)} %}}<|im_start|>{{{{ message.role }}}}\n{WRITTEN}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    row = {"prompt": talk[:-1], "completion": talk[-1:]}
    if not problem:
        prepare(tmp_path, policy, "sft", {"messages": talk})
        prepare(tmp_path, policy, "sft", row)
        return
    assert f"`{problem}`" in refused(tmp_path, policy, "sft", {"messages": talk})[3]
    pair = {"prompt": talk[:-1], "chosen": talk[-1:], "rejected": [bot("no")]}
    for kind, given in (("dpo", pair), *([] if "thinking" in problem else [("rl", row)])):
        code, file, line, _ = refused(tmp_path, policy, kind, given)
        assert (code, file, line) == ("RC878", "a.jsonl", 1)


def test_variables_of_the_template(tmp_path):
    """`chat_template_kwargs` reach the template; a prompt that agrees with the conversation is no mistake."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = "{{ style }}" + policy.tokenizer.chat_template
    row = {"messages": TALK, "prompt": "hi", "chat_template_kwargs": {"style": "brief <|im_end|>", "none": None}}
    (example,) = prepare(tmp_path, policy, "sft", row)["completion_P"]
    assert policy.decode(example.ids).startswith("brief <|im_end|>user")


def test_the_prompt_of_whole_pairs(tmp_path):
    """In dpo a prompt column with a system message before the shared conversation is used; another one is refused."""
    policy = policy_of("gpt2", "chatml")
    system = {"role": "system", "content": "be brief"}
    pair = {"chosen": TALK, "rejected": [user("hi"), bot("no")]}
    (chosen,) = prepare(tmp_path, policy, "dpo", {"prompt": [system, user("hi")], **pair})["chosen_P"]
    assert policy.decode(chosen.ids).startswith("system\nbe brief")
    prepare(tmp_path, policy, "dpo", {"prompt": "hi", **pair})
    for prompt in ([system], [user("other")], "other"):
        code, file, line, _ = refused(tmp_path, policy, "dpo", {"prompt": prompt, **pair})
        assert (code, file, line) == ("RC878", "a.jsonl", 1)


@pytest.mark.parametrize(
    ("kind", "row", "drawn"),
    [
        ("sft", {"messages": TALK}, "completion_P"),
        ("sft", {"prompt": TALK[:1], "completion": TALK[1:]}, "completion_P"),
        ("dpo", {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": [bot("no")]}, "chosen_P"),
        ("dpo", {"chosen": TALK, "rejected": [user("hi"), bot("no")]}, "chosen_P"),
    ],
)
def test_system_messages_in_a_column(tmp_path, kind, row, drawn):
    """A column `system` is the system message of its row; another one in the conversation is refused."""
    policy = policy_of("gpt2", "chatml")
    begun = {name: [{"role": "system", "content": "be brief"}, *row[name]] for name in row if row[name] != TALK[1:]}
    begun |= {"rejected": row["rejected"]} if "prompt" in row and kind == "dpo" else {}
    (wanted,) = prepare(tmp_path, policy, kind, row | begun)[drawn]
    assert "be brief" in policy.decode(wanted.ids)
    for given in (row, row | begun):
        (found,) = prepare(tmp_path, policy, kind, {**given, "system": "be brief"})[drawn]
        assert found == wanted
    (plain,) = prepare(tmp_path, policy, kind, row)[drawn]
    for nothing in ("", None):
        assert prepare(tmp_path, policy, kind, {**row, "system": nothing})[drawn] == [plain]
    assert refused(tmp_path, policy, kind, {**row, **begun, "system": "be long"})[:3] == ("RC878", "a.jsonl", 1)
    assert refused(tmp_path, policy, kind, {**row, "system": 3})[0] == "RC706"


def test_system_messages_of_tasks_and_plain_texts(tmp_path):
    """Prompts of rl get it too, and plain text has it in front, as `data.system` has."""
    policy = policy_of("gpt2", "chatml")
    (task,) = prepare(tmp_path, policy, "rl", {"prompt": TALK[:1], "system": "be brief"})["prompt_P"]
    assert policy.decode(task.prompt_ids).startswith("system\nbe brief")
    (task,) = prepare(tmp_path, policy, "rl", {"prompt": "hi", "system": "be brief"})["prompt_P"]
    assert policy.decode(task.prompt_ids) == "be brief\n\nhi"


def test_earlier_turns_in_a_column_are_refused(tmp_path):
    """`history` of LLaMA-Factory is read by nothing; other columns of that name are."""
    policy = policy_of("gpt2", "chatml")
    row = {"prompt": "hi", "completion": "ok"}
    assert refused(tmp_path, policy, "sft", {**row, "history": [["a", "b"]]})[:3] == ("RC878", "a.jsonl", 1)
    for other in ([], None, "of the war", ["a", "b"]):
        prepare(tmp_path, policy, "sft", {**row, "history": other})


def test_untrained_turns(tmp_path):
    """`weight: 0` and `train: false` leave a turn out of training, and out of the text; other weights are refused."""
    policy = policy_of("gpt2", "chatml")
    for key, value in (("weight", 0), ("train", False)):
        talk = [user("a"), bot("b", **{key: value}), user("c"), bot("d", name=None)]
        (example,) = prepare(tmp_path, policy, "sft", {"messages": talk})["completion_P"]
        trained = [i for i, t in zip(example.ids, example.trained, strict=True) if t]
        assert policy.tokenizer.decode(trained) == "d<|im_end|>"
    for message in (bot("b", weight=0.5), bot("b", train="no"), {**user("b"), "train": True}):
        assert refused(tmp_path, policy, "sft", {"messages": [user("a"), message, bot("c")]})[0] == "RC706"
    assert refused(tmp_path, policy, "sft", {"messages": [user("a"), bot("b", weight=0)]})[0] == "RC706"


def test_tokens_of_images_are_never_trained():
    """With `train_on: all` every token is, but the first one and those that stand for an image: nothing writes them."""
    image = Picture("9f", "a.png", {}, (7, 8))
    example = Example(0, (1, 7, 8, 2, 7, 8, 3), (False,) * 6 + (True,), (image, image))
    trained = all_trained(Row(0, "a.jsonl", 1, {}), example, Columns()).trained
    assert trained == (False, False, False, True, False, False, True)


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"messages": [user("a"), bot("b", train=False), user("c"), bot("d")]}, "messages[1]"),
        ({"messages": [user("a"), bot("b", weight=0), user("c"), bot("d")]}, "messages[1]"),
        ({"messages": [{**user("a"), "weight": 0}, bot("b")]}, "messages[0]"),
        ({"prompt": [user("a"), bot("b", train=False), user("c")], "completion": [bot("d")]}, "prompt[1]"),
    ],
)
def test_a_message_is_not_trained_or_every_token_is(tmp_path, row, where):
    """Where a row says that a message is not trained, and the recipe that all are, neither wins without a word."""
    policy = policy_of("gpt2", "chatml")
    code, file, line, message = refused(tmp_path, policy, "sft", row, train_on="all")
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert f"`{where}` is marked as not trained" in message
    prepare(tmp_path, policy, "sft", {"messages": [user("a"), bot("b", train=None, weight=1)]}, train_on="all")


@pytest.mark.parametrize(
    ("more", "of_data", "name"),
    [
        ({"system": "Be brief."}, {}, "system"),
        ({}, {"system": "Be brief."}, "system"),
        ({"tools": [TOOL]}, {}, "tools"),
        ({"chat_template_kwargs": {"a": 1}}, {}, "a"),
        ({"history": [["a", "b"]]}, {}, "history"),
    ],
)
def test_what_belongs_to_a_prompt_is_refused_next_to_plain_text(tmp_path, more, of_data, name):
    """A row of `text` has no prompt: what would change one is not left out without a word."""
    policy = policy_of("gpt2", "chatml")
    code, file, line, message = refused(tmp_path, policy, "sft", {"text": "a b", **more}, **of_data)
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert f"`{name}`" in message
    nothing = dict.fromkeys(more) | {"title": "b"}
    (example,) = prepare(tmp_path, policy, "sft", {"text": "a b", **nothing})["completion_P"]
    assert policy.decode(example.ids).startswith("a b")


def test_parquet_and_jsonl_are_equal(tmp_path):
    """Null keys that parquet adds to every message, call and tool are absence, at every depth."""
    import pyarrow as pa
    from pyarrow import parquet

    policy = policy_of("gpt2", "tools")
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(
        "{{ m.role }}\n", "{{ m.role }}{{ ' name=' + m.name if m.name is defined }}\n"
    )
    rows = [
        {"messages": [{**user("a"), "name": "Ann"}, bot("b")], "tools": [TOOL]},
        {"messages": [user("w"), call({"city": "Paris"}), {"role": "tool", "content": "s"}, bot("s")], "tools": None},
        {"messages": [user("w"), call({"unit": "C"}, "so"), user("x"), bot("y")], "tools": None},
    ]
    alone = [prepare(tmp_path, policy, "sft", row)["completion_P"][0].ids for row in rows]
    (tmp_path / "a.jsonl").unlink()
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    from recipec.runtime.context import StageContext
    from recipec.runtime.data.sources import File
    from recipec.spec import data as specs

    context = StageContext(root=tmp_path, cache=tmp_path, seed=0, stage="s")
    source = File(specs.File(path="a.parquet", shuffle=False), context, policy=policy)
    source.prepare("sft")
    assert [example.ids for example in source.draw(3)["completion_P"]] == alone


def test_what_a_template_refuses_names_the_row(tmp_path):
    """RC730 has the file and the row that the template refuses."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template += "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}"
    code, file, line, message = refused(tmp_path, policy, "sft", {"messages": [*TALK, *TALK]})
    assert (code, file, line) == ("RC730", "a.jsonl", 1)
    assert "too many" in message


@pytest.mark.parametrize(("depth", "code"), [(70, "RC706"), (500, "RC703")])
def test_deep_messages_are_refused(tmp_path, depth, code):
    """A message that is nested without end is refused by its row."""
    value = 1
    for _ in range(depth):
        value = {"a": value}
    talk = {"messages": [{**user("a"), "extra": value}, bot("b")]}
    assert refused(tmp_path, policy_of("gpt2", "chatml"), "sft", talk)[:3] == (code, "a.jsonl", 1)


@pytest.mark.parametrize("text", ["short", "a system message of many letters, which is left out"])
def test_a_system_message_that_a_template_leaves_out(tmp_path, text):
    """RC878 names the message, be it short or so long that its text cannot be in the prompt by chance."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = "{% set messages = messages[1:] %}" + policy.tokenizer.chat_template
    talk = [{"role": "system", "content": text}, user("a long question of the user"), bot("an answer that is long")]
    code, file, line, message = refused(tmp_path, policy, "sft", {"messages": talk})
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert "`messages[0].content`" in message


def test_a_turn_that_changes_earlier_ones_is_named(tmp_path):
    """RC710 counts the turns of a conversation from 1."""
    policy = policy_of("gpt2", "chatml")
    policy.tokenizer.chat_template = "{{ messages | length }}" + policy.tokenizer.chat_template
    code, _, _, message = refused(tmp_path, policy, "sft", {"messages": [user("a"), bot("b"), user("c"), bot("d")]})
    assert code == "RC710"
    assert "before turn 2 when" in message


SYSTEM = {"role": "system", "content": "be brief"}
PAIR = {"chosen": "yes it is", "rejected": "no it is not"}


@pytest.mark.parametrize(
    ("kind", "row", "column"),
    [
        ("sft", {"messages": TALK, "text": "of another talk"}, "text"),
        ("sft", {"prompt": "hi", "completion": "ok", "text": "of another talk"}, "text"),
        ("rl", {"prompt": "hi", "messages": [SYSTEM, *TALK]}, "messages"),
        ("rl", {"prompt": "hi", "messages": [user("earlier"), bot("so"), *TALK]}, "messages"),
        ("dpo", {"prompt": "hi", "messages": [{"from": "system", "value": "S"}, user("hi")], **PAIR}, "messages"),
        ("rm", {"prompt": TALK[:1], "messages": [user("other"), bot("ok")], **PAIR}, "messages"),
    ],
)
def test_a_second_column_with_the_conversation_agrees(tmp_path, kind, row, column):
    """What a column has and the one that is used lacks would be lost: it is refused, unless its name is empty."""
    policy = policy_of("gpt2", "chatml")
    row, data = dict(row), {} if kind in {"sft", "rl"} else {"chat": True}
    code, file, line, message = refused(tmp_path, policy, kind, row, **data)
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert f"`{column}`" in message
    (task,) = prepare(tmp_path, policy, kind, row, columns={column: ""}, **data)["prompt_P"]
    del row[column]
    assert prepare(tmp_path, policy, kind, row, **data)["prompt_P"][0].prompt_ids == task.prompt_ids


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("sft", {"messages": TALK, "text": "<|user|> hi\n<|bot|> ok </s>"}),
        ("sft", {"prompt": "About: a text.\nhi", "completion": "ok", "text": "a  text"}),
        ("sft", {"messages": TALK, "text": None}),
        ("sft", {"messages": TALK, "text": ["of", "another"]}),
        ("rl", {"prompt": "hi\nBe brief.", "messages": TALK}),
        ("rl", {"prompt": [SYSTEM, *TALK[:1]], "messages": TALK}),
        ("rl", {"prompt": "hi", "system": "be brief", "messages": [SYSTEM, *TALK]}),
        ("rl", {"prompt": "hi", "messages": ["another", "kind"]}),
        ("rl", {"prompt": "hi", "messages": [], "text": "a text for rewards"}),
        ("dpo", {"prompt": "hi", "messages": [user("hi"), bot("yes it is")], **PAIR}),
    ],
)
def test_a_second_column_may_say_the_same(tmp_path, kind, row):
    """Markup, instructions around a prompt, an answer at the end and values that are no conversation are accepted."""
    prepare(tmp_path, policy_of("gpt2", "chatml"), kind, row)


@pytest.mark.parametrize("mark", [{"train": True}, {"weight": 1}, {"loss": True}])
@pytest.mark.parametrize("kind", ["rl", "sft", "dpo", "rm"])
def test_a_turn_of_the_prompt_that_is_marked_as_trained_is_refused(tmp_path, kind, mark):
    """Only answers are trained, but for `train_on: all`; as a part of `messages` the turn is."""
    policy = policy_of("gpt2", "chatml")
    prompt = [user("a"), bot("b", **mark), user("c")]
    answers = {"sft": {"completion": "d"}, "rl": {}}.get(kind, {"chosen": "d", "rejected": "e"})
    code, file, line, message = refused(tmp_path, policy, kind, {"prompt": prompt, **answers})
    assert (code, file, line) == ("RC878", "a.jsonl", 1)
    assert "`train` marks a turn of the prompt as trained" in message
    prepare(tmp_path, policy, kind, {"prompt": [user("a"), bot("b"), user("c")], **answers})
    if kind == "sft":
        prepare(tmp_path, policy, "sft", {"prompt": prompt, **answers}, train_on="all")
        (example,) = prepare(tmp_path, policy, "sft", {"messages": [*prompt, bot("d")]})["completion_P"]
        trained = [i for i, t in zip(example.ids, example.trained, strict=True) if t]
        assert policy.tokenizer.decode(trained) == "b<|im_end|>d<|im_end|>"


def test_marks_of_other_tools(tmp_path):
    """`loss: false` leaves a turn out as `train: false` does; marks that contradict, or train a part, are refused."""
    policy = policy_of("gpt2", "chatml")
    talk = [user("a"), bot("b", loss=False), user("c"), bot("d", loss=None, train=True)]
    (example,) = prepare(tmp_path, policy, "sft", {"messages": talk})["completion_P"]
    trained = [i for i, t in zip(example.ids, example.trained, strict=True) if t]
    assert policy.tokenizer.decode(trained) == "d<|im_end|>"
    both = {"messages": [user("a"), bot("b", weight=0, train=True)]}
    assert refused(tmp_path, policy, "sft", both)[0] == "RC706"
    part = {"messages": [user("a"), bot("b", train_detail=[{"begin_offset": 0, "end_offset": 0, "train": False}])]}
    code, _, _, message = refused(tmp_path, policy, "sft", part)
    assert code == "RC878"
    assert "`messages[1].train_detail`" in message


def test_a_reward_model_scores_whole_answers(tmp_path):
    """A turn that is marked as not trained would end what a reward model reads before the answer does."""
    policy = policy_of("gpt2", "chatml")
    pair = {"chosen": [*TALK, user("a"), bot("b", train=False)], "rejected": [*TALK, user("a"), bot("c")]}
    code, _, _, message = refused(tmp_path, policy, "rm", pair)
    assert code == "RC878"
    assert "`chosen[0]`" in message


@pytest.mark.parametrize("key", ["tools", "functions"])
def test_tools_inside_a_message_are_written_or_refused(tmp_path, key):
    """A system message may have the tools; a template that has a variable of that name does not write them."""
    policy = policy_of("gpt2", "tools")
    row = {"messages": [{**SYSTEM, key: [TOOL]}, *TALK]}
    code, _, _, message = refused(tmp_path, policy, "sft", row)
    assert code == "RC878"
    assert f"`{key}`" in message
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(
        "{{ m.role }}\n", f"{{{{ m.role }}}}{{{{ m.{key} | tojson if m.{key} }}}}\n"
    )
    (example,) = prepare(tmp_path, policy, "sft", row)["completion_P"]
    assert "get_weather" in text_of_example(policy, example)


def test_what_a_template_leaves_out_of_a_prompt(tmp_path):
    """A row's system message is used next to a template; an `input` or `history` that it does not take is refused."""
    policy = policy_of("gpt2", "chatml")
    row = {"instruction": "Add.", "input": "2+2", "output": "4", "system": "be brief", "history": [["a", "b"]]}
    plain = {name: row[name] for name in ("instruction", "output", "system")}
    names = {"prompt": "instruction", "completion": "output"}
    for given, more in ((names, {}), ({"completion": "output"}, {"template": "{{ instruction }}"})):
        for column in ("input", "history"):
            code, _, _, message = refused(tmp_path, policy, "sft", plain | {column: row[column]}, columns=given, **more)
            assert code == "RC878"
            assert f"`{column}`" in message
        (example,) = prepare(tmp_path, policy, "sft", plain | {"input": ""}, columns=given, **more)["completion_P"]
        assert policy.decode(example.ids).startswith("be brief\n\nAdd.")
    whole = "{{ system }}:{% for a, b in history %}{{ a }}{{ b }}{% endfor %}{{ instruction }}{{ input }}"
    (example,) = prepare(tmp_path, policy, "sft", row, columns=names, template=whole)["completion_P"]
    assert policy.decode(example.ids).startswith("be brief:abAdd.2+2")


def test_a_label_that_nothing_reads(tmp_path):
    """An answer that is labelled as bad is refused where the loss reads no labels; with `kto`, it is used."""
    policy = policy_of("gpt2", "chatml")
    rows = [{"prompt": "hi", "completion": "ok", "label": good} for good in (True, 1, False)]
    source = source_of(tmp_path, policy, *rows)
    source.prepare("sft", {"desirable_R"})
    with pytest.raises(RecipeError) as error:
        source.prepare("sft", {"tokens_RT"})
    (found,) = error.value.diagnostics
    assert (found.code, found.spans[0].file, found.spans[0].line) == ("RC878", "a.jsonl", 3)
    assert "`label`" in found.message
    other = source_of(tmp_path, policy, {"prompt": "hi", "label": "false"}, columns={"completion": "label"})
    other.prepare("sft", {"tokens_RT"})
