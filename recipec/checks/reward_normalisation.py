"""Rewards that are normalised while a stage runs, where no scale is known or nothing runs: RC482."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_field, at_path, parts_of, related_span, spec_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading, StageReading
from recipec.spec.reward import Reward
from recipec.spec.sampler import Sampler


@check("RC482", "misplaced-normalisation")
def misplaced_normalisation(reading: Reading) -> Iterator[Finding]:
    """A reward is normalised where its values have no fixed scale to compare with, or where nothing is normalised.

    What it checks: `normalise` of a reward is used in an rl stage with one row for each episode; no `group_filter` with
    `between` and no `retire` compares the total reward, of which it is a part, with a number.
    Why it matters: after normalisation the same answer has another reward in each step, so that no number stays a
    threshold; the reward of an episode that is cut into steps is a sum, and its parts have another deviation; an
    evaluation reports rewards as they are, so that those of different steps can be compared.
    Example: `sampler: {retire: {correct_at: 1.0}}` with `reward: {right: {type: exact_match, normalise: running}}`.
    How to fix: name the reward level that decides, as `level`; normalise the advantage instead, by `whiten`; leave
    `normalise` out of the rewards of an evaluation.
    References: trlx, PPOConfig, `scale_reward: running`: one score for each completion, scaled in training only.
    """
    for stage, part, spec in parts_of(reading, Reward):
        if spec.normalise == "none":
            continue
        sampler = spec_of(stage, "sampler")
        if sampler is None:
            continue
        if sampler.rows == "step":
            yield at_field(reading, part, "normalise").finding(
                f"reward `{part.level}` is normalised, but rows are steps, and an episode has the sum of their rewards",
                *related_span(reading, (*stage.path, "sampler", "rows"), "each step is a row"),
                why="a part of a sum has another mean and deviation than the sum",
                remedy="drop `normalise`, and normalise the advantage: `advantage: {whiten: rows}`",
            )
        if spec.weight:
            yield from _thresholds(reading, stage, part.level, sampler)
    for name, evaluation in reading.evaluate.items():
        for level, own in evaluation.reward.items():
            if isinstance(own, Reward) and own.normalise != "none":
                yield at_path(reading, ("evaluate", name, "reward", level, "normalise")).finding(
                    f"reward `{level}` of evaluation `{name}` would be normalised, which evaluations do not do",
                    why="an evaluation reports rewards as they are, so that those of different steps can be compared",
                    remedy="drop `normalise`",
                )


def _thresholds(reading: Reading, stage: StageReading, level: str, sampler: Sampler) -> Iterator[Finding]:
    """Find what compares the total reward with a number, of which a normalised level is a part."""
    group_filter, retire = sampler.resamples() or sampler.drops(), sampler.retire
    of_total = {
        "group_filter": group_filter is not None and group_filter.between is not None and group_filter.level is None,
        "retire": retire is not None and retire.level is None,
    }
    for key in (key for key, compares in of_total.items() if compares):
        yield at_path(reading, (*stage.path, "sampler", key), key=True).finding(
            f"`{key}` compares the total reward with a number, but `{level}` is normalised, so that its scale changes",
            *related_span(reading, (*stage.path, "reward", level, "normalise"), "normalised here"),
            why="the same answer has another reward in each step, so that no number stays a threshold",
            remedy=f"compare a level as it is: `level: {level}`",
        )
