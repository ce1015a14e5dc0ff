"""Encode text and conversations as token ids, and mark which of them are trained.

Only the chat template adds control tokens; text that looks like one is encoded as text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from recipec.diagnostics.errors import data as errors, model as model_errors
from recipec.diagnostics.model import RecipeError, file_span
from recipec.runtime.batch import Example, Message, Task, text_of
from recipec.runtime.data.files import Row
from recipec.runtime.data.image_parts import before_text, places_in, with_places
from recipec.runtime.data.messages import SAID, SHOWN, TRAIN, Text, calls_as_text, read_text
from recipec.runtime.data.unused_columns import check_all_trained, squeezed
from recipec.runtime.images.picture import Picture, places
from recipec.spec.data import Columns

Variables = Mapping[str, Any]
_NONE: Variables = {}
_SURE = 8
"""Letters of a text that stand by chance in no other one."""
_OTHER = "0,1,2,3"
"""A text to put in the place of another; no tokenizer has one token for it, as for what it does not know."""


class Tokenizer(Protocol):
    """The part of a policy that encoding needs."""

    tokenizer: Any

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""

    @property
    def stop_ids(self) -> Collection[int]:
        """Ids that end a turn."""

    def encode(self, text: str, after: Sequence[int] = ()) -> Sequence[int]:
        """Encode text that follows the ids ``after``; nothing in it becomes a control token."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids."""

    def render(
        self, messages: Sequence[Message], *, generation: bool, variables: Variables, images: Sequence[Picture] = ()
    ) -> Sequence[int]:
        """Encode a conversation by the chat template; ``generation`` opens the assistant's turn.

        ``variables`` are what the template gets besides the messages.  A vision-language model also takes ``images``,
        one for each place in the messages.
        """


