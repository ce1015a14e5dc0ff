"""Sources of tasks and examples: what all have in common, and data files.

A source reads and encodes its rows once for the kind of its stage; steps are then drawn from a table.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import data as errors, images as image_errors
from recipec.diagnostics.model import RecipeError
from recipec.host.templates import render_rows
from recipec.package_files import named_file
from recipec.runtime.batch import Example, Task
from recipec.runtime.context import StageContext
from recipec.runtime.data import unused_columns
from recipec.runtime.data.blocks import best_fit
from recipec.runtime.data.encode import Encoder, all_trained, opening
from recipec.runtime.data.files import Row, hub_folder, part_of, read_rows
from recipec.runtime.data.image_parts import DEFAULT, OTHER, image_names, places_in, with_places
from recipec.runtime.data.messages import (
    TRAIN,
    Text,
    check_one_form,
    read_conversation,
    read_label,
    read_number,
    read_system,
    read_text,
    read_variables,
    shared_beginning,
    talk,
)
from recipec.runtime.data.table import COLUMNS, Table
from recipec.runtime.data.templates import columns_taken, template_text
from recipec.runtime.data.truncation import shortened_pair, shortened_prompt
from recipec.runtime.images.embedded import EMBEDDED, named_images
from recipec.runtime.images.image_store import is_vision_model
from recipec.runtime.images.picture import Picture
from recipec.runtime.protocols import DataSource, Environment, Policy
from recipec.spec import data as specs
from recipec.spec.recipe import Kind

Spec = specs.File | specs.Mix | specs.ReasoningGym | specs.Rollouts | specs.EnvironmentTasks
Encoded = tuple[Task, *tuple[Example, ...]]


class Source(DataSource, ABC):
    """What every source of tasks does once its rows are read: encode, bound lengths, draw."""

    shown: str
    """How messages name the data."""

    def __init__(
        self,
        spec: Spec,
        context: StageContext,
        *,
        policy: Policy | None = None,
        environment: Environment | None = None,
    ) -> None:
        self.context = context
        self.policy: Any = policy
        self.environment = environment
        self.kind: Kind = "rl"
        self.left_out = 0
        """Rows over ``max_length`` that were dropped."""
        self.truncated = 0
        self._common = spec
        self._table = Table({}, context)

    @abstractmethod
    def encoded(self) -> list[Encoded]:
        """Read every row and encode what the stage's kind needs of it."""

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Text and conversations in the policy's tokens."""
        assert isinstance(self._common, specs.File | specs.ReasoningGym), "other sources have token ids, or need none"
        return Encoder(self.policy, self._common.system, self._common.chat, opening(self.policy))

    def prepare(self, kind: Kind, signals: Collection[str] | None = None) -> None:
        """Read and encode the rows for a stage of ``kind``, which provides ``signals``.

        Raises:
            RecipeError: RC700 to RC718, RC878, naming file and row.
        """
        rows = self.read(kind)
        if signals is not None:
            unused_columns.check_labels(rows, signals, self.place)
        if not rows:
            raise RecipeError(errors.no_rows(self.shown, f"all {self.left_out} are too long"))
        if self.left_out or self.truncated:
            done = f"{self.left_out} are left out and {self.truncated} cut, {len(rows)} are used"
            self.context.say(f"{self.shown}: of rows that are too long, {done}")
        columns, blocks = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS[kind])}, None
        if self._common.packing:
            lengths = [len(one.ids) for one in columns["completion_P"] if isinstance(one, Example)]
            blocks = best_fit(lengths, self._common.max_length or max(lengths))
        self._table = Table(columns, self.context, shuffle=self._common.shuffle, blocks=blocks)

    def read(self, kind: Kind) -> list[Encoded]:
        """Read and encode the rows for a stage of ``kind``, and leave overlong ones out; there may be none left.

        Raises:
            RecipeError: RC700 to RC718, naming file and row.
        """
        self.kind, self.left_out, self.truncated = kind, 0, 0
        return [bounded for row in self.encoded() if (bounded := self.bounded(row)) is not None]

    @property
    def tasks(self) -> list[Task]:
        """Every task, in the order of the data."""
        tasks: list[Task] = list(self._table.columns["prompt_P"])
        return tasks

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self._table)

    def draw(self, count: int) -> dict[str, list[Any]]:
        """Return the next rows of the epoch by signal, fewer at its end; the next call begins another."""
        return self._table.draw(count)

    def slices(self, count: int) -> Iterator[dict[str, list[Any]]]:
        """Yield every row once, in the order of the data, ``count`` at a time."""
        return self._table.slices(count)

    def retire(self, prompts: Collection[int]) -> int:
        """Leave prompts out of later epochs; return how many are left out by now."""
        return self._table.retire(prompts)

    def state(self) -> dict[str, Any]:
        """Epoch, cursor and retired prompts."""
        return dict(self._table.state())

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self._table.load(state)

    def bounded(self, row: Encoded) -> Encoded | None:
        """Apply ``max_length``: return the row, a cut one, or None."""
        limit, rule = self._common.max_length, self._common.overlong
        task, *examples = row
        length = max([len(example.ids) for example in examples] or [len(task.prompt_ids)])
        # leave room for one sampled token
        room = self._room(length) - (not examples)
        bound = room if limit is None else min(limit, room)
        if length <= bound:
            return row
        if rule == "truncate":
            if (cut := self._cut(task, examples, bound)) is not None:
                self.truncated += 1
                return cut
        elif rule != "drop":
            file, number = self.place(task)
            if limit is not None and length > limit:
                raise RecipeError(errors.overlong_row(file, number, length, limit))
            raise RecipeError(errors.overlong_row(file, number, length, room, model=True))
        self.left_out += 1
        return None

    def _cut(self, task: Task, examples: Sequence[Example], bound: int) -> Encoded | None:
        """Return what is left of a row; ``None`` where there would be nothing to write after, or to learn."""
        side = self._common.truncation_side
        if not examples:
            prompt = shortened_prompt(task, bound, side)
            return None if prompt is None else (prompt,)
        cut = shortened_pair(examples, bound, side)
        return (task, *cut) if all(any(example.trained) for example in cut) else None

    def _room(self, length: int) -> int:
        """Longest sequence that the policy can read; where there is no policy, one that ``length`` fits into."""
        return length + 1 if self.policy is None else int(self.policy.max_positions)

    def place(self, task: Task) -> tuple[str, int]:
        """Where a task's row stands: file and number, for messages."""
        return self.shown, task.id + 1

    def prompts(self, rows: Sequence[Row]) -> list[str] | None:
        """Render the template over the rows' columns; None without a template."""
        template = getattr(self._common, "template", None)
        if template is None:
            return None
        text, template = template_text(self.context.root, template)
        columns = [row.columns for row in rows]
        rendered = render_rows(text, template, columns, lambda i: f"row {rows[i].number} of {rows[i].file}")
        for row, prompt in zip(rows, rendered, strict=True):
            if not prompt.strip():
                raise RecipeError(errors.empty_text(row.file, row.number, f"the prompt that {template} renders"))
        return rendered


