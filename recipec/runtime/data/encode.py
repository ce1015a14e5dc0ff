"""Encode text and conversations as token ids, and mark which of them are trained.

Only the chat template adds control tokens; text that looks like one is encoded as text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.errors import model as model_errors
from recipec.diagnostics.model import RecipeError
from recipec.run.jsonl import kind_of
from recipec.runtime.batch import Example, Message, Task
from recipec.runtime.data.files import Row
from recipec.runtime.images.parts import before_text, places_in, read_content, with_places
from recipec.runtime.images.picture import Picture

ROLES = ("system", "developer", "user", "assistant", "tool")
Text = str | Sequence[Message]


class Tokenizer(Protocol):
    """The part of a policy that encoding needs."""

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""

    @property
    def stop_ids(self) -> Collection[int]:
        """Ids that end a turn."""

    def encode(self, text: str) -> Sequence[int]:
        """Encode text; nothing in it becomes a control token."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids."""

    def render(self, messages: Sequence[Message], *, generation: bool, **images: Any) -> Sequence[int]:
        """Encode a conversation by the chat template; ``generation`` opens the assistant's turn.

        A vision-language model also takes ``images``, one for each place in the messages.
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
        self, row: Row, prompt: Text, columns: Mapping[str, Any] | None = None, images: tuple[Picture, ...] = ()
    ) -> Task:
        """Encode a prompt: a conversation, or text (with ``chat``: the user's message; else as it is).

        A system message in the row replaces ``system``; plain text gets ``system`` in front, and an empty line between.
        Images are at the places that a conversation has for them, else before the text.
        """
        said = prompt
        if isinstance(prompt, str):
            content = before_text(prompt, len(images)) if images else prompt
            said = [{"role": "user", "content": content}] if self.chat else self._plain(prompt)
        if isinstance(said, str):
            shown = (token for image in images for token in image.tokens)
            ids = (*self.opening, *shown, *self.policy.encode(said))
        else:
            said = self.with_system(with_places(row, "images", said, len(images)))
            ids = tuple(self._render(said, images, generation=True))
        if not ids:
            raise RecipeError(errors.empty_text(row.file, row.number, "prompt"))
        return Task(row.index, said, ids, row.columns if columns is None else columns, images=images)

    def _render(self, messages: Sequence[Message], images: Sequence[Picture], *, generation: bool) -> list[int]:
        """Render the beginning of a conversation, with the first of its images."""
        if not images:
            return list(self.policy.render(messages, generation=generation))
        return list(self.policy.render(messages, generation=generation, images=images[: places_in(messages)]))

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
            ids = (*task.prompt_ids, *self.policy.encode(answer), self.policy.eos_id)
            start = len(task.prompt_ids)
            return Example(task.id, ids, (False,) * start + (True,) * (len(ids) - start), task.images)
        said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
        return self.conversation(row, [*task.prompt, *said], len(task.prompt), task.images)

    def conversation(
        self, row: Row, messages: Sequence[Message], first: int = 0, images: tuple[Picture, ...] = ()
    ) -> Example:
        """Encode a conversation; the assistant's turns from message ``first`` on are trained, each with its end token.

        Raises:
            RecipeError: RC710, the template changes the text before a turn; RC739, it writes no stop token after one;
                RC866.
        """
        messages = with_places(row, "images", messages, len(images))
        rendered: list[int] = []  # the turns so far as the template writes them
        built: list[int] = []  # the same text, its tokens split where the model begins to write
        trained: list[bool] = []
        end = seen = 0
        for turn, message in enumerate(messages):
            if turn < first or message["role"] != "assistant":
                continue
            before = self._render(messages[:turn], images, generation=True)
            after = self._render(messages[: turn + 1], images, generation=False)
            written = self._written(messages[:turn], message, before, after, images)
            if before[: len(rendered)] != rendered or written is None:
                raise RecipeError(errors.template_breaks_prefix(row.file, row.number, turn + 1))
            if not written:
                raise RecipeError(errors.empty_text(row.file, row.number, f"messages[{turn}]"))
            built += before[len(rendered) :]
            # What a template writes after the end token is never sampled, so it is not trained either.
            ends = [i for i, token in enumerate(written, 1) if token in self.policy.stop_ids]
            if not ends:
                raise RecipeError(model_errors.endless_turn(row.file, row.number, turn + 1))
            trained += [False] * (len(built) - len(trained)) + [True] * ends[-1]
            end, seen = len(built) + ends[-1], places_in(messages[:turn])
            built, rendered = built + written, after
        if not end:
            problem = "has no message of the assistant to learn"
            raise RecipeError(errors.wrong_type(row.file, row.number, "messages", problem))
        return Example(row.index, tuple(built[:end]), tuple(trained), images[:seen])

    def _written(
        self,
        earlier: Sequence[Message],
        message: Message,
        before: list[int],
        after: list[int],
        images: Sequence[Picture],
    ) -> list[int] | None:
        """Return the tokens of one answer after the open turn; None where the template changes that turn."""
        if after[: len(before)] == before:
            return after[len(before) :]
        # The first letters of the answer may share a token with the end of the open turn; the model that writes
        # after it never sees that token, so the answer is encoded separately.
        probe = list(self.policy.encode("x"))
        probed = self._render([*earlier, {**message, "content": "x"}], images, generation=False)
        if probed[: len(before) + len(probe)] != before + probe:
            return None
        written = [*self.policy.encode(message["content"]), *probed[len(before) + len(probe) :]]
        return written if self.policy.decode(before + written) == self.policy.decode(after) else None


def _only_text(row: Row, messages: Sequence[Message]) -> str:
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        problem = "is a conversation, and the prompt is plain text: set data.chat, or give the prompt as messages"
        raise RecipeError(errors.wrong_type(row.file, row.number, "completion", problem))
    text: str = messages[0]["content"]
    return text


def read_text(row: Row, column: str) -> Text:
    """Return a column that is text or a conversation, checked.

    Raises:
        RecipeError: RC706 or RC707.
    """
    value = row.columns[column]
    if isinstance(value, str):
        _check_text(row, column, value)
        return value
    return read_messages(row, column)


def read_messages(row: Row, column: str) -> Sequence[Message]:
    """Return a column that is a conversation, checked message by message.

    Raises:
        RecipeError: RC706 or RC707.
    """
    value = row.columns[column]
    if not isinstance(value, list):
        forms = "a list of chat messages" if isinstance(value, str) else "text or a list of chat messages"
        problem = f"must be {forms}, this is {kind_of(value)}"
        raise RecipeError(errors.wrong_type(row.file, row.number, column, problem))
    if not value:
        raise RecipeError(errors.empty_text(row.file, row.number, column))
    return [_checked(row, f"{column}[{number}]", message) for number, message in enumerate(value)]


def _checked(row: Row, where: str, message: Any) -> Message:
    """Return a message if its content is text, or parts of text and places for images."""
    if not isinstance(message, Mapping):
        problem = f"must be a chat message, this is {kind_of(message)}"
    elif "role" not in message or "content" not in message:
        have = ", ".join(f"`{key}`" for key in list(message)[:6])
        problem = f"needs `role` and `content`, it has {have or 'nothing'}"
    elif message["role"] not in ROLES:
        problem = f"has the role {message['role']!r}, known are {', '.join(ROLES)}"
    elif not isinstance(message["content"], str | list):
        problem = f"must have text as its `content`, this is {kind_of(message['content'])}"
    else:
        content = message["content"]
        if not isinstance(content, str):
            message = {**message, "content": (content := read_content(row, where, message["role"], content))}
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        _check_text(row, where, text, empty=message["role"] == "system" or not isinstance(content, str))
        found: Message = message
        return found
    raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))


def _check_text(row: Row, where: str, text: str, *, empty: bool = False) -> None:
    if not empty and not text.strip():
        raise RecipeError(errors.empty_text(row.file, row.number, where))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecipeError(errors.wrong_type(row.file, row.number, where, "holds half a surrogate pair")) from None
