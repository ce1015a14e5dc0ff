"""Times of a plan by rates that are measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from recipec.graph import Graph
from recipec.host.packages import runtime_packages
from recipec.planning.measured_time import Rates, timed_plan
from recipec.planning.plan import Plan, StagePlan
from recipec.planning.stage_workload import StageWorkload, workload_of
from recipec.run.model_sizes import stage_shapes

SHARE = 0.25
"""Most of the free memory that a measurement may take."""


def add_times(planned: Plan, graph: Graph, root: Path, clock: Callable[[], float] = time.perf_counter) -> Plan:
    """Measure this machine for the model of every stage that will run, and add times to the plan.

    Stages with an accelerator by name keep their times.  Not timed are stages on several devices, and models of which a
    few layers would fill a quarter of the free memory.

    Raises:
        RecipeError: RC716, torch is missing; RC771, there is no such device.
    """
    with runtime_packages():
        from recipec.runtime.trial.machine import device_of, machine_facts  # noqa: PLC0415 - torch comes in here
        from recipec.runtime.trial.rates import bytes_needed, measure_rates  # noqa: PLC0415
    name = str(graph.machine.get("device") or "auto")
    device, free = device_of(name), machine_facts(name).memory
    shapes = stage_shapes(graph, root)
    stages = {stage.name: stage for stage in graph.stages}

    def rates(stage: StagePlan) -> tuple[StageWorkload, Rates] | None:
        shape = shapes.get(stage.name)
        if shape is None:
            return None
        work = workload_of(graph, stages[stage.name], shape)
        if free is not None and bytes_needed(work) > SHARE * free:
            return None
        return work, measure_rates(work, device, clock)

    return timed_plan(planned, rates)
