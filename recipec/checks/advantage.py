"""Rewards and advantages that are legal but train nothing, or not what was intended: RC401, RC402, RC410 to RC417."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import (
    Spans,
    at_field,
    at_path,
    display_name,
    field_span,
    group_size,
    is_given,
    most_written,
    parts_of,
    related_span,
    span_of,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.advantage import Advantage, Signed
from recipec.spec.grouping import AnchorState
from recipec.spec.reward import Environment, Length, Reward
from recipec.spec.sampler import Tree


def _alone(stage: StageReading, part: Part) -> bool:
    """Whether every row is surely alone in the group that a level compares it with."""
    spec = part.spec
    return isinstance(spec, Advantage) and spec.compares is not None and group_size(stage, spec.compares) == 1


def _empty(stage: StageReading, part: Part) -> bool:
    """Whether a level's credit is surely 0 for every row."""
    spec = part.spec
    return isinstance(spec, Advantage) and (spec.always_zero or (_alone(stage, part) and spec.alone == "zero"))


@check("RC401", "group-of-one", "warning")
def group_of_one(reading: Reading) -> Iterator[Finding]:
    """A level compares each row with its group, and every group has one row.

    What it checks: the size of the group that the sampler makes, for levels that compare.
    Why it matters: the deviation of a single value does not exist. With `singleton: raw` the credit of a row is its
    reward itself, without a baseline; with `zero` it is 0.
    Example: `sampler: {num_generations: 1}` with `group: by_prompt_R`.
    How to fix: raise `sampler.num_generations` to 2 or more, better 8; or use `signed`, or `batch_standardised` over
    the batch.
    References: Shao et al., DeepSeekMath, https://arxiv.org/abs/2402.03300, 2024, and the singleton rule of
    AMAP-ML/Tree-GRPO (mean 0, deviation 1, so that the credit is the reward).
    """
    for stage in reading.stages.values():
        if _silent(stage):
            continue
        for part in stage.of("advantage"):
            spec = part.spec
            if not isinstance(spec, Advantage) or not _alone(stage, part) or spec.always_zero:
                continue
            credit = {"value": "its reward itself, without a baseline", "zero": "0", None: "not known"}[spec.alone]
            yield Finding(
                f"{display_name(part)} compares each row with its group `{spec.compares}`, but every group has one row",
                (*field_span(reading, part, "group"), *_sampler(reading, stage)),
                why=f"a group of one has no deviation: the credit of every row is {credit}",
                help="raise sampler.num_generations to 2 or more"
                + ("" if spec.alone == "value" else ", or drop this level"),
                path=dotted(part.path),
            )


def _silent(stage: StageReading) -> bool:
    levels = stage.of("advantage")
    return bool(levels) and all(_empty(stage, part) for part in levels)


def _sampler(reading: Reading, stage: StageReading) -> tuple[Any, ...]:
    parts = stage.of("sampler")
    if not parts:
        return ()
    key = "num_generations" if is_given(reading, (*parts[0].path, "num_generations")) else "type"
    return related_span(reading, (*parts[0].path, key), "the sampler of this stage")


@check("RC402", "nothing-to-learn")
def nothing_to_learn(reading: Reading) -> Iterator[Finding]:
    """The credit of every row is 0, whatever the rewards.

    What it checks: every advantage level gives 0 for certain: weight 0, values 0, or groups of one with `singleton:
    zero`.
    Why it matters: the stage would sample and score for hours, and the policy would not change.
    Example: `sampler: {num_generations: 1}` with one level `group_relative`.
    How to fix: raise `sampler.num_generations` to 2 or more, or use a level that needs no group, such as `signed`.
    References: Ahmadian et al., Back to Basics, https://arxiv.org/abs/2402.14740, 2024: leave-one-out needs k > 1.
    """
    for stage in reading.stages.values():
        if not _silent(stage):
            continue
        part = stage.of("advantage")[0]
        alone = any(_alone(stage, level) for level in stage.of("advantage"))
        here = span_of(reading, (*stage.path, "advantage"), key=True)
        sampler = _sampler(reading, stage) if alone else ()
        included = here[0].file != reading.resolved.files[0]  # the sampler is what the user can edit
        yield Finding(
            f"stage `{stage.name}` cannot learn: the credit of every row is 0",
            (*sampler, *here) if included else (*here, *sampler),
            why="every group has one row, which is compared only with itself"
            if alone
            else "the weights and values of its advantage levels are 0",
            help="raise sampler.num_generations to 2 or more"
            if alone
            else "give a level a weight, or `positive` and `negative` values, other than 0",
            path=dotted(part.path[:-1]),
        )


