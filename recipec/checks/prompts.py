"""Data that do not fit a stage: prompts that share little, RC458, packing, RC448, ends cut off, RC477, RC479."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    at_field,
    at_part,
    at_path,
    display_name,
    field_span,
    is_given,
    longest_turn,
    related_span,
    shares,
    spec_of,
    turns,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.planning.token_runs import Episode, Group, append_only, sliding_window, total
from recipec.reading.partial import Part, Reading, StageReading


@check("RC458", "prompt-that-shares-little", "warning")
def prompt_that_shares_little(reading: Reading) -> Iterator[Finding]:
    """Rows share prefixes, but the environment writes a new prompt for each turn.

    What it checks: a number as `history` of an environment with several turns and `rows: step`, where the recipe itself
    sets attention `trie` or `shared_prefix`. With any other attention nothing is reported, since such prompts are
    published; `recipec plan` counts what is shared. The prompt is never changed.
    Why it matters: the step number and the sliding history are near the beginning of such a prompt, and two turns
    differ from there on. Of the tokens of GiGPO's published prompts, all but a sixth are computed again. Turns that are
    appended share everything before them.
    Example: `environment: {type: alfworld}`, with its default `history: 2`, and `attention: {type: trie}`.
    How to fix: set `environment.history` to `append_only` if an episode fits the context, though it changes the prompt;
    use a `template` that starts with what stays the same; set attention to `packed`; or allow the warning with the
    reason.
    References: Feng et al., GiGPO, https://arxiv.org/abs/2505.10978, 2025, appendix: the prompt with the step counter
    and a window of 2; Liu et al., Prefix Grouper, https://arxiv.org/abs/2506.05433, 2025.
    """
    for stage in reading.stages.values():
        attention, world = _given(stage, "attention"), _given(stage, "environment")
        environment, sampler = spec_of(stage, "environment"), spec_of(stage, "sampler")
        if attention is None or world is None or environment is None or not shares(attention):
            continue
        history = environment.window()
        if history is None or turns(stage) in {None, 1} or sampler is None or sampler.rows != "step":
            continue
        shown = (*world.path, "history")
        now, then = _estimate(stage, history)
        yield at_part(reading, attention).finding(
            f"{display_name(attention)} shares prefixes, but {display_name(world)} writes a new prompt for each turn",
            *related_span(
                reading,
                shown if is_given(reading, shown) else (*world.path, "type"),
                f"`history` is {history}: a sliding window",
            ),
            why=f"turns differ from the step number and the window on, near the beginning of the prompt{now}",
            remedy=f"set environment.history to `append_only`{then}, or attention to `packed`",
        )


def _given(stage: StageReading, slot: str) -> Part | None:
    return next((part for part in stage.of(slot) if part.given), None)


def _estimate(stage: StageReading, history: int) -> tuple[str, str]:
    """Say how many times each token occurs now, and with turns appended; nothing where lengths are not known.

    A window of W tokens is taken for history + 1 observations of equal length.
    """
    turn, count, sampler = longest_turn(stage), turns(stage), spec_of(stage, "sampler")
    context = sampler.max_context_length if sampler is not None else None
    if sampler is None or turn is None or count is None or context is None or context <= turn:
        return "", ""
    group = Group.of(sampler)
    each = (context - turn) / (history + 1)
    episode = Episode(each, count, turn, each)
    ratios, computed = [], []
    for runs in (sliding_window(group, Episode(context - turn, count, turn)), append_only(group, episode, steps=True)):
        dense, unique = total(s.dense() for s in runs).tokens, total(s.once() for s in runs).tokens
        ratios.append(dense / unique)
        computed.append(unique)
    now = f"; for certain they share a first prompt: {ratios[0]:.2f}x"
    then = f" (about {ratios[1]:.1f}x, and {computed[0] / computed[1]:.1f}x fewer tokens computed than now; an episode "
    return now, then + f"grows to {round(episode.length, -2):,.0f} tokens)"


@check("RC448", "nothing-to-pack")
def nothing_to_pack(reading: Reading) -> Iterator[Finding]:
    """Steps are to be counted in blocks of examples, but the stage has none, or blocks have no size.

    What it checks: `packing` is in an `sft` stage, with `max_length`, and with `remainder: keep`.
    Why it matters: a block is filled with examples up to `max_length` tokens; prompts of `rl` and pairs are not packed,
    and a step of too few blocks has many rows.
    Example: `data: {path: a.jsonl, packing: true}` without `max_length`.
    How to fix: add `max_length`, as in `max_length: 4096`, or drop `packing`: attention `packed` pads
    nothing in any case.
    References: TRL, `packing` of `SFTConfig`; Axolotl, `sample_packing`.
    """
    for stage in reading.stages.values():
        part, spec = next(iter(stage.of("data")), None), spec_of(stage, "data")
        if part is None or spec is None or not spec.packing:
            continue
        remainder = stage.budget.remainder if stage.budget is not None else "keep"
        if stage.kind not in {"sft", None}:
            problem = f"a stage of kind `{stage.kind}` has no examples to pack"
        elif spec.max_length is None:
            problem = "blocks have no size without `max_length`"
        elif remainder != "keep":
            problem = f"`remainder: {remainder}` counts rows, and not blocks"
        else:
            continue
        yield at_field(reading, part, "packing").finding(f"`packing` of {display_name(part)} cannot be done: {problem}")


@check("RC479", "prompts-not-trained")
def prompts_not_trained(reading: Reading) -> Iterator[Finding]:
    """All tokens of examples are to be trained, but the stage has no examples.

    What it checks: `train_on: all` is in an `sft` stage.
    Why it matters: of a pair and of a rollout the answers alone are trained; the parameter has no effect.
    Example: `data: {path: pairs.jsonl, train_on: all}` in a stage of kind `dpo`.
    How to fix: drop `train_on`.
    References: Axolotl, `train_on_inputs`, and LLaMA-Factory, `train_on_prompt`: both are of supervised fine-tuning.
    """
    for stage in reading.stages.values():
        part, spec = next(iter(stage.of("data")), None), spec_of(stage, "data")
        if part is None or spec is None or stage.kind in {"sft", None}:
            continue
        for path in spec.all_trained():
            yield at_path(reading, (*part.path, *path)).finding(
                f"`train_on: all` has no effect in a stage of kind `{stage.kind}`, which trains answers alone"
            )


@check("RC477", "end-of-prompt-cut", "warning")
def end_of_prompt_cut(reading: Reading) -> Iterator[Finding]:
    """Long prompts lose their end, after which the policy writes its answer.

    What it checks: `overlong: truncate` with `truncation_side: right`, its default, in an `rl` stage.
    Why it matters: a chat template ends a prompt with what opens the answer, and most prompts end with the question.
    Without them the policy goes on with the user's text, and rewards judge that.
    Example: `data: {path: a.jsonl, max_length: 512, overlong: truncate}` in a stage of kind `rl`.
    How to fix: set `overlong: drop`, or `truncation_side: left`, which cuts the beginning.
    References: verl, `data.truncation: left`; LLaMA-Factory, issue 1575.
    """
    for stage in reading.stages.values():
        part, spec = next(iter(stage.of("data")), None), spec_of(stage, "data")
        if part is None or spec is None or stage.kind != "rl":
            continue
        if spec.overlong == "truncate" and spec.truncation_side == "right":
            key = (*part.path, "truncation_side")
            yield Finding(
                f"prompts of {display_name(part)} that are too long lose their end, and what opens the answer with it",
                field_span(reading, part, "truncation_side" if is_given(reading, key) else "overlong"),
                help="set `overlong: drop`, or `truncation_side: left`",
                path=dotted(key),
            )
