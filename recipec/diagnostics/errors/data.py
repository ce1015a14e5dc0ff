"""Data sets, their files, rows and templates: RC700 to RC739."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping

from recipec.diagnostics.model import Finding, diagnostic, file_span
from recipec.diagnostics.phrases import did_you_mean, folded, listed

_HUB = re.compile(r"[\w-][\w.-]*/[\w-]+")
"""A path that may be meant for a data set of the hub."""


@diagnostic("RC700", "data-missing")
def data_missing(path: str, problem: str, siblings: Iterable[str] = ()) -> Finding:
    """A file or folder that the recipe names as data does not exist or cannot be read.

    Why it matters: the stage has no data to start with.
    Example: `path: data/trian.jsonl`.
    How to fix: give a path relative to the recipe file that contains it.
    """
    slashes = f"write it with slashes: {path.replace(chr(92), '/')}" if chr(92) in path else ""
    hub = f"a data set of the hub is `hub: {path}`, in place of `path`" if _HUB.fullmatch(path) else ""
    return Finding(f"{path}: {problem}", help=slashes or did_you_mean(path.rpartition("/")[2], siblings) or hub)


@diagnostic("RC701", "which-split")
def which_split(path: str, split: str | None, splits: Iterable[str], *, is_file: bool = False) -> Finding:
    """A data set does not have the split, or it has several and the recipe names none.

    Why it matters: training on rows that are meant for evaluation makes every result worthless.
    Example: a folder with train.jsonl and test.jsonl, and no `split`.
    How to fix: set `data.split`, for example to `train`.
    """
    have = sorted(splits)
    if split is None:
        return Finding(f"{path} has several splits ({listed(have, 8)}), but the recipe names none")
    close = did_you_mean(split, have) or f"it has {listed(have, 8)}"
    one = f"it is one file, which `split` does not divide: leave `split` out, or name the file of `{split}`"
    return Finding(f"{path} has no split `{split}`", help=one if is_file else close)


EMPTY = "it is empty"


@diagnostic("RC702", "no-rows")
def no_rows(path: str, reason: str = EMPTY) -> Finding:
    """The data has no rows or documents, or none is left after overlong rows were dropped.

    Why it matters: the stage would finish without doing anything.
    Example: an empty file, or a `max_length` that every row exceeds.
    How to fix: use another file, or raise `data.max_length`.
    """
    remedy = "write rows into it, or name another file" if reason == EMPTY else ""
    return Finding(f"{path} has no rows: {reason}", file_span(path), help=remedy)


_BYTES = {
    "not UTF-8": "save the file as UTF-8, without converting it twice",
    "it is UTF-16": "save it as UTF-8: `iconv -f UTF-16 -t UTF-8 OLD > NEW`",
    "it is compressed": "unpack it: JSONL and Parquet files are read",
    "it is a parquet": "give the file the ending `.parquet`",
    "it is a pointer": "fetch the file itself: `git lfs pull`",
    "it is a web page": "download the file itself, and not the page that shows it",
    "it is a dictionary": "write each row by `json.dumps(row)`; `ast.literal_eval(line)` reads what is there",
    "there is a comma": "remove the comma at the end of each line; a list `[…]` of rows is read from a `.json` file",
    "it is a table": 'convert it: `pandas.read_csv(OLD).to_json("NEW.jsonl", orient="records", lines=True)`',
    "the file ends": "the file was cut short: copy or download it again, or remove the line",
    "it is a list": "give the file the ending `.json`: lists of rows are read from such files",
    "it is one object": "if its rows are a list in it, write that list alone into a `.json` file, as "
    "`json.dump(json.load(open(OLD))[KEY], open(NEW, 'w'))` does; if it is one row, write it on one line",
    "not JSON: the key": "keep one of them; `json.dumps` of a dictionary writes each key once",
    "not JSON: `": "give the row a number or a text there, or leave the row out",
}
"""What to do with a line, by the beginning of what is wrong with it."""


@diagnostic("RC703", "broken-row")
def broken_row(path: str, row: int, problem: str, column: int = 1) -> Finding:
    """A line of a data file is not a JSON object in UTF-8. JSON has no NaN and no Infinity.

    Why it matters: skipping the row would silently change the data set.
    Example: `{"prompt": "2+2=", }`.
    How to fix: write one JSON object per line, as `json.dumps` does.
    """
    remedy = next((remedy for start, remedy in _BYTES.items() if problem.startswith(start)), "")
    return Finding(f"{path}, row {row}: {problem}", file_span(path, row, column), help=remedy)


_READERS = {
    "csv": 'read_csv("{}")',
    "tsv": 'read_csv("{}", sep="\\t")',
    "xlsx": 'read_excel("{}")',
    "arrow": 'read_feather("{}")',
    "feather": 'read_feather("{}")',
}
"""What of pandas reads the formats of tables that are not read here."""


def conversion(path: str) -> str:
    """Say what to make of a data file in a format that is not read; empty where its ending says nothing.

    >>> conversion("rows/a.jsonl.gz"), conversion("a.jsonl")
    ('unpack it, and name the file that is in it, such as a.jsonl', '')
    """
    name = path.rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    if ending in {"gz", "zst", "bz2", "xz", "zip"}:
        return f"unpack it, and name the file that is in it, such as {stem}"
    reader = _READERS.get(ending, "").format(name)
    return f'convert it: `pandas.{reader}.to_json("{stem}.jsonl", orient="records", lines=True)`' if reader else ""


@diagnostic("RC704", "unreadable-data")
def unreadable_data(path: str, problem: str) -> Finding:
    """A data file has an unknown format, or is damaged.

    Why it matters: guessing the format could give wrong rows.
    Example: a .csv file; a parquet file that was cut short.
    How to fix: use JSONL (.jsonl, .ndjson or .json with one object per line) or parquet (.parquet).
    """
    again = "fetch or write the file again: parquet has its index at the end" if path.endswith(".parquet") else ""
    arrow = '`datasets.load_from_disk(FOLDER).to_parquet("rows.parquet")` writes a file that is read'
    again = arrow if ".arrow" in problem else again
    return Finding(f"{path}: {problem}", help=again or conversion(path))


_NAMES = {
    "prompt": ("instruction", "question", "query", "problem", "input"),
    "completion": ("response", "output", "solution"),
    "chosen": ("accepted", "preferred", "winner", "response_j", "chosen_response", "response_chosen", "answer_chosen"),
    "rejected": ("dispreferred", "loser", "response_k", "rejected_response", "response_rejected", "answer_rejected"),
}
"""What columns are called in many files, by our names."""


def _rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


@diagnostic("RC705", "missing-column")
def missing_column(
    path: str, row: int, column: str, have: Iterable[str], key: str, having: tuple[int, int] = (0, 0)
) -> Finding:
    """A row lacks a column that the stage needs, or the column has no text.

    What it checks: `prompt` (rl), `prompt` and `completion` or `messages` (sft), `prompt`, `chosen` and `rejected`
    (dpo), under the names that `data.columns` gives them; `knowledge.column` of documents.
    Why it matters: there is no text to encode.
    Example: the file calls its prompts `question`.
    How to fix: name the column of the file, as in `data.columns: {prompt: question}`. If other rows have it,
    complete the row, or remove it.
    """
    names = list(have)
    if having[0] and column not in names:
        message = f"{path}, row {row} has no column `{column}`, which {having[0]} of the {having[1]} rows read have"
        remedy = f"{did_you_mean(column, names)} add it to the row, or remove the row; it has {listed(names)}".strip()
        return Finding(message, file_span(path, row), help=remedy)
    nested = [name for name in names if isinstance(have, Mapping) and isinstance(have[name], Mapping)]
    problem = f"has no text in column `{column}`" if column in names else f"has no column `{column}`"
    spelt = {name: other for name in _NAMES for other in names if other != name and folded(other.strip()) == name}
    close = "" if column in spelt else did_you_mean(column, names)
    remedy = f"{close} the row has {listed(names)}; `{key}` names another column".strip()
    if {"instruction", "output"} <= set(names) and key in {"data.columns.prompt", "data.columns.completion"}:
        remedy += (
            '; rows of Alpaca: `columns: {completion: output}` and `template: "{{ instruction }}\\n{{ input }}"`, with '
            "`chat: true` for a chat model"
        )
    elif nested:
        inner = f"{nested[0]}.{next(iter(have[nested[0]]), 'FIELD')}"  # type: ignore[index]
        remedy += (
            f"; `{nested[0]}` is an object: a `template` reads its fields, as in `{{{{ {inner} }}}}`, but answers "
        )
        remedy += "must be columns of their own"
    elif ours := {name: other for name, several in _NAMES.items() for other in several if other in names} | spelt:
        written = {name: other if other.isidentifier() else json.dumps(other) for name, other in ours.items()}
        remedy += f"; here: `columns: {{{', '.join(f'{name}: {other}' for name, other in written.items())}}}`"
    if len(names) == 1 and isinstance(have, Mapping) and _rows(have[names[0]]):
        remedy = f"the rows are in the list `{names[0]}`: write each of them as a line of its own, as JSONL"
    if "messages" in names and key == "data.columns.prompt":
        remedy += "; conversations that end with a message of the user are prompts by `columns: {prompt: messages}`"
    if "conversations" in names and key in {"data.columns.prompt", "data.columns.completion"}:
        remedy += "; conversations of an `sft` stage: `columns: {messages: conversations}`"
    remedy += _pairs_wanted(key, names)
    if key in {"data.columns.chosen", "data.columns.rejected"} and {"completion", "label"} <= set(names):
        remedy = "answers with a `label` each are for KTO: `kind: sft` and `extends: [recipec:algorithms/kto]`"
    return Finding(f"{path}, row {row} {problem}", file_span(path, row), help=remedy)


def _pairs_wanted(key: str, names: Collection[str]) -> str:
    """Say who needs pairs, and where a prompt is that rows of pairs lack."""
    if key in {"data.columns.chosen", "data.columns.rejected"}:
        return "; pairs are needed by `dpo` and `rm`, where a `preference` may make them, and by the metric `margin`"
    if key == "data.columns.prompt" and {"chosen", "rejected"} <= set(names):
        return "; if both answers begin with the prompt, cut it off and write it as a column of its own"
    return ""


@diagnostic("RC706", "wrong-type")
def wrong_type(path: str, row: int, column: str, problem: str, remedy: str = "") -> Finding:
    """A prompt or an answer is neither text nor a list of chat messages with a known `role` and text.

    Why it matters: text that is made from a number or from null, or a conversation without an answer, would train what
    the data does not contain.
    Example: `"prompt": 42`, or a message `{"speaker": "human", "words": "…"}`.
    How to fix: write text, or messages such as `[{"role": "user", "content": "…"}]`.
    """
    return Finding(f"{path}, row {row}: `{column}` {problem}", file_span(path, row), help=remedy)


@diagnostic("RC707", "empty-text")
def empty_text(path: str, row: int, column: str) -> Finding:
    """A prompt or an answer has no token, or nothing but white space.

    Why it matters: a model needs a token to start from, and an empty answer would only train the end token.
    Example: `{"prompt": ""}`.
    How to fix: remove the row, or give it text.
    """
    return Finding(f"{path}, row {row}: {column if ' ' in column else f'`{column}`'} is empty", file_span(path, row))


@diagnostic("RC708", "overlong-row")
def overlong_row(path: str, row: int, length: int, limit: int, *, model: bool = False) -> Finding:
    """A row has more tokens than `max_length` or than the model has positions, and `overlong` is `error`.

    What it checks: the prompt (rl), or prompt and answer together (sft, dpo), in tokens of the policy's tokenizer. A
    prompt must leave one position to write in.
    Why it matters: truncating or dropping rows silently would change the data set, and a model has learnt nothing about
    positions beyond its last.
    Example: a pasted log of 40,000 tokens.
    How to fix: set `data.overlong` to `drop`, which drops and counts such rows, or to `truncate`; or raise
    `data.max_length`, or use a model with more positions.
    """
    bound = f"the model has {limit} positions" if model else f"`max_length` is {limit}"
    larger = (
        "use a model with more positions (of a new one: `policy.scratch.max_positions`)"
        if model
        else "raise data.max_length"
    )
    message = f"{path}, row {row} has {length} tokens, but {bound}"
    return Finding(message, file_span(path, row), help=f"set data.overlong to `drop` or `truncate`, or {larger}")


@diagnostic("RC710", "template-breaks-prefix")
def template_breaks_prefix(path: str, row: int, turn: int) -> Finding:
    """The chat template renders earlier turns differently once later turns follow.

    Why it matters: the trained tokens would differ from those that the model sees when it generates.
    Example: a template that removes the reasoning of earlier turns.
    How to fix: split the row into prompt and completion, or set `policy.chat_template` to a template that only appends.
    """
    message = f"{path}, row {row}: the chat template changes the text before turn {turn} when that turn is added"
    return Finding(message, file_span(path, row))


@diagnostic("RC711", "template-column")
def template_column(template: str, line: int, name: str, have: Mapping[str, object], where: str = "") -> Finding:
    """A template uses a name that the row does not have.

    Why it matters: an empty text in its place would give a prompt that was not meant.
    Example: `{{ qestion }}`.
    How to fix: use a column of the data.
    """
    message = f"{template} uses `{name}`, which {where or 'the row'} does not have"
    return Finding(message, file_span(template, line), help=f"{did_you_mean(name, have)} it has {listed(have)}".strip())


@diagnostic("RC712", "template-syntax")
def template_syntax(template: str, line: int, problem: str) -> Finding:
    """A template is not valid Jinja, is too large, or includes another one.

    Why it matters: nothing can be rendered.
    Example: `{% if x %}` without `{% endif %}`.
    How to fix: correct the template; see "Template Designer" in the documentation of Jinja.
    """
    return Finding(f"{template} is not valid: {problem}", file_span(template, line))


@diagnostic("RC713", "template-failed")
def template_failed(template: str, line: int, problem: str, where: str = "") -> Finding:
    """Rendering a template failed, or was stopped: it has one second, bounded memory, 256 KiB of output and a sandbox.

    Why it matters: templates may come with a data set or model from elsewhere; they must not run code or fill the
    memory.
    Example: `{{ ''.__class__ }}`, or a loop over a hundred thousand numbers inside another one.
    How to fix: compute the value beforehand, as a column of the data.
    """
    message = f"{template} cannot be rendered{f' for {where}' if where else ''}: {problem}"
    absent = problem.endswith("is undefined") or "has no attribute" in problem or "has no element" in problem
    remedy = "give every row the value, or write what stands for it: `{{ NAME | default('…') }}`" if absent else ""
    return Finding(message, file_span(template, line), help=remedy)


@diagnostic("RC714", "unknown-task")
def unknown_task(task: str, near: str) -> Finding:
    """The installed version of reasoning-gym has no task of that name.

    Why it matters: no tasks can be generated.
    Example: `task: chain_sums`.
    How to fix: use a name such as `chain_sum` or `leg_counting`; `reasoning_gym.factory.DATASETS` lists them.
    """
    message = f"reasoning-gym has no task `{task}`"
    return Finding(message, help=f"did you mean `{near}`?" if near else "", path="data.task")


@diagnostic("RC715", "task-options")
def task_options(task: str, problem: str) -> Finding:
    """A reasoning-gym task rejects its options.

    Why it matters: the tasks would not be the ones you meant.
    Example: `options: {max_digit: 2}`.
    How to fix: use the fields of the task's configuration class.
    """
    return Finding(f"the task `{task}` rejects its options: {problem}", path="data.options")


@diagnostic("RC716", "package-missing")
def package_missing(package: str, extra: str, what: str = "") -> Finding:
    """A package that the recipe, or `recipec run` in general, needs is not installed.

    Why it matters: the stage cannot start. `validate` and `plan` do not need the package.
    Example: `data: {type: reasoning_gym}` without reasoning-gym; `recipec run` after `pip install recipec`.
    How to fix: install the package.
    """
    remedy = f'pip install "recipec[{extra}]"' if extra else f"pip install {package}"
    return Finding(f"{what or 'recipec run'} needs the package `{package}`, which is not installed", help=remedy)


@diagnostic("RC717", "broken-rollouts")
def broken_rollouts(path: str, row: int, problem: str) -> Finding:
    """An artifact with rollouts cannot be read, or a row of it lacks ids, text or reward.

    Why it matters: pairs and examples are made from these rows.
    Example: a file that was edited by hand.
    How to fix: run the stage that makes it again.
    """
    return Finding(f"{path}{f', row {row}' if row else ''}: {problem}", file_span(path, row))


@diagnostic("RC718", "nothing-kept")
def nothing_kept(artifact: str, counts: str) -> Finding:
    """No pair or example is left of an earlier stage's rollouts, after failed rows, `min_reward`, `margin` and ties.

    Why it matters: the stage would finish without training anything.
    Example: every answer to every prompt has the same reward.
    How to fix: lower `margin` or `min_reward`, or sample more generations per prompt, or at a higher temperature, in
    the earlier stage.
    """
    return Finding(f"`{artifact}` gives nothing to learn from: {counts}")


@diagnostic("RC878", "unused-column")
def unused_column(path: str, row: int, column: str, problem: str) -> Finding:
    """A column or a key of a message would change the text of a row, and nothing uses it.

    What it checks: the content of messages, their tool calls and reasoning, tools in a message, the thinking in answers
    that are trained, `tools` and `chat_template_kwargs`, against the chat template; a `prompt`, `messages` or `text`
    next to a conversation that is used in its place; a column `system` next to conversations with another system
    message; earlier turns in a column `history`, and an `input` next to `instruction`, where no template takes them;
    a system message, images or variables of the chat template next to plain text; a `label` that calls an answer bad,
    where the loss reads none; messages that are marked as not trained, where `data.train_on` is `all` or a reward
    model scores them, and turns of a prompt that are marked as trained.
    Why it matters: the policy would be trained on another text than the data contains.
    Example: `tools` in the data, and a chat template that never writes them; a system message in `prompt` alone;
    answers with `<think>…</think>`, and a template that cuts thoughts away.
    How to fix: set `policy.chat_template` to a template that writes it, remove the column, or set its name under
    `data.columns` to an empty text.
    """
    return Finding(f"{path}, row {row}: `{column}` {problem}", file_span(path, row))
