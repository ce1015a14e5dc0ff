"""Episodes in a world that runs in another process: prompts here, the world there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.run.worker_pool import MEMORY, HandlerError, WorkerFailure
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


class Spec(Protocol):
    """Parameters of every environment whose states are shown in a prompt."""

    @property
    def type(self) -> str:
        """Name of the environment."""

    @property
    def max_turns(self) -> int:
        """Turns of an episode."""

    @property
    def chat(self) -> bool:
        """Whether prompts go through the chat template."""

    @property
    def timeout(self) -> float:
        """Time for one answer, in seconds."""

    @property
    def history(self) -> int | Literal["append_only"]:
        """Earlier turns in a prompt."""

    @property
    def template(self) -> str | None:
        """The user's own template."""


class TaskPrompts(Protocol):
    """What holds the worlds; see :class:`recipec.runtime.environment.workers.Workers`."""

    def begin(self) -> None:
        """Build what answers."""

    def ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        """Answer each episode; text says why there is no answer."""

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]] | WorkerFailure:
        """List the world's own tasks."""

    def close(self) -> None:
        """Let go of them."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What a position keeps of its world.

    Example: ``Notes({"game": "a"}, 7, "find the mug", "You are in a hall.", Observation("You are in a hall."))``.
    """

    task: Mapping[str, Any]
    seed: int
    goal: str
    observed: str
    """What the world showed last, without a notice of ours."""
    shown: Observation
    past: tuple[PastTurn, ...] = ()
    actions: tuple[str, ...] = ()
    """Those that reached the world."""
    lane: int = 0
    label: str = ""


