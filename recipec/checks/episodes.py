"""Episodes of several turns: what fits an environment and what does not: RC450 to RC457."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import (
    display_name,
    dotted,
    field_span,
    is_given,
    longest_turn,
    related_span,
    spec_of,
    turns,
)
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Reading, StageReading

_OF_TURNS = ("max_turn_length", "max_context_length")


@check("RC450", "windowed-trajectory")
def windowed_trajectory(reading: Reading) -> Iterator[Finding]:
    """Each turn has a prompt of its own, and a row is a whole trajectory.

    What it checks: `history` of the environment, a number, against `rows: trajectory` of the sampler, where an episode
    has more than one turn.
    Why it matters: a trajectory is one sequence of tokens, each turn after what came before. Where every turn's prompt
    is written anew there is no such sequence, and the turns cannot be trained as one row.
    Example: `environment: {type: alfworld}`, whose `history` is 2, with `sampler: {type: chain}`.
    How to fix: `rows: step`, as published for such prompts; or `history: append_only`.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025: every step is a row of its own.
    """
    for stage in reading.stages.values():
        environment, sampler = _one(stage, "environment"), _one(stage, "sampler")
        history = getattr(environment and environment.spec, "history", None)
        stages = getattr(sampler and sampler.spec, "rows", "")
        if environment is None or sampler is None or not isinstance(history, int) or stages != "trajectory":
            continue
        if turns(stage) == 1:
            continue
        yield Finding(
            f"rows of stage `{stage.name}` are trajectories, and {display_name(environment)} writes each turn's "
            f"prompt anew",
            (
                *field_span(reading, sampler, "rows"),
                *_shown(reading, environment, "history", f"`history` is {history}: the last {history} turns are shown"),
            ),
            why="a trajectory is one sequence; where each turn has a prompt of its own there is none",
            help="set sampler.rows to `step`, or environment.history to `append_only`",
            path=dotted((*sampler.path, "rows")),
        )


def _one(stage: StageReading, slot: str) -> Part | None:
    return next((part for part in stage.of(slot) if part.given), None)


def _shown(reading: Reading, part: Part, key: str, label: str) -> tuple[Any, ...]:
    """Point at a parameter, or at the `type` of the part whose default it is."""
    path = (*part.path, key)
    return related_span(reading, path if is_given(reading, path) else (*part.path, "type"), label)


@check("RC452", "parameter-of-episodes", "warning")
def knob_of_episodes(reading: Reading) -> Iterator[Finding]:
    """A sampler says something about turns, and nobody answers the policy.

    What it checks: `max_turn_length`, `max_context_length` and `rows: step` in a stage without `environment`.
    Why it matters: an episode is then one completion: it has one turn, which is also its only step, and
    `max_completion_length` bounds it.
    Example: `sampler: {max_turn_length: 128}` without `environment`.
    How to fix: drop it, or add the environment that was meant.
    References: Ji et al., Tree-GRPO, https://arxiv.org/abs/2509.21240, 2025, whose code bounds turns and contexts of a
    dialogue apart.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is None or sampler.spec is None or stage.of("environment") or stage.kind is None or reading.fragment:
            continue
        steps = ("rows",) if getattr(sampler.spec, "rows", "") == "step" else ()
        for key in (*_OF_TURNS, *steps):
            if is_given(reading, (*sampler.path, key)):
                yield Finding(
                    f"`{key}` speaks of turns, and stage `{stage.name}` has no environment",
                    field_span(reading, sampler, key),
                    why="without one an episode is one completion, bounded by `max_completion_length`",
                    help="drop it, or add an `environment`",
                    path=dotted((*sampler.path, key)),
                )


@check("RC453", "filter-of-one")
def filter_of_one(reading: Reading) -> Iterator[Finding]:
    """Groups without signal are sampled again, and every group has one row.

    What it checks: `group_filter` against the size of the groups that the sampler makes.
    Why it matters: one reward equals itself, so that every group would be thrown away at every try, and the last one
    kept: the stage would sample `max_tries` times as much for nothing.
    Example: `sampler: {num_generations: 1, group_filter: {}}`.
    How to fix: groups of at least 2, better 8; or no filter.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025: dynamic sampling.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is not None and getattr(sampler.spec, "group_filter", None) and episodes(stage) == 1:
            yield Finding(
                f"every group of stage `{stage.name}` has one episode, and the filter would drop each",
                (
                    *field_span(reading, sampler, "group_filter"),
                    *_shown(reading, sampler, "num_generations", "the group"),
                ),
                why="one reward equals itself: the filter sees no signal in it, at any try",
                help="raise the group to 2 or more, or drop `group_filter`",
                path=dotted((*sampler.path, "group_filter")),
            )


def episodes(stage: StageReading) -> int | None:
    """How many episodes are compared with each other: those of one prompt."""
    spec = spec_of(stage, "sampler")
    return None if spec is None else int(spec.rows_per_prompt())


@check("RC454", "filter-that-never-tries", "warning")
def filter_that_never_tries(reading: Reading) -> Iterator[Finding]:
    """A filter of groups may try once.

    What it checks: `max_tries` of `group_filter` is above 1.
    Why it matters: the last try keeps every group; with one try nothing is ever sampled again.
    Example: `group_filter: {max_tries: 1}`.
    How to fix: `max_tries: 10`, as published; or no filter.
    References: verl-agent's dynamic trainer tries ten times.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        found = getattr(sampler and sampler.spec, "group_filter", None)
        if sampler is not None and found is not None and found.max_tries == 1:
            yield Finding(
                f"the group filter of stage `{stage.name}` never samples again",
                field_span(reading, sampler, "group_filter"),
                why="the last try keeps every group, and there is only one",
                help="raise `max_tries`, or drop `group_filter`",
                path=dotted((*sampler.path, "group_filter", "max_tries")),
            )


