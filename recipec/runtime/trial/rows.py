"""Read the first rows of every stage and evaluation, play the user's environments, and call every reward on them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from recipec.component import Component, is_path, is_signal, texts
from recipec.diagnostics.errors import trial as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options, StageRun
from recipec.host.progress import Progress
from recipec.host.waits import working_on
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.evaluation.held_out_episodes import play, rows_kind
from recipec.runtime.graph_runner import bind, build_part
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.protocols import Environment, Part
from recipec.runtime.reward.function import Function
from recipec.runtime.rollout.chain import rows_of, sample
from recipec.runtime.rollout.engine import SamplingParams
from recipec.runtime.stage.build_stage import make_context, weights_origin
from recipec.runtime.trial.answered import Answered
from recipec.runtime.trial.engine import FixedAnswers
from recipec.runtime.trial.episodes import differing, failures, known_actions, long_actions, unseen
from recipec.runtime.trial.policy import without_weights
from recipec.runtime.trial.right_answers import no_room, read_mathematics, same_ids, unknown_text
from recipec.runtime.trial.scores import ANSWERS, NOTICED, doubts, drift, right_answer, slowness, written
from recipec.runtime.trial.whole_files import Scanned, columns_asked, overlaps, scan
from recipec.spec import environment as environments
from recipec.spec.data import Data
from recipec.spec.recipe import PAIRED, Kind, Sampling, weights_kind
from recipec.spec.reward import Reward
from recipec.spec.sampler import Sampler

ROWS = 16
"""Rows of each data that are read."""
TASKS = 2
"""Tasks of each stage that are answered."""
LONGEST = 256
"""Tokens of an answer of a trial."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A stage or an evaluation, as far as it reads data, plays and scores."""

    key: str
    kind: Kind
    data: Data
    rewards: Mapping[str, Component]
    environment: Component | None
    per_step: int = 0
    """Answers that a step scores; 0 where there are no steps."""
    limit: int | None = None
    """Most tokens of an answer, where a sampler says it."""
    signals: Collection[str] = ()
    """Signals of the stage's graph."""


@dataclass(slots=True)
class Tried:
    """What the trial of a stage or an evaluation found."""

    key: str
    rows: int = 0
    longest: int = 0
    """Tokens of the longest of these rows."""
    answered: list[Answered] = field(default_factory=list)
    scanned: Scanned = field(default_factory=Scanned)
    """What all rows of small files show."""
    problems: list[Diagnostic] = field(default_factory=list)


def try_graph(
    graph: Graph,
    folder: RunFolder,
    options: Options,
    stages: Sequence[str],
    answers: Sequence[str] = (),
    *,
    every_environment: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Tried]:
    """Try the first rows of the named stages and of the evaluations; no weights are loaded, nothing is written.

    ``answers`` replace the fixed ones. Environments that are not the user's are played only with
    ``every_environment``: to start some of them takes minutes.

    Raises:
        RecipeError: RC771, a stage's device is missing; RC750, RC751, a file of the user's code cannot be loaded.
    """
    policies: dict[str, CausalLm | None] = {}
    results: list[Tried] = []
    for stage in graph.stages:
        context = _context(graph, stage, folder, options)
        if stage.name not in stages and not any(later.origin == stage.name for later in graph.stages):
            continue
        try:
            policies[stage.name] = policy = _policy(stage, folder, context, policies)
        except RecipeError as error:
            policies[stage.name] = None
            results.append(Tried(f"stages.{stage.name}", problems=[_at(stage, one) for one in error.diagnostics]))
            continue
        if policy is None or stage.name not in stages:
            continue
        for unit in (*_of_stage(stage), *(_of_evaluations(graph) if stage is graph.stages[-1] else ())):
            say(f"checking {unit.key}")
            with working_on(unit.key):
                results.append(_Trial(unit, policy, context, answers, every_environment).run())
    _compare(results, options.allowed)
    return results


def _compare(results: Sequence[Tried], allowed: Mapping[str, Collection[str]]) -> None:
    """Note in each evaluation the stages that train its prompts; keep one of equal problems of a file."""
    seen: set[tuple[object, ...]] = set()
    stages = {one.key.partition(".")[2]: one.scanned for one in results if one.key.startswith("stages.")}
    known = {name: scanned for name, scanned in stages.items() if "RC942" not in allowed.get(name, ())}
    for one in results:
        if one.key.startswith("evaluate."):
            one.problems += overlaps(one.key.partition(".")[2], one.scanned, known)
        places = [(p.code, *(p.spans[:1] or (p.path, p.message))) for p in one.problems]
        one.problems = [p for p, place in zip(one.problems, places, strict=True) if place not in seen]
        seen |= set(places)