@dataclass(frozen=True, slots=True)
class Encoder:
    """Prompts and answers in a policy's tokens.

    Example: ``Encoder(policy, system="Be brief.", chat=True).task(row, "2+2=")``.
    """

    policy: Tokenizer
    system: str | None = None
    chat: bool = False
    opening: tuple[int, ...] = ()
    """Ids that the tokenizer puts before every text."""

    def task(
        self,
        row: Row,
        prompt: Text,
        columns: Mapping[str, Any] | None = None,
        images: tuple[Picture, ...] = (),
        variables: Variables = _NONE,
    ) -> Task:
        """Encode a prompt: a conversation, or text (with ``chat``: the user's message; else as it is).

        A system message in the row replaces ``system``; plain text gets ``system`` in front, and an empty line between.
        Images are at the places that a conversation has for them, else before the text.
        """
        conversation = prompt
        if isinstance(prompt, str):
            content = before_text(prompt, len(images)) if images else prompt
            conversation = [{"role": "user", "content": content}] if self.chat else self._plain(prompt)
        if isinstance(conversation, str):
            if variables:
                problem = "belongs to a chat template, and the prompt is plain text: set data.chat"
                raise RecipeError(errors.unused_column(row.file, row.number, next(iter(variables)), problem))
            shown = (token for image in images for token in image.tokens)
            ids = (*self.opening, *shown, *self.policy.encode(conversation))
        else:
            conversation = _shown(self.with_system(with_places(row, "images", conversation, len(images))))
            self._check_used(row, conversation, images, variables)
            ids = tuple(self._render(row, conversation, images, variables, generation=True))
            self._check_written(row, conversation, ids, images, variables)
        if not ids:
            raise RecipeError(errors.empty_text(row.file, row.number, "prompt"))
        template_columns, place = row.columns if columns is None else columns, (row.file, row.number)
        return Task(row.index, conversation, ids, template_columns, images=images, variables=variables, place=place)

    def _render(
        self,
        row: Row,
        messages: Sequence[Message],
        images: Sequence[Picture],
        variables: Variables,
        *,
        generation: bool,
    ) -> list[int]:
        """Render the beginning of a conversation, with the first of its images.

        Raises:
            RecipeError: RC730 and others, with the place of the row.
        """
        more = {"images": images[: places_in(messages)]} if images else {}
        plain, refused = _shown(messages), None
        for form in (plain, calls_as_text(plain)):  # some templates want the arguments of a call as JSON text
            try:
                return list(self.policy.render(form, generation=generation, variables=variables, **more))
            except RecipeError as error:
                refused = refused or error
                if form == calls_as_text(plain):
                    break
        assert refused is not None
        raise RecipeError(
            *(
                problem
                if problem.spans or problem.path
                else replace(
                    problem,
                    message=f"{row.file}, row {row.number}: {problem.message}",
                    spans=file_span(row.file, row.number),
                )
                for problem in refused.diagnostics
            )
        ) from None

    def _check_used(
        self, row: Row, messages: Sequence[Message], images: Sequence[Picture], variables: Variables
    ) -> None:
        """Refuse what the chat template leaves out silently: tools, its other variables, calls and reasoning.

        Raises:
            RecipeError: RC878.
        """
        said, shown = ([key for key in keys if any(message.get(key) for message in messages)] for keys in (SAID, SHOWN))
        template = self.policy.tokenizer.chat_template or ""
        source = "".join(template.values()) if isinstance(template, dict) else str(template)
        for key, inside in (*((key, False) for key in (*variables, *said)), *((key, True) for key in shown)):
            if key in source and not inside:  # `tools` may be the variable
                continue
            less = variables if inside else {name: value for name, value in variables.items() if name != key}
            without = [{name: value for name, value in message.items() if name != key} for message in messages]
            all_ids = self._render(row, messages, images, variables, generation=False)
            if all_ids == self._render(row, without, images, less, generation=False):
                problem = "is not written by the chat template: the policy would never see it"
                raise RecipeError(errors.unused_column(row.file, row.number, key, problem))

    def _check_written(
        self,
        row: Row,
        messages: Sequence[Message],
        ids: Sequence[int],
        images: Sequence[Picture],
        variables: Variables,
        trained: Collection[int] = (),
    ) -> None:
        """Refuse content that is not in ``ids``: of a message, or the thinking in an answer that is trained.

        Raises:
            RecipeError: RC878.
        """
        shown = squeezed(self.policy.decode(ids))
        for number, message in enumerate(messages):
            content = text_of(message.get("content", ""))
            parts = [("content", content, _OTHER)]
            thinking, closed, rest = content.rpartition("</think>")
            if closed and number in trained and isinstance(message["content"], str):
                parts.append(("thinking", thinking.rpartition("<think>")[2], rest))
            for name, text, other in parts:
                sought = squeezed(text)
                if sought in {"", _OTHER} or (len(sought) >= _SURE and sought in shown):
                    continue
                changed = [*messages[:number], _with_text(message, other), *messages[number + 1 :]]
                if self._same(row, messages, changed, images, variables):
                    problem = "is not written by the chat template: the policy would never see it"
                    raise RecipeError(errors.unused_column(row.file, row.number, f"messages[{number}].{name}", problem))

    def _same(
        self,
        row: Row,
        one: Sequence[Message],
        other: Sequence[Message],
        images: Sequence[Picture],
        variables: Variables,
    ) -> bool:
        """Whether the chat template writes two conversations alike; not where it refuses one of them."""
        try:
            return self._render(row, one, images, variables, generation=False) == self._render(
                row, other, images, variables, generation=False
            )
        except RecipeError:
            return False

    def _plain(self, prompt: str) -> str:
        return f"{self.system}\n\n{prompt}" if self.system else prompt

    def with_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Put the system message in front, where the conversation has none."""
        if self.system is None or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self.system}, *messages]

    def example(self, row: Row, task: Task, answer: Text) -> Example:
        """Encode a prompt's answer: text gets the end token, messages go through the chat template."""
        if isinstance(task.prompt, str):
            if not isinstance(answer, str):
                answer = _only_text(row, answer)
            ids = (*task.prompt_ids, *self.policy.encode(answer, task.prompt_ids), self.policy.eos_id)
            start = len(task.prompt_ids)
            return Example(task.id, ids, (False,) * start + (True,) * (len(ids) - start), task.images)
        answers = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
        return self.conversation(row, [*task.prompt, *answers], len(task.prompt), task.images, task.variables)

    def plain_text(
        self, row: Row, column: str, images: tuple[Picture, ...] = (), variables: Variables = _NONE
    ) -> Example:
        """Encode a text with its end token; all of it is trained but the first token, which nothing predicts.

        Raises:
            RecipeError: RC878, there is a system message, an image or a variable, which belong to a prompt.
        """
        beside = {**({"system": self.system} if self.system else {}), **({"images": images} if images else {})}
        for name in (*beside, *variables):
            problem = f"belongs to a prompt, and the row is plain text, all of it in `{column}`"
            raise RecipeError(errors.unused_column(row.file, row.number, name, problem))
        text = read_text(row, column)
        if not isinstance(text, str):
            problem = "must be text; conversations belong in the column of `data.columns.messages`"
            raise RecipeError(errors.wrong_type(row.file, row.number, column, problem))
        ids = (*self.opening, *self.policy.encode(text), self.policy.eos_id)
        return Example(row.index, ids, (False, *[True] * (len(ids) - 1)))

    def conversation(
        self,
        row: Row,
        messages: Sequence[Message],
        first: int = 0,
        images: tuple[Picture, ...] = (),
        variables: Variables = _NONE,
    ) -> Example:
        """Encode a conversation; the assistant's turns from message ``first`` on are trained, each with its end token.

        Raises:
            RecipeError: RC710, the template changes the text before a turn; RC739, it writes no stop token after one;
                RC866; RC878, it leaves something out.
        """
        messages = with_places(row, "images", messages, len(images))
        self._check_used(row, messages, images, variables)
        rendered: list[int] = []  # the turns so far as the template writes them
        built: list[int] = []  # the same text, its tokens split where the model begins to write
        trained: list[bool] = []
        answers: list[int] = []
        after: list[int] = []
        end = seen = 0
        for turn, message in enumerate(messages):
            if turn < first or message["role"] != "assistant" or not message.get(TRAIN, True):
                continue
            before = self._render(row, messages[:turn], images, variables, generation=True)
            after = self._render(row, messages[: turn + 1], images, variables, generation=False)
            written = self._written(before, after)
            if before[: len(rendered)] != rendered or written is None:
                raise RecipeError(errors.template_breaks_prefix(row.file, row.number, turn + 1))
            if not written and message.get("content"):
                problem = "is not written by the chat template: there would be nothing to learn of it"
                raise RecipeError(errors.unused_column(row.file, row.number, f"messages[{turn}].content", problem))
            if not written:
                raise RecipeError(errors.empty_text(row.file, row.number, f"messages[{turn}]"))
            built += before[len(rendered) :]
            # What a template writes after the end token is never sampled, so it is not trained either.
            ends = [i for i, token in enumerate(written, 1) if token in self.policy.stop_ids]
            if not ends:
                raise RecipeError(model_errors.endless_turn(row.file, row.number, turn + 1))
            trained += [False] * (len(built) - len(trained)) + [True] * ends[-1]
            end, seen = len(built) + ends[-1], places_in(messages[:turn])
            answers.append(turn)
            # Nor does it stay: a marker of the next turn may take away the white space before it.
            left = len(written) - ends[-1]
            built, rendered = built + written[: ends[-1]], after[: len(after) - left]
        if not end:
            problem = "has no message of the assistant to learn"
            remedy = 'end the conversation with the answer, a message with `"role": "assistant"`'
            raise RecipeError(errors.wrong_type(row.file, row.number, "messages", problem, remedy))
        self._check_written(row, messages[: answers[-1] + 1], after, images, variables, answers)
        return Example(row.index, tuple(built[:end]), tuple(trained), images[:seen])

    def _written(self, before: list[int], after: list[int]) -> list[int] | None:
        """Return the tokens of an answer after the open turn; None where the template changes that turn.

        The first letters of the answer may share a token with the end of the open turn.  The model that writes after
        it never sees that token, so the text of the answer, up to the next control token, is encoded separately.
        """
        if after[: len(before)] == before:
            return after[len(before) :]
        control = {int(i) for i, token in self.policy.tokenizer.added_tokens_decoder.items() if token.special}
        start = next((i for i in range(len(before), 0, -1) if before[i - 1] in control), 0)
        end = next((i for i in range(start, len(after)) if after[i] in control), len(after))
        opened, whole = self.policy.decode(before[start:]), self.policy.decode(after[start:end])
        if after[:start] != before[:start] or not whole.startswith(opened):
            return None
        written = [*self.policy.encode(whole.removeprefix(opened), before), *after[end:]]
        return written if self.policy.decode(before + written) == self.policy.decode(after) else None


