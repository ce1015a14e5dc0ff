"""The user's own reward functions: both signatures, and every way they can go wrong."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward.function import Function
from recipec.runtime.user_code import load_functions
from recipec.spec import reward as specs

TEXTS = ["a", "bb", "ccc"]


def called(context, text, *, chat=False, name="f", columns=None):
    """Score three rows by a function of this text."""
    path = context.root / "rewards.py"
    path.write_text(text)
    context = replace(context, functions=load_functions([path]))
    prompt = [{"role": "user", "content": "q"}] if chat else "q"
    columns = [{"answer": "1", "n": i} for i in range(3)] if columns is None else columns
    tasks = [Task(i, prompt, (1,), columns[i]) for i in range(3)]
    tokens_RT = torch.tensor([[1, 5, 0, 0], [1, 5, 6, 0], [1, 5, 6, 7]])
    trained_RT = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]).bool()
    function = Function(specs.Function(name=name), context)
    return function(tasks, torch.arange(3), TEXTS, tokens_RT, trained_RT)["reward_R"].tolist()


def refused(context, text, **how):
    """Return the diagnostic that scoring gives."""
    with pytest.raises(RecipeError) as caught:
        called(context, text, **how)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize(
    "text",
    [
        "def f(prompts, completions, **kwargs): return [len(c) + n for c, n in zip(completions, kwargs['n'])]",
        "def f(completions, n): return [len(c) + i for c, i in zip(completions, n)]",
        "def f(completion_ids, n, unknown=0): return [len(c) + i for c, i in zip(completion_ids, n)]",
        "import torch\ndef f(completions, n): return torch.tensor([len(c) for c in completions]) + torch.tensor(n)",
        "def f(data_source, solution_str, ground_truth, extra_info): return len(solution_str) + extra_info['n']",
        "def f(solution_str, ground_truth, n, **kwargs): return {'score': len(solution_str) + n, 'more': 1}",
    ],
    ids=["trl", "named columns", "ids", "tensor", "verl", "verl dict"],
)
def test_both_signatures(text_context, text):
    """Functions written for TRL or verl are called as they expect."""
    assert called(text_context, text) == [1, 3, 5]


def test_conversations_are_given_as_messages(text_context):
    """For a conversational prompt a completion is a list with the assistant's message, as in TRL."""
    text = (
        "def f(prompts, completions): return [len(c[0]['content']) for c in completions if c[0]['role'] == 'assistant']"
    )
    assert called(text_context, text, chat=True) == [1, 2, 3]


def test_none_does_not_apply(text_context):
    """None is no number: the total says what it adds."""
    found = called(text_context, "def f(completions): return [None, True, 2.5]")
    assert math.isnan(found[0])
    assert found[1:] == [1.0, 2.5]


def test_verl_ground_truth_lies_where_verl_puts_it(text_context):
    """`reward_model.ground_truth` wins over other columns."""
    columns = [{"reward_model": {"ground_truth": str(i)}, "answer": "no"} for i in range(3)]
    text = "def f(data_source, solution_str, ground_truth): return int(ground_truth)"
    assert called(text_context, text, columns=columns) == [0, 1, 2]


@pytest.mark.parametrize(
    ("result", "word"),
    [
        ("[1, 2]", "2 values for 3 rows"),
        ("[1, 2, 3, 4]", "4 values for 3 rows"),
        ("[1, float('nan'), 3]", "nan for row 1"),
        ("[1, 2, float('inf')]", "inf for row 2"),
        ("[1, '2', 3]", "type str ('2') for row 1"),
        ("[1, [2], 3]", "type list for row 1"),
        ("[1, 10 ** 400, 3]", "inf for row 1"),
        ("1.0", "type float"),
        ("None", "type NoneType"),
        ("'abc'", "type str"),
        ("{0: 1}", "type dict"),
        ("(x for x in range(3))", "type generator"),
    ],
)
def test_results_that_are_no_scores(text_context, result, word):
    """Wrong lengths, wrong types and numbers that are not finite are RC747, with the function and the row."""
    found = refused(text_context, f"def f(completions): return {result}")
    assert found.code == "RC747"
    assert word in found.message
    assert "`f`" in found.message


def test_verl_results_are_checked_too(text_context):
    """A dict without `score` names the row."""
    found = refused(text_context, "def f(solution_str): return {'acc': 1}")
    assert (found.code, "row 0" in found.message) == ("RC747", True)


def test_async_functions_are_refused(text_context):
    """A coroutine is no list of scores."""
    found = refused(text_context, "async def f(completions): return [1, 2, 3]")
    assert (found.code, "async" in found.message) == ("RC747", True)


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(2)", "KeyError('x')", "RecursionError()"])
def test_exceptions_point_into_the_users_file(text_context, raised):
    """What the function raises is RC746 with the user's own line, without our traceback."""
    text = f"def helper():\n    raise {raised}\n\ndef f(completions):\n    return [helper() for _ in completions]\n"
    found = refused(text_context, text)
    assert (found.code, found.spans[0].file, found.spans[0].line) == ("RC746", "rewards.py", 2)


