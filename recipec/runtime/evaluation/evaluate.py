"""Evaluation on held-out data before the first stage, after each stage, and every ``every`` steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from recipec.component import Component
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import EvaluationSpecs, Graph, StageGraph
from recipec.host.artifacts import RunFolder
from recipec.host.progress import Progress
from recipec.host.waits import working_on
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.data.scored_rows import write_rows
from recipec.runtime.environment import replayed
from recipec.runtime.environment.replayed import ReplayedEnvironment
from recipec.runtime.evaluation.given_answers import held_out_loss, margin
from recipec.runtime.evaluation.held_out_episodes import LONGEST, drawing_of, play, rows_kind
from recipec.runtime.evaluation.metrics import Scored, mean, summary
from recipec.runtime.graph_runner import METRIC, GraphRunner, bind, build_part
from recipec.runtime.images.image_store import show
from recipec.runtime.objective.compiler_ops import shaped, sum_step_rewards
from recipec.runtime.protocols import Environment, Part, Policy
from recipec.runtime.reward.labels import label_of, right_labels
from recipec.runtime.rollout.chain import rows_of, sample
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.recipe import IMITATED, PAIRED, UNANSWERED, Kind, Sampling
from recipec.spec.reward import Answer, Reward

if TYPE_CHECKING:
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Ready:
    """One evaluation, read and built.

    Example: ``Ready(tasks, {}, {"right": (spec, exact_match)}, setting, None)``.
    """

    tasks: list[Task]
    """Held-out tasks; empty if no metric is of answers that the policy writes."""
    given: Mapping[str, Sequence[Any]]
    """Given answers by signal: preference pairs, completions."""
    levels: dict[str, Any]
    """Spec and function of each reward."""
    environment: Environment | None
    rows: Literal["trajectory", "step"] | None
    """What a row of an episode is; None without an environment."""


class Evaluator:
    """Every evaluation of a recipe, on the policy of one stage.

    Draws are keyed by evaluation, prompt and sample alone, so that every evaluation asks the same questions in the
    same way.
    """

    def __init__(
        self,
        graph: Graph,
        stage: StageGraph,
        context: StageContext,
        runner: GraphRunner,
        weight_transfer: WeightTransfer,
        folder: RunFolder,
        display: Progress,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare nothing yet: tasks are read at the first evaluation; ``settle`` waits until nothing is sampled.

        Policy, rollout engine, and where specs are equal environment and knowledge graph, are those of the stage.
        """
        self.graph = graph
        self.stage = stage
        self.context = context
        self.weight_transfer = weight_transfer
        self.folder = folder
        self.display = display
        self.settle = settle
        nodes = {node.name: node for node in (*stage.setup, *stage.nodes())}
        self.policy: Policy = runner.instance(nodes["policy"])
        self.engine = weight_transfer.rollout_engine
        self._ready: dict[str, Ready] = {}
        self._built: list[Part] = []
        own = {name: runner.instance(nodes[name]) for name in ("environment", "knowledge") if name in nodes}
        self._own_knowledge: KnowledgeGraph | None = own.get("knowledge")
        self._known: list[tuple[Component, Any]] = [
            (spec, own[name]) for name in own if (spec := nodes[name].spec) is not None
        ]
        """Environments and knowledge graphs by spec, those of the stage first."""

    def __call__(self, step: int, total: int, epoch: int, *, first: bool) -> dict[str, float]:
        """Return the ``eval/*`` metrics that are due at ``step`` of ``total``; ``epoch`` is the number of its steps."""
        metrics: dict[str, float] = {}
        due = {name: dump for name, dump in self.graph.evaluate.items() if _due(dump, step, total, epoch, first=first)}
        writes = not self.policy.is_reward_model
        if not writes:  # a reward model answers nothing
            due = {name: dump for name, dump in due.items() if set(dump["metrics"]) == {PAIRED}}
        own_weights = bool(due) and writes and self.stage.kind != "rl"  # other stages sample for evaluations alone
        if own_weights or (due and writes and self.weight_transfer.version != step):
            self.settle()
            self.weight_transfer.update(step)
        for name, dump in due.items():
            metrics |= {f"eval/{name}/{k}": v for k, v in self.score(name, dump, step).items()}
        if own_weights:
            self.weight_transfer.sleep()
        if metrics:
            when = "before training" if step == 0 else f"after step {step}"
            self.display.evaluated(self.stage.name, when, metrics)
        return metrics

    def score(self, name: str, dump: Mapping[str, Any], step: int) -> dict[str, float]:
        """Ask every task of one evaluation and average its metrics.

        Raises:
            RecipeError: what its data or its rewards refuse, at the evaluation.
        """
        try:
            with working_on(f"evaluate.{name}"):
                if name not in self._ready:
                    self.context.say(f"evaluating {name}")
                    self._ready[name] = self._prepare(dump, self.graph.evaluations[name])
                return self._scored(name, dump, step, self._ready[name])
        except RecipeError as error:
            raise RecipeError(*(_placed(diagnostic, name) for diagnostic in error.diagnostics)) from None

    def _scored(self, name: str, dump: Mapping[str, Any], step: int, ready: Ready) -> dict[str, float]:
        self.policy.eval()
        metrics: dict[str, float] = {}
        if PAIRED in dump["metrics"]:
            metrics |= margin(self.policy, ready.given)
        if IMITATED in dump["metrics"]:
            metrics |= held_out_loss(self.policy, ready.given["completion_P"])
        answered_metrics = [metric for metric in dump["metrics"] if metric not in UNANSWERED]
        if not ready.tasks:
            return metrics
        path = self.folder.stage(self.stage.name) / "samples" / f"eval-{name}-{step:06d}.jsonl"
        replayed.begin(ready.environment, path)
        with torch.no_grad():
            rows, more = self._answered(name, dump, ready)
            if failed := [text for text in rows.get("error_text_R", ()) if text]:
                self.context.say(f"evaluating {name}: {len(failed)} turns failed, the first with {failed[0]}")
            levels: dict[str, torch.Tensor] = {}
            for level, (spec, function) in ready.levels.items():
                columns = {name: rows.get(name) for name in spec.parameters()}
                outputs = self.context.ranks.on_leader(partial(function, **columns))
                levels[level] = outputs.pop("reward_R")
                more |= {key.removeprefix(METRIC): float(outputs[key]) for key in outputs if key.startswith(METRIC)}
        specs = {level: spec for level, (spec, _) in ready.levels.items()}
        sums = sum_step_rewards(
            rows["error_R"],
            rows["episode_id_R"],
            list(levels.values()),
            weights=[spec.weight for spec in specs.values()],
            shapes=[spec.shape() for spec in specs.values()],
            abstains=[spec.abstains for spec in specs.values()],
        )
        reward_R = torch.where(sums["failed_R"], math.nan, sums["reward_R"])
        scores = {
            level: shaped(value_R, specs[level].weight, *specs[level].shape()) for level, value_R in levels.items()
        }
        replayed.note(ready.environment, path)
        written = {**rows, "reward_R": reward_R}
        write_rows(path, written, levels=scores, step=step, read=self.policy.decode)
        show(self.policy.image_store, path, ready.tasks)
        scored = scored_by_task(rows, reward_R, levels, specs)
        return metrics | summary(answered_metrics, scored, float(dump["correct_at"])) | more

    def _answered(self, name: str, dump: Mapping[str, Any], ready: Ready) -> tuple[dict[str, Any], dict[str, float]]:
        """Let the policy answer every task, or play it where there is an environment."""
        sampling: Sampling = self.graph.evaluations[name].sampling  # type: ignore[assignment]
        key, limits = (self.context.seed, "evaluate", name), dump.get("limits") or {}
        if ready.environment is not None:
            played = play(
                self.policy,
                ready.environment,
                self.engine,
                ready.tasks,
                sampling,
                limits,
                ready.rows or "trajectory",
                key,
            )
            return played.rows, played.counted
        length = sampling.max_completion_length or int(limits.get("max_completion_length") or LONGEST)
        drawing = drawing_of(sampling, length)
        groups = sample(self.engine, ready.tasks, drawing, sampling.num_generations, key)
        return {"prompt_P": ready.tasks, **rows_of(self.policy, ready.tasks, groups)}, {}

    def _prepare(self, dump: Mapping[str, Any], specs: EvaluationSpecs) -> Ready:
        environment = None if specs.environment is None else self._environment(specs.environment)
        knowledge = self._own_knowledge if specs.knowledge is None else self._graph(specs.knowledge)
        parts = {
            "policy": self.policy,
            "rollout_engine": self.engine,
            "environment": environment,
            "knowledge": knowledge,
        }
        tasks: list[Task] = []
        if any(metric not in UNANSWERED for metric in dump["metrics"]):
            tasks = list(self._source(specs.data, parts, "rl").tasks)
        answer_columns: dict[str, Sequence[Any]] = {}
        kinds: dict[str, Kind] = {PAIRED: "dpo", IMITATED: "sft"}
        for metric, kind in kinds.items():
            if metric in dump["metrics"]:
                source = self._source(specs.data, parts, kind)
                (columns,) = source.slices(len(source))
                answer_columns |= columns
        if not tasks:
            return Ready([], answer_columns, {}, None, None)
        levels = {name: (spec, self._reward(spec, parts)) for name, spec in specs.rewards.items()}
        rows = None if specs.environment is None else rows_kind(specs.environment)
        return Ready(tasks, answer_columns, levels, environment, rows)

    def _reward(self, spec: Component, parts: Mapping[str, Any]) -> Any:
        function = bind(spec, self.context, parts)
        if isinstance(function, Part):
            self._built.append(function)
        return function

    def _source(self, spec: Component, parts: Mapping[str, Any], kind: Kind) -> Any:
        """Read the data of an evaluation: tasks to answer, pairs to compare, or examples."""
        source = build_part(spec, self.context, parts)
        self._built.append(source)
        source.prepare(kind)
        return source

    def _environment(self, spec: Component) -> Environment:
        """Return the environment of a spec: the stage's own where it is the same, which has no memory."""
        build = partial(build_part, spec, self.context, {"policy": self.policy})
        return self._shared(spec, lambda: ReplayedEnvironment(build, self.context.ranks))

    def _graph(self, spec: Component) -> KnowledgeGraph:
        """Return the knowledge graph of a spec: the stage's own where it is the same."""
        parts = {"policy": self.policy, "rollout_engine": self.engine}
        knowledge: KnowledgeGraph = self._shared(spec, lambda: build_part(spec, self.context, parts))
        return knowledge

    def _shared(self, spec: Component, build: Callable[[], P]) -> P:
        shared: P | None = next((part for known, part in self._known if known == spec), None)
        if shared is None:
            shared = build()
            self._known.append((spec, shared))
            self._built.append(shared)
        return shared

    def close(self) -> None:
        """Release what the tasks and the rewards hold."""
        for part in self._built:
            part.close()


