"""What samples the rollouts of coming steps of a stage, while its policy is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recipec.graph import StageGraph, Value
from recipec.host.artifacts import RunFolder
from recipec.runtime.environment import replayed
from recipec.runtime.graph_runner import METRIC, GraphRunner, Values, build_part
from recipec.runtime.protocols import TaskSource
from recipec.runtime.rollout.lookahead import Lookahead
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.runtime.stage import rollout_log
from recipec.spec.sampler import Sampler


def sampled_ahead(
    stage: StageGraph, runner: GraphRunner, transfer: WeightTransfer, folder: RunFolder, source: TaskSource
) -> Lookahead | None:
    """Build what samples the rollouts of coming steps, where the sampler is to run ahead of the updates."""
    sampler = stage.node("sampler")
    if stage.kind != "rl" or sampler is None or not isinstance(sampler.spec, Sampler):
        return None
    if not sampler.spec.max_staleness:
        return None
    data, overlaps = stage.node("data"), transfer.spec.apart()
    assert data is not None, stage.name
    ranks, parts = runner.context.ranks, runner.parts_of(sampler)
    if overlaps and ranks.size > 1 and ranks.leads:  # what a thread calls must exchange nothing with other ranks
        parts["rollout_engine"] = parts["rollout_engine"].inner
        parts |= {name: part.alone() for name, part in parts.items() if name == "environment"}
        runner.instances[sampler.id] = build_part(sampler.spec, runner.context, parts)
    environment = parts.get("environment")

    @torch.no_grad()
    def sample(step: int, drawn: Mapping[str, Any]) -> dict[str, Any]:
        rows = rollout_log.path_of(folder, stage.name, step)
        values: Values = {Value(signal, data.id): column for signal, column in drawn.items()}
        replayed.begin(environment, rows)
        metrics = runner.call(sampler, values, step=step)
        replayed.note(environment, rows)
        outputs = {signal: values[Value(signal, sampler.id)] for signal in sampler.outputs}
        return outputs | {f"{METRIC}{name}": float(value) for name, value in metrics.items()}

    def renew(step: int) -> None:
        if transfer.version != step:
            transfer.update(step)

    return Lookahead(sampler.spec.max_staleness, source, sample, renew, overlaps=overlaps, ranks=ranks)
