"""Distillation that cannot be computed: RC476."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_part, display_name, parts_of, related_span, spec_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading
from recipec.spec.loss import Loss
from recipec.spec.train_engine import TrainEngine


@check("RC476", "unsupported-teacher")
def unsupported_teacher(reading: Reading) -> Iterator[Finding]:
    """The distributions of a teacher cannot be compared with those of this policy in this version.

    What it checks: a stage with the loss `gkd` has a policy that reads text alone, and `machine.train` does not spread
    the tokens of a sequence over devices.
    Why it matters: both models are computed side by side for the same rows, on whole sequences of text.
    Example: `loss: {type: gkd}` with `policy: {type: vision_lm}`.
    How to fix: use the advantage `reverse_kl`, which reads log-probabilities of the tokens that were sampled;
    `sequence_parallel: 1`.
    References: Agarwal et al., GKD, https://arxiv.org/abs/2306.13649, 2023: two language models, one vocabulary.
    """
    engine = reading.machine.get("train")
    spread = engine is not None and isinstance(engine.spec, TrainEngine) and engine.spec.sequence_partitions() > 1
    for stage, part, spec in parts_of(reading, Loss):
        if not spec.needs("divergence_RT"):
            continue
        policy = spec_of(stage, "policy")
        if policy is not None and policy.sees:
            other = stage.of("policy")[0]
            yield at_part(reading, part).finding(
                f"{display_name(part)} compares language models, and {display_name(other)} is a vision-language model",
                *related_span(reading, other.path, "the policy", key=True),
                remedy="use `loss: {type: clipped}` with an advantage level `{type: reverse_kl}`",
            )
        if spread:
            yield at_part(reading, part).finding(
                f"{display_name(part)} needs whole sequences on a device",
                remedy="write `sequence_parallel: 1`, or use an advantage level `{type: reverse_kl}`",
            )
