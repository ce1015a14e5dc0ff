"""Tools: calls of three families, functions in processes of their own, results by the chat template, ids as sampled."""

import json
from dataclasses import replace

import pytest
from support.chat_templates import CHATML, TOOLS

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.data.text import protect
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.tools.calls import read_calls
from recipec.runtime.environment.tools.tool_use import ToolUse
from recipec.spec import environment as specs

CODE = '''\
import os
import time


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first
            number.
    """
    return a + b


def find(word: str, many: list[str] | None = None):
    """Find a word."""
    if word == "sleep":
        time.sleep(60)
    if word == "die":
        os.kill(os.getpid(), 9)
    if word == "write":
        open("written", "w")
    return {"found": word * 3}
'''
MISTRAL = (
    "{% for t in tools or [] %}[TOOL]{{ t.function.name }}{% endfor %}{% for m in messages %}{% if m.role == 'tool' %}"
    "[TOOL_RESULTS]{{ m.tool_call_id }}:{{ m.content }}[/TOOL_RESULTS]{% elif m.role == 'assistant' %}{{ m.content }}"
    "<eos>{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}{# [TOOL_CALLS] #}"
)


@pytest.fixture
def tools(text_context, text_policy, tmp_path):
    """Make environments; they are closed at the end."""
    made = []
    (tmp_path / "tools.py").write_text(CODE)

    def make(template=TOOLS, marks=("<|im_start|>", "<|im_end|>"), **params):
        protect(text_policy.tokenizer, marks)
        text_policy.tokenizer.chat_template = template
        policy = type(text_policy)(text_policy.tokenizer)
        policy.stop_ids = (policy.eos_id, policy.tokenizer.convert_tokens_to_ids(marks[-1]))
        context = replace(text_context, use=(tmp_path / "tools.py",))
        spec = specs.ToolUse(**{"functions": ("add", "find"), "timeout": 30} | params)
        made.append(ToolUse(spec, context, policy=policy))
        return made[-1], policy

    yield make
    for environment in made:
        environment.close()


def begun(environment, **columns):
    """Begin an episode."""
    (position,) = environment.start([Task(0, [{"role": "user", "content": "1+2?"}], (1,), columns)])
    return position


def took(environment, policy, position, text, end="<|im_end|>"):
    """Take a turn of this text, which ends by itself where it has an end."""
    ids = [*policy.encode(text), *([policy.tokenizer.convert_tokens_to_ids(end)] if end else [])]
    (after,) = environment.step([position], [Turn(tuple(ids), text, ended=bool(end))])
    assert after.context_ids[: len(position.context_ids) + len(ids)] == (*position.context_ids, *ids)
    assert after.kept == len(ids)
    return after


