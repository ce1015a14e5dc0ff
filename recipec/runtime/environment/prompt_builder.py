"""Build the prompt of each turn, and find the action in the output of the policy.

With a number for ``history`` every turn has one message, rendered from a template.
With ``append_only`` the first turn is that message, and each later turn appends to the ids as they were sampled.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recipec.host.templates import Renderer
from recipec.package_files import named_file, shipped as shipped_folder
from recipec.runtime.batch import Message, Task
from recipec.runtime.context import StageContext
from recipec.runtime.data.templates import read_template
from recipec.runtime.environment.continuation import after_answer, joined
from recipec.runtime.environment.episode_state import EpisodeState
from recipec.runtime.protocols import Policy

REWRITES = "the chat template rewrites earlier turns"
NO_ACTION = "(none)"
_REMEMBERED = 4096
_CHINESE = re.compile("[\u4e00-\u9fff]")
_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Observation:
    """The observation before a turn, and the available actions.

    Example: ``Observation("You are in a kitchen.", ("look", "go to fridge 1"))``.
    """

    text: str
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier turn: the observation before it, and the action of the policy.

    Example: ``PastTurn(Observation("You are in a kitchen."), "look", "<think>…</think><action>look</action>")``.
    """

    shown: Observation
    action: str
    text: str = ""
    """The whole output of the policy, for the chat template; needed where turns append."""


@dataclass(frozen=True, slots=True)
class PromptInput:
    """One episode before a turn.

    Example: ``PromptInput(task, "find the mug", Observation("You are in a kitchen."))`` before the first turn.
    """

    task: Task
    goal: str
    shown: Observation
    past: tuple[PastTurn, ...] = ()
    context_ids: tuple[int, ...] = ()
    """Context of the previous turn and the ids kept of it; needed where turns append."""
    opening: str | Sequence[Message] | None = None
    """The prompt of the task, where the episode begins with it instead of the template."""


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a turn, or None; ``valid`` where the turn has the form that the prompt requires."""

    text: str | None
    valid: bool


def read_action(text: str, shown: str = "", *, action_tag: bool = True, think_tag: bool = True) -> Action:
    """Find the action of a turn.

    With ``action_tag`` it is the first ``<action>…</action>``, and a turn without one has no action; otherwise the
    whole turn is the action.  With ``think_tag`` a turn is valid only with ``<think>…</think>`` in it.  Chinese
    characters make a turn invalid, unless the observation ``shown`` has some.  Source: GiGPO, released projections of
    ALFWorld and WebShop.

    >>> read_action("<think>hungry</think><action> open fridge 1 </action>")
    Action(text='open fridge 1', valid=True)
    >>> read_action("open fridge 1"), read_action("open fridge 1", action_tag=False, think_tag=False)
    (Action(text=None, valid=False), Action(text='open fridge 1', valid=True))
    """
    tag = _ACTION.search(text)
    action = (tag[1] if tag else "") if action_tag else text
    thought = not think_tag or _THINK.search(text) is not None
    readable = _CHINESE.search(text) is None or _CHINESE.search(shown) is not None
    return Action(action.strip() or None, bool(action.strip()) and thought and readable)


class PromptBuilder:
    """Builds the prompt of each turn, in the tokens of the policy.

    ``shipped`` names the template of the package, ``templates/prompts/<shipped>.j2``; ``template`` is a file of
    the user, relative to the recipe.  A template sees ``task`` (the columns), ``goal``, ``observation``, ``actions``,
    ``history`` (the last turns, oldest first, each with ``turn``, ``observation``, ``action``), ``turn`` (from 1) and
    ``max_turns``.  Where its text contains ``<action>``, the action must be between these tags; otherwise the whole
    turn is the action.  Likewise, thinking is required only where its text contains ``<think>``.

    Raises:
        RecipeError: RC700 the template is missing, RC712 it is not valid.
    """

    def __init__(
        self,
        context: StageContext,
        policy: Policy,
        history: int | Literal["append_only"],
        template: str | None,
        shipped: str,
        *,
        max_turns: int = 0,
        chat: bool = True,
    ) -> None:
        self.policy = policy
        self.history = history
        self.max_turns = max_turns
        folder = shipped_folder("templates") / "prompts"
        own, named = folder / f"{shipped}.j2", template or shipped
        path = own if template is None else named_file(context.root, template)
        text = read_template(path, named)
        self._first = Renderer(text, template or f"{shipped}.j2", own=template is None)
        self._next = Renderer(read_template(folder / "next.j2", "next"), "next.j2", own=True)
        self._openings: OrderedDict[str, str] = OrderedDict()
        self.action_tag = "<action>" in text
        self.think_tag = "<think>" in text
        self.chat = chat and bool(self.policy.tokenizer.chat_template)
        added = self.policy.tokenizer.added_tokens_decoder
        self._special = frozenset(int(i) for i, token in added.items() if token.special)

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a turn, with the token that completes them."""
        return ("</action>",) if self.action_tag else ()

    def read(self, text: str, shown: Observation) -> Action:
        """Find the action of a turn; see :func:`read_action`."""
        return read_action(text, shown.text, action_tag=self.action_tag, think_tag=self.think_tag)

    def contexts(self, inputs: Sequence[PromptInput]) -> list[tuple[int, ...] | None]:
        """Return the context of each turn; None where the chat template changes earlier turns.

        Raises:
            RecipeError: RC711 or RC713, the user's template fails.
        """
        if self.history == "append_only":
            openings = self._first_turns(inputs)
            return [self._appended(one, opening) for one, opening in zip(inputs, openings, strict=True)]
        prompts = self._first.rows([self._values(one) for one in inputs], lambda i: _named(inputs[i]))
        return [self._message(one.task, prompt) for one, prompt in zip(inputs, prompts, strict=True)]

    def close(self) -> None:
        """Stop the rendering process."""
        self._first.close()

    def _values(self, one: PromptInput) -> dict[str, Any]:
        assert isinstance(self.history, int)
        first = max(0, len(one.past) - self.history)
        past = [
            {"turn": first + i, "observation": turn.shown.text, "action": turn.action}
            for i, turn in enumerate(one.past[first:], 1)
        ]
        return self._turn(one, one.shown, len(one.past) + 1, past)

    def _turn(self, one: PromptInput, shown: Observation, turn: int, past: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "task": dict(one.task.columns),
            "goal": one.goal,
            "observation": shown.text,
            "actions": list(shown.actions),
            "history": past,
            "turn": turn,
            "max_turns": self.max_turns,
        }

    def _first_turns(self, inputs: Sequence[PromptInput]) -> list[str | Sequence[Message]]:
        """Render the first turn of each episode; recent ones are cached."""
        values = [self._turn(one, one.past[0].shown if one.past else one.shown, 1, []) for one in inputs]
        keys = [json.dumps(value, sort_keys=True, default=str) for value in values]
        new = {
            key: i
            for i, (key, one) in enumerate(zip(keys, inputs, strict=True))
            if one.opening is None and key not in self._openings
        }
        indices = list(new.values())
        rendered = self._first.rows([values[i] for i in indices], lambda i: _named(inputs[indices[i]]))
        self._openings.update(zip(new, rendered, strict=True))
        openings = [
            self._openings[key] if one.opening is None else one.opening for key, one in zip(keys, inputs, strict=True)
        ]
        while len(self._openings) > _REMEMBERED:
            self._openings.popitem(last=False)
        return openings

    def _message(self, task: Task, prompt: str) -> tuple[int, ...]:
        """Encode a prompt without history, through the chat template where there is one."""
        if self.chat:
            return tuple(self.policy.render([*_system(task), {"role": "user", "content": prompt}], generation=True))
        return (*opening_ids(self.policy), *self.policy.encode(prompt))

    def _appended(self, one: PromptInput, opening: str | Sequence[Message]) -> tuple[int, ...] | None:
        if not one.past:
            return (
                self._message(one.task, opening)
                if isinstance(opening, str) and one.opening is None
                else one.task.prompt_ids
            )
        if not self.chat or isinstance(one.opening, str):  # a prompt of plain text continues as plain text
            return (*one.context_ids, *self.policy.encode(f"\n\n{self._shown(one.shown)}\n\n", one.context_ids))
        start = [*_system(one.task), {"role": "user", "content": opening}] if isinstance(opening, str) else [*opening]
        for i, turn in enumerate(one.past):
            shown = one.past[i + 1].shown if i + 1 < len(one.past) else one.shown
            start.append({"role": "assistant", "content": turn.text})
            start.append({"role": "user", "content": self._shown(shown)})
        return self._continued(one.context_ids, start)

    def _shown(self, shown: Observation) -> str:
        (text,) = self._next.rows([{"observation": shown.text, "actions": list(shown.actions)}])
        return text.strip() or NO_ACTION

    def _continued(self, context: tuple[int, ...], messages: list[Message]) -> tuple[int, ...] | None:
        """Append the text of the chat template after an answer; None where it changes earlier turns."""
        policy = self.policy
        appended = after_answer(policy, messages[:1] if messages[0]["role"] == "system" else [], messages[-1:])
        ids = joined(policy, context, appended)
        # sampled control tokens cannot be reproduced from text, so the control tokens of the template are compared
        earlier = policy.render(messages[:-2], generation=True)
        controls, text = self._controls((*earlier, *appended)), policy.decode(ids)
        # the space before an answer may be written by the template, or left out by the tokenizer's decoder
        for form in (str, str.lstrip, " {}".format):
            respaced = [{**m, "content": form(m["content"])} if m["role"] == "assistant" else m for m in messages]
            rewritten = policy.render(respaced, generation=True)
            if controls == self._controls(rewritten) and text == policy.decode(rewritten):
                return ids
        return None

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._special]