def _context(graph: Graph, stage: StageGraph, folder: RunFolder, options: Options) -> StageContext:
    silent = StageRun(digest="", first=False, progress=Progress(quiet=True), stopped=lambda: False)
    with working_on(f"stages.{stage.name}"):
        context = make_context(graph, stage, folder, options, silent)
    return replace(context, device=torch.device("meta"), home=None)


def _policy(
    stage: StageGraph, folder: RunFolder, context: StageContext, earlier: Mapping[str, CausalLm | None]
) -> CausalLm | None:
    node = stage.node("policy")
    assert node is not None
    assert node.spec is not None
    if weights_kind(stage.origin) != "stage":
        return without_weights(node.spec, context, weights_origin(stage, folder, context), None)
    parent = earlier.get(stage.origin)
    origin = Origin("directory", stage.origin, stage.settings.get("adapter"))
    return None if parent is None else without_weights(node.spec, context, origin, parent)


def _of_stage(stage: StageGraph) -> Iterator[Unit]:
    specs = {node.name: node.spec for node in stage.nodes() if node.spec is not None}
    rewards = {name: spec for name, spec in specs.items() if spec.slot == "reward"}
    data = specs.get("data")
    if isinstance(data, Data):
        kind: Kind = "rl" if "preference" in specs else stage.kind
        sampler = specs.get("sampler")
        each, limit = 0, None
        if isinstance(sampler, Sampler):
            played = "environment" in specs
            each, limit = sampler.rows_per_prompt(), sampler.longest_turn() if played else sampler.longest_completion()
        per_step = each * int(stage.settings["budget"].get("prompts_per_step") or 0)
        signals = {signal for node in stage.nodes() for signal in node.outputs}
        yield Unit(f"stages.{stage.name}", kind, data, rewards, specs.get("environment"), per_step, limit, signals)


def _of_evaluations(graph: Graph) -> Iterator[Unit]:
    for name, specs in graph.evaluations.items():
        metrics = graph.evaluate[name]["metrics"]
        rewards = {f"reward.{level}": spec for level, spec in specs.rewards.items()}
        data = cast("Data", specs.data)
        if any(metric != PAIRED for metric in metrics):
            limit = cast("Sampling", specs.sampling).max_completion_length
            yield Unit(f"evaluate.{name}", "rl", data, rewards, specs.environment, limit=limit)
        if PAIRED in metrics:
            yield Unit(f"evaluate.{name}", "dpo", data, {}, None)


def _at(stage: StageGraph, problem: Diagnostic) -> Diagnostic:
    """Place what a policy is refused for at the key that says where its weights come from, or at the one it names."""
    inside = problem.path and not problem.path.startswith(("machine.", "stages."))
    path = f"stages.{stage.name}.{problem.path}" if inside else problem.path or f"stages.{stage.name}.from"
    return replace(problem, path=path)


