"""Episodes of a policy that calls the user's functions; see :class:`recipec.spec.environment.ToolUse`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import listed
from recipec.host.worker_pool import HandlerError, WorkerFailure, WorkerPool
from recipec.runtime.batch import Message, Task, question
from recipec.runtime.environment.continuation import after_answer, joined
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.environment.tools.calls import Call, form_of, read_calls
from recipec.runtime.protocols import Environment, Policy

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext
    from recipec.spec.environment import ToolUse as Spec

_PROCESSES = 4


class ToolUse(Environment):
    """Conversations with tool calls: the chat template shows the tools and writes their results.

    States are plain values and functions keep nothing, so an episode can continue from any earlier turn.  Earlier turns
    stay the ids that were sampled, even where the template would leave their reasoning out.

    Raises:
        RecipeError: RC810 the functions cannot be loaded; RC962 the chat template does not show tools.
    """

    reads_variables = True

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        self.spec = spec
        self.policy = policy
        names = [str(name) for name in spec.functions]
        argument = {"files": [str(path) for path in context.use], "names": names}
        size = min(_PROCESSES, os.cpu_count() or 1)
        what = f"tools {listed(names)}"
        self._pool = WorkerPool("recipec.runtime.environment.tools.worker:serve", argument, what=what, size=size)
        (self.schemas,) = self._ask([{"schemas": True}])
        source = policy.tokenizer.chat_template or ""
        template = "".join(source.values()) if isinstance(source, dict) else str(source)
        self.form = spec.form or form_of(template)
        self._check_shown()

    def _check_shown(self) -> None:
        """Refuse a chat template that shows neither the tools nor their results."""
        messages = [{"role": "user", "content": "x"}]
        try:
            with_tools = self.policy.render(messages, generation=True, variables={"tools": self.schemas})
            result = after_answer(self.policy, (), [_result("x", "found", 0)], {"tools": self.schemas})
            if with_tools != self.policy.render(messages, generation=True) and "found" in self.policy.decode(result):
                return
        except RecipeError as error:
            problem = error.diagnostics[0].message
        else:
            problem = f"it does not write {'the tools' if 'found' in self.policy.decode(result) else 'their results'}"
        self.close()
        raise RecipeError(errors.tools_unseen(problem))

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task: its own prompt, with the tools that the template shows."""
        known: dict[int, tuple[int, ...]] = {}
        for task in tasks:
            if task.id not in known:
                variables = self._given(task)
                known[task.id] = tuple(self.policy.render(_messages(task), generation=True, variables=variables))
        return [EpisodeState(task, known[task.id], state=question(task), notes=0) for task in tasks]

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Take one turn of each episode; the calls of all turns are made at the same time."""
        texts = [self.policy.tokenizer.decode(list(turn.ids), skip_special_tokens=False) for turn in turns]
        called = [
            [self._bounded(call, number) for number, call in enumerate(read_calls(self._body(text), self.form))]
            for text in texts
        ]
        going = [i for i, turn in enumerate(turns) if turn.ended and positions[i].turns + 1 < self.spec.max_turns]
        places = [(i, j) for i in going for j, call in enumerate(called[i]) if not call.problem]
        requests = [{"call": [called[i][j].name, called[i][j].arguments]} for i, j in places]
        results = dict(zip(places, self._ask(requests), strict=True))
        return [
            self._after(position, turn, called[i], [results.get((i, j)) for j in range(len(called[i]))])
            for i, (position, turn) in enumerate(zip(positions, turns, strict=True))
        ]

    def close(self) -> None:
        """End the processes of the tools."""
        self._pool.close()

    def _given(self, task: Task) -> Mapping[str, Any]:
        return {**task.variables, "tools": self.schemas}

    def _bounded(self, call: Call, number: int) -> Call:
        """Return a call of a turn, with the problem of one that is not made."""
        problem = call.problem
        if not problem and call.name not in self.spec.functions:
            problem = f"there is no tool `{call.name}`"
        if not problem and number >= self.spec.max_calls:
            problem = f"at most {self.spec.max_calls} calls are made in one turn"
        return replace(call, problem=problem)

    def _body(self, text: str) -> str:
        """Return a turn without the token that ends it."""
        ends = (self.policy.tokenizer.decode([one], skip_special_tokens=False) for one in self.policy.stop_ids)
        return next((text.removesuffix(end) for end in ends if end and text.endswith(end)), text)

    def _after(self, before: EpisodeState, turn: Turn, calls: Sequence[Call], answers: Sequence[Any]) -> EpisodeState:
        """Return the state after a turn; one without calls is the answer, which ends the episode."""
        context, number = (*before.context_ids, *turn.ids), before.turns + 1
        after = replace(
            before, context_ids=context, turns=number, kept=len(turn.ids), reward=0.0, valid=True, calls=0, failures=0,
            observation="",
        )  # fmt: skip
        if not calls or not turn.ended or number >= self.spec.max_turns:
            return replace(after, ended=True, truncated=bool(calls) or not turn.ended)
        texts = [self._text(call, result) for call, result in zip(calls, answers, strict=True)]
        results = [_result(calls[i].name, text, before.notes + i) for i, text in enumerate(texts)]
        prompt = _messages(before.task)
        system = prompt[:1] if prompt[0]["role"] == "system" else []
        piece = after_answer(self.policy, system, results, self._given(before.task))
        return replace(
            after,
            context_ids=joined(self.policy, context, piece),
            state="\n".join(texts),
            valid=all(result is not None for result in answers),
            calls=sum(result is not None for result in answers),
            failures=sum(isinstance(result, WorkerFailure) for result in answers),
            observation=self.policy.decode(piece),
            notes=before.notes + len(calls),
        )

    def _text(self, call: Call, result: Any) -> str:
        """Return what the policy reads of a call, at most ``max_observation_length`` tokens."""
        if result is None:
            return f"Error: the call was not made: {call.problem}"
        if isinstance(result, WorkerFailure):
            limit = f"no answer within {self.spec.timeout:g} s"
            return f"Error: {limit if result.reason == 'late' else 'its process ended'}"
        text, raised = str(result[0]), bool(result[1])
        ids = self.policy.encode(text)
        if len(ids) > self.spec.max_observation_length:
            text = self.policy.decode(ids[: self.spec.max_observation_length])
        return f"Error: {text}" if raised else text

    def _ask(self, requests: Sequence[Any]) -> list[Any]:
        try:
            return self._pool.ask(requests, self.spec.timeout) if requests else []
        except HandlerError as error:
            self.close()
            raise RecipeError(errors.environment_broken(self.spec.type, error.message)) from None


def _messages(task: Task) -> list[Message]:
    return [{"role": "user", "content": task.prompt}] if isinstance(task.prompt, str) else list(task.prompt)


def _result(name: str, text: str, number: int) -> Message:
    """Return the message with the result of a call; ids of Mistral have nine letters and digits."""
    return {"role": "tool", "name": name, "content": text, "tool_call_id": f"call{number % 100_000:05d}"}
