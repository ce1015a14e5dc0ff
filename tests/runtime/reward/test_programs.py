"""JSON of a schema and programs that pass tests: what counts, what is bounded, and what is refused."""

import json
import math
import time

import pytest
import torch
from support.small_recipes import RL, rows

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.spec.reward import CodeExecution, JsonSchema

SCHEMA = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}


def scored(spec, tmp_path, columns, *texts):
    """Return the rewards of completions of one task."""
    reward = spec.load()(spec, StageContext(tmp_path, tmp_path, 0, "s"))
    try:
        made = reward([Task(3, "?", (1,), columns)], torch.zeros(len(texts), dtype=torch.int64), texts)
        return made["reward_R"].tolist()
    finally:
        reward.close()


def test_json_of_a_schema(tmp_path):
    """The schema is the recipe's or the row's; fences and tags are read, and what is not JSON is invalid."""
    texts = ['{"age": 3}', 'Here:\n```json\n{"age": 0}\n```', '{"age": -1}', "{}", "age: 3", '{"age": NaN}', "[" * 9999]
    wanted = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert scored(JsonSchema(json_schema=SCHEMA), tmp_path, {}, *texts) == wanted
    tagged = JsonSchema(tag="answer", invalid=-1)
    row = {"schema": '{"type": "array"}'}
    assert scored(tagged, tmp_path, row, "<answer>[1]</answer>", "[1]") == [1.0, -1.0]


def test_schemas_that_are_none(tmp_path):
    """Neither a broken schema nor one that refers to an address is used, and nothing is fetched; hangs get NaN."""
    for schema, word in (({"type": "objekt"}, "objekt"), ({"$ref": "http://localhost/a.json"}, "localhost")):
        for spec, columns, code in (
            (JsonSchema(json_schema=schema), {}, "RC960"),
            (JsonSchema(), {"schema": schema}, "RC742"),
        ):
            with pytest.raises(RecipeError) as caught:
                scored(spec, tmp_path, columns, "1")
            assert caught.value.diagnostics[0].code == code
            assert word in caught.value.diagnostics[0].message
    slow = JsonSchema(json_schema={"type": "string", "pattern": "^(a+)+$"}, timeout=0.5)
    assert math.isnan(scored(slow, tmp_path, {}, f'"{"a" * 40}!"')[0])


PROGRAMS = [
    ("def add(a, b):\n    return a + b", True),
    ("Like this:\n```python\ndef add(a, b): return a + b\n```\nDone.", True),
    ("```py\nadd = 1\n```\n```\nadd = lambda a, b: b + a\n```", True),
    ("def add(a, b):\n    return a - b", False),
    ("def add(a, b:", False),
    ("import os\nos._exit(0)", False),
    ("raise SystemExit(0)", False),
    ("import socket\nsocket.socket()\nadd = lambda a, b: a + b", False),
    ("import subprocess\nsubprocess.run(['true'])\nadd = lambda a, b: a + b", False),
    ("open({outside!r}, 'w')\nadd = lambda a, b: a + b", False),
    ("import os\nassert not os.listdir()\nopen('a', 'w').write('x')\nadd = lambda a, b: a + b", True),
    ("x = [0] * (1 << 30)\nadd = lambda a, b: a + b", False),
    ("while True: print('x' * 1000)", False),
]


def test_programs_with_assertions(tmp_path, monkeypatch):
    """A program passes if all assertions ran to their end; it may write in its empty folder alone."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    outside = tmp_path / "outside"
    texts = [text.format(outside=str(outside)) if "{outside" in text else text for text, _ in PROGRAMS]
    spec = CodeExecution(timeout=60, memory=512, output=1)
    tests = ["assert add(1, 2) == 3"]
    assert scored(spec, tmp_path, {"tests": tests}, *texts) == [float(passes) for _, passes in PROGRAMS]
    assert not outside.exists()
    assert scored(spec, tmp_path, {"tests": "for i in range(3):\n    assert add(i, 1) == i + 1"}, texts[0]) == [1.0]


def test_programs_with_input_and_output(tmp_path, monkeypatch):
    """Outputs are compared without white space at the ends of lines; a share of the tests counts where it is wanted."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    tests = [{"input": "1 2\n", "output": "3"}, {"input": "2 2\n", "output": "4\n"}, {"input": "5 5", "output": "10"}]
    good = "import sys\nprint(sum(map(int, open(0).read().split())), ' ')"
    poor = "print(3)"
    assert scored(CodeExecution(timeout=60), tmp_path, {"tests": tests}, good, poor) == [1.0, 0.0]
    share = CodeExecution(timeout=60, score="share", failed=-1, max_tests=2)
    assert share.bounds() == (-1.0, 1.0)
    packed = {"inputs": [t["input"] for t in tests], "outputs": [t["output"] for t in tests]}
    assert scored(share, tmp_path, {"tests": packed}, good, poor) == [1.0, 0.0]


def test_a_program_that_does_not_end(tmp_path, monkeypatch):
    """Endless and sleeping programs fail their test at the limit, and nothing of them is left."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    begin = time.monotonic()
    endless = ["while True: pass", "import time; time.sleep(100)", "import threading\nthreading.Event().wait()"]
    assert scored(CodeExecution(timeout=1.0), tmp_path, {"tests": ["pass"]}, *endless) == [0.0] * 3
    assert time.monotonic() - begin < 30


def test_programs_need_permission_and_tests(tmp_path, monkeypatch):
    """Without the variable nothing runs (RC961); a row without tests is named."""
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(RecipeError, match="RC961"):
        scored(CodeExecution(), tmp_path, {"tests": ["pass"]}, "pass")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    for columns, code in (
        ({}, "RC741"),
        ({"tests": []}, "RC742"),
        ({"tests": [{"input": 3, "output": "3"}]}, "RC742"),
        ({"tests": {"inputs": ["1"], "outputs": []}}, "RC742"),
    ):
        with pytest.raises(RecipeError) as caught:
            scored(CodeExecution(), tmp_path, columns, "pass")
        assert caught.value.diagnostics[0].code == code


def test_a_run_with_checked_answers(folder):
    """A whole run scores by programs, schemas and instructions; it is refused before training without permission."""
    recipe = RL.replace("use: [./rewards.py]\n", "").replace(
        "      right: {type: function, name: score}\n",
        "      tests: {type: code_execution, timeout: 60}\n"
        "      shape: {type: json_schema, json_schema: {type: number}}\n"
        "      follows: {type: ifeval}\n      drift: {type: kl_penalty}\n",
    )
    row = {"tests": [{"input": "", "output": ""}], "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    data = rows(*({"prompt": f"p{i}", **row} for i in range(4)))
    folder.monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    assert folder.run(recipe, a__jsonl=data).first == "RC961"
    assert not (folder.path / "runs/small/stages/explore/metrics.jsonl").exists()
    folder.monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    ended = folder.call("run", "r.yaml")
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/explore/samples/step-000001.jsonl").read_text().splitlines()
    assert {row["rewards"]["follows"] for row in map(json.loads, lines)} <= {0.0, 1.0}
