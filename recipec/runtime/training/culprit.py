"""The row that made a loss or a gradient not finite, and the first signal in which it shows; computed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recipec.graph import Node
from recipec.runtime.batch import Batch
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.protocols import Policy
from recipec.runtime.training.packing import trim_padding
from recipec.signals import split_axes


def culprit(rows: Batch, forward: tuple[Node, ...], runner: GraphRunner, policy: Policy) -> str:
    """Name the first row that is not finite by itself, by its prompt, and its first signal that is not; or nothing.

    It is looked for in what the nodes of the step made, in their order, and then in an update.
    Rows, or pairs of them, go through the nodes one after the other, with a backward pass each: an update that failed
    costs this once.  Gradients are left as none.

    Example: ``"`advantage_RT` is nan in a row of prompt 7"``.
    """
    if begun := _begun(runner):
        return begun
    unit_R = rows.get("by_pair_R", torch.arange(rows.num_rows))
    for unit in unit_R.unique().tolist():
        index = torch.nonzero(unit_R == unit).flatten()
        one = trim_padding(rows.rows(index)).to(runner.context.device)
        problem = _bad_signal(one) or _bad_pass(one, forward, runner, policy)
        if problem:
            ids = one.get("prompt_id_R")
            return (
                f"{problem} in a row of prompt {int(ids[0])}"
                if ids is not None
                else f"{problem} in row {int(index[0])}"
            )
    return ""


def _begun(runner: GraphRunner) -> str:
    """Name the first signal of a step that is not finite in a row with a reward; NaN of a reward level is left out."""
    values = runner.step_values
    columns = {value.signal: column for value, column in values.items()}
    failed_R, ids = columns.get("failed_R"), columns.get("prompt_id_R")
    read = {column.value for node in runner.nodes.values() for column in node.inputs}
    for value, column in values.items():
        if value not in read or not split_axes(value.signal)[1].startswith("R") or not isinstance(column, Tensor):
            continue
        if column.is_floating_point() and (node := runner.nodes.get(value.node)) and node.slot != "reward":
            bad_R = ~column.isfinite().flatten(1).all(-1) if column.dim() > 1 else ~column.isfinite()
            found = torch.nonzero(bad_R if failed_R is None else bad_R & ~failed_R).flatten()
            if len(found):
                number = float(column[found[0]][~column[found[0]].isfinite()].flatten()[0])
                where = f"row {int(found[0])}" if ids is None else f"a row of prompt {int(ids[found[0]])}"
                return f"`{value.signal}` is {number} in {where}"
    return ""


def _bad_pass(one: Batch, forward: tuple[Node, ...], runner: GraphRunner, policy: Policy) -> str:
    inside = {node.id for node in forward}
    wanted = {column.value for node in forward for column in node.inputs if column.value.node not in inside}
    values: Values = {value: one[value.signal] for value in wanted}
    runner.run(forward, values)
    signals = {key.signal: values[key] for node in forward for key in values if key.node == node.id}
    problem = _bad_signal(signals)
    if not problem and signals["loss"].requires_grad:
        signals["loss"].backward()
        grads = [p.grad for p in policy.trainable_parameters().values() if p.grad is not None]
        problem = "" if all(bool(grad.isfinite().all()) for grad in grads) else "the gradient is not finite"
    for parameter in policy.trainable_parameters().values():
        parameter.grad = None
    return problem


def _bad_signal(columns: Mapping[str, Any]) -> str:
    """Say which column has a number that is not finite; those of tokens or rows alone, not images."""
    for name, column in columns.items():
        if isinstance(column, Tensor) and column.is_floating_point() and "I" not in split_axes(name)[1]:
            bad = column.detach()[~column.isfinite()]
            if bad.numel():
                return f"`{name}` is {float(bad.flatten()[0])}"
    return ""
