"""Critics that have nothing to learn, or that cannot be trained next to their policy: RC473 to RC475."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_field, at_path, display_name, parts_of, related_span, spec_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Reading
from recipec.spec.critic import Critic
from recipec.spec.train_engine import TrainEngine

TARGET = "target_value_RT"


@check("RC473", "critic-without-target")
def critic_without_target(reading: Reading) -> Iterator[Finding]:
    """A stage has a critic, and no level `gae`.

    What it checks: a stage with a `critic` has an advantage level `gae`.
    Why it matters: the critic learns the values that this level makes of the rewards, and nothing else reads what it
    says.
    Example: `critic: {}` with `advantage: {group: {type: group_relative}}`.
    How to fix: use `advantage: {credit: {type: gae}}`, or drop `critic`.
    References: Schulman et al., GAE, https://arxiv.org/abs/1506.02438, 2016: the value function of its advantages.
    """
    for stage, part, _ in parts_of(reading, Critic):
        levels = stage.of("advantage")
        if reading.fragment or any(level.cls is None or TARGET in level.cls.declares() for level in levels):
            continue
        more = related_span(reading, (*stage.path, "advantage"), "the levels", key=True)
        yield at_path(reading, part.path, key=True).finding(
            f"stage `{stage.name}` has a critic, but no level of `advantage` uses it",
            *more,
            remedy="add a level `{type: gae}`, or drop `critic`",
        )


@check("RC474", "unsupported-critic")
def unsupported_critic(reading: Reading) -> Iterator[Finding]:
    """A critic cannot be trained next to this policy, sampler or engine in this version.

    What it checks: a stage with a `critic` has a policy that reads text alone, rows that are whole trajectories, and
    `machine.train` is not `deepspeed`.
    Why it matters: a critic is the decoder of the policy with a scalar head, and reads no images. Values go from token
    to token inside of a row; rows that are steps would need the values of other rows. DeepSpeed keeps one model in a
    process.
    Example: `critic: {}` with `sampler: {rows: step}`.
    How to fix: use `sampler: {rows: trajectory}`; a level that compares groups, such as `group_relative`, which needs
    no critic; `machine: {train: {type: fsdp}}`.
    References: Schulman et al., GAE, https://arxiv.org/abs/1506.02438, 2016: advantages along a trajectory.
    """
    engine = reading.machine.get("train")
    for stage, part, _ in parts_of(reading, Critic):
        policy, sampler = spec_of(stage, "policy"), spec_of(stage, "sampler")
        if policy is not None and not policy.scalar_impl:
            other = stage.of("policy")[0]
            yield _refused(
                reading,
                part,
                other,
                "type",
                f"{display_name(other)}, which has no form with a scalar head",
                "use a level of `advantage` that compares groups, such as `group_relative`, and drop `critic`",
            )
        if sampler is not None and sampler.rows == "step":
            yield _refused(
                reading,
                part,
                stage.of("sampler")[0],
                "rows",
                "rows that are steps of episodes",
                "write `sampler: {rows: trajectory}`",
            )
        if engine is not None and isinstance(engine.spec, TrainEngine) and not engine.spec.trains_several:
            yield _refused(
                reading,
                part,
                engine,
                "type",
                f"train engine `{engine.name}`, which trains one model",
                "write `machine: {train: {type: fsdp}}`",
            )


def _refused(reading: Reading, critic: Part, other: Part, key: str, what: str, instead: str) -> Finding:
    return at_field(reading, other, key).finding(
        f"a critic cannot be trained next to {what}",
        *related_span(reading, critic.path, "the critic", key=True),
        remedy=instead,
    )


@check("RC475", "policy-never-trains")
def policy_never_trains(reading: Reading) -> Iterator[Finding]:
    """Only the critic is trained in all steps of a stage.

    What it checks: `critic.warmup_steps` is less than `budget.steps`.
    Why it matters: the policy would leave the stage as it entered it.
    Example: `critic: {warmup_steps: 20}` with `budget: {steps: 20}`.
    How to fix: lower `warmup_steps`, or raise `steps`.
    References: verl, `trainer.critic_warmup`: steps before the policy is trained.
    """
    for stage, part, spec in parts_of(reading, Critic):
        steps = stage.budget.steps if stage.budget is not None else None
        if steps is not None and spec.warmup_steps >= steps:
            yield at_field(reading, part, "warmup_steps").finding(
                f"the critic alone is trained in the first {spec.warmup_steps} steps, and stage `{stage.name}` has "
                f"{steps}",
                *related_span(reading, (*stage.path, "budget", "steps"), "the steps of the stage"),
            )