@check("RC455", "no-room-for-a-turn")
def no_room_for_a_turn(reading: Reading) -> Iterator[Finding]:
    """The context of an episode has no room for its first turn.

    What it checks: `max_context_length` against the longest prompt and the longest turn.
    Why it matters: an episode ends before it would pass its context. Here one could end before its first word.
    Example: `data: {max_length: 512}` with `sampler: {max_context_length: 640, max_turn_length: 256}`.
    How to fix: a context of at least prompt and one turn; for several turns, correspondingly more.
    References: verl bounds `max_prompt_length` and `max_response_length` apart; a context holds both.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        limit = getattr(sampler and sampler.spec, "max_context_length", None)
        turn = longest_turn(stage)
        if sampler is None or limit is None or turn is None or not stage.of("environment"):
            continue
        prompt = int(getattr(spec_of(stage, "data"), "max_length", None) or 0)
        if prompt + turn > limit:
            key = (
                "max_turn_length" if is_given(reading, (*sampler.path, "max_turn_length")) else "max_completion_length"
            )
            yield Finding(
                f"an episode of stage `{stage.name}` has room for {limit} tokens, and its first turn may need "
                + (f"{prompt} + {turn}" if prompt else f"a prompt and {turn}"),
                (
                    *field_span(reading, sampler, "max_context_length"),
                    *related_span(reading, (*sampler.path, key), "a turn"),
                    *(related_span(reading, (*stage.of("data")[0].path, "max_length"), "the prompt") if prompt else ()),
                ),
                why="an episode ends before it would pass its context: it could end before its first word",
                help=f"set `max_context_length` to {prompt + turn} or more, or shorten prompts and turns",
                path=dotted((*sampler.path, "max_context_length")),
            )


@check("RC456", "template-unread", "warning")
def template_unread(reading: Reading) -> Iterator[Finding]:
    """A template of prompts is given where no prompt is written by it.

    What it checks: `template` of the environment `search_qa` comes with a number for `history`.
    Why it matters: with `append_only` the dialogue goes on from the task's own prompt, which `data.template` renders.
    Example: `environment: {type: search_qa, template: prompts/search.j2}`.
    How to fix: `template` under `data`; or `history: 4`, where each turn's prompt is written anew.
    References: Jin et al., Search-R1, https://arxiv.org/abs/2503.09516, 2025, appends to one prompt; Feng et al.,
    GiGPO, https://arxiv.org/abs/2505.10978, 2025, writes one for every turn.
    """
    for part in reading.parts:
        spec: Any = part.spec if part.slot == "environment" and part.name == "search_qa" else None
        if spec is not None and spec.template is not None and spec.history == "append_only":
            yield Finding(
                f"nothing reads the template of {display_name(part)}",
                (
                    *field_span(reading, part, "template"),
                    *_shown(reading, part, "history", "the dialogue is appended to"),
                ),
                why="the dialogue goes on from the task's own prompt",
                help="put it under `data`, or give `history` a number",
                path=dotted((*part.path, "template")),
            )


@check("RC457", "filter-without-rewards")
def filter_without_rewards(reading: Reading) -> Iterator[Finding]:
    """Groups without signal are to be sampled again in a stage that is not of kind `rl`.

    What it checks: `group_filter` of a sampler in a `dpo` or `sft` stage.
    Why it matters: a group has a signal where its rewards differ, and only an rl stage has rewards: nothing would be
    filtered.
    Example: `stages.align: {kind: dpo, sampler: {group_filter: {max_tries: 10}}}`.
    How to fix: no filter; `margin` of the preference leaves out pairs that earned alike.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025: dynamic sampling.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is None or stage.kind in {None, "rl"} or getattr(sampler.spec, "group_filter", None) is None:
            continue
        yield Finding(
            f"stage `{stage.name}` is of kind `{stage.kind}`, and groups are filtered by rewards",
            (
                *field_span(reading, sampler, "group_filter"),
                *related_span(reading, (*stage.path, "kind"), "it has no rewards"),
            ),
            why="a group carries a signal where its rewards differ; only stages of kind `rl` have rewards",
            help="drop `group_filter`",
            path=dotted((*sampler.path, "group_filter")),
        )
