"""The advantage `signed`, and a reference in the role of the old policy: RC464 to RC469."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    at_field,
    at_path,
    display_name,
    group_size,
    parts_of,
    related_span,
    span_of,
    updates_per_step,
)
from recipec.checks.reward_bounds import judged
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Reading, StageReading
from recipec.spec.advantage import Advantage, Signed
from recipec.spec.loss import PolicyGradient
from recipec.spec.reference import Reference
from recipec.spec.reward import Reward
from recipec.spec.sampler import Sampler


@check("RC464", "filter-against-sign", "warning")
def filter_against_sign(reading: Reading) -> Iterator[Finding]:
    """Groups with equal rewards are sampled again, although the advantage does not compare within groups.

    What it checks: `sampler.group_filter` where every advantage level is `signed`.
    Why it matters: with `signed`, groups that are all right or all wrong have credit; each would be dropped and sampled
    again.
    Example: `sampler: {group_filter: {}}` with `advantage: {sign: {type: signed}}`.
    How to fix: drop `group_filter`.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025: groups are filtered since their z-score is 0.
    """
    for stage in reading.stages.values():
        levels = stage.of("advantage")
        for part in stage.of("sampler"):
            if not isinstance(part.spec, Sampler) or part.spec.group_filter is None or not levels:
                continue
            if all(isinstance(level.spec, Advantage) and level.spec.compares is None for level in levels):
                again = " and samples again" if part.spec.group_filter.action == "resample" else ""
                yield at_path(reading, (*part.path, "group_filter"), key=True).finding(
                    f"stage `{stage.name}` drops{again} groups that {display_name(levels[0])} would learn from",
                    *related_span(reading, levels[0].path, "credit without a group", key=True),
                )


@check("RC465", "sign-outvoted", "warning")
def sign_outvoted(reading: Reading) -> Iterator[Finding]:
    """A z-score next to a sign is large enough to reinforce a wrong answer.

    What it checks: where `signed` and `group_relative` with `scale: std` are added, the largest possible z-score of the
    group's size, (n - 1) / sqrt(n) times its weight, against the penalty of a wrong answer.
    Why it matters: the sign should prevent that the best of a group of wrong answers is reinforced; the sum would
    reinforce it.
    Example: `advantage: {sign: {type: signed}, group: {type: group_relative}}` with groups of 8: up to 2.47 against -1.
    How to fix: set the `weight` of the group level below the penalty divided by that bound, or keep one of the two.
    References: Shiffler, Maximum Z Scores and Outliers, The American Statistician 42, 1988 (the bound); DermIQ-VLM,
    https://arxiv.org/abs/2510.01236, 2025 (GRPO++).
    """
    for stage in reading.stages.values():
        levels = stage.of("advantage")
        signs = {part.path: part.spec for part in levels if isinstance(part.spec, Signed)}
        penalty = sum(spec.weight * spec.negative for spec in signs.values())
        if stage.combine != "sum" or penalty >= 0:
            continue
        for part in levels:
            spec = part.spec
            size = group_size(stage, spec.compares) if isinstance(spec, Advantage) and spec.compares else None
            most = spec.largest_credit(size) if isinstance(spec, Advantage) and size and size >= 2 else None
            if isinstance(spec, Advantage) and most is not None and most + penalty > 0:
                sign = next(level for level in levels if level.path in signs)
                yield Finding(
                    f"{display_name(part)} gives up to {most:.3g} in groups of {size}, "
                    f"but {display_name(sign)} penalises a wrong answer by only {-penalty:g}",
                    (
                        *span_of(reading, part.path, key=True),
                        *related_span(reading, sign.path, "the sign that it outweighs", key=True),
                    ),
                    help=f"set its `weight` below {-penalty * abs(spec.weight) / most:.3g}, or keep one of the two",
                    path=dotted((*part.path, "weight")),
                )


@check("RC466", "blurred-sign", "warning")
def blurred_sign(reading: Reading) -> Iterator[Finding]:
    """A wrong answer can exceed the threshold of `signed`, or no right one can.

    What it checks: where several reward levels are added and one judges the answer: everything that right and wrong
    answers can get, by values and weights, against `threshold`.
    Why it matters: a wrong answer would be reinforced for its format, which the sign should prevent.
    Example: 7 and -1 for the label, up to 2 for its format, `threshold: 0`: a wrong label in good format earns 1.
    How to fix: set a threshold between the two.
    References: DermIQ-VLM, https://arxiv.org/abs/2510.01236, 2025, and GraphIQ-VLM, with a format reward of this size.
    """
    for stage, part, spec in parts_of(reading, Signed):
        rewards = stage.of("reward")
        specs = [level.spec for level in rewards if isinstance(level.spec, Reward)]
        if spec.value not in {"reward_R", "score_R"} or len(specs) < len(rewards):
            continue
        counted = [one for one in specs if one.weight]
        if len(counted) < 2:
            continue
        bounds = judged(counted)
        if bounds is None:
            continue
        (least, best), (_, most) = bounds
        if most > spec.threshold:
            problem = f"a wrong answer may earn {most:g}, which is above it"
        elif best <= spec.threshold:
            problem = f"a right answer earns {best:g} at most, which is not above it"
        else:
            continue
        yield at_field(reading, part, "threshold").finding(
            f"{display_name(part)} has the threshold {spec.threshold:g}, but {problem}",
            *related_span(reading, (*stage.path, "reward"), "these levels are added", key=True),
            remedy=f"set a threshold from {most:g} to below {least:g}"
            if most < least
            else "raise the weight of the level that judges the answer",
        )


@check("RC467", "wrong-sign", "warning")
def wrong_sign(reading: Reading) -> Iterator[Finding]:
    """A `signed` level reinforces wrong answers, or does not prefer right ones.

    What it checks: with its weight, `negative` is not above 0, `positive` is not below 0, and they differ.
    Why it matters: the policy would learn to be wrong, or the same from every answer.
    Example: `{type: signed, positive: 1.0, negative: 1.0}`: a minus was forgotten.
    How to fix: set `positive` above 0 and `negative` below, as in `positive: 1.0, negative: -1.0`.
    References: DermIQ-VLM, https://arxiv.org/abs/2510.01236, 2025.
    """
    for _, part, spec in parts_of(reading, Signed):
        right, wrong = spec.weight * spec.positive, spec.weight * spec.negative
        if right == wrong == 0 or (right > wrong and right >= 0 >= wrong):
            continue
        problem = "reinforces wrong answers" if wrong > 0 else "penalises right answers"
        yield at_field(reading, part, "negative" if wrong > 0 else "positive").finding(
            f"{display_name(part)} {problem}: credit {right:g} for right ones, {wrong:g} for wrong ones"
        )


def _lagged(stage: StageReading) -> bool:
    return any(isinstance(part.spec, Reference) and part.spec.follows() is not None for part in stage.of("reference"))


@check("RC468", "tied-to-the-start", "warning")
def tied_to_the_start(reading: Reading) -> Iterator[Finding]:
    """The ratio is computed against a reference that never changes.

    What it checks: `ratio_to: ref_logprob_RT` without `reference: {type: lagged}`.
    Why it matters: once the policy has left the trust region around its start, clipping stops every further step in
    that direction. A reference can replace the old policy only if it follows the policy.
    Example: `loss: {ratio_to: ref_logprob_RT}` with the default reference, `frozen`.
    How to fix: set `reference: {type: lagged, sync_every_updates: 10}`, or `ratio_to: old_logprob_RT`.
    References: Schulman et al., PPO, https://arxiv.org/abs/1707.06347, 2017, section 3: the ratio is to the policy
    before the update; GraphIQ-VLM copies its adapter every 10 updates.
    """
    for stage, part, spec in parts_of(reading, PolicyGradient):
        references = stage.of("reference")
        if spec.ratio_to != "ref_logprob_RT" or _lagged(stage) or any(r.spec is None for r in references):
            continue
        if reading.fragment and not any(reference.given for reference in references):
            continue
        more = related_span(reading, references[0].path, "it never moves", key=True) if references else ()
        yield at_field(reading, part, "ratio_to").finding(
            f"{display_name(part)} computes its ratio against a reference that stays the policy that entered stage "
            f"`{stage.name}`",
            *(more if references and references[0].given else ()),
        )


@check("RC469", "never-refreshed", "warning")
def never_refreshed(reading: Reading) -> Iterator[Finding]:
    """A lagged reference is updated after more updates than the stage has.

    What it checks: `sync_every_updates` of `lagged` against steps times updates of a step.
    Why it matters: it would stay the policy that entered the stage, as a `frozen` reference does.
    Example: `sync_every_updates: 10` in a stage of 8 steps with one update each.
    How to fix: use a smaller number, or `frozen`.
    References: GraphIQ-VLM, https://github.com/SwapniL-afk-now/GraphIQ-VLM, 2025: every 10 updates of some hundred.
    """
    for stage, part, spec in parts_of(reading, Reference):
        each, every = updates_per_step(stage), spec.follows()
        steps = stage.budget.steps if stage.budget is not None else None
        if each is None or steps is None or every is None or every < steps * each:
            continue
        yield at_field(reading, part, "sync_every_updates").finding(
            f"{display_name(part)} is updated after {every} updates, but stage `{stage.name}` has {steps * each}",
            *related_span(reading, (*stage.path, "budget", "steps"), "the stage"),
        )