@check("RC410", "rewards-cancel", "warning")
def rewards_cancel(reading: Reading) -> Iterator[Finding]:
    """The weighted reward levels add up to nothing.

    What it checks: not all weights are 0, and equal levels do not cancel. A single level of weight 0 is a way to log a
    score without training on it, and is not reported.
    Why it matters: every row has the same reward, so that no group has anything to compare.
    Example: two levels `exact_match` of the same column, one with weight 1 and one with weight -1.
    How to fix: drop one of the levels, or give it another weight.
    References: huggingface/trl `reward_weights`, which multiply and add in the same way.
    """
    for stage in reading.stages.values():
        sums: dict[str, float] = {}
        levels: dict[str, list[Part]] = {}
        parts = stage.of("reward")
        for part in parts:
            if part.spec is None:
                sums = {}
                break
            key = f"{part.name} {part.spec.model_dump(exclude={'weight'})}"
            sums[key] = sums.get(key, 0.0) + (part.spec.weight if isinstance(part.spec, Reward) else 1.0)
            levels.setdefault(key, []).append(part)
        nothing = bool(sums) and not any(sums.values())
        for key, total in sums.items():
            same = levels[key]
            if total == 0 and (len(same) > 1 or nothing):
                names = " and ".join(f"`{part.level}`" for part in same)
                yield Finding(
                    f"the weights of reward {names} add up to nothing",
                    (
                        *field_span(reading, same[-1], "weight"),
                        *(
                            span
                            for part in same[:-1]
                            for span in related_span(reading, part.path, "the other level", key=True)
                        ),
                    ),
                    help="drop one of them, or give it another weight" if len(same) > 1 else "give it a weight",
                    path=dotted(same[-1].path),
                )


@check("RC411", "constant-reward", "warning")
def constant_reward(reading: Reading) -> Iterator[Finding]:
    """A reward gives right and wrong answers the same value.

    What it checks: `correct` against `wrong`, `match` against `mismatch`.
    Why it matters: a constant cancels in every comparison, so that the level trains nothing.
    Example: `{type: exact_match, correct: 0.0}`.
    How to fix: give right and wrong answers different values.
    References: NeMo-RL #4158 and TRL #6365: groups of equal rewards give no signal, only noise.
    """
    for _, part, spec in parts_of(reading, Reward):
        names, values = spec.outcomes, spec.outcome_values()
        if names is not None and values is not None and values[0] == values[1]:
            yield Finding(
                f"{display_name(part)} gives {values[0]:g} for `{names[0]}` and for `{names[1]}`",
                field_span(reading, part, names[0] if is_given(reading, (*part.path, names[0])) else names[1]),
                path=dotted(part.path),
            )


@check("RC412", "threshold-out-of-reach", "warning")
def threshold_out_of_reach(reading: Reading) -> Iterator[Finding]:
    """All possible rewards are on the same side of the threshold of `signed`.

    What it checks: where one `exact_match` or `regex_format` is the only reward, `threshold` is between its two values.
    Why it matters: values above the threshold count as right and all others as wrong, so that every answer would count
    the same.
    Example: `{type: signed, threshold: 1.0}` with rewards of 0 and 1: values above the threshold are right.
    How to fix: set a threshold between the two values.
    References: DermIQ-VLM, https://arxiv.org/abs/2510.01236, 2025 (rewards 7 and -1, threshold 0).
    """
    for stage, part, spec in parts_of(reading, Signed):
        rewards = stage.of("reward")
        if spec.value != "reward_R" or len(rewards) != 1:
            continue
        reward = rewards[0].spec
        outcomes = reward.outcome_values() if isinstance(reward, Reward) else None
        if not isinstance(reward, Reward) or outcomes is None:
            continue
        values = [reward.shaped(value) for value in outcomes]
        right = [value > spec.threshold for value in values]
        if right[0] == right[1] and values[0] != values[1]:
            yield at_field(reading, part, "threshold").finding(
                f"{display_name(part)} counts every answer as {'right' if right[0] else 'wrong'}: rewards are "
                f"{values[0]:g} or "
                f"{values[1]:g}, but the threshold is {spec.threshold:g}",
                *related_span(reading, rewards[0].path, "the reward", key=True),
                remedy=f"set a threshold between {min(values):g} and {max(values):g}",
            )


@check("RC413", "unreachable-length", "warning")
def unreachable_length(reading: Reading) -> Iterator[Finding]:
    """A length penalty starts beyond the longest completion, or its slope is longer than its limit.

    What it checks: `max_length` and `soft` of the reward `length` against the longest completion.
    Why it matters: completions are cut before they reach the penalty, or even an empty one is penalised.
    Example: `{type: length, max_length: 4096}` with `max_completion_length: 1024`.
    How to fix: set `max_length` to `sampler.max_completion_length`, and `soft` to about a quarter of it.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025, eq. 13: L_max is the generation limit.
    """
    for stage, part, spec in parts_of(reading, Length):
        longest = most_written(stage)
        more: Spans = ()
        if spec.soft > spec.max_length:
            message = f"{display_name(part)} rises over {spec.soft} tokens up to {spec.max_length}"
            why, key = "even an empty completion would be penalised", "soft"
        elif longest is not None and spec.max_length > longest:
            message = f"{display_name(part)} is full from {spec.max_length} tokens, but completions end at {longest}"
            never = spec.max_length - spec.soft >= longest
            why = "no completion would ever be penalised" if never else "no completion would ever get the full penalty"
            key = "max_length"
            more = related_span(
                reading, (*stage.of("sampler")[0].path, "max_completion_length"), "completions end here"
            )
        else:
            continue
        yield at_field(reading, part, key).finding(message, *more, why=why)


