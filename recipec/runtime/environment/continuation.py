"""What the chat template writes between a sampled answer and the next one, appended to ids as they were sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipec.runtime.batch import Message
from recipec.runtime.model.turn_end import ANSWERS, common_end
from recipec.runtime.protocols import Policy


def after_answer(
    policy: Policy, system: Sequence[Message], added: Sequence[Message], variables: Mapping[str, Any] | None = None
) -> tuple[int, ...]:
    """Return the ids between an answer and the next one: its end, the messages ``added``, the opening of the next.

    It is what conversations with different answers of one letter end with.

    Raises:
        RecipeError: RC730, the template refuses such a conversation.
    """
    renderer: Any = policy
    conversation = [*system, {"role": "user", "content": "x"}]
    one, other = (
        renderer.render(
            [*conversation, {"role": "assistant", "content": letter}, *added], generation=True, variables=variables
        )
        for letter in ANSWERS
    )
    return tuple(one[len(one) - common_end(one, other) :])


def joined(policy: Policy, context: Sequence[int], piece: tuple[int, ...]) -> tuple[int, ...]:
    """Append the ids after an answer to a context, which may have sampled the first of them: the token that ends it."""
    sampled = piece and context[-1] == piece[0] and piece[0] in policy.stop_ids
    return (*context, *(piece[1:] if sampled else piece))