class WorkerEnv(Environment):
    """The environment protocol over worlds in other processes; a subclass says which.

    A turn without an action is answered with a notice, uses the turn up and leaves the world as it was.
    The state key is the observation, unless the world names one.  Each action that reaches the world is a call.

    Raises:
        RecipeError: RC810 the environment cannot be built, RC811 it lists no tasks; the faults of the layout.
    """

    handler = ""
    """``module:function`` of the child's side."""
    shipped = "world"
    """Name of the shipped template."""
    memory = MEMORY
    """Bytes of address space that a child may take."""

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy) -> None:
        self.spec, self.context = spec, context
        self.layout = PromptBuilder(
            context, policy, spec.history, spec.template, self.shipped, max_turns=spec.max_turns, chat=spec.chat
        )
        self.stops = self.layout.stops
        self.replayable = bool(getattr(spec, "replayable", True))
        self.worlds = self.opened()
        self._begun = 0
        try:
            self.worlds.begin()
        except HandlerError as problem:
            self.close()
            raise RecipeError(self.declined(problem)) from None

    # what a subclass may say

    def opened(self) -> TaskPrompts:
        """Open the worlds: children of the handler, unless a subclass needs none."""
        return Workers(
            self.handler, self.argument(), timeout=self.spec.timeout, replayable=self.replayable, memory=self.memory
        )

    def argument(self) -> Any:
        """What the handler is built from."""
        return {}

    def given(self, task: Task) -> Mapping[str, Any]:
        """What the world is told of a task: its columns."""
        return dict(task.columns)

    def declined(self, problem: HandlerError) -> Diagnostic:
        """What is told the user when the handler refuses its argument."""
        return errors.environment_broken(self.spec.type, f"{problem.error}: {problem.message}".rstrip(": "))

    def notice(self) -> str:
        """What a turn without an action is answered with."""
        form = "Write one action inside <action> </action>." if self.layout.action_tag else "Write one action."
        return f"No action was found in your answer, so nothing has changed. {form}"

    # the protocol

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List the environment's own tasks, as columns."""
        try:
            found = self.worlds.tasks(split, size, seed)
        except HandlerError as problem:
            raise RecipeError(self.declined(problem)) from None
        if isinstance(found, WorkerFailure):
            problem_text = found.message or ("it took too long" if found.reason == "late" else "its process died")
            raise RecipeError(errors.no_tasks(self.spec.type, split, problem_text))
        if not found:
            raise RecipeError(errors.no_tasks(self.spec.type, split, "the list is empty"))
        return found

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task; episodes of one task begin alike."""
        wanted = [self._beginning(i, task) for i, task in enumerate(tasks)]
        # what can be replayed begins once for each task
        first: dict[Any, int] = {}
        for i, task in enumerate(tasks):
            first.setdefault(task.id if self.replayable else i, i)
        answers = dict(zip(first.values(), self._ask([wanted[i] for i in first.values()]), strict=True))
        begun = []
        for i, (task, want) in enumerate(zip(tasks, wanted, strict=True)):
            seen = answers[first[task.id if self.replayable else i]]
            if isinstance(seen, StepResult) and (seen.terminated or seen.truncated):
                seen = "garbage: the episode is over before its first turn"
            if isinstance(seen, str):
                begun.append(EpisodeState(task, tuple(task.prompt_ids), ended=True, error=seen))
                continue
            shown = Observation(seen.observation, seen.actions)
            notes = Notes(want.task, want.seed, seen.goal, seen.observation, shown, lane=want.lane, label=want.label)
            begun.append(EpisodeState(task, (), state=_state(seen), observation=seen.observation, world=notes))
        return read_next(self.layout, begun, ((),) * len(begun), self._asked)

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Answer one turn taken from each position."""
        notes = [_notes(position) for position in positions]
        done = [self.layout.read(turn.text, note.shown) for turn, note in zip(turns, notes, strict=True)]
        acting = [i for i, action in enumerate(done) if action.text is not None]
        answers: dict[int, StepResult | str] = dict(
            zip(acting, self._ask([_wanted(notes[i], done[i].text or "") for i in acting]), strict=True)
        )
        made = []
        for i, (position, turn, action) in enumerate(zip(positions, turns, done, strict=True)):
            after = self._after(position, turn, action.text, answers.get(i))
            made.append(replace(after, valid=after.valid and action.valid))
        before = [(*position.context_ids, *turn.ids) for position, turn in zip(positions, turns, strict=True)]
        return read_next(self.layout, made, before, self._asked)

    def close(self) -> None:
        """End what runs outside this process."""
        self.worlds.close()
        self.layout.close()

    # how

    def _beginning(self, index: int, task: Task) -> StepRequest:
        given = self.given(task)
        seed = given.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool):
            seed = int(rng_for(self.context.seed, "world", task.id).integers(1 << 31))
        self._begun += 1
        return StepRequest(given, seed, lane=index, label="" if self.replayable else str(self._begun))

    def _ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        try:
            return self.worlds.ask(wanted)
        except HandlerError as problem:
            raise RecipeError(self.declined(problem)) from None

    def _after(
        self, position: EpisodeState, turn: Turn, action: str | None, seen: StepResult | str | None
    ) -> EpisodeState:
        """Return where the episode stands after a turn, its context left to be written."""
        notes, turns = _notes(position), position.turns + 1
        over = turns >= self.spec.max_turns
        after = replace(position, turns=turns, kept=len(turn.ids), reward=0.0, valid=True, calls=0)
        if isinstance(seen, str):
            return replace(after, ended=True, error=seen)
        past = (*notes.past, PastTurn(notes.shown, action or NO_ACTION, turn.text))
        if seen is None:
            shown = Observation(f"{self.notice()}\n\n{notes.observed}", notes.shown.actions)
            world = replace(notes, shown=shown, past=past)
            return replace(after, valid=False, observation=self.notice(), ended=over, truncated=over, world=world)
        world = replace(
            notes,
            observed=seen.observation,
            shown=Observation(seen.observation, seen.actions),
            past=past,
            actions=(*notes.actions, action or ""),
        )
        return replace(
            after,
            state=_state(seen),
            ended=seen.terminated or seen.truncated or over,
            truncated=not seen.terminated and (seen.truncated or over),
            reward=seen.reward,
            valid=seen.valid,
            calls=seen.calls,
            observation=seen.observation,
            world=world,
        )

    def _asked(self, position: EpisodeState, before: tuple[int, ...]) -> PromptInput:
        notes = _notes(position)
        return PromptInput(position.task, notes.goal, notes.shown, notes.past, before)


def _notes(position: EpisodeState) -> Notes:
    notes = position.world
    assert isinstance(notes, Notes), "the position is one of this environment's, and its episode goes on"
    return notes


def _wanted(notes: Notes, action: str) -> StepRequest:
    return StepRequest(notes.task, notes.seed, (*notes.actions, action), notes.lane, notes.label, notes.observed)


def _state(seen: StepResult) -> Any:
    return seen.observation if seen.state is None else seen.state
