"""Multi-turn rollouts: what does not fit the environment: RC450 to RC457, RC481."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recipec.checks.queries import (
    at_field,
    at_part,
    display_name,
    field_span,
    is_given,
    longest_turn,
    related_span,
    spec_of,
    turns,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading

if TYPE_CHECKING:
    from recipec.spec.sampler import GroupFilter

_OF_TURNS = ("max_turn_length", "max_context_length")


@check("RC450", "windowed-trajectory")
def windowed_trajectory(reading: Reading) -> Iterator[Finding]:
    """Each turn has its own prompt, but a row is a whole trajectory.

    What it checks: a number as `history` of the environment with `rows: trajectory` of the sampler, where an episode
    has more than one turn.
    Why it matters: a trajectory is one sequence of tokens in which each turn follows the earlier ones. With a new
    prompt for every turn there is no such sequence.
    Example: `environment: {type: alfworld}`, with its default `history: 2`, and `sampler: {type: chain}`.
    How to fix: set `sampler.rows` to `step`, as published for such prompts, or `environment.history` to `append_only`.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025: every step is a row of its own.
    """
    for stage in reading.stages.values():
        environment, sampler = _one(stage, "environment"), _one(stage, "sampler")
        world, sampled = spec_of(stage, "environment"), spec_of(stage, "sampler")
        if environment is None or sampler is None or world is None or sampled is None:
            continue
        history = world.window()
        if history is None or sampled.rows != "trajectory" or turns(stage) == 1:
            continue
        yield at_field(reading, sampler, "rows").finding(
            f"rows of stage `{stage.name}` are trajectories, but {display_name(environment)} writes a new prompt "
            f"for each turn",
            *_shown(reading, environment, "history", f"`history` is {history}: the last {history} turns are shown"),
        )


def _one(stage: StageReading, slot: str) -> Part | None:
    return next((part for part in stage.of(slot) if part.given), None)


def _shown(reading: Reading, part: Part, key: str, label: str) -> tuple[Any, ...]:
    """Point at a parameter, or at the `type` of the part that has it by default."""
    path = (*part.path, key)
    return related_span(reading, path if is_given(reading, path) else (*part.path, "type"), label)


@check("RC452", "parameter-of-episodes", "warning")
def parameter_of_episodes(reading: Reading) -> Iterator[Finding]:
    """A sampler has parameters for turns, but the stage has no environment.

    What it checks: `max_turn_length`, `max_context_length` and `rows: step` in a stage without `environment`.
    Why it matters: without an environment an episode is one completion, with one turn and one step, limited by
    `max_completion_length`.
    Example: `sampler: {max_turn_length: 128}` without `environment`.
    How to fix: drop the parameter, or add an `environment`.
    References: Ji et al., Tree-GRPO, https://arxiv.org/abs/2509.21240, 2025; its code limits turns and
    contexts of a dialogue separately.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is None or sampler.spec is None or stage.of("environment") or stage.kind is None or reading.fragment:
            continue
        spec = spec_of(stage, "sampler")
        steps = ("rows",) if spec is not None and spec.rows == "step" else ()
        for key in (*_OF_TURNS, *steps):
            if is_given(reading, (*sampler.path, key)):
                yield at_field(reading, sampler, key).finding(
                    f"`{key}` is about turns, but stage `{stage.name}` has no environment"
                )


@check("RC453", "filter-of-one")
def filter_of_one(reading: Reading) -> Iterator[Finding]:
    """Groups with equal rewards are sampled again, but every group has one row.

    What it checks: `group_filter` against the size of the groups that the sampler makes.
    Why it matters: a single reward always equals itself, so that every group would be dropped at every try and the last
    one kept: `max_tries` times as much sampling without effect.
    Example: `sampler: {num_generations: 1, group_filter: {}}`.
    How to fix: use groups of 2 or more, better 8, or drop `group_filter`.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025: dynamic sampling.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is not None and group_filter(stage) is not None and episodes(stage) == 1:
            yield at_field(reading, sampler, "group_filter").finding(
                f"every group of stage `{stage.name}` has one episode, so the filter would drop each",
                *_shown(reading, sampler, "num_generations", "the group"),
            )


def group_filter(stage: StageReading) -> GroupFilter | None:
    """Return the filter of groups that the sampler has."""
    spec = spec_of(stage, "sampler")
    return None if spec is None else spec.group_filter


def episodes(stage: StageReading) -> int | None:
    """How many episodes are compared with each other: those of one prompt."""
    spec = spec_of(stage, "sampler")
    return None if spec is None else spec.rows_per_prompt()


@check("RC454", "filter-that-never-tries", "warning")
def filter_that_never_tries(reading: Reading) -> Iterator[Finding]:
    """A group filter has only one try.

    What it checks: `max_tries` of `group_filter` is above 1.
    Why it matters: the last try keeps every group; with a single try, nothing is ever sampled again.
    Example: `group_filter: {max_tries: 1}`.
    How to fix: raise `max_tries` (published runs use 10), or drop `group_filter`.
    References: verl-agent's dynamic trainer tries ten times.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        filtered = group_filter(stage)
        if sampler is not None and filtered is not None and filtered.action == "resample" and filtered.max_tries == 1:
            yield Finding(
                f"the group filter of stage `{stage.name}` never samples again",
                field_span(reading, sampler, "group_filter"),
                path=dotted((*sampler.path, "group_filter", "max_tries")),
            )


