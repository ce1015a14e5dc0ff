"""Rollouts that are sampled ahead of the updates: RC540 to RC543, RC545 and RC546."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.devices import rollout_engine
from recipec.checks.queries import at_field, display_name, field_span, is_given, related_span
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.loss import Loss, PolicyGradient
from recipec.spec.sampler import Sampler

KEY = "max_staleness"


def _ahead(reading: Reading) -> Iterator[tuple[StageReading, Part, Sampler]]:
    """Yield the rl stages with a sampler that runs ahead of the updates."""
    for stage in reading.stages.values():
        for part in stage.of("sampler"):
            if stage.kind == "rl" and isinstance(part.spec, Sampler) and part.spec.max_staleness:
                yield stage, part, part.spec


def _uncorrected(reading: Reading) -> Iterator[tuple[StageReading, Part, str, Part, bool]]:
    """Yield stage, sampler, age of the weights, loss, and whether the recipe says itself that nothing is corrected."""
    for stage, sampler, spec in _ahead(reading):
        for part in stage.of("loss"):
            if not isinstance(part.spec, Loss):
                continue
            if all(need.signal != "sampler_logprob_RT" for need in part.spec.requires()):
                yield stage, sampler, _steps(spec), part, is_given(reading, (*part.path, "sampler_correction"))


@check("RC540", "stale-rows-uncorrected")
def stale_rows_uncorrected(reading: Reading) -> Iterator[Finding]:
    """Rollouts are sampled from older weights, and the loss does not say what corrects the difference.

    What it checks: with `sampler.max_staleness` above 0 the loss reads the sampler's log-probabilities, by
    `sampler_correction`, `sampler_rejection` or `ratio_to: sampler_logprob_RT`, or says `sampler_correction: none`.
    Why it matters: tokens are drawn from an older policy. Without importance weights the gradient is that of another
    objective, and the default, `none`, is for rollouts of the policy that is updated.
    Example: `sampler: {max_staleness: 1}` with `loss: {type: clipped}`.
    How to fix: set `loss.sampler_correction: truncate`, or `loss.ratio_to: sampler_logprob_RT` to clip against the
    policy that sampled; or `loss.sampler_correction: none`, with the reason under `allow: {RC541: "why"}`.
    References: Espeholt et al., IMPALA, https://arxiv.org/abs/1802.01561, 2018: truncated importance weights.
    """
    for stage, sampler, age, loss, declined in _uncorrected(reading):
        if not declined and isinstance(loss.spec, PolicyGradient):
            yield Finding(
                f"stage `{stage.name}` samples from weights up to {age} old, and {display_name(loss)} "
                "does not say how that is corrected",
                (
                    *field_span(reading, sampler, KEY),
                    *related_span(reading, loss.path, "no correction here", key=True),
                ),
                path=dotted(loss.path),
            )


@check("RC541", "correction-declined", "warning")
def correction_declined(reading: Reading) -> Iterator[Finding]:
    """Rollouts are sampled from older weights, and the loss is not to correct the difference.

    What it checks: `sampler.max_staleness` above 0 with a loss that does not read the sampler's log-probabilities.
    Why it matters: tokens are drawn from an older policy; without importance weights the gradient is biased, the more
    the further the weights move in a step.
    Example: `sampler: {max_staleness: 1}` with `loss: {sampler_correction: none}`.
    How to fix: set `loss.sampler_correction: truncate`; or give the reason: `allow: {RC541: "why"}`.
    References: Espeholt et al., IMPALA, https://arxiv.org/abs/1802.01561, 2018: truncated importance weights.
    """
    for stage, sampler, age, loss, declined in _uncorrected(reading):
        if declined or not isinstance(loss.spec, PolicyGradient):
            yield at_field(reading, loss, "sampler_correction").finding(
                f"stage `{stage.name}` samples from weights up to {age} old, and nothing corrects that",
                *related_span(reading, (*sampler.path, KEY), "older weights"),
            )


def _steps(sampler: Sampler) -> str:
    count = sampler.max_staleness
    return f"{count} step" if count == 1 else f"{count} steps"


@check("RC542", "ahead-of-its-rewards")
def ahead_of_its_rewards(reading: Reading) -> Iterator[Finding]:
    """Rollouts are sampled ahead, but which prompts a step has depends on the rewards of its own rollouts.

    What it checks: `sampler.max_staleness` above 0 without a `group_filter` that samples again and without `retire`.
    Why it matters: the prompts in place of dropped groups, those that are retired, and so those of every later step,
    are known only when a step has been rewarded; its rollouts are requested earlier.
    Example: `sampler: {max_staleness: 1, group_filter: {}}`.
    How to fix: set `group_filter.action: drop` and no `retire`, or `max_staleness: 0`.
    References: Khatri et al., ScaleRL, https://arxiv.org/abs/2510.13786, 2025: asynchronous RL with groups dropped.
    """
    for stage, part, spec in _ahead(reading):
        after = {
            "group_filter": "samples again in place of groups with equal rewards" if spec.resamples() else "",
            "retire": "leaves prompts out by their rewards" if spec.retire else "",
        }
        for key, what in after.items():
            if what:
                yield at_field(reading, part, KEY).finding(
                    f"stage `{stage.name}` samples ahead, and {what}",
                    *related_span(reading, (*part.path, key), "by rewards"),
                )


@check("RC543", "ahead-without-overlap", "warning")
def ahead_without_overlap(reading: Reading) -> Iterator[Finding]:
    """Rollouts are sampled from older weights, but not while the policy is trained.

    What it checks: `sampler.max_staleness` above 0 with a rollout engine in processes of its own.
    Why it matters: within one process sampling and training take turns, whatever the order. The rows are the same as
    with servers, but no time is gained for their age.
    Example: `sampler: {max_staleness: 1}` with `machine: {rollout: {type: hf}}`.
    How to fix: set `machine.rollout: {type: vllm, servers: 1}`, or `max_staleness: 0`; to try a schedule out on one
    process, allow it: `allow: {RC543: "why"}`.
    References: recipec: which weights sample a row depends on the number of the step alone.
    """
    engine = rollout_engine(reading)
    if engine is None or engine[1].apart() or reading.fragment:
        return
    for stage, part, _ in _ahead(reading):
        yield at_field(reading, part, KEY).finding(
            f"stage `{stage.name}` samples ahead, but `{engine[0].name}` samples in the process that trains",
            *(related_span(reading, engine[0].path, "the engine", key=True) if engine[0].given else ()),
        )


@check("RC545", "ahead-of-nothing")
def ahead_of_nothing(reading: Reading) -> Iterator[Finding]:
    """A sampler of pairs is to run ahead of updates.

    What it checks: `sampler.max_staleness` is 0 outside `rl` stages.
    Why it matters: a `dpo` stage samples before its first update; there is nothing to run ahead of.
    Example: `sampler: {max_staleness: 1}` in a stage of `kind: dpo`.
    How to fix: remove `max_staleness`.
    References: recipec: pairs are made before the first step.
    """
    for stage in reading.stages.values():
        for part in stage.of("sampler"):
            if stage.kind not in {None, "rl"} and isinstance(part.spec, Sampler) and part.spec.max_staleness:
                yield at_field(reading, part, KEY).finding(
                    f"stage `{stage.name}` samples before its first update, so that no rollout can be stale"
                )


@check("RC546", "retired-pairs")
def retired_pairs(reading: Reading) -> Iterator[Finding]:
    """Prompts are to be retired in a stage that makes pairs.

    What it checks: `sampler.retire` is one of a stage of kind `rl`.
    Why it matters: the sampler of a stage that makes pairs samples each prompt once, before training, and scores none.
    Example: `kind: dpo` with `sampler: {retire: {pass_rate: 0.9}}`.
    How to fix: drop `retire`.
    References: Khatri et al., ScaleRL, https://arxiv.org/abs/2510.13786, 2025: prompts are left out of later epochs.
    """
    for stage in reading.stages.values():
        for part in stage.of("sampler"):
            if stage.kind not in {None, "rl"} and isinstance(part.spec, Sampler) and part.spec.retire is not None:
                yield at_field(reading, part, "retire").finding(
                    f"stage `{stage.name}` retires prompts, but samples each of them once, before training"
                )