def test_exceptions_of_one_row_name_it(text_context):
    """A function of verl's form is called row by row, so the row is known."""
    text = "def f(solution_str, n):\n    return 1 / (n - 1)\n"
    found = refused(text_context, text)
    assert (found.code, "on row 1" in found.message, found.spans[0].line) == ("RC746", True, 2)


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("def f(text): return [1]", "RC748", "neither"),
        ("def f(completions, anser): return [1]", "RC748", "did you mean `answer`"),
        ("def f(solution_str, ground_truth): return 1", "RC748", "ground_truth"),
        ("def g(completions): return [1]", "RC749", "`g`"),
    ],
)
def test_functions_that_cannot_be_called(text_context, text, code, word):
    """An unknown name, or parameters that the data cannot fill, are told before the call."""
    columns = [{"other": 1}] * 3 if "ground_truth" in text else None
    found = refused(text_context, text, columns=columns)
    assert found.code == code
    assert word in found.message + found.help


@pytest.mark.parametrize(
    "text",
    [
        "def f(prompts, steps): [s.pop() for s in steps]; prompts[0][-1]['content'] += '!'; return [1, 1, 1]",
        "def f(prompts, completions, steps, **c): steps[0].append(9); prompts[1].clear(); return [1, 1, 1]",
        "def f(solution_str, ground_truth, extra_info): extra_info['steps'].clear(); return 1",
    ],
)
def test_what_a_function_edits_is_a_copy(text_context, text):
    """A function that changes its arguments changes nothing of ours, in this batch or in a later one."""
    columns = [{"answer": "1", "steps": [1, 2]} for _ in range(3)]
    path = text_context.root / "rewards.py"
    path.write_text(text)
    function = Function(specs.Function(name="f"), replace(text_context, functions=load_functions([path])))
    tasks = [Task(i, [{"role": "user", "content": "q"}], (1,), columns[i]) for i in range(3)]
    ids = torch.ones(3, 2, dtype=torch.int64)
    for _ in range(2):
        function(tasks, torch.arange(3), TEXTS, ids, ids.bool())
    assert columns == [{"answer": "1", "steps": [1, 2]}] * 3
    assert [task.prompt for task in tasks] == [[{"role": "user", "content": "q"}]] * 3


def test_what_a_function_changes_for_the_process_is_put_back(text_context, monkeypatch, tmp_path):
    """The working directory, torch's settings and signal handlers are as before, and a child may leave."""
    import os
    import signal

    monkeypatch.chdir(tmp_path)
    text = """
import os, signal, torch
def f(completions):
    os.chdir("/")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.fork() == 0:
        os._exit(3)
    return [float(os.waitstatus_to_exitcode(os.wait()[1]))] * len(completions)
"""
    handler, leave = signal.getsignal(signal.SIGINT), os._exit
    assert called(text_context, text) == [3.0] * 3
    assert (Path.cwd(), os._exit) == (tmp_path, leave)
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("import os; os._exit(0)", "RC746", "os._exit(0)"),
        ("while True: pass", "RC747", "took longer"),
        ("import time; time.sleep(99)", "RC747", "took longer"),
        ("raise Odd", "RC746", "raised Odd"),
        ("return [Odd(), Odd(), Odd()]", "RC747", "type Odd"),
        ("return Many([1.0, 1.0, 1.0])", "RC746", "raised Odd"),
        ("raise SystemExit", "RC746", "SystemExit"),
    ],
)
def test_a_function_that_misbehaves_is_told(text_context, body, code, word):
    """A function that leaves, hangs, or returns or raises objects that raise, is named; nothing else ends."""
    text = f"""
class Odd(Exception):
    def __str__(self): raise Odd
    __repr__ = __float__ = __bool__ = __str__
class Many(list):
    def __iter__(self): raise Odd
def f(completions):
    {body}
"""
    path = text_context.root / "rewards.py"
    path.write_text(text)
    function = Function(specs.Function(name="f", timeout=0.3), replace(text_context, functions=load_functions([path])))
    tasks, ids = [Task(i, "q", (1,), {}) for i in range(3)], torch.ones(3, 2, dtype=torch.int64)
    with pytest.raises(RecipeError) as caught:
        function(tasks, torch.arange(3), TEXTS, ids, ids.bool())
    assert caught.value.diagnostics[0].code == code
    assert word in caught.value.diagnostics[0].message
    assert "raise the `timeout`" in caught.value.diagnostics[0].help or "longer" not in word
