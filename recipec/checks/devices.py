"""Engines over several devices: RC512 to RC518, RC527, RC530, RC538 and RC560."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import ancestors, at_field, at_path, field_span, related_span, spec_of, units_per_step
from recipec.checks.sampling import uses_sampler
from recipec.diagnostics.model import Finding, check, dotted
from recipec.planning.model_shapes import Shape, known_shape, scratch_shape
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.optimizer import Optimizer
from recipec.spec.recipe import UNIT
from recipec.spec.rollout_engine import RolloutEngine
from recipec.spec.train_engine import TrainEngine

SPREAD = {"rollout": "tensor_parallel", "train": "sequence_parallel"}
"""Engines, and the parameter that says over how many devices each of their models or sequences is spread."""


def devices_of(reading: Reading) -> tuple[int, int]:
    """Return the devices of a node and the nodes; one where they are not given or could not be read."""
    machine = reading.resolved.data.get("machine")
    written: list[Any] = [machine.get(key) if isinstance(machine, dict) else None for key in ("devices", "nodes")]
    devices, nodes = (one if isinstance(one, int) and one > 0 else 1 for one in written)
    return devices, nodes


def train_engine(reading: Reading) -> tuple[Part, TrainEngine] | None:
    """Return the training engine, where it could be read."""
    part = reading.machine.get("train")
    return (part, part.spec) if part is not None and isinstance(part.spec, TrainEngine) else None


def rollout_engine(reading: Reading) -> tuple[Part, RolloutEngine] | None:
    """Return the rollout engine, where it could be read."""
    part = reading.machine.get("rollout")
    return (part, part.spec) if part is not None and isinstance(part.spec, RolloutEngine) else None


def shape_of(reading: Reading, stage: StageReading) -> Shape | None:
    """Return the sizes of a stage's model; None where no file of recipec has them."""
    root = [stage, *ancestors(reading, stage)][-1]
    policy = spec_of(root, "policy")
    if root.origin == "scratch":
        new = None if policy is None else policy.new_model()
        return None if new is None else scratch_shape(new.model_dump())
    return known_shape(root.origin) if root.origin else None


def _spread(reading: Reading) -> Iterator[tuple[Part, str, int]]:
    """Yield engines that spread one model or sequence over several devices, with the parameter that says so."""
    train, rollout = train_engine(reading), rollout_engine(reading)
    if rollout is not None and rollout[1].weight_partitions() > 1:
        yield rollout[0], SPREAD["rollout"], rollout[1].weight_partitions()
    if train is not None and train[1].sequence_partitions() > 1:
        yield train[0], SPREAD["train"], train[1].sequence_partitions()


def _divisors(*numbers: int) -> str:
    """Write the numbers that divide all of several.

    >>> _divisors(8, 12)
    '1, 2 or 4'
    """
    divisors = [str(n) for n in range(1, min(numbers) + 1) if not any(number % n for number in numbers)]
    return " or ".join([", ".join(divisors[:-1]), divisors[-1]]) if len(divisors) > 1 else divisors[0]


@check("RC512", "devices-do-not-divide")
def devices_do_not_divide(reading: Reading) -> Iterator[Finding]:
    """The devices of a node cannot be grouped as an engine needs them.

    What it checks: `machine.devices` is a multiple of `machine.rollout.tensor_parallel` and of
    `machine.train.sequence_parallel`.
    Why it matters: each model or sequence takes that many devices of one node; the rest would have none.
    Example: `machine: {devices: 8, rollout: {type: vllm, tensor_parallel: 3}}`.
    How to fix: use a divisor of `machine.devices`, or change `machine.devices`.
    """
    devices, _ = devices_of(reading)
    for part, name, count in () if reading.fragment else _spread(reading):
        if devices % count:
            yield at_field(reading, part, name).finding(
                f"`{part.name}` takes {count} devices together, but a node has {devices}",
                *related_span(reading, ("machine", "devices"), "devices of a node"),
                remedy=f"set {name} to {_divisors(devices)}"
                + (f", or machine.devices to a multiple of {count}" if devices < count else ""),
            )


