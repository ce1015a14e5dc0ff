"""Advantage levels that do not fit together, or have parameters without effect: RC432 to RC438, RC449, RC478, RC480."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import at_field, at_path, display_name, is_given, parts_of, related_span
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import nearest, question
from recipec.reading.partial import Part, Reading, StageReading
from recipec.signals import reward_level
from recipec.spec.advantage import Advantage, Gae, GroupRelative, Remax
from recipec.spec.reward import Environment
from recipec.spec.sampler import Chain, Sampler


def _combined(reading: Reading, how: str) -> Iterator[tuple[StageReading, Part, Advantage]]:
    """Yield the readable levels of stages that combine them in one way."""
    return (level for level in parts_of(reading, Advantage) if level[0].combine == how)


def _how(reading: Reading, stage: StageReading) -> tuple[Any, ...]:
    return related_span(reading, (*stage.path, "advantage", "combine"), "levels are combined so")


@check("RC432", "level-of-rows")
def level_of_rows(reading: Reading) -> Iterator[Finding]:
    """Tokens are to be compared, but a level compares only rows.

    What it checks: under `combine: per_token`, every level is `group_relative`, with `statistics: rows` and a `scale`
    other than `mean`.
    Why it matters: mean and deviation are those of all tokens of a group; a sign, a leave-one-out mean, a mean reward
    or an episode that counts once has no meaning for tokens.
    Example: `advantage: {combine: per_token, sign: {type: signed}}`.
    How to fix: use `group_relative`, or `combine: sum`.
    References: AMAP-ML/Tree-GRPO, `tree_per_token`.
    """
    for stage, part, spec in _combined(reading, "per_token"):
        key = "" if spec.over_tokens else "type"
        if isinstance(spec, GroupRelative):
            key = "statistics" if spec.statistics == "trajectories" else "scale" if spec.scale == "mean" else ""
        if key:
            compared = "episodes" if key == "statistics" else "rows"
            yield at_field(reading, part, key).finding(
                f"{display_name(part)} compares {compared}, but `combine: per_token` compares tokens",
                *_how(reading, stage),
                remedy=("use `group_relative`" if key == "type" else f"drop `{key}`") + ", or use `combine: sum`",
            )


@check("RC433", "value-of-further-level")
def value_of_further_level(reading: Reading) -> Iterator[Finding]:
    """A later level of `combine: sequential` has a `value`, but compares the credit of the level before it.

    What it checks: of levels that are combined in sequence, only the first has a `value`.
    Why it matters: the column would be ignored: under `combine: sequential`, only the first level compares a column.
    Example: `advantage: {combine: sequential, across: {…}, within: {value: return_R, …}}`.
    How to fix: drop `value`, or use `combine: sum`, under which each level compares its own column.
    References: Ji et al., Tree-GRPO, https://arxiv.org/abs/2509.21240, 2025: `tree_2norm` of their code normalises what
    the level before it made.
    """
    seen: set[str] = set()
    for stage, part, _ in _combined(reading, "sequential"):
        if stage.name in seen and is_given(reading, (*part.path, "value")):
            yield at_path(reading, (*part.path, "value")).finding(
                f"{display_name(part)} has a `value`, but compares the credit of the level before it",
                *_how(reading, stage),
            )
        seen.add(stage.name)


@check("RC434", "nothing-to-combine", "warning")
def nothing_to_combine(reading: Reading) -> Iterator[Finding]:
    """`combine: sequential` has only one level.

    What it checks: `combine: sequential` has two levels or more.
    Why it matters: with one level, nothing is normalised a second time.
    Example: `advantage: {combine: sequential, group: {type: group_relative}}`.
    How to fix: add a level, or drop `combine`.
    References: Ji et al., Tree-GRPO, https://arxiv.org/abs/2509.21240, 2025: `tree_2norm` of their code has two levels.
    """
    for stage in reading.stages.values():
        if stage.combine == "sequential" and len(stage.of("advantage")) == 1:
            yield at_path(reading, (*stage.path, "advantage", "combine")).finding(
                f"stage `{stage.name}` combines levels in sequence, but has only one"
            )


@check("RC435", "penalty-unread", "warning")
def penalty_unread(reading: Reading) -> Iterator[Finding]:
    """A penalty for invalid actions is set, but no level compares a value that includes it.

    What it checks: `invalid_action_penalty` comes with a level over `score_R` or `return_R`.
    Why it matters: the penalty is subtracted from scores and returns, never from `reward_R`, so that it would have no
    effect.
    Example: `reward: {task: {type: environment, invalid_action_penalty: 0.1}}` with a level over `reward_R`.
    How to fix: set `value: score_R` in a level, or drop `invalid_action_penalty`.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025, and its code: local to the row.
    """
    for stage, part, spec in parts_of(reading, Environment):
        levels = stage.of("advantage")
        values = {level.spec.value for level in levels if isinstance(level.spec, Advantage)}
        if spec.invalid_action_penalty and all(level.spec for level in levels) and not values & {"score_R", "return_R"}:
            yield at_field(reading, part, "invalid_action_penalty").finding(
                f"{display_name(part)} penalises invalid actions, but no advantage level compares `score_R` or "
                f"`return_R`",
                *related_span(reading, (*stage.path, "advantage"), "the levels", key=True),
            )


@check("RC436", "charged-outliers", "warning")
def charged_outliers(reading: Reading) -> Iterator[Finding]:
    """Each episode counts once in a deviation, but its rows are penalised one by one.

    What it checks: `statistics: trajectories` with `scale: std` over `score_R` or `return_R`, together with an
    `invalid_action_penalty`.
    Why it matters: an episode is measured by its first row. Where first rows agree, the deviation is 0, and a later row
    with a penalty is divided by epsilon alone: its credit is the penalty times a million.
    Example: `{value: score_R, statistics: trajectories}` with `invalid_action_penalty: 0.1`.
    How to fix: set `statistics: rows`, as the published code does, or `scale: none`, or drop the penalty.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025, eq. 3, against its code.
    """
    for stage, reward, penalised in parts_of(reading, Environment):
        for part in stage.of("advantage"):
            spec = part.spec
            if (
                penalised.invalid_action_penalty
                and isinstance(spec, GroupRelative)
                and spec.statistics == "trajectories"
                and spec.scale == "std"
                and spec.value in {"score_R", "return_R"}
            ):
                yield at_field(reading, part, "statistics").finding(
                    f"{display_name(part)} measures an episode by its first row, but rows are penalised one by one",
                    *related_span(reading, (*reward.path, "invalid_action_penalty"), "penalised here"),
                )


@check("RC437", "unknown-reward-level")
def unknown_reward_level(reading: Reading) -> Iterator[Finding]:
    """A level of advantage, or a filter of prompts, names a reward level that the stage does not have.

    What it checks: `value: reward.LEVEL` of an advantage level, `group_filter.level` and `retire.level` against the
    levels of `reward`.
    Why it matters: there would be nothing to compare.
    Example: `advantage: {format: {type: group_relative, value: reward.format}}` without a reward level `format`.
    How to fix: name one of the levels of `reward`, or `reward_R`, the total.
    References: Liu et al., GDPO, https://arxiv.org/abs/2601.05242, 2026: each reward is standardised on its own.
    """
    for stage in reading.stages.values():
        levels = [part.level for part in stage.of("reward")]
        named = [
            (part, "value", f"value: {part.spec.value}", reward_level(part.spec.value))
            for part in stage.of("advantage")
            if isinstance(part.spec, Advantage) and reward_level(part.spec.value)
        ]
        for part in stage.of("sampler"):
            for key in ("group_filter", "retire") if isinstance(part.spec, Sampler) else ():
                level_name = getattr(part.spec, key)
                if level_name is not None and level_name.level:
                    named.append((part, key, f"{key}.level: {level_name.level}", level_name.level))
        for part, key, written, level in named:
            if level in levels or (reading.fragment and not levels):
                continue
            yield at_field(reading, part, key).finding(
                f"`{written}` names a level of `reward` that stage `{stage.name}` does not have",
                remedy=question(nearest(level, levels))
                or f"its levels are {', '.join(f'`{name}`' for name in levels)}",
            )


@check("RC438", "whole-credit-of-tokens")
def whole_credit_of_tokens(reading: Reading) -> Iterator[Finding]:
    """The advantage of rows is to be whitened or clipped, but there is one for each token.

    What it checks: `whiten` and `clip` of `advantage` under `combine: per_token`; and `whiten: rows` with a level
    that credits tokens, such as `gae`.
    Why it matters: rows have no advantage of their own then.
    Example: `advantage: {combine: per_token, whiten: rows, …}`.
    How to fix: use `combine: sum`, or drop `whiten` and `clip`; with `gae`, use `whiten: tokens`.
    References: Hu, REINFORCE++, https://arxiv.org/abs/2501.03262, 2025: the whitened advantage is one of rows.
    """
    for stage in reading.stages.values():
        for key in ("whiten", "clip"):
            if stage.combine == "per_token" and getattr(stage.levels, key) not in {"none", None}:
                path = (*stage.path, "advantage", key)
                yield at_path(reading, path).finding(
                    f"`{key}` changes the advantage of rows, but `combine: per_token` gives one to each token",
                    *_how(reading, stage),
                )
        tokens = (part for part in stage.of("advantage") if part.spec and "advantage_RT" in part.spec.provides())
        if stage.combine == "sum" and stage.levels.whiten == "rows" and (part := next(tokens, None)):
            path = (*stage.path, "advantage", "whiten")
            yield at_path(reading, path).finding(
                f"`whiten: rows` changes the advantage of rows, but {display_name(part)} gives one to each token",
                *related_span(reading, part.path, "a level of tokens", key=True),
                remedy="write `whiten: tokens`",
            )


@check("RC449", "tokens-in-sequence")
def tokens_in_sequence(reading: Reading) -> Iterator[Finding]:
    """A level that credits tokens is combined in sequence.

    What it checks: `combine: sequential` with a level that gives an advantage to each token, such as `prefix_value`.
    Why it matters: a further level compares the credit of rows that the level before it made; there is one for each
    token.
    Example: `advantage: {combine: sequential, group: {…}, branches: {type: prefix_value}}`.
    How to fix: use `combine: sum`.
    References: Tran et al., TEMPO, https://arxiv.org/abs/2509.18314, 2025: the two terms are added.
    """
    for stage, part, spec in _combined(reading, "sequential"):
        if "advantage_RT" in spec.provides():
            yield at_field(reading, part, "type").finding(
                f"{display_name(part)} of stage `{stage.name}` credits tokens, but levels are combined in sequence",
                *_how(reading, stage),
            )


@check("RC478", "greedy-baseline")
def greedy_baseline(reading: Reading) -> Iterator[Finding]:
    """A greedy completion is decoded where nothing compares with it, or where it would count as a sample.

    What it checks: with `greedy_first` of the sampler, the stage is of kind `rl` and has an advantage `remax`, no
    other level compares rows, nothing is whitened, there is no environment, and a prompt has two completions or more.
    Why it matters: the greedy completion is a row of its prompt that is not trained on. Other levels and whitening
    would compare the others with it as if it were sampled; it would be the only one of a group of one. Episodes of an
    environment are sampled by turns, with one temperature.
    Example: `sampler: {greedy_first: true}` with `advantage: {group: {type: group_relative}}`.
    How to fix: use `advantage: {greedy: {type: remax}}`, or drop `greedy_first`.
    References: Li et al., ReMax, https://arxiv.org/abs/2310.10505, 2024: one baseline, of the greedy answer.
    """
    for stage, part, spec in parts_of(reading, Chain):
        if not spec.greedy_first:
            continue
        levels = [(level, level.spec) for level in stage.of("advantage") if isinstance(level.spec, Advantage)]
        own = [level for level, spec in levels if isinstance(spec, Remax)]
        others = [level for level, spec in levels if spec.compares is not None and level not in own]
        key, problem = "greedy_first", ""
        if stage.kind not in {None, "rl"}:
            problem = "it samples answers for pairs"
        elif others:
            problem = f"{display_name(others[0])} would compare its prompt's rows with the greedy one"
        elif not own:
            problem = "no advantage `remax` reads it"
        elif stage.levels.whiten != "none":
            problem = "`whiten` would average over it"
        elif stage.of("environment"):
            problem = "an environment plays all episodes with one temperature"
        elif spec.num_generations < _WITH_GREEDY:
            key, problem = "num_generations", "no other completion of a prompt is sampled"
        if problem:
            yield at_field(reading, part, key).finding(
                f"stage `{stage.name}` decodes a completion of each prompt greedily, but {problem}",
                remedy="set sampler.num_generations to 2 or more" if key == "num_generations" else "",
            )


_WITH_GREEDY = 2
"""Completions of a prompt of which one is trained on."""


@check("RC480", "credit-added-twice", "warning")
def credit_added_twice(reading: Reading) -> Iterator[Finding]:
    """A level of `gae` and a level that compares rows credit the same reward, and are added up.

    What it checks: of stages with a level `gae`, no other level has its `value`.
    Why it matters: each of the two is the advantage of the whole reward: their sum is that of no published method.
    Levels of `extends` stay unless they are removed.
    Example: `extends: [recipec:algorithms/grpo]`, and `advantage: {credit: {type: gae}}`.
    How to fix: remove one of them, for a level of another file as in `advantage: {group: null}`.
    References: Schulman et al., GAE, https://arxiv.org/abs/1506.02438, 2016: one estimate of each advantage.
    """
    for stage, part, spec in parts_of(reading, Gae):
        for other in stage.of("advantage"):
            level = other.spec
            if isinstance(level, Gae) or not isinstance(level, Advantage):  # RC205 refuses a second one
                continue
            if level.value != spec.value or not level.weight:
                continue
            yield at_path(reading, part.path, key=True).finding(
                f"{display_name(part)} and {display_name(other)} credit the same reward, and are added up",
                *related_span(reading, other.path, "the other level", key=True),
                remedy=f"remove one of them, as in `advantage: {{{other.level}: null}}`",
            )
