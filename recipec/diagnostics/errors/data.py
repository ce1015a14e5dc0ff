"""What can go wrong with rows and the files they come from: RC700 to RC719."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from recipec.diagnostics.model import Finding, Span, diagnostic


def at(file: str, line: int, column: int = 1) -> tuple[Span, ...]:
    """Return the place of a row in a text file; line 0 is the file as a whole."""
    return (Span(file, max(line, 1), column, max(line, 1), column + 1),) if file else ()


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean ...?`` over ``known``, or nothing."""
    found = difflib.get_close_matches(word, sorted(set(known)), 1, 0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def _or(first: str, second: str) -> str:
    return f"{first} {second}" if first else second


@diagnostic("RC700", "data-missing")
def data_missing(path: str, problem: str, siblings: Iterable[str] = ()) -> Finding:
    """A file or folder that the recipe names as data is not there or cannot be read.

    What it checks: the path, when the stage starts.
    Why it matters: without rows there is nothing to train on.
    Example: `path: data/trian.jsonl`.
    Use instead: a path relative to the recipe that says it.
    """
    if "no such" not in problem:
        return Finding(f"{path}: {problem}")
    hint = nearest(path.rpartition("/")[2], siblings)
    return Finding(f"{path}: {problem}", help=_or(hint, "paths are relative to the file that says them"))


@diagnostic("RC701", "which-split")
def which_split(path: str, split: str | None, splits: Iterable[str]) -> Finding:
    """The split is not in the data, or the data has several and the recipe names none.

    What it checks: `split` against the files of the directory (or the splits of the hub dataset).
    Why it matters: training on rows that are kept for evaluation makes every number worthless.
    Example: a folder with train.jsonl and test.jsonl, and no `split`.
    Use instead: `split: train`.
    """
    have = sorted(splits)
    listed = ", ".join(f"`{s}`" for s in have[:8]) or "none"
    if split is None:
        return Finding(f"{path} holds several splits ({listed}), and the recipe names none", help="set data.split")
    return Finding(f"{path} has no split `{split}`", help=_or(nearest(split, have), f"it has {listed}"))


@diagnostic("RC702", "no-rows")
def no_rows(path: str, reason: str = "it is empty") -> Finding:
    """The data has no rows, or none is left after overlong ones were dropped.

    What it checks: the number of rows that can be used.
    Why it matters: a stage without rows would do nothing and look finished.
    Example: an empty file, or a `max_length` that no row keeps.
    Use instead: another file, or a larger `max_length`.
    """
    return Finding(f"{path} gives no rows: {reason}", at(path, 0))


@diagnostic("RC703", "broken-row")
def broken_row(path: str, row: int, problem: str, column: int = 1) -> Finding:
    """A row of the data is not a JSON object in UTF-8.

    What it checks: every line: valid UTF-8, valid JSON (which knows no NaN and no Infinity), an object.
    Why it matters: a row that is skipped in silence is a different data set than the one you think you have.
    Example: `{"prompt": "2+2=", }`.
    Use instead: one JSON object a line, as `json.dumps` writes it.
    """
    return Finding(f"{path}, row {row}: {problem}", at(path, row, column), help="write one JSON object a line")


@diagnostic("RC704", "unreadable-data")
def unreadable_data(path: str, problem: str) -> Finding:
    """A data file is in a format we do not read, or is damaged.

    What it checks: the ending (.jsonl, .ndjson, .json with one object a line, .parquet) and that the file opens.
    Why it matters: guessing a format gives wrong rows.
    Example: a .csv file; a parquet file that was cut short.
    Use instead: JSONL or parquet.
    """
    return Finding(f"{path}: {problem}", help="give JSONL (one object a line) or parquet")


@diagnostic("RC705", "missing-column")
def missing_column(path: str, row: int, column: str, have: Iterable[str], param: str = "") -> Finding:
    """A row lacks a column that the stage needs.

    What it checks: the columns of TRL's formats: `prompt` (rl); `prompt` and `completion`, or `messages` (sft);
    `prompt`, `chosen` and `rejected` (dpo); under the names that `data.columns` gives them.
    Why it matters: there is no text to encode.
    Example: the file calls its prompt `question`.
    Use instead: `columns: {prompt: question}`.
    """
    names = list(have)
    listed = ", ".join(f"`{n}`" for n in names[:12]) or "none"
    tell = f"the row has {listed}" + (f"; `data.columns.{param}` gives another name" if param else "")
    tell += "; or a `preference` makes the pairs" if param in {"chosen", "rejected"} else ""
    return Finding(f"{path}, row {row} has no column `{column}`", at(path, row), help=_or(nearest(column, names), tell))


@diagnostic("RC706", "wrong-type")
def wrong_type(path: str, row: int, column: str, problem: str) -> Finding:
    """A column holds something of another type than the stage can use.

    What it checks: prompts and answers are text or lists of chat messages; a message has a known `role` and text.
    Why it matters: turning a number or a null into text by force trains on rows nobody wrote.
    Example: `"prompt": 42`, or a message `{"from": "human", "value": "…"}`.
    Use instead: text, or `[{"role": "user", "content": "…"}]`.
    """
    return Finding(f"{path}, row {row}: `{column}` {problem}", at(path, row))


@diagnostic("RC707", "empty-text")
def empty_text(path: str, row: int, column: str) -> Finding:
    """A prompt or an answer is empty.

    What it checks: there is something besides white space, and at least one token.
    Why it matters: a model cannot be conditioned on nothing, and an empty answer trains only its end.
    Example: `{"prompt": ""}`.
    Use instead: remove the row, or give it text.
    """
    return Finding(f"{path}, row {row}: {column if ' ' in column else f'`{column}`'} is empty", at(path, row))


@diagnostic("RC708", "overlong-row")
def overlong_row(path: str, row: int, length: int, limit: int, *, truncatable: bool) -> Finding:
    """A row has more tokens than `max_length`, and `overlong` says that this is an error.

    What it checks: the prompt (rl) or prompt and answer together (sft, dpo), in tokens of the policy's tokenizer.
    Why it matters: cutting or leaving out rows in silence changes the data set.
    Example: a pasted log of 40,000 tokens.
    Use instead: `overlong: drop` leaves such rows out and counts them; `truncate` cuts the answer (sft only);
    or a larger `max_length`.
    """
    choices = "`drop` or `truncate`" if truncatable else "`drop`"
    return Finding(
        f"{path}, row {row} has {length} tokens, `max_length` is {limit}",
        at(path, row),
        help=f"set data.overlong to {choices}, or raise data.max_length",
    )


@diagnostic("RC719", "row-over-positions")
def row_over_positions(path: str, row: int, length: int, room: int, *, truncatable: bool) -> Finding:
    """A row has more tokens than the model has positions for, and `overlong` says that this is an error.

    What it checks: every row when the stage starts; a prompt (rl) has to leave one position to write in.
    Why it matters: beyond its positions a model computes nothing that it was trained for.
    Example: an example of 3,000 tokens for a model with 2,048 positions.
    Use instead: `overlong: drop` leaves such rows out and counts them; or a model with more positions.
    """
    choices = "`drop` or `truncate`" if truncatable else "`drop`"
    return Finding(
        f"{path}, row {row} has {length} tokens, and the model takes {room}",
        at(path, row),
        help=f"set data.overlong to {choices}, or use a model with more positions",
    )


@diagnostic("RC709", "hub-unavailable")
def hub_unavailable(name: str, problem: str) -> Finding:
    """A dataset of the hub cannot be had.

    What it checks: that its files of the given revision can be found in the cache or downloaded.
    Why it matters: there are no rows.
    Example: a machine without network and an empty cache.
    Use instead: download the files once and name them by `path`.
    """
    return Finding(f"the dataset {name} cannot be had: {problem}", help="download its files and give data.path")


@diagnostic("RC710", "template-breaks-prefix")
def template_breaks_prefix(path: str, row: int, turn: int) -> Finding:
    """The chat template writes earlier turns in another way once later turns are there.

    What it checks: rendering a conversation up to a turn gives the beginning of rendering it as a whole.
    Why it matters: the tokens that are trained would not be those that the model sees when it generates.
    Example: templates that remove the reasoning of earlier turns.
    Use instead: split the conversation into prompt and completion, or give the policy a template that only appends.
    """
    return Finding(
        f"{path}, row {row}: the chat template changes what stands before turn {turn} once that turn is there",
        at(path, row),
        why="the trained tokens would differ from those seen when generating",
        help="split the row into prompt and completion, or set a chat template that only appends",
    )


@diagnostic("RC711", "template-column")
def template_column(template: str, line: int, name: str, have: Iterable[str], where: str = "") -> Finding:
    """A prompt template asks for a column that the row does not have.

    What it checks: every name that the template uses, when it uses it.
    Why it matters: an empty string in its place would be a prompt nobody meant.
    Example: `{{ qestion }}`.
    Use instead: a column of the data.
    """
    names = list(have)
    listed = ", ".join(f"`{n}`" for n in names[:12]) or "none"
    return Finding(
        f"{template} asks for `{name}`, which {where or 'the row'} does not have",
        at(template, line),
        help=_or(nearest(name, names), f"it has {listed}"),
    )


@diagnostic("RC712", "template-syntax")
def template_syntax(template: str, line: int, problem: str) -> Finding:
    """A template is not valid Jinja.

    What it checks: the template's syntax, and that filters and tests exist.
    Why it matters: nothing can be rendered.
    Example: `{% if x %}` without `{% endif %}`.
    Use instead: see the Jinja documentation, `Template Designer`.
    """
    return Finding(f"{template} is not valid: {problem}", at(template, line))


@diagnostic("RC713", "template-failed")
def template_failed(template: str, line: int, problem: str, where: str = "") -> Finding:
    """Rendering a template failed, was refused, or went over its limits.

    What it checks: a second of time, a bound on memory, 256 KiB of output, and the sandbox of Jinja.
    Why it matters: templates come with data and models of other people; they must not run code or fill memory.
    Example: `{{ ''.__class__ }}`, or a loop over a hundred thousand numbers inside another one.
    Use instead: prepare the value as a column of the data.
    """
    return Finding(f"{template} cannot be rendered{f' for {where}' if where else ''}: {problem}", at(template, line))


@diagnostic("RC714", "unknown-task")
def unknown_task(task: str, near: str) -> Finding:
    """reasoning-gym has no task of that name.

    What it checks: the name against the installed version of the package.
    Why it matters: nothing can be generated.
    Example: `task: chain_sums`.
    Use instead: a name such as `chain_sum` or `leg_counting`.
    """
    hint = f"did you mean `{near}`?" if near else "see `reasoning_gym.factory.DATASETS` for the names"
    return Finding(f"reasoning-gym has no task `{task}`", help=hint, path="data.task")


@diagnostic("RC715", "task-options")
def task_options(task: str, problem: str) -> Finding:
    """A reasoning-gym task refuses its options.

    What it checks: what the task's own configuration accepts.
    Why it matters: the tasks would not be those you meant.
    Example: `options: {max_digit: 2}`.
    Use instead: the fields of the task's configuration class.
    """
    return Finding(f"the task `{task}` refuses its options: {problem}", path="data.options")


@diagnostic("RC716", "package-missing")
def package_missing(package: str, extra: str, what: str) -> Finding:
    """A package that the recipe's components use is not installed.

    What it checks: that it can be imported when it is first needed.
    Why it matters: the stage cannot start.
    Example: `data: {type: reasoning_gym}` without reasoning-gym.
    Use instead: install the extra.
    """
    return Finding(f"{what} needs the package {package}", help=f'pip install "recipec[{extra}]"')


@diagnostic("RC717", "broken-rollouts")
def broken_rollouts(path: str, row: int, problem: str) -> Finding:
    """A rollouts artifact cannot be read.

    What it checks: its folder, and that every row has its ids, text and reward.
    Why it matters: pairs and examples are made from it.
    Example: a file that was edited by hand.
    Use instead: run the stage that makes it again.
    """
    return Finding(
        f"{path}{f', row {row}' if row else ''}: {problem}", at(path, row), help="run the stage that makes it again"
    )


@diagnostic("RC718", "nothing-kept")
def nothing_kept(artifact: str, counts: str) -> Finding:
    """No pair or example can be made of an earlier stage's rollouts.

    What it checks: what is left after failed rows, `min_reward`, `margin` and ties.
    Why it matters: a stage without rows would do nothing and look finished.
    Example: every answer of every prompt got the same reward.
    Use instead: a smaller `margin` or `min_reward`, more generations per prompt, or a higher temperature.
    """
    return Finding(
        f"`{artifact}` gives nothing to learn from: {counts}",
        help="lower the bar, or sample more generations per prompt in the earlier stage",
    )