def call(name, **arguments):
    """Write a call in the form of Hermes."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_a_conversation_with_calls(tools):
    """The template shows schemas and results after ids as sampled; a turn without calls is the answer."""
    environment, policy = tools()
    position = begun(environment)
    shown = policy.decode(position.context_ids)
    schema = json.loads(shown.partition("\n")[2].partition("\n")[0])
    assert schema["function"] == {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "description": "The first number."}, "b": {"type": "integer"}},
            "required": ["a"],
        },
    }
    assert shown.endswith("<|im_start|>user\n1+2?<|im_end|>\n<|im_start|>assistant\n")
    odd = "I  add." + call("add", a=1, b=2).replace('": ', '" :  ')  # kept as written, whatever a template would write
    position = took(environment, policy, position, odd + call("find", word="x"))
    assert policy.decode(position.context_ids).removeprefix(shown + odd + call("find", word="x")) == (
        '<|im_end|>\n<|im_start|>tool\n3<|im_end|>\n<|im_start|>tool\n{"found": "xxx"}<|im_end|>\n'
        "<|im_start|>assistant\n"
    )
    assert (position.calls, position.failures, position.valid, position.ended) == (2, 0, True, False)
    again = took(environment, policy, position, call("add", a=5))
    assert "tool\n6<|im_end|>" in policy.decode(again.context_ids)
    last = took(environment, policy, position, "It is 3.")
    assert (last.ended, last.truncated, last.turns) == (True, False, 2)


def test_calls_that_fail_are_read_by_the_policy(tools):
    """Unknown tools, wrong arguments, errors, hangs, crashes and writing files give an error text; the run goes on."""
    environment, policy = tools(timeout=3, max_calls=2, max_observation_length=400)
    first = begun(environment)
    for text, word, made, failed in (
        ("<tool_call>{add: 1}</tool_call>", "it is not JSON", 0, 0),
        (call("sub", a=1), "there is no tool `sub`", 0, 0),
        (call("add"), "TypeError", 1, 0),
        (call("add", a="x", b=1), "tools.py:12: TypeError", 1, 0),
        (call("find", word="write"), "PermissionError", 1, 0),
        (call("find", word="sleep"), "no answer within 3 s", 1, 1),
        (call("find", word="die"), "Error", 1, 0),  # the hook refuses it; a process that died is a failure too
        (call("add", a=1) * 3, "at most 2 calls", 2, 0),
    ):
        after = took(environment, policy, first, text)
        assert word in after.observation
        assert "Error" in after.observation
        assert (after.ended, after.calls, after.failures) == (False, made, failed)
        assert after.valid == (made == text.count("<tool_call>"))
    long = took(environment, policy, first, call("find", word="y" * 400))
    assert 380 < long.observation.count("y") < 400


def test_limits_end_an_episode(tools):
    """The last turn makes no calls, and a turn cut at its length is no answer."""
    environment, policy = tools(max_turns=2)
    position = took(environment, policy, begun(environment), call("add", a=1))
    last = took(environment, policy, position, call("add", a=1))
    assert (last.ended, last.truncated, last.calls) == (True, True, 0)
    cut = took(environment, policy, begun(environment), "It is", end="")
    assert (cut.ended, cut.truncated) == (True, True)


def test_the_form_of_mistral(tools):
    """Marks that are control tokens are read, and results carry ids of nine letters."""
    environment, policy = tools(MISTRAL, ("[TOOL_CALLS]", "<eos>"))
    position = begun(environment)
    mark = policy.tokenizer.convert_tokens_to_ids("[TOOL_CALLS]")
    ids = (mark, *policy.encode('[{"name": "add", "arguments": {"a": 1}}]'), policy.eos_id)
    (after,) = environment.step([position], [Turn(ids, "")])
    assert policy.decode(after.context_ids).endswith("<eos>[TOOL_RESULTS]call00000:2[/TOOL_RESULTS]")
    named = '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]find[ARGS]{"word": "x"}'
    assert [one.arguments for one in read_calls(named, "mistral")] == [{"a": 1}, {"word": "x"}]


def test_the_form_of_llama():
    """JSON alone is a call, also after the mark of code; other text, and JSON without a name, is an answer."""
    text = '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "find", "parameters": "{}"}'
    assert [(one.name, dict(one.arguments)) for one in read_calls(text, "llama")] == [("add", {"a": 1}), ("find", {})]
    assert read_calls('{"answer": 3}', "llama") == []
    assert read_calls('{"name": "add", ', "llama")[0].problem == "it is not JSON"
    assert read_calls('{"name": "add", "parameters": [1]}', "llama")[0].problem == "its arguments are not an object"


def test_what_cannot_be_built(tools):
    """A template without tools is RC962, a function that no file has RC810."""
    with pytest.raises(RecipeError) as caught:
        tools(CHATML)
    assert caught.value.diagnostics[0].code == "RC962"
    assert "the tools" in caught.value.diagnostics[0].message
    with pytest.raises(RecipeError) as caught:
        tools(functions=("sub",))
    assert caught.value.diagnostics[0].code == "RC810"
    assert "`sub`" in caught.value.diagnostics[0].message
