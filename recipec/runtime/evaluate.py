"""Held-out answers, scored before the first stage, after each, and every so many steps of one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from recipec.artifacts import RunFolder
from recipec.display import Display
from recipec.graph import Graph, StageGraph
from recipec.runtime.rows import write_rows
from recipec.runtime.sampler.chain import rows_of, sample, start_engine
from recipec.runtime.sampler.draw import Sampling as Drawing
from recipec.runtime.setting import Setting
from recipec.runtime.walk import read_spec
from recipec.spec.recipe import Sampling


class Evaluator:
    """Every evaluation of a recipe, on the policy of one stage.

    Draws are keyed by evaluation, prompt and sample alone, so each moment is asked the same questions the same way.
    """

    def __init__(
        self, graph: Graph, stage: StageGraph, setting: Setting, policy: Any, folder: RunFolder, display: Display
    ) -> None:
        """Prepare nothing yet: tasks are read at the first evaluation."""
        self.graph = graph
        self.stage = stage
        self.setting = setting
        self.policy = policy
        self.folder = folder
        self.display = display
        self._ready: dict[str, tuple[list[Any], dict[str, Any]]] = {}
        self._sources: list[Any] = []

    def __call__(self, step: int, total: int, *, first: bool) -> dict[str, float]:
        """Return the ``eval/*`` metrics that are due at ``step`` of ``total``."""
        found: dict[str, float] = {}
        for name, dump in self.graph.evaluate.items():
            every = dump.get("every")
            due = (step == 0 and first) or step == total or bool(every and step and step % every == 0)
            if due:
                found |= {f"eval/{name}/{k}": v for k, v in self.score(name, dump, step).items()}
        if found:
            when = "before training" if step == 0 else f"after step {step}"
            self.display.evaluated(self.stage.name, when, found)
        return found

    def score(self, name: str, dump: Mapping[str, Any], step: int) -> dict[str, float]:
        """Ask every task of one evaluation and average its metrics."""
        if name not in self._ready:
            self._ready[name] = self._prepare(dump)
        tasks, levels = self._ready[name]
        sampling = Sampling.model_validate(dump["sampler"])
        length = sampling.max_completion_length or int(self.stage.settings.get("max_completion_length") or 256)
        self.policy.eval()
        with torch.no_grad():
            drawing = Drawing(
                max_length=length, temperature=sampling.temperature, top_p=sampling.top_p, stop=sampling.stop
            )
            key = (self.setting.seed, "evaluate", name)
            groups = sample(start_engine(self.setting), tasks, drawing, sampling.num_generations, key)
            rows = {"prompt_P": tasks, **rows_of(self.setting, tasks, groups)}
            scores: dict[str, torch.Tensor] = {}
            for level, (spec, function) in levels.items():
                columns = [rows[parameter] for parameter in spec.parameters()]
                scores[level] = function(*columns)["reward_R"] * spec.weight
        reward_R = torch.stack(list(scores.values())).sum(0)
        path = self.folder.stage(self.stage.name) / "samples" / f"eval-{name}-{step:06d}.jsonl"
        write_rows(path, {**rows, "reward_R": reward_R}, levels=scores, step=step)
        scored = [reward_R[rows["by_prompt_R"] == i].tolist() for i in range(len(tasks))]
        texts = [[t for t, p in zip(rows["text_R"], rows["by_prompt_R"].tolist(), strict=True) if p == i]
                 for i in range(len(tasks))]  # fmt: skip
        return summary(dump["metrics"], scored, texts, float(dump["correct_at"]))

    def _prepare(self, dump: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        data = read_spec("data", dump["data"])
        source = data.load()(data, self.setting)
        self._sources.append(source)
        source.prepare("rl")
        tasks = list(source.tasks)
        levels: dict[str, Any] = {}
        for name, level in (dump.get("reward") or {}).items():
            spec = read_spec("reward", level)
            target = spec.load()
            if isinstance(target, type):
                levels[name] = (spec, target(spec, self.setting))
            else:
                levels[name] = (spec, _bound(target, spec.knobs()))
        return tasks, levels

    def close(self) -> None:
        """Release what the tasks and the rewards hold."""
        functions = [function for _, levels in self._ready.values() for _, function in levels.values()]
        for part in [*self._sources, *functions]:
            if hasattr(part, "close"):
                part.close()


def _bound(function: Any, knobs: Mapping[str, Any]) -> Any:
    return lambda *columns: function(*columns, **knobs)


def summary(
    metrics: Sequence[str], groups: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], correct_at: float
) -> dict[str, float]:
    """Average metrics over tasks; an answer that could not be scored counts as wrong.

    >>> summary(("accuracy", "pass@2", "majority"), [[1.0, 0.0], [0.0, 0.0]], [["a", "b"], ["c", "c"]], 1.0)
    {'accuracy': 0.25, 'pass@2': 0.5, 'majority': 0.5}
    """
    found: dict[str, float] = {}
    right = [[score >= correct_at for score in group] for group in groups]
    for metric in metrics:
        name, _, count = metric.partition("@")
        if name == "reward":
            flat = [score for group in groups for score in group if not math.isnan(score)]
            found[metric] = sum(flat) / max(1, len(flat))
        elif name == "majority":
            found[metric] = _mean(float(r[_majority(t)]) for r, t in zip(right, texts, strict=True))
        elif name == "pass":
            found[metric] = _mean(pass_at(len(r), sum(r), int(count)) for r in right)
        elif name == "avg":
            found[metric] = _mean(sum(r[: int(count)]) / int(count) for r in right)
        else:
            found[metric] = _mean(sum(r) / len(r) for r in right)
    return found


def pass_at(samples: int, right: int, k: int) -> float:
    """Unbiased probability that one of ``k`` answers is right.

    Chen et al., `Evaluating Large Language Models Trained on Code <https://arxiv.org/abs/2107.03374>`_, 2021, eq. 1.

    >>> pass_at(4, 1, 2)
    0.5
    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def _majority(texts: Sequence[str]) -> int:
    winner = Counter(text.strip() for text in texts).most_common(1)[0][0]
    return next(i for i, text in enumerate(texts) if text.strip() == winner)


def _mean(values: Any) -> float:
    found: list[float] = list(values)
    return sum(found) / max(1, len(found))