def _due(dump: Mapping[str, Any], step: int, total: int, epoch: int, *, first: bool) -> bool:
    """Whether an evaluation is due: at the end, at the very beginning of a run, and as often as it says."""
    per_epoch = dump.get("per_epoch")
    every = max(1, epoch // per_epoch) if per_epoch else dump.get("every")
    return (step == 0 and first) or step == total or bool(every and step and step % every == 0)


def _placed(diagnostic: Diagnostic, name: str) -> Diagnostic:
    """Point a diagnostic without a place at the evaluation, and not at the stage that it ended."""
    return (
        diagnostic if diagnostic.spans else replace(diagnostic, path=f"evaluate.{name}.{diagnostic.path}".rstrip("."))
    )


def scored_by_task(
    rows: Mapping[str, Any],
    reward_R: torch.Tensor,
    levels: Mapping[str, torch.Tensor],
    specs: Mapping[str, Reward],
) -> Scored:
    """Gather what the metrics are computed from: scores of episodes, their answers, the right ones, means of levels."""
    rewards, texts = by_task(rows, reward_R)
    specs = dict(sorted(specs.items()))
    answers = [answer for spec in specs.values() if (answer := spec.answer_in()) is not None]
    reader = next((answer for answer in answers if answer.column), next(iter(answers), None))
    tag, labels, column = reader or Answer(None)
    means = {level: _mean_of(value_R, ~rows["error_R"]) for level, value_R in levels.items()}
    facts = [means[level] for level in levels if specs[level].needs("knowledge")]
    return Scored(
        rewards=rewards,
        answers=[[label_of(text, tag, labels) if reader else text.strip() for text in task] for task in texts],
        right=[right_labels(task, column, labels) for task in rows["prompt_P"]] if column else (),
        labels=labels,
        levels=means,
        consistency=mean(facts) if facts else math.nan,
    )


def _mean_of(value_R: torch.Tensor, kept_R: torch.Tensor) -> float:
    return mean(value_R[kept_R & ~value_R.isnan()].tolist())


def by_task(rows: Mapping[str, Any], reward_R: torch.Tensor) -> tuple[list[list[float]], list[list[str]]]:
    """Return the score of every episode, the sum of its rows', and its last text, task by task.

    >>> rows = {"prompt_P": [0], "by_prompt_R": torch.zeros(3), "episode_id_R": torch.tensor([0, 0, 1])}
    >>> by_task({**rows, "text_R": ["a", "b", "c"]}, torch.tensor([0.5, 0.5, 0.0]))
    ([[1.0, 0.0]], [['b', 'c']])
    """
    scored: list[dict[int, float]] = [{} for _ in rows["prompt_P"]]
    texts: list[dict[int, str]] = [{} for _ in rows["prompt_P"]]
    columns = (rows["by_prompt_R"].tolist(), rows["episode_id_R"].tolist(), reward_R.tolist(), rows["text_R"])
    for prompt, episode, reward, text in zip(*columns, strict=True):
        scored[int(prompt)][episode] = scored[int(prompt)].get(episode, 0.0) + reward
        texts[int(prompt)][episode] = text
    return [list(task.values()) for task in scored], [list(task.values()) for task in texts]
