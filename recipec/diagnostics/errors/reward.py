"""What can go wrong with scores: RC740 to RC759."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recipec.diagnostics.errors.data import nearest
from recipec.diagnostics.model import Finding, Span, diagnostic


@diagnostic("RC740", "no-verifier")
def no_verifier(prompt: int) -> Finding:
    """The reward asks for the task's own verifier, and the task has none.

    What it checks: that every task of the batch can score an answer.
    Why it matters: no reward can be given.
    Example: `reward: {r: {type: verifier}}` over a JSONL file.
    Use instead: `data: {type: reasoning_gym}`, or `exact_match` over a column of the file.
    """
    return Finding(
        f"task {prompt} has no verifier of its own",
        help="use `exact_match`, `math_verify` or `function`, or tasks of `reasoning_gym`",
    )


@diagnostic("RC741", "no-answer-column")
def no_answer_column(prompt: int, column: str, have: Iterable[str]) -> Finding:
    """A reward compares with a column that the task does not have.

    What it checks: the reward's `answer` against the columns of the data.
    Why it matters: every answer would be wrong.
    Example: `exact_match` with `answer: label` over rows that call it `disease`.
    Use instead: the column's name.
    """
    names = list(have)
    listed = ", ".join(f"`{n}`" for n in names[:12]) or "none"
    return Finding(
        f"task {prompt} has no column `{column}` to compare with",
        help=f"{nearest(column, names)} it has {listed}".strip(),
    )


@diagnostic("RC742", "bad-answer")
def bad_answer(prompt: int, column: str, value: Any) -> Finding:
    """The right answer of a task is no text and no number, or is empty.

    What it checks: the answer column: text, a number, or a list of them.
    Why it matters: nothing a model writes could be right.
    Example: `"answer": null`.
    Use instead: the answer as text.
    """
    return Finding(f"task {prompt}: `{column}` is {repr(value)[:80]}, which no answer can match")


@diagnostic("RC743", "bad-pattern")
def bad_pattern(pattern: str, problem: str) -> Finding:
    """A regular expression is not valid.

    What it checks: that Python's `re` accepts it.
    Why it matters: it would match nothing.
    Example: `pattern: "<think>.*</think"` with a parenthesis left open.
    Use instead: test the pattern with `re.compile`.
    """
    return Finding(f"the pattern {pattern[:80]!r} is not valid: {problem}")


@diagnostic("RC744", "scoring-fails")
def scoring_fails(reward: str, failed: int, scored: int, examples: Iterable[str]) -> Finding:
    """More than one answer in a hundred could not be scored.

    What it checks: timeouts and crashes of a reward, once a hundred answers have been scored.
    Why it matters: failed rows leave the batch; when there are many, the model is trained on a biased rest.
    Example: `math_verify` with `timeout: 0.01`.
    Use instead: a longer `timeout`, fewer processes on the machine, or another reward.
    """
    shown = "; ".join(repr(e[:60]) for e in examples)
    return Finding(
        f"reward `{reward}` could not score {failed} of {scored} answers, such as {shown}",
        why="rows without a reward leave every baseline: many of them bias the rest",
        help="raise the timeout, or look at these answers",
    )


@diagnostic("RC745", "unreadable-gold")
def unreadable_gold(prompt: int, column: str, value: str) -> Finding:
    """The right answer of a task cannot be read as mathematics.

    What it checks: that Math-Verify finds an expression in the answer column.
    Why it matters: every answer would be wrong.
    Example: `"answer": "see appendix"`.
    Use instead: LaTeX or a plain expression, or the reward `exact_match`.
    """
    return Finding(f"task {prompt}: `{column}` is {value[:80]!r}, which holds no mathematics")


@diagnostic("RC746", "function-raised")
def function_raised(function: str, error: str, message: str, file: str, line: int, row: int | None) -> Finding:
    """The user's reward function raised an exception.

    What it checks: every call.
    Why it matters: the row has no reward; going on would train on the others in silence.
    Example: `float(completion)` on an answer that is no number.
    Use instead: return 0 for what the function cannot read, or None where it does not apply.
    """
    which = "" if row is None else f" on row {row}"
    return Finding(
        f"reward function `{function}` raised {error}{which}: {message[:200]}",
        (Span(file, line, 1, line, 2),) if line else (),
    )


@diagnostic("RC747", "function-result")
def function_result(function: str, problem: str) -> Finding:
    """The user's reward function returned something that is no list of finite numbers, one for each row.

    What it checks: the length, and that each value is a finite number or None (it does not apply to the row).
    Why it matters: a score for the wrong row, or a NaN, ruins the update without a word.
    Example: a list of 7 for 8 completions.
    Use instead: one number for each completion, in order.
    """
    return Finding(f"reward function `{function}` {problem}", help="return one finite number, or None, for each row")


@diagnostic("RC748", "function-signature")
def function_signature(function: str, problem: str, hint: str = "", spans: tuple[Span, ...] = ()) -> Finding:
    """The user's reward function takes parameters that we cannot fill.

    What it checks: parameter names: TRL's `f(prompts, completions, **columns)` or verl's
    `compute_score(data_source, solution_str, ground_truth, extra_info)`; every other required one is a column.
    Why it matters: the call would fail.
    Example: `def score(text): ...`.
    Use instead: one of the two forms.
    """
    forms = "write `f(prompts, completions, **columns)` or `compute_score(data_source, solution_str, ground_truth)`"
    return Finding(f"reward function `{function}` {problem}", spans, help=f"{hint} {forms}".strip())


@diagnostic("RC749", "unknown-function")
def unknown_function(function: str, have: Iterable[str]) -> Finding:
    """No file under `use:` defines the function.

    What it checks: the name, over the functions of the files that were loaded.
    Why it matters: there is nothing to call.
    Example: `name: invoice_totals` for `def invoice_total`.
    Use instead: a function at the top level of a file under `use:`.
    """
    names = list(have)
    listed = ", ".join(f"`{n}`" for n in names[:12])
    told = f"{nearest(function, names)} the files have {listed}".strip()
    return Finding(
        f"there is no reward function `{function}`",
        help=told if names else "name its file under `use:`, and allow it with --use FILE",
    )


@diagnostic("RC750", "own-file-broken")
def own_file_broken(file: str, line: int, problem: str) -> Finding:
    """A file of the user's cannot be loaded.

    What it checks: that it exists, is Python, and runs to its end when imported.
    Why it matters: its functions cannot be called.
    Example: a syntax error, or an import of a package that is not installed.
    Use instead: `python FILE` shows the same error with its traceback.
    """
    return Finding(f"{file} cannot be loaded: {problem}", (Span(file, line, 1, line, 2),) if line else ())


@diagnostic("RC751", "function-twice")
def function_twice(function: str, files: Iterable[str]) -> Finding:
    """Two files under `use:` define a function of the same name.

    What it checks: top-level functions without a leading underscore.
    Why it matters: which one is called would depend on the order of the list.
    Example: `score` in both rewards.py and more_rewards.py.
    Use instead: rename one of them, or give it a leading underscore if it is not a reward.
    """
    return Finding(f"the function `{function}` is defined in {' and in '.join(files)}")


@diagnostic("RC752", "judge-broken")
def judge_broken(what: str, problem: str) -> Finding:
    """The process that scores answers cannot be started again.

    What it checks: that a killed process is replaced.
    Why it matters: no answer can be scored any more.
    Example: a machine that ran out of memory.
    Use instead: free memory, then run the same command again: it continues.
    """
    return Finding(f"the process that scores for {what} does not start: {problem}", help="see what the machine lacks")
