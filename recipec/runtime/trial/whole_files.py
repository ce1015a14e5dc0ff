"""Every row of a small data file, read without its tokens, so that a bad row 500 is known before the first stage."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipec.component import Component, load_object
from recipec.diagnostics.errors import objective as objective_errors, trial as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.jsonl import kind_of
from recipec.runtime.batch import Message, Task, question
from recipec.runtime.context import StageContext
from recipec.runtime.data.encode import Variables
from recipec.runtime.data.files import ENDINGS, Row
from recipec.runtime.data.messages import SAID, read_number
from recipec.runtime.data.mixture import Mixture
from recipec.runtime.data.sources import File
from recipec.runtime.data.unused_columns import bad_answer
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.protocols import DataSource
from recipec.runtime.reward.function import Function
from recipec.runtime.reward.labels import right_labels
from recipec.runtime.trial.right_answers import FEWEST, about_answers, columns_read, options_from_one
from recipec.spec import reward as specs
from recipec.spec.recipe import Kind

LARGEST = 50_000_000
"""Bytes of a file, or of a folder's files, that are read whole."""
FIRST, SPREAD = 16, 32
"""Rows of a larger file that are read, and tasks that are kept of a whole one."""
MANY = 64
"""Rows of a file from which on copies among them are reported: a small file may repeat its rows to try something."""
SHORTEST = 4
"""Characters of a prompt that an answer is not expected to begin with."""
MARKUP = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|user|>", "[INST]", "<start_of_turn>", "</s>")
"""Tokens of widespread chat templates, and of the ends of texts."""
LONGEST = 16
"""Rows with the longest texts that are encoded, so that `max_length` is known to hold."""
_END, _TEXT, _OPEN, _VARIABLE, _OTHERS = range(5)
"""Ids in place of tokens; the first ends a turn, and the last is the first of those for contents."""


class WithoutTokens:
    """Stands in for a policy where texts are checked and no tokens are needed: any text is one id.

    The chat template is rendered for the first conversation of each order of roles, since it may refuse that order.
    """

    image_encoder: Any = None
    eos_id = _END
    stop_ids = (_END,)
    max_positions = 1 << 62

    def __init__(self, policy: CausalLm) -> None:
        self.policy = policy
        self.tokenizer = policy.tokenizer
        self._rendered: set[tuple[Any, ...]] = set()

    def encode(self, text: str, after: Sequence[int] = ()) -> list[int]:  # noqa: ARG002 - as a policy's
        """Return one id for a text that is not empty."""
        return [_TEXT] * bool(text)

    def decode(self, ids: Sequence[int]) -> str:  # noqa: ARG002 - nothing compares these ids with a text
        """Return nothing."""
        return ""

    def render(self, messages: Sequence[Message], *, generation: bool, variables: Variables) -> list[int]:
        """Return ids for the keys and the content of each message, so that what a template gets is seen.

        Raises:
            RecipeError: RC729 there is no chat template, RC730 it refuses this order of roles.
        """
        kind = (tuple((one["role"], *(key for key in SAID if key in one)) for one in messages), generation)
        if kind not in self._rendered:
            self.policy.render(messages, generation=generation, variables=variables)
            self._rendered.add(kind)
        ids = [_VARIABLE] * len(variables)
        for one in messages:
            texts = [*[_TEXT] * len(one), _OTHERS + abs(hash(str(one.get("content"))))]
            ids += [_OPEN, *texts, _END] if one["role"] == "assistant" else texts
        return [*ids, _OPEN] if generation else ids


@dataclass(slots=True)
class Scanned:
    """What every row of a file shows."""

    rows: int = 0
    questions: dict[str, tuple[str, int]] = field(default_factory=dict)
    """File and line of the first row of each prompt."""
    problems: list[Diagnostic] = field(default_factory=list)
    spread: list[Task] = field(default_factory=list)
    """Some tasks from all parts of the file."""


