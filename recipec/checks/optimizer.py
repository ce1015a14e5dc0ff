"""Updates that are legal and known to go wrong, each with where that was learnt: RC440 to RC445."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import adapter_of, beside, dotted, knob, parts_of, place, said, updates_per_step
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading
from recipec.spec.recipe import weights_kind

HIGH = 1e-3
"""Above this, published fine-tuning of all weights with Adam diverges; training from scratch does not."""
LOW = 2e-6
"""Below this an adapter does not move; it needs about ten times the rate of full fine-tuning."""


@check("RC440", "two-warmups")
def two_warmups(reading: Reading) -> Iterator[Finding]:
    """The warm-up is given in updates and as a share.

    What it checks: at most one of `warmup_updates` and `warmup_ratio`.
    Why it matters: they contradict each other, and one would silently win.
    Example: `optimizer: {warmup_updates: 50, warmup_ratio: 0.1}`.
    Use instead: one of them.
    References: verl documents that `lr_warmup_steps` wins over its ratio; TRL that `warmup_steps` does.
    """
    for _, part, spec in parts_of(reading, "optimizer", "adamw"):
        if spec.warmup_updates is not None and spec.warmup_ratio is not None:
            yield Finding(
                "the warm-up is given twice: in updates and as a share of all updates",
                (*knob(reading, part, "warmup_ratio"), *beside(reading, (*part.path, "warmup_updates"), "and here")),
                why="they contradict each other",
                help="drop one of them; `null` removes one that comes from another file",
                path=dotted((*part.path, "warmup_ratio")),
            )


@check("RC441", "endless-warmup", "warning")
def endless_warmup(reading: Reading) -> Iterator[Finding]:
    """The warm-up takes as long as the stage, or longer.

    What it checks: `warmup_updates` against steps times updates of a step, and `warmup_ratio` below 1.
    Why it matters: the learning rate of the recipe is never reached, and the schedule never begins.
    Example: `warmup_updates: 500` in a stage of 100 steps with one update each.
    Use instead: a tenth of the updates.
    References: Goyal et al., Accurate, Large Minibatch SGD, https://arxiv.org/abs/1706.02677, 2017: a warm-up is the
    beginning of training.
    """
    for row, part, spec in parts_of(reading, "optimizer", "adamw"):
        if spec.warmup_ratio == 1:
            yield Finding(
                f"the warm-up of stage `{row.name}` lasts as long as the stage",
                knob(reading, part, "warmup_ratio"),
                why="the learning rate of the recipe is never reached",
                help="set a smaller share, such as 0.1",
                path=dotted((*part.path, "warmup_ratio")),
            )
        each = updates_per_step(row)
        steps = row.budget.steps if row.budget is not None else None
        if not spec.warmup_updates or each is None or steps is None or spec.warmup_updates < steps * each:
            continue
        yield Finding(
            f"the warm-up takes {spec.warmup_updates} updates, and stage `{row.name}` has {steps * each}",
            (*knob(reading, part, "warmup_updates"), *beside(reading, (*row.path, "budget", "steps"), "the stage")),
            why="the learning rate of the recipe is never reached",
            help="set fewer updates, about a tenth of the stage",
            path=dotted((*part.path, "warmup_updates")),
        )


@check("RC442", "high-learning-rate", "warning")
def high_learning_rate(reading: Reading) -> Iterator[Finding]:
    """All weights of a trained model are updated with a very high learning rate.

    What it checks: `learning_rate` above 1e-3 without LoRA, where the weights are not from scratch.
    Why it matters: Adam moves every weight by about the learning rate at each update; what was learnt is gone after a
    few.
    Example: `learning_rate: 1.0e-2` with `from: org/name`.
    Use instead: 1e-6 to 1e-5 in `rl` and `dpo`, 1e-5 to 1e-4 in `sft`.
    References: Rafailov et al., DPO, https://arxiv.org/abs/2305.18290, 2023 (1e-6); Shao et al., DeepSeekMath,
    https://arxiv.org/abs/2402.03300, 2024 (1e-6); Schulman et al., LoRA Without Regret, Thinking Machines Lab, 2025.
    """
    for row, part, spec in parts_of(reading, "optimizer", "adamw"):
        unread = any(policy.spec is None for policy in row.of("policy"))
        new = row.origin is None or weights_kind(row.origin) in {"scratch", "stage"}
        if spec.learning_rate > HIGH and not new and not unread and adapter_of(row) is None:
            yield Finding(
                f"a learning rate of {spec.learning_rate:g} for all weights of `{row.origin}` is very high",
                (*knob(reading, part, "learning_rate"), *beside(reading, (*row.path, "from"), "trained weights")),
                why="Adam moves every weight by about this much at each update",
                help="use 1e-6 to 1e-5 in rl and dpo, 1e-5 to 1e-4 in sft",
                path=dotted((*part.path, "learning_rate")),
            )


@check("RC443", "low-learning-rate", "warning")
def low_learning_rate(reading: Reading) -> Iterator[Finding]:
    """An adapter is trained with a learning rate for whole models.

    What it checks: `learning_rate` below 2e-6 with LoRA. The default is 1e-6.
    Why it matters: an adapter starts from a product that is zero and needs about ten times the learning rate of full
    fine-tuning; below that it hardly leaves its start.
    Example: `lora: {r: 8}` without `optimizer.learning_rate`.
    Use instead: 1e-5 to 1e-4.
    References: Schulman et al., LoRA Without Regret, Thinking Machines Lab, 2025: the best rate is about ten times
    higher; GiGPO's LoRA run uses 3e-6, DermIQ-VLM's trainer 3e-5.
    """
    for row, part, spec in parts_of(reading, "optimizer", "adamw"):
        if spec.learning_rate >= LOW or adapter_of(row) is None:
            continue
        path = (*part.path, "learning_rate")
        source = (*row.of("policy")[0].path, "lora")
        yield Finding(
            f"stage `{row.name}` trains an adapter with a learning rate of {spec.learning_rate:g}",
            (
                *(place(reading, path) if said(reading, path) else place(reading, part.path, key=True)),
                *beside(reading, source, "the adapter", key=True),
            ),
            why="an adapter needs about ten times the rate of full fine-tuning; below that it hardly moves",
            help="use 1e-5 to 1e-4",
            path=dotted(path),
        )


@check("RC444", "forgetful-moments")
def forgetful_moments(reading: Reading) -> Iterator[Finding]:
    """A decay of Adam's moments is not below 1.

    What it checks: both `betas` are at least 0 and below 1.
    Why it matters: at 1 the average never takes a new gradient in, and its correction divides by zero.
    Example: `betas: [0.9, 1.0]`.
    Use instead: `betas: [0.9, 0.999]`.
    References: Kingma & Ba, Adam, https://arxiv.org/abs/1412.6980, 2015: both in [0, 1).
    """
    for _, part, spec in parts_of(reading, "optimizer", "adamw"):
        for i, beta in enumerate(spec.betas):
            if not 0 <= beta < 1:
                yield Finding(
                    f"`betas` must be at least 0 and below 1; one is {beta:g}",
                    place(reading, (*part.path, "betas", i)),
                    why="at 1 the average never takes a new gradient in, and its correction divides by zero",
                    help="published runs use [0.9, 0.999]",
                    path=dotted((*part.path, "betas", i)),
                )
