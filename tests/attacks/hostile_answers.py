"""Attacks by what a model writes: rewards that parse, evaluate, match or execute it."""

from __future__ import annotations

import inspect
import math
import os
from functools import partial
from typing import Any

from attacks.attack import DONE, Attack, Scene


def scored(make, text: str, expected: float = 0.0, **columns: Any):
    """Score a text by a reward that `make` builds; NaN says that it could not be scored."""

    def act(scene: Scene) -> None:
        import torch

        from recipec.runtime.batch import Task

        reward = make(scene)
        try:
            written = text.replace("CANARY", str(scene.canary))
            task = Task(0, "p", (1,), {"answer": "3", **columns})
            (found,) = reward([task], torch.tensor([0]), [written])["reward_R"].tolist()
        finally:
            if hasattr(reward, "close"):
                reward.close()
        assert found == expected or (math.isnan(found) and math.isnan(expected)), found

    return act


def _built(name: str, **parameters: Any):
    def make(scene: Scene):
        from recipec.runtime.context import StageContext
        from recipec.spec import reward as specs

        spec = getattr(specs, name)(**parameters)
        context = StageContext(root=scene.folder, cache=scene.folder / "cache", seed=0, stage="s")
        return spec.load()(spec, context) if isinstance(spec.load(), type) else _function(spec)

    return make


def _function(spec: Any):
    function = spec.load()
    parameters = {name: getattr(spec, name) for name in inspect.signature(function).parameters if hasattr(spec, name)}
    return partial(function, **parameters)


def maths(text: str, expected: float = 0.0):
    """Judge an answer of mathematics; the answer of the task is 3."""
    return scored(_built("MathVerify", timeout=2.0), text, expected)


def program(text: str, expected: float = 0.0):
    """Run a program by `code_execution`, which the environment allowed; its test is that `f()` is 3."""

    def act(scene: Scene) -> None:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
        try:
            made = _built("CodeExecution", timeout=2.0, memory=256, processes=1)
            scored(made, text, expected, tests=["assert f() == 3"])(scene)
        finally:
            del os.environ["HF_ALLOW_CODE_EVAL"]

    return act


def sections(text: str):
    """Read the entities and claims of a text by a knowledge graph."""

    def act(scene: Scene) -> None:
        from support.knowledge_graphs import skin

        from recipec.runtime.knowledge.consistency import judge

        graph = skin(scene.folder)
        try:
            judge(graph, text, ["psoriasis"])
        finally:
            graph.close()

    return act


NAN = math.nan
ATTACKS = [
    Attack("math-tower", "CWE-400", DONE, maths("$9^{9^{9^{9}}}$", NAN), seconds=12),
    Attack("math-huge-power", "CWE-400", DONE, maths(r"\boxed{10^{10^{10}}}"), seconds=12),
    Attack("math-factorial", "CWE-400", DONE, maths(r"\boxed{(10^{10})!}"), seconds=12),
    Attack("math-product", "CWE-400", DONE, maths(r"\boxed{\prod_{i=1}^{10^9} i}"), seconds=12),
    Attack("math-eval", "CWE-95", DONE, maths("$__import__('os').system('touch CANARY')$")),
    Attack("math-eval-plain", "CWE-95", DONE, maths("\\boxed{__import__('os').system('touch CANARY')}")),
    Attack("math-eval-latex", "CWE-95", DONE, maths(r"\boxed{\operatorname{exec}(open('CANARY','w'))}")),
    Attack("math-write18", "CWE-78", DONE, maths(r"\boxed{\write18{touch CANARY}}")),
    Attack("math-input", "CWE-73", DONE, maths(r"\boxed{\input{/etc/passwd}}")),
    Attack("math-deep-braces", "CWE-674", DONE, maths("\\boxed{" * 3000 + "3" + "}" * 3000, 1.0), seconds=12),
    Attack(
        "math-deep-fraction",
        "CWE-674",
        DONE,
        maths(r"\boxed{" + r"\frac{1}{" * 5000 + "3" + "}" * 5001, NAN),
        seconds=12,
    ),
    Attack("math-many-boxes", "CWE-1333", DONE, maths("\\boxed{" * 20_000), seconds=12),
    Attack("math-digits", "CVE-2020-10735", DONE, maths("\\boxed{" + "9" * 100_000 + "}", NAN), seconds=12),
    Attack("math-all-answers", "CWE-693", DONE, maths(r"\boxed{\{1,2,3,4,5,6,7,8,9\}}")),
    Attack("math-answer-anything", "CWE-693", DONE, maths(r"\boxed{x}")),
    Attack("math-infinite-set", "CWE-693", DONE, maths(r"\boxed{(-\infty,\infty)}")),
    Attack(
        "regex-answer-bomb", "CWE-1333", DONE, scored(_built("RegexFormat", pattern="(a|aa)+$"), "a" * 200 + "c", NAN)
    ),
    Attack(
        "json-answer-deep", "CWE-674", DONE, scored(_built("JsonSchema", json_schema={"type": "object"}), "[" * 100_000)
    ),
    Attack(
        "json-answer-digits",
        "CVE-2020-10735",
        DONE,
        scored(_built("JsonSchema", json_schema={"type": "string"}), "9" * 100_000),
    ),
    Attack("tags-unclosed", "CWE-1333", DONE, scored(_built("ExactMatch", tag="answer"), "<answer>" * 100_000)),
    Attack("answer-surrogate", "CWE-176", DONE, scored(_built("ExactMatch"), "\ud800")),
    Attack("repetition-long", "CWE-407", DONE, sections("psoriasis has itching and " * 4000), seconds=10),
    Attack("claims-many-sentences", "CWE-407", DONE, sections("psoriasis has itching. " * 5000), seconds=10),
    Attack("claims-cues", "CWE-407", DONE, sections("no not never without " * 5000 + "itching"), seconds=10),
    Attack("program-writes", "CWE-22", DONE, program("open('CANARY', 'w')\ndef f(): return 3")),
    Attack("program-process", "CWE-78", DONE, program("import os\nos.system('touch CANARY')\ndef f(): return 3")),
    Attack("program-fork-bomb", "CWE-400", DONE, program("import os\nwhile 1: os.fork()")),
    Attack(
        "program-socket",
        "CWE-918",
        DONE,
        program("import socket\nsocket.create_connection(('127.0.0.1', 9))\ndef f(): return 3"),
    ),
    Attack("program-endless", "CWE-835", DONE, program("while 1: pass"), seconds=10),
    Attack("program-memory", "CWE-770", DONE, program("x = bytearray(10**10)\ndef f(): return 3")),
    Attack("program-prints", "CWE-770", DONE, program("while 1: print('x' * 10**6)"), seconds=10),
    Attack("program-ends-early", "CWE-693", DONE, program("import os\nos._exit(0)")),
    Attack(
        "program-equal-to-all",
        "CWE-693",
        DONE,
        program("class A:\n  def __eq__(s, o): raise SystemExit(0)\ndef f(): return A()"),
    ),
    Attack(
        "program-ctypes",
        "CWE-265",
        DONE,
        program("import ctypes\nctypes.CDLL('libc.so.6').system(b'touch CANARY')\ndef f(): return 3"),
    ),
    Attack("program-good", "CWE-20", DONE, program("def f(): return 3", 1.0)),
]