def scan(
    source: DataSource,
    policy: CausalLm,
    kind: Kind,
    rewards: Mapping[str, Component],
    limit: int | None = None,
    signals: Collection[str] = (),
) -> Scanned:
    """Check every row of the small local files of a source for a stage of ``kind``; each code is reported once.

    ``limit`` is the most tokens of an answer of the policy, where that is known; ``signals`` are those of
    the stage: of larger files, what its loss needs of each row is checked in the first rows.
    """
    scanned = Scanned()
    if policy.image_encoder is not None:
        return scanned
    files = {"data": source} if isinstance(source, File) else {}
    if isinstance(source, Mixture):
        files = {f"data.sources.{name}": file for name, file in source.sources.items()}
    for key, file in files.items():
        first = file if is_small(file.path) else File(file.spec.first(FIRST), file.context, policy=file.policy)
        scanned.problems += [replace(problem, path=f"{key}.path") for problem in _unmarked(first, kind, signals)]
        if first is not file:
            continue
        columns = () if len(files) > 1 else columns_asked(rewards, file.context)
        one = _scan(file, policy, kind, rewards, columns, limit)
        scanned.rows += one.rows
        scanned.spread += one.spread
        scanned.questions = {**one.questions, **scanned.questions}
        scanned.problems += [replace(problem, path=problem.path or f"{key}.path") for problem in one.problems]
    return scanned


def _unmarked(file: File, kind: Kind, signals: Collection[str]) -> Iterator[Diagnostic]:
    """Yield RC891, RC950 and RC878 for the first row without what a loss needs of it, or with what it does not read."""
    names = file.spec.columns
    imitates = kind == "sft" and signals and "desirable_R" not in signals
    rows = _read(file) if imitates or {"desirable_R", "margin_R"} & set(signals) else ()
    for row in rows:
        if imitates and file.label(row) is False:
            yield bad_answer(row.file, row.number)
            return
        if "desirable_R" in signals and file.label(row) is None:
            yield objective_errors.no_label(row.number, row.file)
            return
        if "margin_R" in signals and read_number(row, names.margin) is None:
            yield objective_errors.no_margin(row.number, row.file)
            return


def _read(file: File) -> Sequence[Row]:
    try:
        return file.rows()
    except RecipeError:  # the scan tells of it
        return ()


def is_small(path: Path) -> bool:
    """Whether a file, or the data files of a folder, are read whole."""
    files = [one for one in path.iterdir() if one.suffix in ENDINGS] if path.is_dir() else [path]
    return path.exists() and sum(one.stat().st_size for one in files) <= LARGEST


def columns_asked(rewards: Mapping[str, Component], context: StageContext) -> list[str]:
    """Name the columns that the user's functions require."""
    functions = [spec for spec in rewards.values() if isinstance(spec, specs.Function)]
    known = [Function(spec, context) for spec in functions if spec.name in context.functions]
    return list(dict.fromkeys(name for function in known for name in function.signature.columns()))


