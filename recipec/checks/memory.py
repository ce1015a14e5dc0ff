"""What a plan says that a named accelerator has no memory for: RC519 and RC528.

These checks need the graph, and run only where nothing else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_field, at_path, related_span, spec_of
from recipec.diagnostics.model import Finding, check
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.cost import amount
from recipec.planning.machine_choice import choose, fits, remedies
from recipec.planning.memory import memory, peak
from recipec.planning.stage_workload import StageWorkload, shapes_of, workload_of
from recipec.reading.partial import Reading

LARGEST = 3
"""Parts of the memory that a message names."""


def _works(reading: Reading) -> Iterator[StageWorkload]:
    """Yield the stages of which the sizes and the accelerator are known, with a value for every `auto`."""
    assert reading.recipe is not None, "run on whole recipes"
    graph = optimise(lower(reading.recipe))
    shapes = shapes_of(graph)
    graph, _ = choose(graph, shapes)
    for stage in graph.stages:
        if (shape := shapes[stage.name]) is not None:
            yield workload_of(graph, stage, shape)


@check("RC528", "does-not-fit", "warning")
def does_not_fit(reading: Reading) -> Iterator[Finding]:
    """A stage needs more memory than a device of `machine.accelerator` has.

    What it checks: what `recipec plan` counts for each device, at its most, against the memory of the accelerator that
    the recipe names. Models that are not in recipec's list are not counted.
    Why it matters: the run would stop for lack of memory, often hours after it started, at the first long rows.
    Example: `from: Qwen/Qwen2.5-7B` with `machine: {accelerator: h100}`, where all weights are trained on one device.
    How to fix: change the engine or the budget as the message says, use more devices, or train an adapter (`lora`).
    References: Rajbhandari et al., ZeRO, https://arxiv.org/abs/1910.02054, 2019, section 3.
    """
    for work in _works(reading):
        if fits(work, 1.0) or work.accelerator is None:
            continue
        holdings = list(memory(work))
        most, when = peak(holdings)
        there = sorted(((one.bytes or 0.0, one.name) for one in holdings if one.when in {"always", when}), reverse=True)
        parts = ", ".join(f"{amount(size, 'B')} {name}" for size, name in there[:LARGEST])
        yield at_path(reading, ("machine", "accelerator")).finding(
            f"stage `{work.stage.name}` needs {amount(most, 'B')} on each device, but {work.accelerator.title} has "
            f"{amount(work.accelerator.memory, 'B')}: {parts}",
            *related_span(reading, ("stages", work.stage.name), "the stage", key=True),
            remedy=_remedy(work),
        )


def _remedy(work: StageWorkload) -> str:
    changes = next((remedy for remedy, changed in remedies(work) if fits(changed)), None)
    if changes is None:
        return "use more devices with `machine.train: {type: fsdp}`, or train an adapter (`policy.lora`)"
    return "set " + " and ".join(f"`{one}`" for one in changes)


@check("RC519", "group-over-cache", "warning")
def group_over_cache(reading: Reading) -> Iterator[Finding]:
    """The rollout engine's share of a device has no room for one group of completions.

    What it checks: `machine.rollout.memory` of the accelerator that the recipe names, less the weights, against the
    keys and values of the completions of one prompt at their longest.
    Why it matters: rows wait for each other, and those that were begun are interrupted and computed again.
    Example: `num_generations: 16`, `max_completion_length: 32768` and `rollout: {type: vllm, memory: 0.2}`.
    How to fix: raise `machine.rollout.memory` or `tensor_parallel`, or shorten completions.
    References: Kwon et al., PagedAttention, https://arxiv.org/abs/2309.06180, 2023, section 4.5 on preemption.
    """
    for work in _works(reading):
        room, stage = work.kv_cache_bytes, reading.stages.get(work.stage.name)
        sampler = spec_of(stage, "sampler") if stage is not None else None
        engine = reading.machine.get("rollout")
        if room is None or sampler is None or engine is None or not work.kv_bytes_per_row or not work.samples:
            continue
        group = sampler.branches()[0]
        if room < group * work.kv_bytes_per_row:
            rows = max(0, int(room / work.kv_bytes_per_row))
            needed = amount(group * work.kv_bytes_per_row, "B")
            yield at_field(reading, engine, "memory").finding(
                f"a group of stage `{work.stage.name}` needs {needed} of keys and values "
                f"at its longest, but the engine has room for {rows} of {group} rows",
                *related_span(reading, ("stages", work.stage.name, "sampler"), "the group", key=True),
            )