class _Trial:
    """The trial of one unit."""

    def __init__(
        self, unit: Unit, policy: CausalLm, context: StageContext, answers: Sequence[str], every_environment: bool
    ) -> None:
        self.unit, self.policy, self.context = unit, policy, context
        self.answers = answers
        spec = unit.environment
        self.plays = spec is not None and (every_environment or bool(spec.user_code))
        self.found = Tried(unit.key)
        self.closing = ExitStack()
        self.episodes = self.full = 0
        """Episodes that were played, and those that ended because the next prompt did not fit."""

    def run(self) -> Tried:
        """Read rows, let the environment play, call the rewards; stop at what the next part would need."""
        unit = self.unit
        of_a_stage = any(is_signal(info) for _, info, _ in texts(unit.data))
        if of_a_stage or (unit.data.needs("tasks") and not self.plays):
            return self.found
        with self.closing:
            environment = self._placed("environment", self._environment) if self.plays else None
            if environment is None and self.plays:
                return self.found
            self._placed(self._data_key(), lambda: self._scan(environment))
            tasks = self._placed(self._data_key(), lambda: self._tasks(environment))
            if tasks and unit.kind == "rl":
                place = "environment" if environment else self._data_key()
                rows = self._placed(place, lambda: self._rows(tasks, environment))
                if rows is not None:
                    self._score(rows, tasks)
            for name, spec in unit.rewards.items():
                self._placed(name, lambda: read_mathematics(spec, self.context, self.found.scanned.spread))  # noqa: B023
        return self.found

    def _placed(self, part: str, function: Callable[[], Any]) -> Any:
        """Call a part of the trial; None where it is refused, with the place in the recipe noted."""
        try:
            with torch.no_grad():
                return function()
        except RecipeError as error:
            for problem in error.diagnostics:
                self._note(replace(problem, path=self._whole(problem.path or part)))
            return None

    def _whole(self, key: str) -> str:
        """Complete a key of the unit; others are whole."""
        return key if key.startswith(("stages.", "evaluate.", "machine.")) else f"{self.unit.key}.{key}"

    def _data_key(self) -> str:
        """Name the parameter of the data that names its file, or the data."""
        named = (f"data.{key}" for key, info, _ in texts(self.unit.data) if is_path(info))
        return next(named, "data")

    def _note(self, *problems: Diagnostic) -> None:
        for problem in problems:
            alike = [known for known in self.found.problems if known.code == problem.code]
            if not any(k.spans[:1] == problem.spans[:1] or k.message.startswith(problem.message) for k in alike):
                self.found.problems.append(problem)

    def _environment(self) -> Environment:
        assert self.unit.environment is not None
        environment: Environment = build_part(self.unit.environment, self.context, {"policy": self.policy})
        self.closing.callback(environment.close)
        return environment

    def _scan(self, environment: Environment | None) -> None:
        """Read all rows of small files, without their tokens."""
        of, parts = self.unit, {"policy": self.policy, "environment": environment}
        source = build_part(of.data, self.context, parts)
        self.closing.callback(source.close)
        self.found.scanned = scan(source, self.policy, of.kind, of.rewards, of.limit, of.signals)
        for problem in self.found.scanned.problems:
            self._note(replace(problem, path=self._whole(problem.path)))

    def _tasks(self, environment: Environment | None) -> list[Task]:
        parts = {"policy": self.policy, "environment": environment}
        source = build_part(self.unit.data.first(ROWS), self.context, parts)
        self.closing.callback(source.close)
        encoded = source.read(self.unit.kind)
        if not encoded and self.found.scanned.rows:  # the first rows are too long: are all?
            build_part(self.unit.data, self.context, parts).prepare(self.unit.kind)
        self.found.rows = len(encoded)
        ids = (examples[0].ids if examples else task.prompt_ids for task, *examples in encoded)
        self.found.longest = max(map(len, ids), default=0)
        for problem in unknown_text(encoded, source.place, self.policy):
            self._note(replace(problem, path=self._whole(self._data_key())))
        tasks = [task for task, *_ in encoded]
        if not self.plays:
            self._note(*same_ids(tasks, self.policy, self.unit.key))
            self._note(*no_room(self.found.longest, self.unit.limit, self.policy, self.unit.key))
        return tasks[: ROWS if self.plays else TASKS]

    def _rows(self, tasks: Sequence[Task], environment: Environment | None) -> dict[str, Any]:
        """Answer the tasks; each answer is a row, or an episode."""
        # an empty action reaches no environment
        fixed = (
            ANSWERS
            if environment is None
            else (*filter(None, ANSWERS), *known_actions(self.unit.environment, self.context.use))
        )
        columns = columns_asked(self.unit.rewards, self.context)
        answers = {one.id: [*(self.answers or (*filter(None, [right_answer(one, columns)]), *fixed))] for one in tasks}
        if environment is None:
            return self._answered(tasks, answers)
        engine, spec, began = FixedAnswers(self.policy, answers), self.unit.environment, time.monotonic()
        assert isinstance(spec, environments.Environment)
        long = long_actions(self.policy, known_actions(spec, self.context.use), self.unit.limit, self.unit.key)
        self._note(*long, *unseen(spec, self.context.root, self.unit.key))
        first = rows = self._played(environment, engine, tasks[:1], 1)
        played = [rows]
        if time.monotonic() - began < spec.timeout or not all(rows["error_text_R"]):  # one that hangs does so each time
            rows = self._played(environment, engine, tasks[:TASKS], min(map(len, answers.values())))
            played = [rows, self._played(environment, engine, tasks[TASKS:], 1)] if tasks[TASKS:] else [rows]
            self._note(*differing(self.policy, first, rows, self.unit.key))
        failed = [*failures(played, self.context.use, self.context.root, self.unit.key)]
        self._note(*failed)
        if self.full and not failed:
            about = errors.context_full(self.full, self.episodes, self.policy.max_positions)
            self._note(replace(about, path=f"{self.unit.key}.environment"))
        return rows

    def _played(
        self, environment: Environment, engine: FixedAnswers, tasks: Sequence[Task], count: int
    ) -> dict[str, Any]:
        """Play tasks with the first ``count`` answers of each."""
        assert self.unit.environment is not None
        sampling = Sampling(num_generations=count, max_completion_length=LONGEST)
        kind = rows_kind(self.unit.environment)
        played = play(self.policy, environment, engine, tasks, sampling, {}, kind, ("trial",))
        self.full += played.full
        self.episodes += len(tasks) * count
        return played.rows

    def _answered(self, tasks: Sequence[Task], answers: Mapping[int, Sequence[str]]) -> dict[str, Any]:
        """Answer the tasks with as many texts as each of them has."""
        drawing, count = SamplingParams(max_length=LONGEST), min(map(len, answers.values()))
        groups = sample(FixedAnswers(self.policy, answers), tasks, drawing, count, ("trial",))
        return {"prompt_P": list(tasks), **rows_of(self.policy, tasks, groups)}

    def _score(self, rows: dict[str, Any], tasks: Sequence[Task]) -> None:
        """Call every reward that needs nothing but the rows."""
        scores: dict[str, list[float | None]] = {}
        for name, spec in self.unit.rewards.items():
            callable_here = isinstance(spec, Reward) and spec.tried and not spec.needs("knowledge")
            if not callable_here or not set(spec.parameters()) <= set(rows):
                continue
            values_R = self._placed(name, lambda: self._called(name, spec, rows, tasks))  # noqa: B023 - called here
            if values_R is not None:
                scores[name.removeprefix("reward.")] = values_R
        turns: dict[int, list[int]] = {}
        for row, episode in enumerate(rows["episode_id_R"].tolist() if self.plays else range(len(rows["text_R"]))):
            turns.setdefault(episode, []).append(row)
        for several in turns.values():  # rows of an episode are its turns, and the last has its end
            row = several[-1]
            task, text = rows["prompt_P"][rows["by_prompt_R"][row]], rows["text_R"][row]
            self.found.answered.append(
                Answered(
                    prompt=self._prompt(rows, several[0]),
                    text=rows["transcript_R"][row] or text,
                    turns=[(self._prompt(rows, one), rows["text_R"][one]) for one in several] if self.plays else [],
                    columns=dict(task.columns),
                    rewards={name: values[row] for name, values in scores.items()},
                    problem=rows["error_text_R"][row],
                    completion=text if isinstance(task.prompt, str) else [{"role": "assistant", "content": text}],
                )
            )

    def _called(self, name: str, spec: Component, rows: dict[str, Any], tasks: Sequence[Task]) -> list[float | None]:
        """Score rows, and warn of what the scores of a function of the user's show."""
        function = bind(spec, self.context, {"policy": self.policy})
        if isinstance(function, Part):
            self.closing.callback(function.close)

        def scored(rows: dict[str, Any]) -> list[float | None]:
            reward_R = function(**{name: rows[name] for name in spec.parameters()})["reward_R"]
            return [None if math.isnan(value) else value for value in reward_R.tolist()]

        begun = time.monotonic()
        scores = scored(rows)
        took = time.monotonic() - begun
        if isinstance(function, Function) and not self.answers:
            doubtful = [*drift(function, scores, lambda: scored(rows), rows["text_R"])] if took <= NOTICED else []
            doubtful += [*slowness(function, lambda: scored(rows), took, len(scores), self.unit.per_step)]
            if not self.plays:
                more = {task.id: written(task, function.signature.columns()) for task in tasks}
                doubtful += doubts(function, scores, lambda: scored(self._answered(tasks, more)), tasks)
            for one in doubtful:
                self._note(replace(one, path=f"{self.unit.key}.{name}"))
        return scores

    def _prompt(self, rows: Mapping[str, Any], row: int) -> str:
        """Decode what comes before the first token of the answer."""
        ids = rows["tokens_RT"][row][rows["attend_RT"][row]].tolist()
        trained = rows["trained_RT"][row].tolist()
        start = trained.index(True) if True in trained else len(ids)
        text: str = self.policy.tokenizer.decode(ids[:start])
        return text