@check("RC513", "heads-do-not-divide")
def heads_do_not_divide(reading: Reading) -> Iterator[Finding]:
    """The attention heads of a model cannot be split over the devices that share it.

    What it checks: the number of attention heads is a multiple of `machine.rollout.tensor_parallel` and of
    `machine.train.sequence_parallel`, and the number of key-value heads is a multiple or a divisor of it. The sizes of
    models that are not built from `policy.scratch` and not in recipec's list are not known before the run.
    Why it matters: each device computes whole heads.
    Example: `from: Qwen/Qwen2.5-7B`, with 28 heads, and `rollout: {type: vllm, tensor_parallel: 8}`.
    How to fix: use a number that divides the heads.
    References: Shoeybi et al., Megatron-LM, https://arxiv.org/abs/1909.08053, 2019; Jacobs et al., DeepSpeed Ulysses,
    https://arxiv.org/abs/2309.14509, 2023.
    """
    devices, _ = devices_of(reading)
    for part, name, count in _spread(reading):
        for stage in reading.stages.values():
            shape = shape_of(reading, stage)
            if shape is None or not (shape.heads % count or (shape.kv_heads % count and count % shape.kv_heads)):
                continue
            yield at_field(reading, part, name).finding(
                f"the model of stage `{stage.name}` has {shape.heads} attention heads and {shape.kv_heads} key-value "
                f"heads, which {count} devices cannot share",
                *related_span(reading, (*stage.path, "from"), "the model"),
                remedy=f"set {name} to {_divisors(shape.heads, devices)}",
            )
            break


@check("RC514", "adapter-not-for-engine")
def adapter_not_for_engine(reading: Reading) -> Iterator[Finding]:
    """The rollout engine cannot sample with the adapter or the quantized weights of a policy.

    What it checks: the rank and the layers of `policy.lora`, and `policy.quantization`, against what the rollout engine
    can apply. vLLM applies adapters of rank 512 at most, none on `embed_tokens` or `lm_head`, and does not sample from
    weights that are quantized for training.
    Why it matters: the engine would refuse the adapter when the run starts, or sample from another model.
    Example: `policy: {type: causal_lm, lora: {r: 1024}}` with `machine: {rollout: {type: vllm}}`.
    How to fix: lower `policy.lora.r`, choose other `targets`, drop `quantization`, or use the rollout engine `hf`.
    """
    rollout = rollout_engine(reading)
    if rollout is None:
        return
    part, engine = rollout
    for stage in reading.stages.values():
        policy = spec_of(stage, "policy")
        if policy is None or not stage.of("sampler"):
            continue
        lora, at = policy.adapter(), stage.of("policy")[0].path
        for problem, key, remedy in _unadapted(engine, lora, quantized=policy.quantized()):
            yield at_path(reading, (*at, *key)).finding(
                f"the rollout engine `{part.name}` cannot sample with {problem}",
                *related_span(reading, part.path, "the engine", key=True),
                remedy=remedy,
            )