def opening(policy: Tokenizer) -> tuple[int, ...]:
    """Return the beginning-of-text id, where the tokenizer itself puts it before a text."""
    first = policy.tokenizer.bos_token_id
    return () if first is None or list(policy.tokenizer("").input_ids[:1]) != [first] else (int(first),)


def all_trained(row: Row, example: Example, columns: Columns) -> Example:
    """Train every token of an example that the model writes: all but the first one, and those of images.

    Raises:
        RecipeError: RC878, the row marks a message as one that is not trained.
    """
    check_all_trained(row, (columns.prompt, columns.completion, columns.messages))
    trained = [False, *[True] * (len(example.ids) - 1)]
    for start, end in places(example.ids, example.images):
        trained[start:end] = [False] * (end - start)
    return replace(example, trained=tuple(trained))


def _with_text(message: Message, text: str) -> Message:
    """Return a message with another text, images in their places."""
    content = message["content"]
    if not isinstance(content, str):
        return {**message, "content": [{**part, "text": text} if "text" in part else part for part in content]}
    return {**message, "content": text}


def _shown(messages: Sequence[Message]) -> list[Message]:
    """Return the messages as a template sees them."""
    return [{key: value for key, value in message.items() if key != TRAIN} for message in messages]


def _only_text(row: Row, messages: Sequence[Message]) -> str:
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        problem = "is a conversation, and the prompt is plain text: set data.chat, or give the prompt as messages"
        raise RecipeError(errors.wrong_type(row.file, row.number, "completion", problem))
    text: str = messages[0]["content"]
    return text