@check("RC414", "small-trees", "warning")
def small_trees(reading: Reading) -> Iterator[Finding]:
    """All levels compare within trees, and the trees have fewer than three leaves.

    What it checks: all levels group by `by_tree_R`, and `1 + expansions * rounds` (or `keep`) is below 3.
    Why it matters: two values only tell which one was better. The published ablation collapses with small trees and
    works with seven leaves.
    Example: `sampler: {type: tree, expansions: 1, rounds: 1}` with one level over `by_tree_R`.
    How to fix: add a level over `by_prompt_R`, or raise `sampler.expansions`.
    References: Ji et al., Tree-GRPO, https://arxiv.org/abs/2509.21240, 2025: intra-tree credit alone collapses.
    """
    for stage, part, spec in parts_of(reading, Tree):
        levels = [level.spec for level in stage.of("advantage")]
        inner = bool(levels) and all(isinstance(level, Advantage) and level.compares == "by_tree_R" for level in levels)
        size = group_size(stage, "by_tree_R")
        if inner and size is not None and 1 < size < 3 and spec.leaves >= size:
            yield at_path(reading, (*stage.path, "advantage"), key=True).finding(
                f"all levels compare within trees, but a tree has {size} leaves",
                *related_span(reading, part.path, "the sampler of trees", key=True),
            )


@check("RC415", "too-many-kept")
def too_many_kept(reading: Reading) -> Iterator[Finding]:
    """The sampler keeps more leaves of a tree than the tree has.

    What it checks: `keep` against `1 + expansions * rounds`, the number of leaves of every tree.
    Why it matters: leaves are chosen without replacement.
    Example: `{type: tree, expansions: 2, rounds: 1, keep: 4}`: three leaves.
    How to fix: lower `keep`, drop it to keep all leaves, or raise `expansions`.
    References: AMAP-ML/Tree-GRPO, where fewer than K leaves fail an assertion during the run.
    """
    for _, part, spec in parts_of(reading, Tree):
        if spec.keep is not None and spec.keep > spec.leaves:
            yield at_field(reading, part, "keep").finding(
                f"{display_name(part)} keeps {spec.keep} leaves of a tree, but each has {spec.leaves}",
                *related_span(reading, (*part.path, "expansions"), "chains added in a round"),
                why=f"a tree has 1 + expansions * rounds = {spec.leaves} leaves, drawn without replacement",
                remedy=f"set `keep` to {spec.leaves} or less, or drop it to keep all",
            )


@check("RC416", "undiscounted-steps", "warning")
def undiscounted_steps(reading: Reading) -> Iterator[Finding]:
    """Steps are compared by their return, and later rewards are not discounted.

    What it checks: a level over `return_R` with `gamma: 1` in the reward.
    Why it matters: if only the end of an episode is rewarded, all its steps have the same return: the step level
    repeats the episode level, and a detour costs nothing.
    Example: `reward: {task: {type: environment}}` with `value: return_R`.
    How to fix: set `gamma` below 1; published runs use 0.95.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025, eq. 5, run with gamma 0.95.
    """
    for stage in reading.stages.values():
        rewards = [part for part in stage.of("reward") if isinstance(part.spec, Environment) and part.spec.gamma == 1]
        for part in stage.of("advantage"):
            if rewards and isinstance(part.spec, Advantage) and part.spec.value == "return_R":
                yield at_field(reading, rewards[0], "gamma").finding(
                    f"{display_name(part)} compares returns, but later rewards are not discounted",
                    *related_span(reading, (*part.path, "value"), "compared here"),
                )


@check("RC417", "similarity-threshold")
def similarity_threshold(reading: Reading) -> Iterator[Finding]:
    """States are matched by similarity without a `threshold`, or exactly with one.

    What it checks: `threshold` comes with `match: similarity`, and only with it.
    Why it matters: the threshold decides which states form a group, and no value suits every text; exact matching does
    not use it.
    Example: `grouping: {type: anchor_state, match: similarity}`.
    How to fix: set `threshold: 0.9`, as published for search; with `match: exact`, drop it.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025: similarity 0.9 for search.
    """
    for _, part, spec in parts_of(reading, AnchorState):
        if (spec.match == "similarity") == (spec.threshold is not None):
            continue
        missing = spec.threshold is None
        yield Finding(
            f"{display_name(part)} matches states by similarity, but has no `threshold`"
            if missing
            else f"{display_name(part)} has a `threshold`, but matches states exactly",
            field_span(reading, part, "match" if missing else "threshold"),
            why="the threshold decides which states form a group"
            if missing
            else "exact matching does not use the threshold",
            help="add `threshold: 0.9`" if missing else "drop `threshold`, or set `match: similarity`",
            path=dotted((*part.path, "threshold")),
        )
