"""Messages and their images: parts checked, places counted, images put where a conversation has no place for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import data as data_errors, images as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.jsonl import kind_of
from recipec.runtime.data.files import Row

if TYPE_CHECKING:
    from recipec.runtime.batch import Message

IMAGE = {"type": "image"}
DEFAULT = "images"
OTHER = "image"


def image_names(row: Row, column: str) -> tuple[str, list[str]]:
    """Return the column that names the images of a row, and their paths; no column, no images.

    ``images`` and ``image`` are looked for unless ``column`` is another name, which a row must then have.

    Raises:
        RecipeError: RC705 or RC867.
    """
    if not column:
        return "", []
    name = OTHER if column == DEFAULT and DEFAULT not in row.columns else column
    if name not in row.columns:
        if column != DEFAULT:
            key = "data.columns.images"
            raise RecipeError(data_errors.missing_column(row.file, row.number, column, row.columns, key))
        return column, []
    value = row.columns[name]
    if column == DEFAULT and row.columns.get(DEFAULT) and row.columns.get(OTHER):
        raise RecipeError(errors.image_column(row.file, row.number, OTHER, f"names images, and `{DEFAULT}` does too"))
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        problem = "holds the bytes of an image" if isinstance(value, Mapping | bytes) else f"is {kind_of(value)}"
        raise RecipeError(errors.image_column(row.file, row.number, name, problem))
    for number, one in enumerate(names):
        if not isinstance(one, str):
            kind = "the bytes of an image" if isinstance(one, Mapping | bytes) else kind_of(one)
            raise RecipeError(errors.image_column(row.file, row.number, f"{name}[{number}]", f"is {kind}"))
    return name, names


def read_content(row: Row, where: str, role: str, content: Sequence[Any]) -> str | list[dict[str, str]]:
    """Return the content of a message that is a list of parts: text where all parts are, else the parts in order.

    Raises:
        RecipeError: RC868.
    """
    parts: list[dict[str, str]] = []
    for number, part in enumerate(content):
        at = f"{where}.content[{number}]"
        set_fields = (
            {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else {}
        )
        if set_fields == IMAGE and role != "assistant":
            parts.append(dict(IMAGE))
        elif set_fields.get("type") == "text" and isinstance(set_fields.get("text"), str):
            parts.append({"type": "text", "text": set_fields["text"]})
        else:
            raise RecipeError(errors.image_part(row.file, row.number, at, _problem(part, set_fields)))
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _problem(part: Any, set_fields: Mapping[str, Any]) -> str:
    if not isinstance(part, Mapping):
        return f"must be a part of a message, this is {kind_of(part)}"
    if set_fields == IMAGE:
        return "is an image in an answer, and the policy writes text alone"
    if set_fields.get("type") == "image":
        return f"names its image by `{next(key for key in set_fields if key != 'type')}`"
    return f"has the type {set_fields.get('type')!r}" if set_fields.get("type") != "text" else "has no `text`"


def places_in(messages: Sequence[Message]) -> int:
    """Count the places for images.

    >>> places_in([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}])
    1
    """
    return sum(part["type"] == "image" for m in messages if not isinstance(m["content"], str) for part in m["content"])


def with_places(row: Row, column: str, messages: Sequence[Message], images: int) -> Sequence[Message]:
    """Return the messages with a place for each image: as they are, or before the text of the user's first message.

    Raises:
        RecipeError: RC866, they have places for another number of images.
    """
    have = places_in(messages)
    if have == images:
        return messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if have or first is None:
        raise RecipeError(errors.image_count(row.file, row.number, column, have, images))
    with_images = {**messages[first], "content": before_text(messages[first]["content"], images)}
    return [*messages[:first], with_images, *messages[first + 1 :]]


def in_parts(content: Any) -> list[Mapping[str, Any]]:
    """Return a message's content in parts.

    >>> in_parts("why?")
    [{'type': 'text', 'text': 'why?'}]
    """
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def before_text(text: str, images: int) -> list[dict[str, str]]:
    """Return parts with places for images before a text.

    >>> before_text("What is this?", 1)
    [{'type': 'image'}, {'type': 'text', 'text': 'What is this?'}]
    """
    return [*(dict(IMAGE) for _ in range(images)), {"type": "text", "text": text}]
