"""Evaluate a policy that is trained already: of a finished stage, or of a model from elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options, StageRun
from recipec.host.progress import Progress
from recipec.runtime.evaluation.evaluate import Evaluator
from recipec.runtime.model.lora import CONFIG
from recipec.runtime.model.origin import Origin, folder_of
from recipec.runtime.model.weights import quiet
from recipec.runtime.protocols import Policy
from recipec.runtime.stage.build_stage import build_engines, make_context, required
from recipec.spec.recipe import weights_kind


@quiet()
def evaluate(
    graph: Graph,
    stage: StageGraph,
    folder: RunFolder,
    options: Options,
    names: Collection[str],
    progress: Progress,
    *,
    weights: str,
    step: int = 0,
) -> dict[str, float]:
    """Return ``EVALUATION/METRIC`` of the named evaluations for ``weights``: a folder, a model of the hub or a package.

    They are computed as after the stage: with its policy's settings, its engines and its environment. The answers are
    written to the stage's ``samples/`` in ``folder``, under the number of ``step``.

    Raises:
        RecipeError: what the weights, the data or the rewards are refused for.
    """
    run = StageRun(digest="", first=False, progress=progress, stopped=lambda: False)
    context = make_context(graph, stage, folder, options, run)
    where = Origin("directory", weights)
    if not Path(weights).is_dir():
        where = Origin("package" if weights_kind(weights) == "package" else "hub", weights)
    adapted = (folder_of(where, context) / CONFIG).exists()
    node, attention = required(stage, "policy"), required(stage, "attention")
    spec: Any = node.spec
    assert attention.spec is not None
    if not adapted:
        spec = spec.model_copy(update={"lora": None})
    origin = Origin(where.kind, where.name, "continue" if adapted else None)
    with ExitStack() as closing:
        policy: Policy = spec.load()(spec, context, origin)
        policy.set_attention(attention.spec.load()(attention.spec, context, **attention.decided))
        runner, transfer = build_engines(stage, context, policy, closing)
        evaluator = Evaluator(graph, stage, context, runner, transfer, folder, progress)
        closing.callback(evaluator.close)
        transfer.update()
        scores = {name: evaluator.score(name, graph.evaluate[name], step) for name in names}
    return {f"{name}/{metric}": value for name, metrics in scores.items() for metric, value in metrics.items()}
