"""Programs of completions, run on tests in child processes; see :class:`recipec.spec.reward.CodeExecution`."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.platforms import refuse_windows
from recipec.host.preflight import PreflightRequest
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Part
from recipec.runtime.reward.answers import bad_answer, no_answer_column, tagged
from recipec.runtime.reward.json_schema import read_json
from recipec.spec import reward as specs

_BLOCK = re.compile(r"```(?:python3?|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_ALLOWED = "HF_ALLOW_CODE_EVAL"
_CHILD = Path(__file__).with_name("program_child.py")
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Test:
    """One test of a program: Python code that runs after it, or input and the output that it must print.

    Example: ``Test(code="assert add(1, 2) == 3")``, ``Test(input="1 2", output="3")``.
    """

    code: str = ""
    input: str = ""
    output: str | None = None


def check(spec: specs.CodeExecution, request: PreflightRequest) -> Iterator[Diagnostic]:  # noqa: ARG001 - as every preflight
    """Yield RC961 where the environment does not allow programs of models."""
    if os.environ.get(_ALLOWED) != "1":
        yield errors.programs_not_allowed()


class CodeExecution(Part):
    """Run programs on the tests of their rows; see :class:`recipec.spec.reward.CodeExecution`."""

    def __init__(self, spec: specs.CodeExecution, context: StageContext) -> None:  # noqa: ARG002 - every class takes both
        self.spec = spec
        self._threads = ThreadPoolExecutor(spec.processes, "programs")

    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Tensor]:
        """Score a batch; equal programs of a prompt run once.

        Raises:
            RecipeError: RC741 the task lacks the column, RC742 it holds no tests; RC961 programs are not allowed.
        """
        if os.environ.get(_ALLOWED) != "1":
            raise RecipeError(errors.programs_not_allowed())
        prompts = by_prompt_R.tolist()
        tests = {p: read_tests(prompt_P[p], self.spec.tests)[: self.spec.max_tests] for p in set(prompts)}
        programs = [(p, program(tagged(text, self.spec.tag) or "")) for p, text in zip(prompts, text_R, strict=True)]
        distinct = list(dict.fromkeys(programs))
        shares = self._threads.map(lambda one: self._share(one[1], tests[one[0]]), distinct)
        share_of = dict(zip(distinct, shares, strict=True))
        span = self.spec.passed - self.spec.failed
        scores = [self.spec.failed + span * share_of[one] for one in programs]
        return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

    def _share(self, code: str, tests: Sequence[Test]) -> float:
        """Return the share of tests that a program passes; with `score: all`, 1 or 0."""
        if self.spec.score == "all":
            return float(all(self._passes(code, test) for test in tests))
        return sum(self._passes(code, test) for test in tests) / len(tests)

    def _passes(self, code: str, test: Test) -> bool:
        printed = run_program(code, test, self.spec.timeout, self.spec.memory << 20, self.spec.output << 20)
        if printed is None or test.output is None:
            return printed is not None
        return _lines(printed) == _lines(test.output)

    def close(self) -> None:
        """End the threads; every program has ended before."""
        self._threads.shutdown()


def run_program(code: str, test: Test, seconds: float, memory: int, output: int) -> str | None:
    r"""Run a program and its test in a new process and return what it printed; None where it failed.

    ``memory`` and ``output`` are in bytes. The test has been passed only if its code ran to the end, whatever status
    the process has: a program that ends it early has failed.

    >>> run_program("print(int(input()) + 1)", Test(input="2", output="3"), 60, 1 << 30, 1 << 20)
    '3\n'
    >>> run_program("raise SystemExit(0)", Test(code="assert False"), 60, 1 << 30, 1 << 20) or "failed"
    'failed'
    """
    refuse_windows("programs of a model, which run in processes with limits,")
    token = secrets.token_hex(16) if test.output is None else ""
    with (
        tempfile.TemporaryDirectory(prefix="recipec-program-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as printed,
    ):
        source.write(json.dumps({"code": code, "test": test.code, "token": token}).encode())
        stdin.write(test.input.encode("utf-8", "replace"))
        for stream in (source, stdin):
            stream.seek(0)
        limits = [str(number) for number in (memory, output, seconds)]
        child = subprocess.Popen(  # noqa: S603 - our own script; the command line has no text of the model
            [sys.executable, "-P", "-s", "-B", str(_CHILD), str(source.fileno()), *limits],
            stdin=stdin,
            stdout=printed,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_ENVIRONMENT | {"TMPDIR": folder},
            pass_fds=(source.fileno(),),
            start_new_session=True,
        )
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            _end(child)
        printed.seek(0)
        text = printed.read(output).decode("utf-8", "replace")
    if status != 0 or not text.endswith(token):
        return None
    return text.removesuffix(token)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program's processes."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def program(text: str) -> str:
    r"""Return the program of a text: the last block of Python, or all of it.

    >>> program("So:\n```python\nx = 1\n```\nIt works."), program("x = 2")
    ('x = 1\n', 'x = 2')
    """
    blocks = _BLOCK.findall(text)
    return str(blocks[-1]) if blocks else text


def read_tests(task: Task, column: str) -> list[Test]:
    """Return the tests of a row.

    Raises:
        RecipeError: RC741, RC742.

    >>> [test.code for test in read_tests(Task(0, "?", (1,), {"tests": ["assert x == 1"]}), "tests")]
    ['assert x == 1']
    """
    if column not in task.columns:
        raise no_answer_column(task, column, "tests")
    value = task.columns[column]
    entries: Any = read_json(value)
    if entries is None and isinstance(value, str) and value.strip():
        return [Test(code=value)]
    if isinstance(entries, Mapping) and {"inputs", "outputs"} <= entries.keys():
        inputs, outputs = entries["inputs"], entries["outputs"]
        paired = isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs)
        pairs = zip(inputs, outputs, strict=True) if paired else ()
        entries = [{"input": one, "output": other} for one, other in pairs]
    tests = [_test(one) for one in entries] if isinstance(entries, list) else []
    if not tests or None in tests:
        problem = "neither a list of statements nor of pairs of `input` and `output` as texts"
        raise bad_answer(task, column, value, problem)
    return [test for test in tests if test is not None]


def _test(entry: Any) -> Test | None:
    if isinstance(entry, str):
        return Test(code=entry) if entry.strip() else None
    pair = isinstance(entry, Mapping) and isinstance(entry.get("input"), str) and isinstance(entry.get("output"), str)
    return Test(input=entry["input"], output=entry["output"]) if pair else None