@check("RC455", "no-room-for-a-turn")
def no_room_for_a_turn(reading: Reading) -> Iterator[Finding]:
    """The context of an episode has no room for its first turn.

    What it checks: `max_context_length` against the longest prompt and the longest turn.
    Why it matters: an episode ends before it would exceed its context: this one could end before its first token.
    Example: `data: {max_length: 512}` with `sampler: {max_context_length: 640, max_turn_length: 256}`.
    How to fix: raise `max_context_length` to at least a prompt and a turn, and accordingly more for several turns.
    References: verl bounds `max_prompt_length` and `max_response_length` apart; a context holds both.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        spec, turn, data = spec_of(stage, "sampler"), longest_turn(stage), spec_of(stage, "data")
        limit = None if spec is None else spec.max_context_length
        if sampler is None or limit is None or turn is None or not stage.of("environment"):
            continue
        prompt = (data.max_length if data is not None else None) or 0
        if prompt + turn > limit:
            key = (
                "max_turn_length" if is_given(reading, (*sampler.path, "max_turn_length")) else "max_completion_length"
            )
            yield at_field(reading, sampler, "max_context_length").finding(
                f"an episode of stage `{stage.name}` has room for {limit} tokens, but its first turn may need "
                + (f"{prompt} + {turn}" if prompt else f"a prompt and {turn}"),
                *related_span(reading, (*sampler.path, key), "a turn"),
                *(related_span(reading, (*stage.of("data")[0].path, "max_length"), "the prompt") if prompt else ()),
                remedy=f"set `max_context_length` to {prompt + turn} or more, or shorten prompts and turns",
            )


@check("RC456", "template-unread", "warning")
def template_unread(reading: Reading) -> Iterator[Finding]:
    """A prompt template is given where it is not used.

    What it checks: `template` of the environment `search_qa` comes with a number for `history`.
    Why it matters: with `append_only` the dialogue continues the prompt of the task, which `data.template` renders.
    Example: `environment: {type: search_qa, template: prompts/search.j2}`.
    How to fix: move `template` to `data`, or set `history` to a number such as 4, so that each turn gets a new prompt.
    References: Jin et al., Search-R1, https://arxiv.org/abs/2503.09516, 2025, appends to one prompt; Feng et al.,
    GiGPO, https://arxiv.org/abs/2505.10978, 2025, writes one for every turn.
    """
    for stage in reading.stages.values():
        part, spec = _one(stage, "environment"), spec_of(stage, "environment")
        if part is not None and spec is not None and spec.ignores_template():
            yield at_field(reading, part, "template").finding(
                f"the template of {display_name(part)} is not used",
                *_shown(reading, part, "history", "the dialogue is appended to"),
            )


@check("RC457", "filter-without-rewards")
def filter_without_rewards(reading: Reading) -> Iterator[Finding]:
    """A stage that is not of kind `rl` filters groups by their rewards.

    What it checks: `group_filter` of a sampler in a `dpo` or `sft` stage.
    Why it matters: a group has a signal if its rewards differ, and only `rl` stages have rewards; nothing would be
    filtered.
    Example: `stages.align: {kind: dpo, sampler: {group_filter: {max_tries: 10}}}`.
    How to fix: drop `group_filter`; `margin` of a preference leaves out pairs with equal scores.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025: dynamic sampling.
    """
    for stage in reading.stages.values():
        sampler = _one(stage, "sampler")
        if sampler is None or stage.kind in {None, "rl"} or group_filter(stage) is None:
            continue
        yield at_field(reading, sampler, "group_filter").finding(
            f"stage `{stage.name}` is of kind `{stage.kind}`, but groups are filtered by rewards",
            *related_span(reading, (*stage.path, "kind"), "it has no rewards"),
        )


@check("RC481", "tasks-of-a-file")
def tasks_of_a_file(reading: Reading) -> Iterator[Finding]:
    """An environment that has games of its own gets its tasks from elsewhere.

    What it checks: with `alfworld`, `textworld` and `webshop`, the data of a stage is `environment`.
    Why it matters: a task names one of the games or goals of the environment; a row of a file names none.
    Example: `environment: {type: alfworld}` with `data: {path: tasks.jsonl}`.
    How to fix: use `data: {type: environment}`; which games there are is a parameter of the environment.
    References: Shridhar et al., ALFWorld, https://arxiv.org/abs/2010.03768, 2021: its tasks are its games.
    """
    for stage in reading.stages.values():
        data, world = _one(stage, "data"), _one(stage, "environment")
        spec, environment = spec_of(stage, "data"), spec_of(stage, "environment")
        if data is None or world is None or spec is None or environment is None or not environment.only_own_tasks:
            continue
        if not spec.needs("tasks"):
            yield at_part(reading, data).finding(
                f"{display_name(world)} plays its own games, but the tasks of stage `{stage.name}` come from "
                f"{display_name(data)}",
                *related_span(reading, (*world.path, "type"), "the environment"),
                remedy="write `data: {type: environment}`; questions of a file are for other environments",
            )
