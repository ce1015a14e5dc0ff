"""Attention that shares the computation of prefixes: RC520 to RC525."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.devices import devices_of, train_engine
from recipec.checks.queries import (
    at_field,
    at_part,
    at_path,
    display_name,
    group_size,
    most_written,
    parts_of,
    related_span,
    several_updates,
    shares,
    span_of,
    spec_of,
    turns,
)
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.attention import Attention
from recipec.spec.train_engine import TrainEngine


def _shared(reading: Reading, *what: str) -> Iterator[tuple[StageReading, Part]]:
    """Yield attentions that share prefixes, prompts, or either where ``what`` does not say."""
    for stage in reading.stages.values():
        for part in stage.of("attention"):
            if shares(part) and (not what or shares(part) in what):
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
    """Rows are to share the prompt of their group, but every group has one row.

    What it checks: attention `shared_prefix` where a prompt has one answer.
    Why it matters: with one answer to a prompt, the prompt is computed once in any case.
    Example: `attention: {type: shared_prefix}` with `sampler: {num_generations: 1}`.
    How to fix: set attention to `packed`, or raise `sampler.num_generations`.
    References: Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025: one prompt, G answers.
    """
    for stage, part in _shared(reading, "prompts"):
        if (why := _alone(stage)) and stage.kind == "rl":
            yield at_part(reading, part).finding(
                f"{display_name(part)} has nothing to share: {why}",
                *related_span(reading, (*stage.path, "sampler"), "one answer here", key=True),
            )


@check("RC521", "little-shared", "warning")
def little_shared(reading: Reading) -> Iterator[Finding]:
    """Rows are merged by their prefixes, but each has its own prompt.

    What it checks: attention `trie` in an sft stage, or where a prompt has one answer of one turn.
    Why it matters: the rows share only the beginning of their template; merging them costs more time than it saves.
    Example: `kind: sft` with `attention: {type: trie}`.
    How to fix: set attention to `packed`.
    References: Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025: the saving is that of the prompt.
    """
    for stage, part in _shared(reading, "prefixes"):
        if why := _alone(stage):
            yield at_part(reading, part).finding(f"{display_name(part)} merges rows by their prefixes, but {why}")


@check("RC522", "scattered-groups", "warning")
def scattered_groups(reading: Reading) -> Iterator[Finding]:
    """Rows that share a prompt are spread over several updates.

    What it checks: `budget.shuffle_rows` with attention `trie` or `shared_prefix` and several updates a step.
    Why it matters: a prefix is computed once in each update that has a row of it. With as many updates as a group has
    rows, almost nothing is shared.
    Example: `budget: {shuffle_rows: true, updates_per_step: 4}` with `attention: {type: trie}`.
    How to fix: drop `shuffle_rows`, so that groups stay whole, or set attention to `packed`.
    """
    for stage, part in _shared(reading):
        if stage.budget is not None and stage.budget.shuffle_rows and several_updates(stage):
            yield at_path(reading, (*stage.path, "budget", "shuffle_rows")).finding(
                f"{display_name(part)} shares prefixes within an update, but rows of a group are spread over several",
                *related_span(reading, (*part.path, "type"), "prefixes are shared here"),
            )


@check("RC523", "kernel-needs-a-gpu")
def needs_gpu(reading: Reading) -> Iterator[Finding]:
    """A kernel that needs a GPU is set for a run on the CPU.

    What it checks: `kernel: flex` with `machine: {device: cpu}`; without a device, a run refuses it with RC831 where
    there is no GPU.
    Why it matters: flex attention has no backward pass on a CPU.
    Example: `attention: {type: trie, kernel: flex}` with `machine: {device: cpu}`.
    How to fix: set `kernel: auto`, which uses the available flash kernels on a CPU and on a GPU.
    References: Dong et al., Flex Attention, https://arxiv.org/abs/2412.05496, 2024.
    """
    machine = reading.resolved.data.get("machine")
    device = machine.get("device") if isinstance(machine, dict) else None
    for _, part, spec in parts_of(reading, Attention):
        if device == "cpu" and spec.needs_gpu():
            yield at_field(reading, part, "kernel").finding(
                "kernel `flex` needs a GPU, but the run is on the CPU", *span_of(reading, ("machine", "device"))
            )


@check("RC525", "prefix-tree-over-devices")
def prefix_tree_over_devices(reading: Reading) -> Iterator[Finding]:
    """The tokens of a row are spread over devices, and rows share prefixes.

    What it checks: `machine.train.sequence_parallel` above 1 with attention `trie` or `shared_prefix`.
    Why it matters: sequence parallelism moves consecutive tokens to the next device. In a prefix tree, consecutive
    tokens often belong to another row, so that a device would attend to them.
    Example: `machine: {train: {type: deepspeed, sequence_parallel: 2}}` with `attention: {type: trie}`.
    How to fix: set `sequence_parallel: 1`, with a smaller `budget.microbatch_tokens` and gradient checkpointing to save
    memory; or set attention to `packed`.
    References: Jacobs et al., DeepSpeed Ulysses, https://arxiv.org/abs/2309.14509, 2023.
    """
    engine = reading.machine.get("train")
    spread = engine.spec.sequence_partitions() if engine and isinstance(engine.spec, TrainEngine) else 1
    for _, part in _shared(reading):
        if spread > 1:
            yield at_part(reading, part).finding(
                f"{display_name(part)} merges rows, but the tokens of a row are spread over {spread} devices",
                *related_span(reading, ("machine", "train", "sequence_parallel"), "spread here"),
            )


@check("RC526", "other-models-over-devices")
def other_models_over_devices(reading: Reading) -> Iterator[Finding]:
    """The tokens of a row are spread over devices, and the stage trains something else than a language model of text.

    What it checks: `machine.train.sequence_parallel` above 1 in stages with `kind: rm`, with a `critic`, or with a
    policy that reads images.
    Why it matters: a reward model and a critic read one hidden state of a whole row, and positions of images span
    several tokens; a device with a share of the tokens has neither.
    Example: `machine: {devices: 2, train: {type: fsdp, sequence_parallel: 2}}` with `policy: {type: vision_lm}`.
    How to fix: set `sequence_parallel: 1`, with a smaller `budget.microbatch_tokens` and gradient checkpointing to save
    memory.
    References: Jacobs et al., DeepSpeed Ulysses, https://arxiv.org/abs/2309.14509, 2023.
    """
    engine = reading.machine.get("train")
    spread = engine.spec.sequence_partitions() if engine and isinstance(engine.spec, TrainEngine) else 1
    for stage in reading.stages.values() if spread > 1 else ():
        policy = spec_of(stage, "policy")
        sees = policy is not None and policy.sees
        if not (sees or stage.kind == "rm" or stage.of("critic")):
            continue
        what = "reads images" if sees else "trains a reward model" if stage.kind == "rm" else "trains a critic"
        place = (*stage.path, "kind") if stage.kind == "rm" else (stage.of("critic") or stage.of("policy"))[0].path
        yield at_path(reading, ("machine", "train", "sequence_parallel")).finding(
            f"stage `{stage.name}` {what}, but the tokens of a row are spread over {spread} devices",
            *related_span(reading, place, "this stage", key=True),
        )


@check("RC524", "group-over-microbatch", "warning")
def group_over_microbatch(reading: Reading) -> Iterator[Finding]:
    """The answers of a group may have more tokens than one forward pass takes.

    What it checks: answers of a prompt times their longest length against `budget.microbatch_tokens`, for attention
    `trie` and `shared_prefix`, where parts of a group do not hand their prompt over: with train engines that spread the
    policy over devices, and with `machine.exactness: exact`.
    Why it matters: a group over the limit is split, and its prompt is computed once in each part: of the saving s of a
    group of n rows in m parts, (n - m) / (n - 1) is left.
    Example: `machine: {devices: 2, train: {type: fsdp}}` with `num_generations: 16`, `max_completion_length: 4096` and
    `microbatch_tokens: 16384`.
    How to fix: raise `budget.microbatch_tokens`, with `machine.train.gradient_checkpointing` to save memory.
    """
    machine, engine, (devices, nodes) = reading.resolved.data.get("machine"), train_engine(reading), devices_of(reading)
    exact = isinstance(machine, dict) and machine.get("exactness") == "exact"
    if not exact and (engine is None or engine[1].hands_over(devices * nodes)):
        return
    for stage, part in _shared(reading):
        size, written = group_size(stage, "by_prompt_R"), most_written(stage)
        if stage.kind != "rl" or size is None or written is None or stage.budget is None or size == 1:
            continue
        if size * written > stage.budget.most_tokens:
            yield at_path(reading, (*stage.path, "budget", "microbatch_tokens")).finding(
                f"a group may have {size} answers of {written} tokens, but a forward pass takes "
                f"{stage.budget.microbatch_tokens}",
                *related_span(reading, (*part.path, "type"), "prefixes are shared here"),
                remedy=f"set budget.microbatch_tokens above {size * written} plus the prompt",
            )