def _unadapted(engine: RolloutEngine, lora: Any, *, quantized: bool) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield what of a policy an engine cannot sample with, the key that says it, and what to do."""
    if quantized and not engine.takes_quantized:
        yield "quantized weights", ("quantization",), "drop `quantization`, or set machine.rollout.type to `hf`"
    if lora is None:
        return
    if engine.max_adapter_rank is not None and lora.r > engine.max_adapter_rank:
        yield f"an adapter of rank {lora.r}", ("lora", "r"), f"set lora.r to {engine.max_adapter_rank} or less"
    wrong = [] if isinstance(lora.targets, str) else [name for name in lora.targets if name in engine.unadapted]
    if wrong:
        names = " and ".join(f"`{name}`" for name in wrong)
        yield f"an adapter on {names}", ("lora", "targets"), f"leave {names} out of `lora.targets`"


@check("RC515", "two-precisions", "warning")
def two_precisions(reading: Reading) -> Iterator[Finding]:
    """The rollout engine samples with weights of another precision, and nothing corrects the difference.

    What it checks: `machine.rollout.dtype` against `policy.dtype` of `rl` stages with a loss that does not read the
    sampler's log-probabilities.
    Why it matters: tokens are drawn from another distribution than the one that is trained. Between a float32 policy
    and a bfloat16 engine the log-probability of a token of SmolLM2-135M differs by 0.04 nats on average, by up to 0.5.
    Example: `policy: {dtype: float32}` with `machine: {rollout: {type: vllm, dtype: bfloat16}}`.
    How to fix: set `loss: {sampler_correction: truncate}`, or leave `machine.rollout.dtype` out.
    References: Yao et al., Your Efficient RL Framework Secretly Brings You Off-Policy RL Training, 2025, for truncated
    importance sampling.
    """
    rollout = rollout_engine(reading)
    sampled = rollout[1].weights_dtype() if rollout is not None else None
    if rollout is None or sampled is None:
        return
    for stage in reading.stages.values():
        policy: Any = spec_of(stage, "policy")
        loss = spec_of(stage, "loss")
        if stage.kind != "rl" or policy is None or loss is None or uses_sampler(loss):
            continue
        if policy.dtype != sampled:
            yield at_field(reading, rollout[0], "dtype").finding(
                f"stage `{stage.name}` trains {policy.dtype} weights, but samples with {sampled} ones",
                *related_span(reading, stage.of("loss")[0].path, "nothing corrects it", key=True),
            )
            return


@check("RC517", "images-not-for-engine")
def images_not_for_engine(reading: Reading) -> Iterator[Finding]:
    """The rollout engine cannot sample from a model that reads images.

    What it checks: `policy: {type: vision_lm}` in a stage that samples or is evaluated, against the rollout engine.
    Why it matters: the run would stop at its first rollout.
    Example: `policy: {type: vision_lm}` with `machine: {rollout: {type: vllm, servers: 2}}`.
    How to fix: remove `machine.rollout.servers`, so that vLLM samples in the processes that train, or set
    `machine.rollout.type` to `hf`.
    """
    rollout = rollout_engine(reading)
    if rollout is None or rollout[1].reads_images():
        return
    for stage in reading.stages.values():
        policy = spec_of(stage, "policy")
        if policy is not None and policy.sees and (stage.of("sampler") or reading.trials):
            yield at_field(reading, rollout[0], "type").finding(
                f"stage `{stage.name}` samples from a model that reads images, which the engine `{rollout[0].name}` "
                "cannot do",
                *related_span(reading, (*stage.of("policy")[0].path, "type"), "the model"),
            )
            return


@check("RC518", "copy-for-sampling", "warning")
def copy_for_sampling(reading: Reading) -> Iterator[Finding]:
    """The policy is spread over devices, and the rollout engine needs a whole copy on each.

    What it checks: a rollout engine that samples with the policy's own weights, such as `hf`, together with a training
    engine that spreads the weights, `fsdp` or `deepspeed` with `zero: 3`, on several devices.
    Why it matters: gathering each layer for every token would take most of the time, so that each device has a second,
    whole copy for sampling. The memory that spreading the weights saves is lost again.
    Example: `machine: {devices: 8, train: {type: fsdp}}` with the default `rollout: {type: hf}`.
    How to fix: set `machine.rollout.type` to `vllm`, or `machine.train` to `deepspeed` with `zero: 2`.
    """
    train, rollout = train_engine(reading), rollout_engine(reading)
    devices, nodes = devices_of(reading)
    if train is None or rollout is None or not rollout[1].shares_weights:
        return
    if reading.fragment or devices * nodes == 1 or train[1].partitions(devices * nodes)[2] == 1:
        return
    if any(stage.of("sampler") for stage in reading.stages.values()):
        yield Finding(
            f"`{train[0].name}` spreads the weights over {devices * nodes} devices, but `{rollout[0].name}` samples "
            "with a whole copy on each",
            (
                *(field_span(reading, rollout[0], "type") if rollout[0].given else ()),
                *field_span(reading, train[0], "type"),
            ),
            path=dotted(rollout[0].path),
        )


@check("RC527", "offload-without-zero")
def offload_without_zero(reading: Reading) -> Iterator[Finding]:
    """Something is to be kept in CPU memory that the training engine does not spread over devices.

    What it checks: `offload_parameters` of `deepspeed` is set with `zero: 3`.
    Why it matters: below stage 3 the weights are whole on every device while they are used, and DeepSpeed ignores the
    setting.
    Example: `train: {type: deepspeed, zero: 2, offload_parameters: true}`.
    How to fix: set `zero: 3`, or `offload: true` for the optimizer state.
    References: Rajbhandari et al., ZeRO-Infinity, https://arxiv.org/abs/2104.07857, 2021.
    """
    train = train_engine(reading)
    if train is None:
        return
    part, engine = train
    if engine.offloads_parameters() and engine.partitions(2)[2] == 1:
        yield at_field(reading, part, "offload_parameters").finding(
            f"`{part.name}` is to keep the weights in CPU memory, but does not spread them over devices",
            *related_span(reading, (*part.path, "zero"), "the stage"),
        )


@check("RC530", "fewer-prompts-than-ranks", "warning")
def fewer_prompts_than_ranks(reading: Reading) -> Iterator[Finding]:
    """A step has fewer prompts, examples or pairs than there are devices.

    What it checks: `budget.prompts_per_step`, `rows_per_step` or `pairs_per_step` against the devices of all nodes.
    Why it matters: whole groups are sampled on one device, so that devices without a prompt wait for the others.
    Example: `machine: {devices: 8}` with `prompts_per_step: 4`.
    How to fix: raise the prompts per step to a multiple of the number of devices, or use fewer devices.
    """
    devices, nodes = devices_of(reading)
    spread = [count for _, _, count in _spread(reading)]
    shares = devices * nodes // max(spread, default=1)
    for stage in reading.stages.values():
        units = units_per_step(stage)
        if units is None or stage.kind is None or units >= shares:
            continue
        key = UNIT[stage.kind]
        yield at_path(reading, (*stage.path, "budget", key)).finding(
            f"stage `{stage.name}` has {units} {key.partition('_')[0]} per step for {shares} devices"
            + (f" ({devices * nodes} in groups of {max(spread)})" if spread else ""),
            *related_span(reading, ("machine", "devices"), "devices of a node"),
        )


@check("RC538", "exactness-needs-copies")
def exactness_needs_copies(reading: Reading) -> Iterator[Finding]:
    """`exactness: exact` is combined with a training engine that spreads the policy over devices.

    What it checks: `machine.exactness` and the type of `machine.train`.
    Why it matters: the engine adds up parts of gradients on several devices, in an order of its own; only whole copies
    of the policy can add them in the order of one device.
    Example: `machine: {devices: 2, exactness: exact, train: {type: fsdp}}`.
    How to fix: remove `exactness`, and results are equal up to rounding; or use the training engine `local`.
    """
    machine = reading.resolved.data.get("machine")
    train, (devices, nodes) = train_engine(reading), devices_of(reading)
    if not isinstance(machine, dict) or machine.get("exactness") != "exact" or train is None:
        return
    part, engine = train
    if max(engine.partitions(max(2, devices * nodes))) > 1:
        yield at_field(reading, part, "type").finding(
            f"`{part.name}` cannot add gradients in the order of one device",
            *related_span(reading, ("machine", "exactness"), "required here"),
        )


@check("RC560", "moments-in-parts")
def moments_in_parts(reading: Reading) -> Iterator[Finding]:
    """An optimizer that needs whole weights is combined with a training engine that spreads its state over devices.

    What it checks: `optimizer.moments` of every stage against `machine.train`, where there are several devices or
    `offload` is on; `muon` and `adafactor` against train engines other than `local`.
    Why it matters: moments of eight bits are scaled in blocks of a whole weight, and small weights keep float32. The
    parts of weights that such an engine gives to an optimizer have other blocks, so that the results would depend on
    the number of devices. Muon makes a whole matrix orthogonal, Adafactor has moments of its rows and columns.
    Example: `machine: {devices: 8, train: {type: deepspeed}}` with `optimizer: {moments: int8}`.
    How to fix: remove `moments`: spread over devices, float32 moments take less room than moments of eight bits on
    each. Or use the training engine `local`, or the optimizer `adamw`.
    References: Dettmers et al., 8-bit Optimizers, https://arxiv.org/abs/2110.02861, 2022.
    """
    train, (devices, nodes) = train_engine(reading), devices_of(reading)
    if train is None:
        return
    part, engine = train
    spread = engine.partitions(max(2, devices * nodes))[0] > 1
    if not spread:
        return
    apart = devices * nodes == 1 and not engine.offloads_optimizer()
    for stage in reading.stages.values():
        optimizer = spec_of(stage, "optimizer")
        if isinstance(optimizer, Optimizer) and (key := optimizer.whole()):
            if key == "moments" and apart:
                continue
            path = (*stage.path, "optimizer", key)
            what = "wants them in eight bits" if key == "moments" else f"has `{optimizer.type_name}`, which needs all"
            yield at_path(reading, path).finding(
                f"`{part.name}` spreads the moments over devices, and stage `{stage.name}` {what}",
                *related_span(reading, (*part.path, "type"), "the training engine"),
            )
