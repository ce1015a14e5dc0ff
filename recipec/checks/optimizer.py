"""Optimizer settings that are legal but known to go wrong, each with its source: RC440 to RC446."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    at_field,
    at_path,
    is_given,
    parts_of,
    related_span,
    span_of,
    trains_adapter,
    updates_per_step,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Reading, StageReading
from recipec.spec.optimizer import Adamw, Scheduled
from recipec.spec.policy import VisionLm
from recipec.spec.recipe import weights_kind

HIGH = 1e-3
"""Above this, published fine-tuning of all weights with Adam diverges; training from scratch does not."""
HIGHEST = 1e-2
"""Above this, an adapter diverges too."""
NEW = 0.05
"""Above this, Adam diverges on new weights as well."""
LOW = 2e-6
"""Below this an adapter does not move; it needs about ten times the rate of full fine-tuning."""


@check("RC440", "two-warmups")
def two_warmups(reading: Reading) -> Iterator[Finding]:
    """The warm-up is given both in updates and as a ratio.

    What it checks: at most one of `warmup_updates` and `warmup_ratio`.
    Why it matters: the two contradict each other, and one would silently win.
    Example: `optimizer: {warmup_updates: 50, warmup_ratio: 0.1}`.
    How to fix: drop one of them; `null` removes one that comes from another file.
    References: verl documents that `lr_warmup_steps` wins over its ratio; TRL that `warmup_steps` does.
    """
    for _, part, spec in parts_of(reading, Scheduled):
        if spec.warmup_updates is not None and spec.warmup_ratio is not None:
            yield at_field(reading, part, "warmup_ratio").finding(
                "the warm-up is given twice: in updates and as a ratio of all updates",
                *related_span(reading, (*part.path, "warmup_updates"), "and here"),
            )


@check("RC441", "endless-warmup", "warning")
def endless_warmup(reading: Reading) -> Iterator[Finding]:
    """The warm-up takes as long as the stage, or longer.

    What it checks: `warmup_updates` against the updates of the stage (steps times updates per step), and `warmup_ratio`
    below 1.
    Why it matters: the learning rate of the recipe is never reached, and the schedule never starts.
    Example: `warmup_updates: 500` in a stage of 100 steps with one update each.
    How to fix: use about a tenth of the updates.
    References: Goyal et al., Accurate, Large Minibatch SGD, https://arxiv.org/abs/1706.02677, 2017: a warm-up is the
    beginning of training.
    """
    for stage, part, spec in parts_of(reading, Scheduled):
        if spec.warmup_ratio == 1:
            yield at_field(reading, part, "warmup_ratio").finding(
                f"the warm-up of stage `{stage.name}` lasts as long as the stage"
            )
        each = updates_per_step(stage)
        steps = stage.budget.steps if stage.budget is not None else None
        if not spec.warmup_updates or each is None or steps is None or spec.warmup_updates < steps * each:
            continue
        yield at_field(reading, part, "warmup_updates").finding(
            f"the warm-up takes {spec.warmup_updates} updates, but stage `{stage.name}` has {steps * each}",
            *related_span(reading, (*stage.path, "budget", "steps"), "the stage"),
        )


@check("RC442", "high-learning-rate", "warning")
def high_learning_rate(reading: Reading) -> Iterator[Finding]:
    """A trained model, or an adapter, is updated with a very high learning rate.

    What it checks: `learning_rate` above 1e-3 without LoRA; above 1e-2 with LoRA; above 0.05 where the weights were new
    in an earlier stage or are new in this one.
    Why it matters: Adam changes every weight by about the learning rate at each update, so that the model loses what it
    has learnt after a few updates.
    Example: `learning_rate: 1.0e-2` with `from: org/name`.
    How to fix: use 1e-6 to 1e-5 in `rl` and `dpo`, and 1e-5 to 1e-4 in `sft`; ten times as much for an adapter.
    References: Rafailov et al., DPO, https://arxiv.org/abs/2305.18290, 2023 (1e-6); Shao et al., DeepSeekMath,
    https://arxiv.org/abs/2402.03300, 2024 (1e-6); Schulman et al., LoRA Without Regret, Thinking Machines Lab, 2025.
    """
    for stage, part, spec in parts_of(reading, Adamw):
        unread = any(policy.spec is None for policy in stage.of("policy"))
        new = _new(reading, stage)
        adapter = trains_adapter(reading, stage)
        if spec.learning_rate > (HIGHEST if adapter else NEW if new else HIGH) and not unread:
            trained = "an adapter" if adapter else "all weights"
            trained = f"{trained} of `{stage.origin}`" if stage.origin not in {None, "scratch"} else "a new model"
            yield at_field(reading, part, "learning_rate").finding(
                f"a learning rate of {spec.learning_rate:g} for {trained} is very high",
                *related_span(reading, (*stage.path, "from"), "trained weights"),
            )


def _new(reading: Reading, stage: StageReading) -> bool:
    """Whether the weights of a stage, or of the one that it goes back to, are from scratch, or are not known."""
    seen: set[str] = set()
    while stage.origin in reading.stages and stage.origin not in seen:
        seen.add(stage.origin)
        stage = reading.stages[stage.origin]
    return stage.origin is None or weights_kind(stage.origin) in {"scratch", "stage"}


@check("RC443", "low-learning-rate", "warning")
def low_learning_rate(reading: Reading) -> Iterator[Finding]:
    """An adapter is trained with a learning rate for full fine-tuning.

    What it checks: `learning_rate` below 2e-6 with LoRA. The default is 1e-6.
    Why it matters: an adapter starts from a product that is zero and needs about ten times the learning rate of full
    fine-tuning; below that it hardly changes.
    Example: `lora: {r: 8}` without `optimizer.learning_rate`.
    How to fix: use 1e-5 to 1e-4.
    References: Schulman et al., LoRA Without Regret, Thinking Machines Lab, 2025: the best rate is about ten times
    higher; GiGPO's LoRA run uses 3e-6, DermIQ-VLM's trainer 3e-5.
    """
    for stage, part, spec in parts_of(reading, Adamw):
        if spec.learning_rate >= LOW or not trains_adapter(reading, stage):
            continue
        path = (*part.path, "learning_rate")
        adapters = [part.path for part in stage.of("policy") if is_given(reading, (*part.path, "lora"))]
        source = (*adapters[0], "lora") if adapters else (*stage.path, "adapter")
        yield Finding(
            f"stage `{stage.name}` trains an adapter with a learning rate of {spec.learning_rate:g}",
            (
                *(span_of(reading, path) if is_given(reading, path) else span_of(reading, part.path, key=True)),
                *related_span(reading, source, "the adapter", key=True),
            ),
            path=dotted(path),
        )


@check("RC444", "forgetful-moments")
def forgetful_moments(reading: Reading) -> Iterator[Finding]:
    """A decay rate of Adam's moments is not below 1.

    What it checks: both `betas` are at least 0 and below 1.
    Why it matters: at 1 the average never includes a new gradient, and its correction divides by zero.
    Example: `betas: [0.9, 1.0]`.
    How to fix: use `betas: [0.9, 0.999]`, as published runs do.
    References: Kingma & Ba, Adam, https://arxiv.org/abs/1412.6980, 2015: both in [0, 1).
    """
    for _, part, spec in parts_of(reading, Adamw):
        for i, beta in enumerate(spec.betas):
            if not 0 <= beta < 1:
                yield at_path(reading, (*part.path, "betas", i)).finding(
                    f"`betas` must be at least 0 and below 1; one is {beta:g}"
                )


@check("RC445", "schedule-unread", "warning")
def schedule_unread(reading: Reading) -> Iterator[Finding]:
    """A parameter of the schedule is set that this schedule does not use.

    What it checks: `min_ratio` with `schedule: constant`; `decay_ratio` with another schedule than `wsd`.
    Why it matters: the number has no effect: a constant learning rate never falls, and only `wsd` falls at its end.
    Example: `optimizer: {min_ratio: 0.1}` without `schedule`.
    How to fix: set `schedule: cosine` (other tools: `cosine_with_min_lr`) or `wsd`, or drop the parameter.
    References: Transformers, `get_cosine_with_min_lr_schedule_with_warmup` and `get_wsd_schedule`.
    """
    for _, part, spec in parts_of(reading, Scheduled):
        users = {"min_ratio": {"linear", "cosine", "wsd"}, "decay_ratio": {"wsd"}}
        for key, schedules in users.items():
            if is_given(reading, (*part.path, key)) and spec.schedule not in schedules:
                yield at_field(reading, part, key).finding(
                    f"`{key}` has no effect with `schedule: {spec.schedule}`",
                    *related_span(reading, (*part.path, "schedule"), "the schedule"),
                )


@check("RC446", "nothing-to-freeze")
def nothing_to_freeze(reading: Reading) -> Iterator[Finding]:
    """`freeze` names the image encoder of a policy that has none.

    What it checks: `vision` and `projector` under `freeze` come with the policy `vision_lm`.
    Why it matters: no parameter of a text model has these names, and the run would be refused.
    Example: `optimizer: {freeze: [vision]}` with `policy: {type: causal_lm}`.
    How to fix: drop the name, or set `policy.type` to `vision_lm`.
    References: recipec: `freeze` names modules, or parts of the names of parameters.
    """
    for stage, part, spec in parts_of(reading, Scheduled):
        policy = next(iter(stage.of("policy")), None)
        if policy is None or policy.spec is None or isinstance(policy.spec, VisionLm):
            continue
        for number, name in enumerate(spec.freeze):
            if name in {"vision", "projector"}:
                yield at_path(reading, (*part.path, "freeze", number)).finding(
                    f"`freeze` names `{name}`, but policy `{policy.spec.type_name}` has no image encoder",
                    *related_span(reading, (*policy.path, "type"), "the policy"),
                )