def _scan(
    file: File,
    policy: CausalLm,
    kind: Kind,
    rewards: Mapping[str, Component],
    answer_columns: Sequence[str],
    limit: int | None,
) -> Scanned:
    scanned = Scanned()
    source = File(file.spec, file.context, policy=WithoutTokens(policy), environment=file.environment)  # type: ignore[arg-type]
    source.kind = kind
    try:
        rows = source.rows()
    except RecipeError as error:
        scanned.problems += error.diagnostics
        return scanned
    scanned.rows = len(rows)
    if sum(_size(row) for row in rows) > LARGEST:  # a small file may hold large texts, compressed
        scanned.problems += _longest(file, rows, kind)
        return scanned
    refused: dict[str, list[Diagnostic]] = {}
    tasks = _tasks(source, rows, refused)
    scanned.spread = [task for task in tasks[:: max(1, len(tasks) // SPREAD)] if task is not None][:SPREAD]
    for row, task in zip(rows, tasks, strict=True):
        if task is not None:
            scanned.questions.setdefault(" ".join(question(task).split()), (row.file, row.number))
            for problem in _answers(task, rewards):
                refused.setdefault(problem.code, []).append(problem)
    scanned.problems += [_counted(same) for same in refused.values()]
    if kind in {"dpo", "rm"}:
        columns = file.spec.columns
        scanned.problems += _without_preference(rows, columns.prompt, columns.chosen, columns.rejected)
    scanned.problems += [problem for column in answer_columns for problem in _uneven(rows, column)]
    scanned.problems += _repeated(rows)
    scanned.problems += _begun(file, rows, kind)
    scanned.problems += _unknown(file, rows, tasks)
    scanned.problems += _markup(file, rows)
    scanned.problems += _same_prompt(file, rows, tasks)
    if file.environment is None and kind == "rl":
        scanned.problems += about_answers(policy, rows, tasks, [*columns_read(rewards, answer_columns)], limit)
        scanned.problems += options_from_one(rows, tasks, rewards)
    good = [row for row, task in zip(rows, tasks, strict=True) if task is not None]
    scanned.problems += _longest(file, good, kind)
    return scanned


def _tasks(source: File, rows: Sequence[Row], refused: dict[str, list[Diagnostic]]) -> list[Task | None]:
    """Make the task of every row, None where it is refused; rows of a template are rendered together."""
    if source.spec.template is not None:
        try:
            return [task for task, *_ in source.made(rows)]
        except RecipeError as error:
            refused.setdefault(error.diagnostics[0].code, []).append(error.diagnostics[0])
            return [None] * len(rows)
    tasks: list[Task | None] = []
    for row in rows:
        try:
            tasks += [task for task, *_ in source.made([row])]
        except RecipeError as error:
            refused.setdefault(error.diagnostics[0].code, []).append(error.diagnostics[0])
            tasks.append(None)
    return tasks


def _answers(task: Task, rewards: Mapping[str, Component]) -> Iterator[Diagnostic]:
    """Yield RC741 and RC742 for right answers that a reward cannot read."""
    for name, spec in rewards.items():
        column = spec.answer_column() if isinstance(spec, specs.Reward) else None
        if column is None:
            continue
        assert isinstance(spec, specs.Reward)
        answer = spec.answer_in()
        try:
            if spec.reader:
                load_object(spec.reader)(task, column)
            else:
                right_labels(task, column, answer.labels if answer else ())
        except RecipeError as error:
            for problem in error.diagnostics:
                yield replace(problem, path=f"{name}.answer")


def _counted(same: Sequence[Diagnostic]) -> Diagnostic:
    """Return the first of several diagnostics with one code, and how many there are."""
    more = len(same) - 1
    note = f", and {more} more row{'s' if more > 1 else ''} like it" if more else ""
    return replace(same[0], message=f"{same[0].message}{note}")


def _without_preference(rows: Sequence[Row], prompt: str, chosen: str, rejected: str) -> Iterator[Diagnostic]:
    """Yield RC941 for pairs that are equal, that another row turns round, or that columns of scores turn round."""
    pairs = [(row, row.columns[chosen], row.columns.get(rejected)) for row in rows if chosen in row.columns]
    equal = [row for row, better, worse in pairs if better == worse]
    if equal:
        yield errors.equal_pairs(
            equal[0].file, equal[0].number, len(equal), len(rows), f"`{chosen}` and `{rejected}` are equal"
        )
    for name in rows[0].columns if rows else ():
        other = name.replace("chosen", "rejected")
        lower = [row for row in rows if other != name and _less(row.columns.get(name), row.columns.get(other))]
        if len(lower) > len(rows) / 2:
            problem = f"`{name}` is lower than `{other}`"
            yield errors.equal_pairs(lower[0].file, lower[0].number, len(lower), len(rows), problem)
    known = {str((row.columns.get(prompt), better, worse)) for row, better, worse in pairs if better != worse}
    turned = [row for row, better, worse in pairs if str((row.columns.get(prompt), worse, better)) in known]
    if turned:
        problem = "another row has the same pair the other way round"
        yield errors.equal_pairs(turned[0].file, turned[0].number, len(turned), len(rows), problem)


def _less(one: Any, other: Any) -> bool:
    """Whether both are numbers and the first is less."""
    return isinstance(one, int | float) and isinstance(other, int | float) and one < other


def _repeated(rows: Sequence[Row]) -> Iterator[Diagnostic]:
    """Yield RC944 where more than half of the rows occur before."""
    seen: set[str] = set()
    copies = []
    for row in rows:
        text = json.dumps(row.columns, sort_keys=True, default=repr)
        copies += [row] if text in seen else []
        seen.add(text)
    if len(rows) >= MANY and len(copies) > len(rows) / 2:
        yield errors.repeated_rows(copies[0].file, copies[0].number, len(copies), len(rows))


def _begun(file: File, rows: Sequence[Row], kind: Kind) -> Iterator[Diagnostic]:
    """Yield RC945 for the first column of answers that mostly begin with their prompts."""
    columns = file.spec.columns
    names = {"sft": [columns.completion], "dpo": [columns.chosen, columns.rejected], "rm": [columns.chosen]}
    for name in names.get(kind, ()) if file.spec.template is None else ():
        texts = [(row, row.columns.get(columns.prompt), row.columns.get(name)) for row in rows]
        same = [
            row
            for row, prompt, answer in texts
            if isinstance(prompt, str)
            and isinstance(answer, str)
            and len(prompt) >= SHORTEST
            and answer.startswith(prompt)
        ]
        if len(same) > len(rows) / 2:
            yield errors.repeated_prompt(same[0].file, same[0].number, name, columns.prompt, len(same), len(rows))
            return


def _unknown(file: File, rows: Sequence[Row], tasks: Sequence[Task | None]) -> Iterator[Diagnostic]:
    """Yield RC925 for the first row with a character that the tokenizer does not know."""
    unknown, seen = file.policy.tokenizer.unk_token_id, set[str]()
    if unknown is None:
        return
    columns = file.spec.columns
    names = (columns.completion, columns.chosen, columns.rejected)
    for row, task in zip(rows, tasks, strict=True):
        text = "" if task is None else question(task) + "".join(str(row.columns.get(name, "")) for name in names)
        for character in sorted(set(text) - seen):
            if unknown in file.policy.encode(character):
                yield errors.unknown_tokens(row.file, row.number, character)
                return
        seen |= set(text)


def _markup(file: File, rows: Sequence[Row]) -> Iterator[Diagnostic]:
    """Yield RC948 for the first column of texts of which most have a token of a chat template."""
    columns = file.spec.columns
    known = {*MARKUP, *file.policy.tokenizer.all_special_tokens} - {file.policy.tokenizer.unk_token}
    marks = sorted(mark for mark in known if len(mark) >= SHORTEST - 1 and mark.strip("<>[]|") != mark)
    for name in (
        (columns.prompt, columns.completion, columns.chosen, columns.rejected) if file.spec.template is None else ()
    ):
        texts = [(row, row.columns.get(name)) for row in rows]
        for mark in marks:
            having = [row for row, text in texts if isinstance(text, str) and mark in text]
            if len(having) > len(rows) / 2:
                yield errors.markup_in_text(having[0].file, having[0].number, name, mark, len(having), len(rows))
                return


def _same_prompt(file: File, rows: Sequence[Row], tasks: Sequence[Task | None]) -> Iterator[Diagnostic]:
    """Yield RC949 where rows that differ have one prompt."""
    prompts = {str(task.prompt) for task in tasks if task is not None}
    differ = any(row.columns != rows[0].columns for row in rows)
    if len(prompts) == 1 and len(rows) >= FEWEST and None not in tasks and differ:
        problem = errors.equal_prompts(len(rows), next(iter(prompts))[:60])
        yield replace(problem, path="data.template" if file.spec.template is not None else "")


def _uneven(rows: Sequence[Row], column: str) -> Iterator[Diagnostic]:
    """Yield RC943 where a column has no value in some rows, or one of another kind than in most."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row.columns[column]) if column in row.columns else "missing", []).append(row)
    usual, *others = sorted(kinds, key=lambda kind: -len(kinds[kind]))
    if others:
        first = kinds[others[0]][0]
        yield errors.uneven_column(
            first.file, first.number, column, {kind: len(kinds[kind]) for kind in (usual, *others)}
        )


def _size(row: Row) -> int:
    """Return the number of characters of a row's values."""
    return sum(len(value) if isinstance(value, str) else len(str(value)) for value in row.columns.values())


def _longest(file: File, rows: Sequence[Row], kind: Kind) -> Iterator[Diagnostic]:
    """Yield RC708 where one of the longest rows has too many tokens."""
    if file.spec.overlong != "error":
        return
    source = File(file.spec, file.context, policy=file.policy, environment=file.environment)
    source.kind = kind
    longest = sorted(rows, key=_size, reverse=True)[:LONGEST]
    try:
        for encoded in source.made(sorted(longest, key=lambda row: row.index)):
            source.bounded(encoded)
    except RecipeError as error:
        yield error.diagnostics[0]


def overlaps(held_out: str, scanned: Scanned, stages: Mapping[str, Scanned]) -> Iterator[Diagnostic]:
    """Yield RC942 where prompts of an evaluation are prompts of stages."""
    in_stage = {name: {*scanned.questions} & {*one.questions} - {""} for name, one in stages.items()}
    names = [name for name, same in in_stage.items() if same]
    same = [question for question in scanned.questions if any(question in one for one in in_stage.values())]
    if same:
        first = next(name for name in names if same[0] in in_stage[name])
        there = stages[first].questions[same[0]]
        yield errors.held_out_in_training(
            held_out, names, len(same), len(scanned.questions), scanned.questions[same[0]], there
        )
