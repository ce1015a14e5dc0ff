"""Rewards and the user's own functions: RC740 to RC752, RC954, RC960 to RC962."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from recipec.diagnostics.model import Finding, Span, diagnostic, file_span
from recipec.diagnostics.phrases import did_you_mean, listed

_NETWORK = {
    "URLError",
    "HTTPError",
    "ConnectionError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionRefusedError",
    "gaierror",
}
"""Exceptions of a service that does not answer."""
_OF_TEXT = ("string ind", "'str' object has no attribute 'get'", "'str' object has no attribute 'content'")
"""What Python says where a text is taken for a message."""
_OF_CODE = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError")
"""Exceptions of code that is wrong whatever an answer is."""
_BY_FILE = "name it from the folder of your file: `Path(__file__).parent / NAME`"


@diagnostic("RC740", "no-verifier")
def no_verifier(prompt: int) -> Finding:
    """The reward is `verifier`, but a task has no verifier of its own.

    Why it matters: the answer cannot be scored.
    Example: `reward: {r: {type: verifier}}` with tasks from a JSONL file.
    How to fix: use `exact_match`, `math_verify` or `function`, or tasks of `reasoning_gym`.
    """
    return Finding(f"task {prompt} has no verifier of its own")


@diagnostic("RC741", "no-answer-column")
def no_answer_column(
    prompt: int, place: tuple[str, int] | None, column: str, have: Iterable[str], param: str = "answer"
) -> Finding:
    """A task lacks the column named by the `answer` of a reward or the `topic` of claims, or it has no text.

    Why it matters: every answer would be wrong, and a claim such as "it itches" would be about nothing.
    Example: `exact_match` with `answer: label` for rows that call it `disease`.
    How to fix: give the name of the column. Without `topic`, the text of the question is searched.
    """
    names = list(have)
    problem = f"has no text in column `{column}`" if column in names else f"has no column `{column}`"
    remedy = f"{did_you_mean(column, names)} it has {listed(names)}; `{param}` names the column".strip()
    return Finding(f"{_task(prompt, place)} {problem}", file_span(*place) if place else (), help=remedy)


def _task(prompt: int, place: tuple[str, int] | None) -> str:
    return f"{place[0]}, row {place[1]}" if place else f"task {prompt}"


@diagnostic("RC742", "bad-answer")
def bad_answer(
    prompt: int,
    place: tuple[str, int] | None,
    column: str,
    value: Any,
    problem: str = "",
    labels: Iterable[str] = (),
) -> Finding:
    r"""The right answer of a task is empty, has the wrong type, is not mathematics, or is not one of the labels.

    What it checks: the answer is text, a number or a list of them; for `math_verify`, all of its text is one
    expression, or the part in `\boxed{}` or after `####` is; for `exact_match` with labels, it is one of `labels`.
    Why it matters: no answer of the policy could be right, and a number found inside the text is not the answer.
    Example: `"answer": null`; `"answer": "see appendix 5"` with `math_verify`; a row with `acne` for `labels:
    [melanoma, rosacea]`.
    How to fix: correct the answer, or choose a reward and labels that fit the data.
    """
    known = list(labels)
    remedy = f"{did_you_mean(str(value), known)} the labels are {listed(known)}".strip() if known else ""
    message = f"{_task(prompt, place)}: `{column}` is {repr(value)[:80]}, {problem or 'which no answer can match'}"
    return Finding(message, file_span(*place) if place else (), help=remedy)


@diagnostic("RC955", "options-from-one", "warning")
def options_from_one(file: str, row: int, column: str, highest: int, rows: int, level: str) -> Finding:
    """The right options of a multiple choice are numbers that seem to count from 1; the reward counts from 0.

    What it checks: `multiple_choice`, in the first 2000 rows of a local file of at most 50 MB with at least 8 rows: all
    right answers are numbers, and none is 0.
    Why it matters: 1 is read as option B, so that every right answer is called wrong.
    Example: `"answer": 1` for option A.
    How to fix: write the letters, or numbers from 0. Where no row has option A, nothing is wrong: say so under `allow`.
    """
    message = f"`{column}` is a number from 1 to {highest} in all {rows} rows, and is read from 0: 1 is B"
    return Finding(message, file_span(file, row), path=f"{level}.answer")


@diagnostic("RC743", "bad-pattern")
def bad_pattern(pattern: str, problem: str) -> Finding:
    """A regular expression is not valid for Python's `re`.

    Why it matters: it could not match anything.
    Example: `pattern: "(<think>.*</think>"` with a parenthesis that is not closed.
    How to fix: correct the pattern; `re.compile` shows the same error.
    """
    return Finding(f"the pattern {pattern[:80]!r} is not valid: {problem}")


@diagnostic("RC744", "scoring-fails")
def scoring_fails(reward: str, failed: int, scored: int, examples: Iterable[str]) -> Finding:
    """More than one answer in a hundred could not be scored, because the reward timed out or crashed.

    Why it matters: rows without a reward are left out of the batch, and with many of them the remaining rows are a
    biased sample.
    Example: `math_verify` with `timeout: 0.01`.
    How to fix: raise `timeout`, run fewer processes on the machine, or use another reward.
    """
    shown = "; ".join(repr(example[:60]) for example in examples)
    return Finding(f"reward `{reward}` could not score {failed} of {scored} answers, such as {shown}")


@diagnostic("RC746", "function-raised")
def function_raised(
    function: str,
    error: str,
    message: str,
    file: str,
    line: int,
    row: int | None,
    answer: str,
    chat: bool,
    columns: Collection[str],
    *,
    always: bool = False,
    absent: Sequence[str] = (),
) -> Finding:
    """The user's reward function raised an exception.

    Why it matters: the row has no reward, and training on the other rows only would bias the update.
    Example: `float(completion)` for an answer that is not a number.
    How to fix: correct the function where it raises for every answer; return 0 for an answer that it cannot read, or
    None if it does not apply to the row.
    """
    which = "" if row is None else f" on row {row}"
    of = f", for the answer {answer}" if answer else ""
    shown = f"reward function `{function}` raised {error}{which}{of}: {message[:200]}"
    remedy = f"it raises for every answer: correct {file}{f', line {line}' if line else ''}" if always else ""
    remedy += ", or return 0 for an answer that it cannot read" if always and error not in _OF_CODE else ""
    if chat and error not in _OF_CODE:
        remedy = 'with chat prompts a completion is a list of messages: its text is `completion[0]["content"]`'
    if not chat and error in {"TypeError", "AttributeError"} and any(word in message for word in _OF_TEXT):
        remedy = (
            "here a completion is a text, not a list of messages: `completion` is what `completion[0]['content']` is "
            "with chat prompts (`chat: true`)"
        )
    if error == "FileNotFoundError":
        remedy = _BY_FILE
    elif error in _NETWORK:
        remedy = "start the service, or correct its address; the function may catch the error and return None"
    elif absent and (error == "NotImplementedError" or any(name in message for name in absent)):
        remedy = f"the data has no column {listed(absent)}, so the function gets None for it"
    elif error == "KeyError" and columns and (name := message.strip("'")) not in columns:
        hint = did_you_mean(name, columns)
        remedy = f"{hint} the columns that the function gets are {listed(sorted(columns))}".strip()
    return Finding(shown, file_span(file, line) if line else (), help=remedy)


@diagnostic("RC747", "function-result")
def function_result(function: str, problem: str, spans: tuple[Span, ...] = (), remedy: str = "") -> Finding:
    """The user's reward function did not return a list with one finite number, or None, for each row within `timeout`.

    Why it matters: a score for the wrong row, or a NaN, would silently ruin the update.
    Example: a list of 7 for 8 completions.
    How to fix: return one finite number for each completion, in order; None if the function does not apply to the row.
    """
    return Finding(f"reward function `{function}` {problem}", spans, help=remedy)


@diagnostic("RC748", "function-signature")
def function_signature(function: str, problem: str, hint: str = "", spans: tuple[Span, ...] = ()) -> Finding:
    """The user's reward function has required parameters that are neither those of TRL or verl nor columns of the data.

    Why it matters: the call would fail.
    Example: `def score(text): ...`.
    How to fix: write `f(prompts, completions, **columns)` or `compute_score(data_source, solution_str, ground_truth)`.
    """
    return Finding(f"reward function `{function}` {problem}", spans, help=hint)


@diagnostic("RC749", "unknown-function")
def unknown_function(function: str, have: Iterable[str]) -> Finding:
    """No file under `use` defines the reward function at its top level.

    Why it matters: there is nothing to call.
    Example: `name: invoice_totals` for `def invoice_total`.
    How to fix: name its file under `use`, and allow it with `--use FILE`.
    """
    names = list(have)
    remedy = f"{did_you_mean(function, names)} the files have {listed(names)}".strip() if names else ""
    return Finding(f"there is no reward function `{function}`", help=remedy)


@diagnostic("RC750", "own-file-broken")
def own_file_broken(
    file: str,
    line: int,
    problem: str,
    column: int = 1,
    missing: str = "",
    source: str = "",
    *,
    sibling: bool = False,
    others: Sequence[str] | None = None,
) -> Finding:
    """A file of the user's does not exist, is not valid Python, or raises when it is imported.

    Why it matters: its functions cannot be called.
    Example: a syntax error, or an import of a package that is not installed.
    How to fix: correct the file; `python FILE` shows the same error with its traceback.
    """
    remedy = f"install the package that has `{missing}` next to recipec, or correct its name" if missing else ""
    if others is not None:
        there = f"there is {listed(others)}" if others else "there is no file that ends in .py"
        remedy = f"{did_you_mean(file.rpartition('/')[2], others)} name a file relative to the recipe; {there}".strip()
    elif sibling or "attempted relative import" in problem:
        missing = f"{missing}.py" if missing else "the other file"
        remedy = f"files of `use` do not import each other: move the code of {missing} into {file}, or install it"
    elif problem.startswith("FileNotFoundError"):
        remedy = _BY_FILE
    elif problem.startswith("KeyError") and "environ" in source:
        remedy = f"set the environment variable {problem.partition(': ')[2]} in the shell that starts recipec"
    elif problem.startswith("SystemExit"):
        remedy = "the file ends the process when it is loaded: put this under `if __name__ == '__main__':`"
    place = file_span(file, line, column) if line else ()
    return Finding(f"{file} cannot be loaded: {problem}", place, help=remedy, path="use")


@diagnostic("RC751", "function-twice")
def function_twice(function: str, files: Iterable[str]) -> Finding:
    """Two files under `use` define a top-level function of the same name.

    Why it matters: the order of the list would decide which one is called.
    Example: `score` in both rewards.py and more_rewards.py.
    How to fix: rename one of them; a leading underscore hides a function that is not a reward.
    """
    return Finding(f"the function `{function}` is defined in {' and in '.join(files)}")


@diagnostic("RC752", "judge-broken")
def judge_broken(what: str, problem: str) -> Finding:
    """The process that scores answers was killed and cannot be started again.

    Why it matters: no further answer can be scored.
    Example: a machine that ran out of memory.
    How to fix: free memory, then run the same command again: it continues.
    """
    return Finding(f"the process that scores for {what} does not start: {problem}")


@diagnostic("RC960", "bad-schema")
def bad_schema(problem: str) -> Finding:
    """The schema of a reward `json_schema` is not a valid JSON Schema, or refers to another document.

    Why it matters: no answer could be checked. Other documents are not fetched.
    Example: `json_schema: {type: objekt}`, or a `$ref` to an address.
    How to fix: correct the schema; put definitions that it refers to under its own `$defs`.
    """
    return Finding(f"the schema of reward `json_schema` is not valid: {problem}")


@diagnostic("RC961", "programs-not-allowed")
def programs_not_allowed() -> Finding:
    """The reward `code_execution` runs programs that a model writes, and HF_ALLOW_CODE_EVAL is not 1.

    What it checks: the environment variable of that name, which is that of the library `evaluate`.
    Why it matters: the programs run in child processes with limits of time, memory and output, in an empty folder, and
    without sockets and further processes as far as Python refuses them. That is not a security boundary: a hostile
    program may get around it, and read what the user of the run may read.
    Example: `reward: {tests: {type: code_execution}}` with a plain `recipec run`.
    How to fix: run in a container without a network and without secrets, and set HF_ALLOW_CODE_EVAL=1 there.
    """
    message = "reward `code_execution` runs programs that the policy writes, which is not allowed here"
    return Finding(message, help="in a container without secrets, set HF_ALLOW_CODE_EVAL=1")


@diagnostic("RC954", "no-service-key")
def no_key(service: str, variable: str) -> Finding:
    """The environment variable with the key of a service is not set, or holds no key.

    Why it matters: the service would refuse every request.
    Example: `machine: {services: {judge: {url: "https://…/v1", key_variable: RECIPEC_JUDGE_KEY}}}` without it.
    How to fix: set the variable in the shell that starts the run. The key is never part of a recipe or a run directory.
    """
    problem = f"the environment variable `{variable}` with the key of service `{service}` is not set, or is not a key"
    return Finding(problem, path="service")
