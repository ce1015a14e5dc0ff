"""Sharing the computation of prefixes: RC520 to RC525."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import (
    display_name,
    dotted,
    field_span,
    group_size,
    most_written,
    related_span,
    several_updates,
    span_of,
    turns,
)
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Reading, StageReading

_SHARING = ("trie", "shared_prefix")


def _shared(reading: Reading, *names: str) -> Iterator[tuple[StageReading, Part]]:
    for stage in reading.stages.values():
        for part in stage.of("attention"):
            if part.name in (names or _SHARING):
                yield stage, part


def _alone(stage: StageReading) -> str:
    """Say why no two rows of a stage begin alike; nothing where they do, or may."""
    if stage.kind == "sft":
        return "each row of a sft stage has a prompt of its own"
    if stage.kind == "rl" and group_size(stage, "by_prompt_R") == 1 and turns(stage) == 1:
        return "each prompt has one answer"
    return ""


@check("RC520", "nothing-shared")
def nothing_shared(reading: Reading) -> Iterator[Finding]:
    """Rows are to share their group's prompt, and no group has two rows.

    What it checks: attention `shared_prefix` where a prompt has one answer.
    Why it matters: there is nothing to share: the recipe expects a saving that cannot come.
    Example: `attention: {type: shared_prefix}` with `sampler: {num_generations: 1}`.
    How to fix: `attention: {type: packed}`, or several answers to a prompt.
    References: Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025: one prompt, G answers.
    """
    for stage, part in _shared(reading, "shared_prefix"):
        if (why := _alone(stage)) and stage.kind == "rl":
            yield Finding(
                f"{display_name(part)} has nothing to share: {why}",
                (
                    *field_span(reading, part, "type"),
                    *related_span(reading, (*stage.path, "sampler"), "one answer here", key=True),
                ),
                why="the prompt is computed once for each answer, whatever the attention",
                help="set attention to `packed`, or raise sampler.num_generations",
                path=dotted(part.path),
            )


@check("RC521", "little-shared", "warning")
def little_shared(reading: Reading) -> Iterator[Finding]:
    """Rows are merged by their prefixes, and each has a prompt of its own.

    What it checks: attention `trie` in a sft stage, or where a prompt has one answer of one turn.
    Why it matters: what rows share is then what their template begins with; merging costs time for little.
    Example: `kind: sft` with `attention: {type: trie}`.
    How to fix: `attention: {type: packed}`.
    References: Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025: the saving is that of the prompt.
    """
    for stage, part in _shared(reading, "trie"):
        if why := _alone(stage):
            yield Finding(
                f"{display_name(part)} merges rows by their prefixes, and {why}",
                field_span(reading, part, "type"),
                why="what they share is no more than the beginning of their template",
                help="set attention to `packed`",
                path=dotted(part.path),
            )


@check("RC522", "scattered-groups", "warning")
def scattered_groups(reading: Reading) -> Iterator[Finding]:
    """Rows that share a prompt are spread over several updates.

    What it checks: `budget.shuffle_rows` with attention `trie` or `shared_prefix` and several updates a step.
    Why it matters: a prefix is computed once in each update that has a row of it: with as many updates as a group has
    rows, next to nothing is shared.
    Example: `budget: {shuffle_rows: true, updates_per_step: 4}` with `attention: {type: trie}`.
    How to fix: minibatches of whole groups (`shuffle_rows: false`, the default), or `attention: {type: packed}`.
    """
    for stage, part in _shared(reading):
        if stage.budget is not None and stage.budget.shuffle_rows and several_updates(stage):
            yield Finding(
                f"{display_name(part)} shares prefixes inside an update, and rows of a group are spread over several",
                (
                    *span_of(reading, (*stage.path, "budget", "shuffle_rows")),
                    *related_span(reading, (*part.path, "type"), "prefixes are shared here"),
                ),
                why="each update computes the prefix again",
                help="drop `shuffle_rows`, so that groups stay whole",
                path=dotted((*stage.path, "budget", "shuffle_rows")),
            )


@check("RC523", "kernel-needs-a-gpu")
def needs_gpu(reading: Reading) -> Iterator[Finding]:
    """A kernel that trains on a GPU alone is named for a run on the CPU.

    What it checks: `kernel: flex` with `machine: {device: cpu}`; without a device, a run refuses it with RC831 where
    there is no GPU.
    Why it matters: flex attention has no backward on a CPU.
    Example: `attention: {type: trie, kernel: flex}` with `machine: {device: cpu}`.
    How to fix: `kernel: auto`, which takes stock flash kernels on a CPU and on a GPU.
    References: Dong et al., Flex Attention, https://arxiv.org/abs/2412.05496, 2024.
    """
    machine = reading.resolved.data.get("machine")
    device = machine.get("device") if isinstance(machine, dict) else None
    for _, part in _shared(reading):
        spec: Any = part.spec
        if device == "cpu" and spec is not None and spec.kernel == "flex":
            yield Finding(
                "kernel `flex` needs a GPU, and the run is to be on the CPU",
                (*field_span(reading, part, "kernel"), *span_of(reading, ("machine", "device"))),
                why="flex attention has no backward on a CPU",
                help="set kernel to `auto`",
                path=dotted((*part.path, "kernel")),
            )


@check("RC525", "forest-over-devices")
def forest_over_devices(reading: Reading) -> Iterator[Finding]:
    """The tokens of a row are to be spread over devices, and rows share prefixes.

    What it checks: `machine.train.sequence_parallel` above 1 with attention `trie` or `shared_prefix`.
    Why it matters: sequence parallelism hands stretches of a row from device to device; in a forest what follows a
    token in memory is often of another row, and a device would attend to it.
    Example: `machine: {train: {type: deepspeed, sequence_parallel: 2}}` with `attention: {type: trie}`.
    How to fix: `sequence_parallel: 1`, with a smaller `budget.microbatch_tokens` and gradient checkpointing for
    memory; or `attention: {type: packed}`.
    References: Jacobs et al., DeepSpeed Ulysses, https://arxiv.org/abs/2309.14509, 2023.
    """
    engine = reading.machine.get("train")
    spread = getattr(engine.spec, "sequence_parallel", 1) if engine is not None else 1
    for _, part in _shared(reading):
        if spread > 1:
            yield Finding(
                f"{display_name(part)} merges rows, and the tokens of a row are to be spread over {spread} devices",
                (
                    *field_span(reading, part, "type"),
                    *related_span(reading, ("machine", "train", "sequence_parallel"), "spread here"),
                ),
                why="a device would attend to tokens of other rows",
                help="set sequence_parallel to 1, or attention to `packed`",
                path=dotted(part.path),
            )


@check("RC524", "group-over-microbatch", "warning")
def group_over_microbatch(reading: Reading) -> Iterator[Finding]:
    """A group's answers alone may be more tokens than one forward pass takes.

    What it checks: answers of a prompt times their longest length against `budget.microbatch_tokens`, for attention
    `trie` and `shared_prefix`.
    Why it matters: a group over the budget is cut, and its prompt is computed once in each part: of the saving s of
    a group of n rows in m parts, (n - m) / (n - 1) is left.
    Example: `num_generations: 16` with `max_completion_length: 4096` and `microbatch_tokens: 16384`.
    How to fix: a larger `microbatch_tokens` with `machine.train.gradient_checkpointing`.
    """
    for stage, part in _shared(reading):
        size, written = group_size(stage, "by_prompt_R"), most_written(stage)
        if stage.kind != "rl" or size is None or written is None or stage.budget is None or size == 1:
            continue
        if size * written > stage.budget.microbatch_tokens:
            yield Finding(
                f"a group may have {size} answers of {written} tokens, and a forward pass takes "
                f"{stage.budget.microbatch_tokens}",
                (
                    *span_of(reading, (*stage.path, "budget", "microbatch_tokens")),
                    *related_span(reading, (*part.path, "type"), "prefixes are shared here"),
                ),
                why="a group that is cut has its prompt computed in each part",
                help=f"set budget.microbatch_tokens above {size * written} plus the prompt",
                path=dotted((*stage.path, "budget", "microbatch_tokens")),
            )
