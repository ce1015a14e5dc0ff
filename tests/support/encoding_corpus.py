"""Conversations of every shape, and what must hold of their ids in every kind of stage."""

import json
from pathlib import Path

from support.chat_templates import TEMPLATES
from support.tokenizer_families import LOSSY, build

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.data.sources import File
from recipec.runtime.data.text import Text
from recipec.runtime.environment.prompt_builder import Observation, PastTurn, PromptBuilder, PromptInput
from recipec.runtime.model import turn_end
from recipec.spec import data as specs

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def user(text):
    """Return a message of the user."""
    return {"role": "user", "content": text}


def bot(text, **more):
    """Return a message of the assistant."""
    return {"role": "assistant", "content": text, **more}


def call(arguments, content=None):
    """Return a message of the assistant that calls a tool."""
    function = {"name": "get_weather", "arguments": arguments}
    return bot(content, tool_calls=[{"type": "function", "function": function}])


SHAPES = {
    "plain": [user("hi there"), bot("hello")],
    "digits": [user("2+2="), bot("4")],
    "leading_space": [user(" hi"), bot(" hello")],
    "trailing_space": [user("hi "), bot("hello ")],
    "newlines": [user("hi\n\n"), bot("\n\nhello\n")],
    "only_newline_inside": [user("a\nb"), bot("x\n\ny")],
    "system": [{"role": "system", "content": "be brief"}, user("hi"), bot("ok")],
    "empty_system": [{"role": "system", "content": ""}, user("hi"), bot("ok")],
    "two_turns": [user("hi"), bot("hello"), user("2+2="), bot("4")],
    "three_turns": [user("a"), bot("b"), user("c"), bot("d"), user("e"), bot("f")],
    "emoji": [user("🙂"), bot("🙂🙂")],
    "chinese": [user("你好"), bot("世界")],
    "accents": [user("naïve café"), bot("über straße")],
    "decomposed": [user("cafe\u0301"), bot("u\u0308ber")],
    "code": [user("```py\ndef f(x):\n    return x\n```"), bot("    indented\n\tand tabs")],
    "json": [user('{"a": [1, 2]}'), bot('{"b": "c\\n"}')],
    "markup": [user("<b>x</b>"), bot("<think>hm</think> ok")],
    "spelled": [user("say MARK now"), bot("no")],
    "spelled_at_the_ends": [user("MARK hi MARK"), bot("ok")],
    "spelled_twice": [user("MARKMARK"), bot("ok")],
    "spelled_by_the_bot": [user("hi"), bot("I write MARK here")],
    "spelled_eos": [user("a </s> b"), bot("c </s> d <s>")],
    "spelled_in_parts": [user("HALF"), bot("OTHER")],
    "cut_name": [user("text HALF"), bot("OTHER text")],
    "private": [user("\U0010fffd\U0010fffd \U000f0000 \ue000 x"), bot("\U000f0000\U0010fffd")],
    "long": [user("word " * 300), bot("answer " * 100)],
    "untrained": [user("a"), bot("b", weight=0), user("c"), bot("d", weight=1)],
    "trained_by_name": [user("a"), bot("b", train=False), user("c"), bot("d", train=True)],
    "nulls": [{**user("hi"), "name": None, "tool_calls": None}, bot("ok", name=None, tool_calls=None)],
    "parts": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), bot("c")],
    "split_mark": [user([{"type": "text", "text": "HALF"}, {"type": "text", "text": "OTHER"}]), bot("c")],
    "tool_call": [user("weather?"), call({"city": "Paris"}), {"role": "tool", "content": "sunny"}, bot("sunny")],
    "tool_text": [user("weather?"), call('{"city": "Paris"}'), {"role": "tool", "content": ""}, bot("none")],
    "tool_mark": [user("weather?"), call({"MARK": "MARK </s>"}, "so"), {"role": "tool", "content": "MARK"}, bot("x")],
}
"""``MARK`` stands for a control token of the template, ``HALF`` and ``OTHER`` for its two halves."""
NEED_TOOLS = {"tool_call", "tool_text", "tool_mark"}


ORDINARY = {"plain", "digits", "leading_space", "newlines", "system", "two_turns", "emoji", "chinese", "code", "json"}
"""Shapes without spellings, whose ids are those of the library for the whole text."""


class Policy:
    """The tokenizer's side of a policy, as a stage sees it."""

    image_encoder = image_store = None
    max_positions = 1 << 31

    def __init__(self, tokenizer, family):
        self.spells_all = family not in LOSSY
        self.tokenizer = tokenizer
        own = (tokenizer.eos_token_id,)
        self.stop_ids = (*own, *turn_end.mark(tokenizer, own, lambda _: None))
        self.text = Text(tokenizer, "2026-01-02T03:04:05")
        self.eos_id = tokenizer.eos_token_id
        self.encode, self.decode, self.render = self.text.encode, self.text.decode, self.text.render


def policy_of(family, template, strip="", plain=()):
    """Return a policy with a tokenizer of a family and a chat template."""
    source, marks = TEMPLATES[template]
    tokenizer = build(family, marks, strip, plain, reserved=3)
    tokenizer.chat_template = source
    return Policy(tokenizer, family)