def opening_ids(policy: Policy) -> tuple[int, ...]:
    """Return the beginning-of-text id, where the tokenizer puts it before a text."""
    first = policy.tokenizer.bos_token_id
    return () if first is None or list(policy.tokenizer("").input_ids[:1]) != [first] else (int(first),)


def _system(task: Task) -> list[Message]:
    """Return the system message of the task's own prompt, if it has one."""
    prompt = task.prompt
    return [prompt[0]] if not isinstance(prompt, str) and prompt and prompt[0]["role"] == "system" else []


def _named(one: PromptInput) -> str:
    return f"turn {len(one.past) + 1} of task {one.task.id}"


def read_next(
    layout: PromptBuilder,
    states: list[EpisodeState],
    before: Sequence[tuple[int, ...]],
    input_of: Callable[[EpisodeState, tuple[int, ...]], PromptInput],
) -> list[EpisodeState]:
    """Build the next context of each unfinished episode; it fails where the chat template changes earlier turns.

    ``before`` are the context and the kept ids of the previous turn of each episode; empty before the first turn.
    """
    going = [i for i, position in enumerate(states) if not position.ended]
    contexts = dict(zip(going, layout.contexts([input_of(states[i], before[i]) for i in going]), strict=True))
    for i, position in enumerate(states):
        context = contexts.get(i, before[i] or position.context_ids)
        if context is None:
            states[i] = replace(position, context_ids=before[i], ended=True, error=REWRITES)
        else:
            states[i] = replace(position, context_ids=context)
    return states
