"""Environments with games in worker processes: this process builds prompts, a worker plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.worker_pool import MEMORY, HandlerError, WorkerFailure
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.environment.prompt_builder import (
    NO_ACTION,
    Observation,
    PastTurn,
    PromptBuilder,
    PromptInput,
    read_next,
)
from recipec.runtime.environment.workers import StepRequest, StepResult, Workers
from recipec.runtime.protocols import Environment, Policy
from recipec.runtime.rng import rng_for
from recipec.runtime.user_code import place_in
from recipec.spec.environment import Rendered


class Games(Protocol):
    """The games of an environment: :class:`recipec.runtime.environment.workers.Workers`, or a shop in this process."""

    def begin(self) -> None:
        """Start the worker."""

    def ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        """Return a result for each episode, or text with the reason of a failure."""

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]] | WorkerFailure:
        """List the tasks of the environment."""

    def close(self) -> None:
        """Close the games."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Private data of an episode state.

    Example: ``Notes({"game": "a"}, 7, "find the mug", "You are in a hall.", Observation("You are in a hall."))``.
    """

    task: Mapping[str, Any]
    seed: int
    goal: str
    observed: str
    """The last observation, without a notice for an invalid action."""
    shown: Observation
    past: tuple[PastTurn, ...] = ()
    actions: tuple[str, ...] = ()
    """Actions that reached the game."""
    lane: int = 0
    label: str = ""


class WorkerEnv(Environment):
    """The environment protocol for games in worker processes; a subclass names the game.

    A turn without an action gets a notice; it counts as a turn and does not change the game.
    The state key is the observation, unless the game returns one.  Each action that reaches the game is a call.

    Raises:
        RecipeError: RC810 the environment cannot be built, RC811 it lists no tasks; those of :class:`.PromptBuilder`.
    """

    handler = ""
    """``module:function`` of the handler in the worker."""
    shipped = "world"
    """Name of the shipped template."""
    memory = MEMORY
    """Most bytes of address space of a worker."""

    def __init__(self, spec: Rendered, context: StageContext, *, policy: Policy) -> None:
        self.spec, self.context = spec, context
        self.layout = PromptBuilder(
            context, policy, spec.history, spec.template, self.shipped, max_turns=spec.max_turns, chat=spec.chat
        )
        self.stops = self.layout.stops
        self.replayable = self.is_replayable()
        self.games = self.open_games()
        self._begun = 0
        try:
            self.games.begin()
        except HandlerError as error:
            self.close()
            raise RecipeError(self.refusal(error)) from None

    # a subclass may override these

    def open_games(self) -> Games:
        """Start the worker processes; a subclass may need none."""
        return Workers(
            self.handler,
            self.worker_argument(),
            name=self.named(),
            timeout=self.spec.timeout,
            replayable=self.replayable,
            memory=self.memory,
        )

    def named(self) -> str:
        """Return what the user calls the environment."""
        return self.spec.type_name

    def is_replayable(self) -> bool:
        """Return whether the same seed and actions always give the same episode."""
        return True

    def worker_argument(self) -> Any:
        """Argument of the handler."""
        return {}

    def game_columns(self, task: Task) -> Mapping[str, Any]:
        """Return the part of a task that the game gets: its columns."""
        return dict(task.columns)

    def refusal(self, problem: HandlerError) -> Diagnostic:
        """Return the diagnostic for a handler that refuses its argument."""
        return errors.environment_broken(self.spec.type_name, f"{problem.error}: {problem.message}".rstrip(": "))

    def notice(self) -> str:
        """Return the observation after a turn without an action."""
        form = "Write one action inside <action> </action>." if self.layout.action_tag else "Write one action."
        return f"No action was found in your answer, so nothing has changed. {form}"

    # the protocol

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List the tasks of the environment, as columns."""
        try:
            rows = self.games.tasks(split, size, seed)
        except HandlerError as error:
            raise RecipeError(self.refusal(error)) from None
        if isinstance(rows, WorkerFailure):
            problem_text = rows.message or ("it took too long" if rows.reason == "late" else "its process died")
            place = place_in(problem_text, self.context.use, self.context.root)
            remedy = 'return a list of mappings, one for each task, such as `[{"question": "…"}]`' if place else ""
            raise RecipeError(errors.no_tasks(self.spec.type_name, split, problem_text, remedy, spans=place))
        if not rows:
            raise RecipeError(errors.no_tasks(self.spec.type_name, split, "the list is empty"))
        return rows

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task; episodes of one task begin with the same observation."""
        wanted = [self._beginning(i, task) for i, task in enumerate(tasks)]
        # an environment that can be replayed is reset once for each task
        first: dict[Any, int] = {}
        for i, task in enumerate(tasks):
            first.setdefault(task.id if self.replayable else i, i)
        answers = dict(zip(first.values(), self._ask([wanted[i] for i in first.values()]), strict=True))
        begun = []
        for i, (task, want) in enumerate(zip(tasks, wanted, strict=True)):
            result = answers[first[task.id if self.replayable else i]]
            if isinstance(result, StepResult) and (result.terminated or result.truncated):
                result = "garbage: the episode is over before its first turn"
            if isinstance(result, str):
                begun.append(EpisodeState(task, tuple(task.prompt_ids), ended=True, error=result))
                continue
            shown = Observation(result.observation, result.actions)
            notes = Notes(
                want.task, want.seed, result.goal, result.observation, shown, lane=want.lane, label=want.label
            )
            begun.append(EpisodeState(task, (), state=_state(result), observation=result.observation, notes=notes))
        return read_next(self.layout, begun, ((),) * len(begun), self._asked)

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Take one turn of each episode."""
        notes = [_notes(position) for position in positions]
        done = [self.layout.read(turn.text, note.shown) for turn, note in zip(turns, notes, strict=True)]
        acting = [i for i, action in enumerate(done) if action.text is not None]
        answers: dict[int, StepResult | str] = dict(
            zip(acting, self._ask([_wanted(notes[i], done[i].text or "") for i in acting]), strict=True)
        )
        states = []
        for i, (position, turn, action) in enumerate(zip(positions, turns, done, strict=True)):
            after = self._after(position, turn, action.text, answers.get(i))
            states.append(replace(after, valid=after.valid and action.valid))
        before = [(*position.context_ids, *turn.ids) for position, turn in zip(positions, turns, strict=True)]
        return read_next(self.layout, states, before, self._asked)

    def close(self) -> None:
        """Stop the worker processes."""
        self.games.close()
        self.layout.close()

    # implementation

    def _beginning(self, index: int, task: Task) -> StepRequest:
        columns = self.game_columns(task)
        seed = columns.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool):
            seed = int(rng_for(self.context.seed, "world", task.id).integers(1 << 31))
        self._begun += 1
        return StepRequest(columns, seed, lane=index, label="" if self.replayable else str(self._begun))

    def _ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        try:
            return self.games.ask(wanted)
        except HandlerError as error:
            raise RecipeError(self.refusal(error)) from None

    def _after(
        self, position: EpisodeState, turn: Turn, action: str | None, result: StepResult | str | None
    ) -> EpisodeState:
        """Return the state after a turn, without its next context."""
        notes, turns = _notes(position), position.turns + 1
        over = turns >= self.spec.max_turns
        after = replace(position, turns=turns, kept=len(turn.ids), reward=0.0, valid=True, calls=0)
        if isinstance(result, str):
            return replace(after, ended=True, error=result)
        past = (*notes.past, PastTurn(notes.shown, action or NO_ACTION, turn.text))
        if result is None:
            shown = Observation(f"{self.notice()}\n\n{notes.observed}", notes.shown.actions)
            updated = replace(notes, shown=shown, past=past)
            return replace(after, valid=False, observation=self.notice(), ended=over, truncated=over, notes=updated)
        updated = replace(
            notes,
            observed=result.observation,
            shown=Observation(result.observation, result.actions),
            past=past,
            actions=(*notes.actions, action or ""),
        )
        return replace(
            after,
            state=_state(result),
            ended=result.terminated or result.truncated or over,
            truncated=not result.terminated and (result.truncated or over),
            reward=result.reward,
            valid=result.valid,
            calls=result.calls,
            observation=result.observation,
            notes=updated,
        )

    def _asked(self, position: EpisodeState, before: tuple[int, ...]) -> PromptInput:
        notes = _notes(position)
        return PromptInput(position.task, notes.goal, notes.shown, notes.past, before)


def _notes(position: EpisodeState) -> Notes:
    notes = position.notes
    assert isinstance(notes, Notes), "the state is of this environment, and its episode continues"
    return notes


def _wanted(notes: Notes, action: str) -> StepRequest:
    return StepRequest(notes.task, notes.seed, (*notes.actions, action), notes.lane, notes.label, notes.observed)


def _state(result: StepResult) -> Any:
    return result.observation if result.state is None else result.state