def shape_of(name, marks):
    """Return a conversation with the control tokens of a template in the place of their stand-ins."""
    mark = next(iter(marks), "</s>")
    half = len(mark) // 2

    def put(value):
        if isinstance(value, str):
            return value.replace("MARK", mark).replace("HALF", mark[:half]).replace("OTHER", mark[half:])
        if isinstance(value, dict):
            return {put(k): put(v) for k, v in value.items()}
        return [put(one) for one in value] if isinstance(value, list) else value

    return put(SHAPES[name])


def source_of(folder, policy, *rows, **of_data):
    """Return a source of rows, with parameters of its data."""
    (Path(folder) / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    context = StageContext(root=Path(folder), cache=Path(folder), seed=0, stage="s")
    return File(specs.File(path="a.jsonl", shuffle=False, **of_data), context, policy=policy)


def prepare(folder, policy, kind, *rows, **of_data):
    """Read rows as a stage of ``kind`` does, with parameters of its data; return what it draws first."""
    source = source_of(folder, policy, *rows, **of_data)
    source.prepare(kind)
    return source.draw(1)


def check(folder, policy, template, shape):
    """Assert what must hold of a conversation in every kind of stage; return what it was refused for, if anything."""
    marks = TEMPLATES[template][1]
    messages = shape_of(shape, marks)
    more = {"tools": [TOOL]} if shape in NEED_TOOLS else {}
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    prompt, answer = messages[:last], messages[last:]
    try:
        example = prepare(folder, policy, "sft", {"messages": messages, **more})["completion_P"][0]
    except RecipeError as refused:
        return refused.diagnostics[0]
    apart = prepare(folder, policy, "sft", {"prompt": prompt, "completion": answer, **more})["completion_P"][0]
    (asked,) = prepare(folder, policy, "rl", {"prompt": prompt, **more})["prompt_P"]
    pair = {"prompt": prompt, "chosen": answer, "rejected": [bot("other")], **more}
    (chosen,) = prepare(folder, policy, "dpo", pair)["chosen_P"]
    whole = {"chosen": messages, "rejected": [*prompt, bot("other")], **more}
    (repeated,) = prepare(folder, policy, "dpo", whole)["chosen_P"]
    assert apart.ids == chosen.ids == repeated.ids == example.ids, "sft and dpo differ"
    assert example.ids[: len(asked.prompt_ids)] == asked.prompt_ids, "rl asks something else than sft trains"
    assert apart.trained == chosen.trained == repeated.trained
    assert not any(apart.trained[: len(asked.prompt_ids)])
    assert example.ids[-1] in policy.stop_ids
    assert example.trained[-1]
    if shape in ORDINARY and template != "dated":
        ids = policy.tokenizer.apply_chat_template(messages, return_dict=False)
        assert ids == policy.render(messages, generation=False), "other ids than those of the whole text"
    _check_controls(policy, messages, example, more, marks)
    _check_environment(folder, policy, prompt, answer, asked, more)
    return None


def _check_controls(policy, messages, example, more, marks):
    """Control tokens come from the template alone, and are those of a conversation without spellings."""
    seen = [{k: v for k, v in m.items() if k not in {"weight", "train"} and v is not None} for m in messages]

    def neutral(value):
        if isinstance(value, str):
            for name in sorted(policy.text.control.values(), key=len, reverse=True):
                value = value.replace(name, "x")
            return "x" if value in {m[: len(m) // 2] for m in marks} | {m[len(m) // 2 :] for m in marks} else value
        if isinstance(value, dict):
            return {neutral(k): v if k in {"role", "type"} else neutral(v) for k, v in value.items()}
        return [neutral(one) for one in value] if isinstance(value, list) else value

    clean = [{**m, "content": _joined(m.get("content", ""))} for m in neutral(seen)]
    control = set(policy.text.control) - {
        policy.tokenizer.unk_token_id,
        policy.tokenizer.convert_tokens_to_ids("<unk>"),
    }
    wanted = [i for i in policy.render(clean, generation=False, variables=more) if i in control]
    found = [i for i in example.ids if i in control]
    assert found == wanted[: len(found)], "data writes control tokens"
    assert len(wanted) - len(found) <= 1


def _joined(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _check_environment(folder, policy, prompt, answer, asked, more):
    """A second turn in an environment has the ids of the conversation that it makes."""
    if more or len(prompt) != 1 or not isinstance(prompt[0]["content"], str):
        return
    context = StageContext(root=Path(folder), cache=Path(folder), seed=0, stage="s")
    builder = PromptBuilder(context, policy, "append_only", None, "reasoning_gym")
    first = prompt[0]["content"]
    past = (PastTurn(Observation(first), "x", answer[0]["content"]),)
    talk = [*prompt, *answer, user("obs"), bot("y")]
    try:
        drawn = prepare(folder, policy, "sft", {"messages": talk})["completion_P"][0]
    except RecipeError:
        return
    turn = [i for i, t in zip(drawn.ids, drawn.trained, strict=True) if t][
        : drawn.trained[len(asked.prompt_ids) :].index(False)
    ]
    context_ids = (*asked.prompt_ids, *turn)
    one = PromptInput(asked, "goal", Observation("obs"), past, context_ids, opening=asked.prompt)
    (made,) = builder.contexts([one])
    end = len(drawn.trained) - drawn.trained[::-1].index(False)
    if made is None and not policy.spells_all:
        return  # letters that it cannot spell are told as a rewritten turn
    assert made is not None, "the environment refuses the turn"
    assert made == drawn.ids[:end], "environment and sft differ"
