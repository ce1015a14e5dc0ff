"""Objectives that are legal but known to be wrong, each with its source: RC406 to RC430."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    at_field,
    at_part,
    display_name,
    field_span,
    is_given,
    parts_of,
    related_span,
    several_updates,
    shares,
    span_of,
    spec_of,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.loss import Clipped, Dpo, Nll, PolicyGradient
from recipec.spec.reward import Reward


@check("RC406", "kl-twice", "warning")
def kl_twice(reading: Reading) -> Iterator[Finding]:
    """The KL to the reference is penalised both in the loss and in the reward.

    What it checks: `loss.beta` above 0 together with a reward `kl_penalty`.
    Why it matters: the policy is penalised twice, with two coefficients and two estimators, which matches no published
    setting.
    Example: `loss: {beta: 0.001}` with `reward: {drift: {type: kl_penalty}}`.
    How to fix: set `beta: 0`, or drop the reward. GRPO has the KL in the loss, InstructGPT and RLOO in the reward.
    References: Shao et al., DeepSeekMath, https://arxiv.org/abs/2402.03300, 2024, section 4.1.1: moved from the reward
    into the loss; verl keeps `use_kl_loss` and `use_kl_in_reward` as two switches.
    """
    for stage, part, spec in parts_of(reading, PolicyGradient):
        charged = [level for level in stage.of("reward") if isinstance(level.spec, Reward) and level.spec.weight]
        charged = [level for level in charged if level.spec is not None and level.spec.needs("ref_logprob_RT")]
        if spec.beta > 0 and charged:
            yield at_field(reading, part, "beta").finding(
                f"stage `{stage.name}` penalises the KL twice: in the loss and in reward `{charged[0].level}`",
                *related_span(reading, charged[0].path, "and here", key=True),
            )


@check("RC407", "coarse-ratio-fine-credit", "warning")
def coarse_ratio_fine_credit(reading: Reading) -> Iterator[Finding]:
    """One ratio for a whole row or turn is multiplied with a different credit for each token.

    What it checks: `ratio: sequence` or `turn` where levels of advantage give credit to each token.
    Why it matters: the ratio treats the row as one action, so that the credit of a token is weighted by how the
    probabilities of the other tokens changed.
    Example: `ratio: sequence` with `advantage: {combine: per_token, …}`.
    How to fix: set `ratio: token`, or use credit for rows. (`ratio_gradient: own` gives each token its own gradient,
    not its own ratio.)
    References: Zheng et al., GSPO, https://arxiv.org/abs/2507.18071, 2025, section 4.3 (GSPO-token).
    """
    for stage, part, spec in parts_of(reading, PolicyGradient):
        fine = [level for level in stage.of("advantage") if level.spec and "advantage_RT" in level.spec.provides()]
        fine += [level for level in stage.of("advantage") if stage.combine == "per_token"]
        if spec.coarse() and fine:
            yield at_field(reading, part, "ratio").finding(
                f"one ratio per {spec.coarse()} is multiplied with credit that "
                f"{display_name(fine[0])} gives to each token",
                *related_span(reading, fine[0].path, "credit of each token", key=True),
            )


@check("RC408", "coarse-ratio-fine-mean", "warning")
def coarse_ratio_fine_mean(reading: Reading) -> Iterator[Finding]:
    """A row has one ratio, but counts as often as it has tokens.

    What it checks: `ratio: sequence` or `product`, or `gmpo`, with `aggregate: token_mean`.
    Why it matters: the ratio treats the row as one action, but the mean gives long rows more weight than short ones,
    which the sequence objective was designed to avoid.
    Example: `loss: {type: clipped, ratio: sequence}` without `aggregate`.
    How to fix: set `aggregate: seq_mean_token_mean`, as published.
    References: Zheng et al., GSPO, https://arxiv.org/abs/2507.18071, 2025, eq. 5; verl forces this mean for gspo.
    """
    for _, part, spec in parts_of(reading, PolicyGradient):
        if spec.coarse() == "row" and spec.aggregate == "token_mean":
            yield Finding(
                "one ratio per row with a mean over tokens: long rows count more than short ones",
                (*field_span(reading, part, "ratio"), *related_span(reading, (*part.path, "aggregate"), "the mean")),
                path=dotted((*part.path, "aggregate")),
            )


@check("RC409", "dropout-in-ratio", "warning")
def dropout_in_ratio(reading: Reading) -> Iterator[Finding]:
    """Dropout is on while the objective is a ratio of probabilities.

    What it checks: `policy.dropout` or `lora.dropout` above 0 in an `rl` stage.
    Why it matters: the policies that sample and that are trained use different dropout masks, so that the ratio is not
    1 even before the first update and clipping acts on noise. The forward pass of the old policy cannot be skipped
    either.
    Example: `lora: {r: 8, dropout: 0.05}` in an `rl` stage.
    How to fix: set dropout to 0, or allow the warning with the reason.
    References: huggingface/trl turns dropout off by default for GRPO (`disable_dropout` in its trainers); the published
    DermIQ-VLM trainer keeps 0.05.
    """
    for stage in reading.stages.values():
        part, key, rate = _dropout(stage)
        if stage.kind == "rl" and part is not None:
            yield Finding(
                f"dropout is {rate:g} in stage `{stage.name}`, but its objective is a ratio of probabilities",
                (
                    *span_of(reading, (*part.path, *key.split("."))),
                    *(() if part.given else related_span(reading, (*stage.path, "kind"), "inherited by this stage")),
                ),
                help=f"set {key} to 0, or allow it with the reason",
                path=dotted((*stage.path, "policy", key)),
            )


def _dropout(stage: StageReading) -> tuple[Part | None, str, float]:
    """Return the policy of a stage that has dropout, the dotted key that switches it on, and the rate."""
    spec = spec_of(stage, "policy")
    for key, rate in () if spec is None else spec.dropout_rates().items():
        return stage.of("policy")[0], key, rate
    return None, "", 0.0


@check("RC430", "shared-prefix-dropout")
def shared_prefix_dropout(reading: Reading) -> Iterator[Finding]:
    """Rows share the computation of a prefix while dropout is on.

    What it checks: attention `trie` or `shared_prefix` with dropout above 0.
    Why it matters: shared tokens are computed once, so that all rows would share one dropout mask, which gives another
    loss than separate rows.
    Example: `attention: {type: trie}` with `lora: {dropout: 0.05}`.
    How to fix: set dropout to 0, or use attention `packed`.
    References: Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025: equality needs dropout 0.
    """
    for stage in reading.stages.values():
        part, key, rate = _dropout(stage)
        attention = next(iter(stage.of("attention")), None)
        if part is not None and attention is not None and shares(attention):
            yield at_part(reading, attention).finding(
                f"{display_name(attention)} computes shared tokens once, but dropout is {rate:g}",
                *related_span(reading, (*part.path, *key.split(".")), "dropout here"),
                remedy=f"set {key} to 0, or use attention `packed`",
            )


@check("RC420", "tight-dual-clip", "warning")
def tight_dual_clip(reading: Reading) -> Iterator[Finding]:
    """The dual clip cuts inside the trust region.

    What it checks: `dual_clip` above `1 + epsilon_high`.
    Why it matters: for negative advantages the second bound is meant to stop very large ratios; at or below the first
    bound it stops every row that changed at all.
    Example: `loss: {epsilon: 0.2, dual_clip: 1.1}`.
    How to fix: set it well above 1 + epsilon; published runs use 3.0.
    References: Ye et al., Mastering Complex Control, https://arxiv.org/abs/1912.09729, 2020: c = 3.
    """
    for _, part, spec in parts_of(reading, Clipped):
        top = 1 + (spec.epsilon if spec.epsilon_high is None else spec.epsilon_high)
        if spec.dual_clip is not None and spec.dual_clip <= top:
            yield at_field(reading, part, "dual_clip").finding(
                f"`dual_clip: {spec.dual_clip:g}` cuts inside the trust region, which ends at {top:g}"
            )


@check("RC421", "clip-lower", "warning")
def clip_lower(reading: Reading) -> Iterator[Finding]:
    """The upper bound of the ratio is closer to 1 than the lower one.

    What it checks: `epsilon_high` is at least `epsilon`.
    Why it matters: unlikely tokens can then only lose probability and exploration stops; the separate upper bound was
    introduced for the opposite.
    Example: `loss: {epsilon: 0.28, epsilon_high: 0.2}`.
    How to fix: swap the two, as in `epsilon: 0.2, epsilon_high: 0.28`, or drop `epsilon_high`.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025, section 3.1 (clip higher).
    """
    for _, part, spec in parts_of(reading, Clipped):
        if spec.epsilon_high is not None and spec.epsilon_high < spec.epsilon:
            yield at_field(reading, part, "epsilon_high").finding(
                f"`epsilon_high: {spec.epsilon_high:g}` is below `epsilon: {spec.epsilon:g}`",
                *related_span(reading, (*part.path, "epsilon"), "epsilon here"),
            )


@check("RC422", "estimator-without-gradient", "warning")
def estimator_without_gradient(reading: Reading) -> Iterator[Finding]:
    """The KL term of the loss uses an estimator with a gradient that is zero on average.

    What it checks: `kl: k1` in a loss with `beta` above 0.
    Why it matters: the value of k1 estimates the KL, but its gradient does not: the term adds noise and does not hold
    the policy back. In the reward, k1 is sound.
    Example: `loss: {type: clipped, beta: 0.01, kl: k1}`.
    How to fix: set `kl: k3` or `kl: k2`, or move the KL to the reward as `kl_penalty`.
    References: Tang & Munos, On a few pitfalls in KL divergence gradient estimation for RL,
    https://arxiv.org/abs/2506.09477, 2025.
    """
    for _, part, spec in parts_of(reading, PolicyGradient):
        if spec.beta > 0 and spec.kl == "k1":
            yield at_field(reading, part, "kl").finding(
                "`kl: k1` in the loss has a gradient that is zero on average",
                *related_span(reading, (*part.path, "beta"), "turned on here"),
            )


@check("RC423", "no-normaliser")
def no_normaliser(reading: Reading) -> Iterator[Finding]:
    """`aggregate: fixed` has no `normaliser`.

    What it checks: `aggregate: fixed` comes with `normaliser`.
    Why it matters: a sum over tokens needs a denominator, or the loss has no scale.
    Example: `loss: {type: clipped, aggregate: fixed}`.
    How to fix: add `normaliser`, commonly the longest completion in tokens, such as 1024.
    References: Liu et al., Understanding R1-Zero-Like Training, https://arxiv.org/abs/2503.20783, 2025.
    """
    for part, spec in _means(reading):
        if spec.aggregate == "fixed" and spec.normaliser is None:
            yield Finding(
                "`aggregate: fixed` divides by `normaliser`, which is not given",
                field_span(reading, part, "aggregate"),
                path=dotted((*part.path, "normaliser")),
            )


def _means(reading: Reading) -> Iterator[tuple[Part, PolicyGradient | Nll]]:
    """Yield the losses that average over tokens."""
    yield from ((part, part.spec) for part in reading.parts if isinstance(part.spec, PolicyGradient | Nll))


@check("RC424", "unread-normaliser", "warning")
def unread_normaliser(reading: Reading) -> Iterator[Finding]:
    """A `normaliser` is given that the mean does not use.

    What it checks: `normaliser` is set only with `aggregate: fixed`.
    Why it matters: the mean divides by the number of rows or tokens that it counts.
    Example: `loss: {aggregate: token_mean, normaliser: 1024}`.
    How to fix: set `aggregate: fixed`, or drop `normaliser`.
    References: Liu et al., Understanding R1-Zero-Like Training, https://arxiv.org/abs/2503.20783, 2025.
    """
    for part, spec in _means(reading):
        if spec.normaliser is not None and spec.aggregate != "fixed":
            yield at_field(reading, part, "normaliser").finding(
                f"`normaliser: {spec.normaliser}` is not used by `aggregate: {spec.aggregate}`"
            )


@check("RC425", "smoothing-unread", "warning")
def smoothing_unread(reading: Reading) -> Iterator[Finding]:
    """Label smoothing is set for a preference objective without labels.

    What it checks: `label_smoothing` above 0 with a `variant` other than `sigmoid`, `robust` and `exo_pair`.
    Why it matters: only `sigmoid`, `robust` and `exo_pair` have labels to smooth; the number has no effect.
    Example: `loss: {type: dpo, variant: ipo, label_smoothing: 0.1}`.
    How to fix: set `variant: sigmoid` or `robust`, or drop `label_smoothing`.
    References: Mitchell, cDPO, 2023, https://ericmitchell.ai/cdpo.pdf; TRL's DPO trainer warns of the same.
    """
    for _, part, spec in parts_of(reading, Dpo):
        if spec.label_smoothing > 0 and spec.variant not in {"sigmoid", "robust", "exo_pair"}:
            yield at_field(reading, part, "label_smoothing").finding(
                f"`label_smoothing` has no effect with `variant: {spec.variant}`",
                *related_span(reading, (*part.path, "variant"), "the variant"),
            )


@check("RC426", "ipo-of-sums", "warning")
def ipo_of_sums(reading: Reading) -> Iterator[Finding]:
    """IPO compares sums of log-probabilities of answers with different lengths.

    What it checks: `variant: ipo` with `length_normalised: false`.
    Why it matters: the objective pulls the difference to 1 / (2 beta) nats; for sums, that is a tiny amount per token
    of long answers and a large one for short answers.
    Example: `loss: {type: dpo, variant: ipo}`.
    How to fix: add `length_normalised: true`.
    References: TRL, DPOTrainer, `loss_type="ipo"`: averaged over tokens, after the authors' correction.
    """
    for _, part, spec in parts_of(reading, Dpo):
        if spec.variant == "ipo" and not spec.length_normalised:
            key = "length_normalised" if is_given(reading, (*part.path, "length_normalised")) else "variant"
            yield Finding(
                "`variant: ipo` compares sums over answers of different length",
                field_span(reading, part, key),
                path=dotted((*part.path, "length_normalised")),
            )


@check("RC427", "no-trust-region", "warning")
def no_trust_region(reading: Reading) -> Iterator[Finding]:
    """Several updates use the same rows, but the ratio has almost no bound.

    What it checks: `epsilon` of 1 with an upper bound of 1 or more where a step has several updates or passes.
    Why it matters: after the first update the rows come from another policy; without a bound, nothing keeps later
    updates from moving too far.
    Example: `loss: {epsilon: 1.0}` with `budget: {passes: 4}`.
    How to fix: set `epsilon: 0.2`, or use one update per step.
    References: Schulman et al., PPO, https://arxiv.org/abs/1707.06347, 2017, section 6.1: no clipping fails.
    """
    for stage, part, spec in parts_of(reading, Clipped):
        high = spec.epsilon if spec.epsilon_high is None else spec.epsilon_high
        if spec.epsilon == 1 and high >= 1 and several_updates(stage):
            hardly = f"a ratio of up to {1 + high:g} is hardly bounded"
            yield at_field(reading, part, "epsilon").finding(
                f"stage `{stage.name}` takes several updates from one rollout, but {hardly}",
                *related_span(reading, (*stage.path, "budget"), "several updates", key=True),
            )
