"""What flows: tasks, encoded examples, and a batch of named signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.images.picture import Picture
from recipec.signals import SIGNALS, split_axes

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt: an element of ``prompt_P``.

    Example: ``Task(id=7, prompt="2+2=", prompt_ids=(17, 10, 17, 28), columns={"answer": "4"})``.
    """

    id: int
    """Index of the row in the data."""
    prompt: str | Sequence[Message]
    prompt_ids: tuple[int, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    score: Callable[[str], float] | None = None
    """The task's own verifier, where it has one."""
    images: tuple[Picture, ...] = ()
    """The images of the prompt, in the order of their places in it."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template gets besides the messages, such as ``tools``."""
    place: tuple[str, int] | None = field(default=None, compare=False)
    """File and number of its row, for messages; None where it is not from a file."""


@dataclass(frozen=True, slots=True)
class Example:
    """Encoded prompt and answer: an element of ``completion_P``, ``chosen_P`` or ``rejected_P``.

    Example: ``Example(7, (17, 10, 17, 28, 19, 2), (False,) * 4 + (True,) * 2)``.
    """

    prompt_id: int
    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    images: tuple[Picture, ...] = ()
    """The images of the row, in the order of their places in ``ids``."""
    label: bool | None = None
    """Whether the answer is a good one, where the data says so."""
    margin: float | None = None
    """By how much the preferred answer of the pair is better, where the data says so."""


Column = Any


def pad_rows(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    """Lay sequences under each other, padded with 0 on the right to the longest.

    >>> pad_rows([(1, 2), (3,)], torch.int64)
    tensor([[1, 2],
            [3, 0]])
    """
    padded = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=dtype)
    return padded


def images_of(pixels_I: Sequence[Picture], image_row_I: Tensor, index: Tensor) -> tuple[list[Picture], Tensor]:
    """Return the images of the rows of ``index``, in its order, and the new number of the row of each.

    >>> one, two = Picture("1", "a.png", {}, (7,)), Picture("2", "b.png", {}, (7,))
    >>> kept, row_I = images_of([one, two], torch.tensor([0, 2]), torch.tensor([2, 1, 0, 2]))
    >>> [picture.path for picture in kept], row_I.tolist()
    (['b.png', 'a.png', 'b.png'], [0, 2, 3])
    """
    of_row: dict[int, list[Picture]] = {}
    for picture, row in zip(pixels_I, image_row_I.tolist(), strict=True):
        of_row.setdefault(row, []).append(picture)
    kept = [(place, picture) for place, row in enumerate(index.tolist()) for picture in of_row.get(row, ())]
    row_I = torch.tensor([place for place, _ in kept], dtype=torch.int64, device=image_row_I.device)
    return [picture for _, picture in kept], row_I


class Batch(dict[str, Column]):
    """Columns by signal name; rows and tokens agree, or it is our bug.

    Example: ``Batch(tokens_RT=ids, attend_RT=mask)``; ``batch.rows(torch.tensor([0, 2]))`` keeps two rows.
    """

    def check(self) -> None:
        """Assert that every column is in the table and that the axes agree."""
        sizes: dict[str, int] = {}
        for name, column in self.items():
            if name not in SIGNALS:
                raise AssertionError(f"`{name}` is not a signal")
            if name == "pixels_I" and len(column) != len(self["image_row_I"]):
                raise AssertionError(f"{len(column)} images, and rows of {len(self['image_row_I'])}")
            if isinstance(column, Tensor):
                for axis, size in zip(split_axes(name)[1], column.shape, strict=True):
                    if axis != "I" and sizes.setdefault(axis, size) != size:
                        raise AssertionError(f"`{name}` has {size} along {axis}, others have {sizes[axis]}")

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(next(column for name, column in self.items() if split_axes(name)[1].startswith("R")))

    def rows(self, index: Tensor) -> Batch:
        """Keep the rows of ``index``, in its order, and their images; columns along other axes stay whole."""
        kept = Batch()
        if "image_row_I" in self:
            kept["pixels_I"], kept["image_row_I"] = images_of(self["pixels_I"], self["image_row_I"], index)
        for name, column in self.items():
            if name in kept:
                continue
            if not split_axes(name)[1].startswith("R"):
                kept[name] = column
            elif isinstance(column, Tensor):
                kept[name] = column[index.to(column.device)]
            else:
                kept[name] = [column[i] for i in index.tolist()]
        return kept

    def to(self, device: torch.device) -> Batch:
        """Move the tensors."""
        return Batch({n: c.to(device) if isinstance(c, Tensor) else c for n, c in self.items()})


def question(task: Task) -> str:
    """Return the text that a task asks with: the plain prompt, or the last message of the user.

    It is empty for a conversation that begins with an answer.

    >>> question(Task(0, "Who?", ())), question(Task(0, [{"role": "user", "content": "Who?"}], ()))
    ('Who?', 'Who?')
    """
    if isinstance(task.prompt, str):
        return task.prompt
    messages = [message for message in task.prompt if message["role"] == "user"] or list(task.prompt)
    return text_of(messages[-1]["content"]) if messages else ""


def text_of(content: Any) -> str:
    """Return the text of a message's content, images left out.

    >>> text_of([{"type": "image"}, {"type": "text", "text": "What is it?"}])
    'What is it?'
    """
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