class File(Source):
    """Rows of a file, a folder or the hub; see :class:`recipec.spec.data.File`."""

    def __init__(
        self, spec: specs.File, context: StageContext, *, policy: Policy, environment: Environment | None = None
    ) -> None:
        super().__init__(spec, context, policy=policy, environment=environment)
        self.spec = spec
        self.shown = spec.path or spec.hub or ""
        self._having: tuple[Counter[str], int] = Counter(), 0
        self._place: dict[int, tuple[str, int]] = {}
        self._images: dict[int, tuple[Picture, ...]] = {}

    def encoded(self) -> list[Encoded]:
        """Read every row and encode what the stage's kind needs of it."""
        return self.made(self.rows())

    @functools.cached_property
    def path(self) -> Path:
        """The file or folder; that of the hub is downloaded."""
        if self.spec.path is not None:
            return named_file(self.context.root, self.spec.path)
        return hub_folder(*(given for given in (self.spec.hub, self.spec.config) if given))

    @functools.cached_property
    def _rendered(self) -> frozenset[str]:
        """Columns that the template takes; empty without one."""
        return columns_taken(self.context.root, self.spec.template)

    def rows(self) -> list[Row]:
        """Read the rows of the split and part."""
        rows = part_of(read_rows(self.path, self.spec.split, self.shown, self.spec.limit, self._kept_images), self.spec)
        self._having = Counter(name for row in rows for name in row.columns), len(rows)
        return rows

    def made(self, read: Sequence[Row]) -> list[Encoded]:
        """Encode what the stage's kind needs of rows."""
        rows = [self._aliased(row) for row in read]
        self._place = {row.index: (row.file, row.number) for row in rows}
        self._images = self._pictures(rows, self.path)
        prompts: Sequence[str | None] = self.prompts(rows) or [None] * len(rows)
        encode = self._task if self.kind == "rl" else self._sft if self.kind == "sft" else self._pair
        made = [encode(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        if self.kind == "rl":
            return made
        return [(task, *(self._marked(row, e) for e in given)) for row, (task, *given) in zip(rows, made, strict=True)]

    def _marked(self, row: Row, example: Example) -> Example:
        """Return an example with the tokens that are trained, and its label or margin where the row has one."""
        if self.kind != "sft":
            return replace(example, margin=read_number(row, self.spec.columns.margin))
        marked = all_trained(row, example, self.spec.columns) if self.spec.train_on == "all" else example
        return replace(marked, label=self.label(row))

    def label(self, row: Row) -> bool | None:
        """Return whether the answer of a row is good; None where no column of labels says it."""
        name = self.spec.columns.label
        return None if name in {self.spec.columns.completion, *self._rendered} else read_label(row, name)

    def _kept_images(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Name the images that a row holds itself, and keep them where the policy reads images."""
        used = self.spec.columns.images
        if not used or not is_vision_model(self.policy):
            return named_images(columns)
        wanted = {used, OTHER} if used == DEFAULT else {used}
        return named_images(columns, wanted, self.policy.image_store.keep)

    def _pictures(self, rows: Sequence[Row], path: Path) -> dict[int, tuple[Picture, ...]]:
        """Return the images of each row; their paths begin at the folder of the data."""
        column = self.spec.columns.images
        folder, parent = (path, Path(self.shown)) if path.is_dir() else (path.parent, Path(self.shown).parent)
        by_row: dict[int, tuple[Picture, ...]] = {}
        for row in rows:
            name, paths = image_names(row, column)
            if paths:
                self._shown(row, name, paths[0])
            by_row[row.index] = tuple(
                self.policy.image_store.picture(folder, one, (parent / one).as_posix(), row.file, row.number)
                for one in paths
            )
        if column and is_vision_model(self.policy) and not any(by_row.values()):
            raise RecipeError(image_errors.no_images(self.shown, column, rows[0].columns))
        return by_row

    def _shown(self, row: Row, column: str, path: str) -> None:
        """Refuse images that the policy would not see, or that are not downloaded."""
        who = "" if is_vision_model(self.policy) else "the policy reads text alone"
        if not who and self.environment is not None:
            who = "an environment writes the prompts of the stage, without them"
        if who:
            raise RecipeError(image_errors.images_unseen(row.file, row.number, column, who))
        if self.spec.hub is not None and not path.startswith(EMBEDDED):
            problem = "image files of the hub are not fetched: download the data set into a folder, and name that"
            raise RecipeError(image_errors.bad_image(row.file, row.number, path, problem))

    def place(self, task: Task) -> tuple[str, int]:
        """Where a task's row stands: file and number, for messages."""
        return self._place[task.id]

    def _aliased(self, row: Row) -> Row:
        """Give the answer column our name too: rewards ask for `answer`."""
        name = self.spec.columns.answer
        if name == "answer":
            return row
        self._need(row, "answer")
        return Row(row.index, row.file, row.number, {**row.columns, "answer": row.columns[name]})

    def _need(self, row: Row, param: str) -> str:
        name: str = getattr(self.spec.columns, param)
        if name not in row.columns:
            key, having = f"data.columns.{param}", (self._having[0][name], self._having[1])
            raise RecipeError(errors.missing_column(row.file, row.number, name, row.columns, key, having))
        return name

    def _prompt(self, row: Row, rendered: str | None) -> Text:
        return read_text(row, self._need(row, "prompt")) if rendered is None else rendered

    def _task(self, row: Row, rendered: str | None) -> Encoded:
        prompt = self._prompt(row, rendered)
        if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            problem = "ends with the assistant's message, and the policy is to write it"
            remedy = "remove the last message from the prompt; a right answer is a column of its own, such as `answer`"
            raise RecipeError(errors.wrong_type(row.file, row.number, self.spec.columns.prompt, problem, remedy))
        return (self._encoded(row, prompt),)

    def _encoder(self, row: Row, prompt: Text) -> Encoder:
        """Return the encoder, with the row's own system message where neither template nor environment writes it."""
        column = self.spec.columns.system
        if self.environment is not None:
            return self.encoder
        unused_columns.check_other_turns(row, self.spec.columns, self._rendered)
        own = None if column in self._rendered else read_system(row, column, prompt)
        return self.encoder if own is None else replace(self.encoder, system=own)

    def _encoded(self, row: Row, prompt: Text) -> Task:
        if not (self.kind == "sft" and self.spec.train_on == "all"):
            unused_columns.check_prompt_untrained(row, prompt)
        encoder = self._encoder(row, prompt)
        if self.kind != "sft" and self.environment is None and self.spec.template is None:
            unused_columns.check_conversation(
                row, self.spec.columns.messages, encoder.with_system(talk(prompt, "user"))
            )
        return encoder.task(row, prompt, images=self._images[row.index], variables=self._variables(row))

    def _variables(self, row: Row) -> dict[str, Any]:
        variables = {**self.spec.chat_template_kwargs, **read_variables(row, self.spec.columns)}
        if variables and self.environment is not None and not self.environment.reads_variables:
            problem = "is for the chat template, and an environment writes the prompts of the stage without it"
            raise RecipeError(errors.unused_column(row.file, row.number, next(iter(variables)), problem))
        return variables

    def _sft(self, row: Row, rendered: str | None) -> Encoded:
        names, set_columns = self.spec.columns, {name for name, value in row.columns.items() if value is not None}
        if rendered is None and names.completion not in set_columns and names.messages in set_columns:
            messages = read_conversation(row, names.messages)
            messages = self._encoder(row, messages).with_system(messages)
            images = self._images[row.index]
            messages = with_places(row, names.images, messages, len(images))
            unused_columns.check_agrees(row, names.prompt, messages)
            unused_columns.check_text(row, names.text, messages)
            variables = self._variables(row)
            example = self.encoder.conversation(row, messages, images=images, variables=variables)
            start = example.trained.index(True)
            first = next(i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get(TRAIN, True))
            prompt, ids = messages[:first], example.ids[:start]
            shown, place = example.images[: places_in(prompt)], (row.file, row.number)
            return Task(row.index, prompt, ids, row.columns, images=shown, variables=variables, place=place), example
        if rendered is None and names.text in set_columns and not {names.prompt, names.completion} & set_columns:
            example = self._encoder(row, "").plain_text(row, names.text, self._images[row.index], self._variables(row))
            return Task(row.index, "", example.ids[:1], row.columns), example
        task = self._encoded(row, self._prompt(row, rendered))
        answer = read_text(row, self._need(row, "completion"))
        if rendered is None:
            used = [*talk(task.prompt, "user"), *talk(answer, "assistant")]
            unused_columns.check_agrees(row, names.messages, used)
            unused_columns.check_text(row, names.text, used)
        return task, self.encoder.example(row, task, answer)

    def _pair(self, row: Row, rendered: str | None) -> Encoded:
        names = self.spec.columns
        chosen, rejected = (read_text(row, self._need(row, param)) for param in ("chosen", "rejected"))
        prompt: Text
        check_one_form(row, (names.chosen, names.rejected), (chosen, rejected))
        if isinstance(chosen, str) or chosen[0]["role"] == "assistant":
            prompt = self._prompt(row, rendered)
        elif rendered is not None:
            problem = "begins with a message that is not the assistant's, and a template renders the prompt"
            raise RecipeError(errors.wrong_type(row.file, row.number, names.chosen, problem))
        else:
            # The prompt is what both conversations begin with, whether or not a column repeats it.
            shared = shared_beginning(chosen, rejected)
            if not 0 < shared < min(len(chosen), len(rejected)):
                problem = "must begin with the prompt, as `rejected` does, and end with an answer"
                raise RecipeError(errors.wrong_type(row.file, row.number, names.chosen, problem))
            prompt = unused_columns.whole_prompt(row, names.prompt, chosen[:shared])
            chosen, rejected = chosen[shared:], rejected[shared:]
        if self.kind == "rm":
            unused_columns.check_compared_whole(row, names.chosen, chosen)
            unused_columns.check_compared_whole(row, names.rejected, rejected)
        task = self._encoded(row, prompt)
        return task, self.encoder.example(row, task, chosen), self.encoder.example(row, task, rejected)
