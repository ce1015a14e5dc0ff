"""Sampling that is legal but known to be wrong, each with its source: RC345, RC346, RC403 to RC405, RC428 to RC439."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import (
    at_field,
    at_path,
    display_name,
    field_span,
    from_scratch,
    is_given,
    longest_turn,
    parts_of,
    related_span,
    spec_of,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.loss import PolicyGradient
from recipec.spec.rollout_engine import RolloutEngine
from recipec.spec.sampler import Chain, Sampler

_FULL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""Values of the sampler's parameters at which it draws from the whole distribution."""


def cut(stage: StageReading) -> list[str]:
    """Parameters of an rl stage's sampler that leave out unlikely tokens."""
    spec = spec_of(stage, "sampler")
    if stage.kind != "rl" or spec is None:
        return []
    return [key for key, full in _FULL.items() if getattr(spec, key, full) != full]


def uses_sampler(loss: Any) -> str:
    """Name the parameter through which the sampler's log-probabilities enter the objective; nothing if none does."""
    needs = loss.requires() if loss is not None else ()
    return next((need.param for need in needs if need.signal == "sampler_logprob_RT" and need.param), "")


def _one(part: Part, key: str) -> str:
    return f"{part.slot}.{key} is {getattr(part.spec, key):g}"


@check("RC403", "greedy-learning")
def greedy_learning(reading: Reading) -> Iterator[Finding]:
    """An `rl` stage samples at temperature 0.

    What it checks: `temperature` of the sampler of `rl` stages is above 0.
    Why it matters: all completions of a prompt would be the same, so that there is nothing to compare, and logits
    cannot be divided by 0.
    Example: `sampler: {num_generations: 8, temperature: 0.0}`.
    How to fix: set `temperature: 1.0`; evaluations have their own sampler and are greedy by default.
    References: Shao et al., DeepSeekMath, https://arxiv.org/abs/2402.03300, 2024: groups are sampled.
    """
    for stage in reading.stages.values():
        spec = spec_of(stage, "sampler")
        if stage.kind == "rl" and spec is not None and spec.temperature == 0:
            part = stage.of("sampler")[0]
            yield at_field(reading, part, "temperature").finding(
                f"stage `{stage.name}` learns from samples, but samples at temperature 0"
            )


@check("RC404", "ratio-of-two-spaces")
def ratio_of_two_spaces(reading: Reading) -> Iterator[Finding]:
    """Log-probabilities of the sampler are used in a ratio while the sampler leaves out unlikely tokens.

    What it checks: `top_p` below 1, `top_k` above 0 or `min_p` above 0 together with `ratio_to: sampler_logprob_RT` or
    a `sampler_correction`; with vLLM also `min_completion_length`, which bans the end of a completion.
    Why it matters: tokens are sampled from a truncated, renormalised distribution, but the ratio uses the probabilities
    of the whole vocabulary. The weights are biased, and no cap corrects that. vLLM reports none of them then.
    Example: `sampler: {top_p: 0.9}` with `loss: {ratio_to: sampler_logprob_RT}`.
    How to fix: set `top_p: 1.0, top_k: 0, min_p: 0.0`, with vLLM `min_completion_length: 0`; or
    `ratio_to: old_logprob_RT` without `sampler_correction`.
    References: huggingface/trl #6789 (top_p, top_k and min_p bias importance weights), 2026.
    """
    for stage, part, spec in parts_of(reading, PolicyGradient):
        entry, keys = uses_sampler(spec), [*cut(stage), *_banned(reading, stage)]
        if entry and keys:
            sampler = stage.of("sampler")[0]
            yield at_field(reading, part, entry).finding(
                f"`{entry}` uses the sampler's log-probabilities in a ratio, but {_one(sampler, keys[0])}",
                *(span for key in keys for span in _shown(reading, sampler, key)),
                remedy=f"set {' and '.join(f'sampler.{key}: {_FULL.get(key, 0):g}' for key in keys)}, or "
                + ("`ratio_to: old_logprob_RT`" if entry == "ratio_to" else "`sampler_correction: none`"),
            )


def _banned(reading: Reading, stage: StageReading) -> list[str]:
    """Parameters that ban tokens for a while, where the engine then reports no probabilities of all tokens."""
    engine, spec = reading.machine.get("rollout"), spec_of(stage, "sampler")
    if engine is None or not isinstance(engine.spec, RolloutEngine) or engine.spec.full_logprobs:
        return []
    return ["min_completion_length"] if spec is not None and spec.shortest_completion() else []


def _shown(reading: Reading, part: Part, key: str) -> Any:
    return related_span(reading, (*part.path, key), f"{key} here")


@check("RC405", "cut-distribution", "warning")
def cut_distribution(reading: Reading) -> Iterator[Finding]:
    """An `rl` stage leaves out unlikely tokens when it samples.

    What it checks: `top_p` below 1, `top_k` above 0 or `min_p` above 0 in an `rl` stage. If the sampler's
    log-probabilities are used in a ratio, it is RC404.
    Why it matters: the policy is trained as if it sampled from the whole distribution. Tokens that are never sampled
    are never corrected, and the distribution narrows faster than the objective intends.
    Example: `sampler: {top_p: 0.95}`.
    How to fix: set `top_p: 1.0, top_k: 0, min_p: 0.0`; to reproduce a published run, allow it: `allow: {RC405: "why"}`.
    References: huggingface/trl #6789, 2026; Tree-GRPO's published runs inherit top_p 0.95 from a default.
    """
    for stage in reading.stages.values():
        keys = cut(stage)
        if keys and not uses_sampler(spec_of(stage, "loss")):
            part = stage.of("sampler")[0]
            yield at_field(reading, part, keys[0]).finding(
                f"stage `{stage.name}` trains on the whole distribution, but samples from a part: "
                f"{_one(part, keys[0])}",
                *(span for key in keys[1:] for span in _shown(reading, part, key)),
                remedy=f"set {' and '.join(f'{key}: {_FULL[key]:g}' for key in keys)}, or allow it: "
                '`allow: {RC405: "why"}`',
            )


@check("RC428", "correction-of-nothing", "warning")
def correction_of_nothing(reading: Reading) -> Iterator[Finding]:
    """A correction between engines is on, but the rollout engine is the trained model itself.

    What it checks: `sampler_correction` or `sampler_rejection` with a rollout engine that generates with the policy
    itself, such as `hf`, and `max_staleness: 0`.
    Why it matters: both log-probabilities come from the same weights in the same process: the weight is 1 up to
    rounding, and the forward pass of the old policy can no longer be skipped.
    Example: `loss: {sampler_correction: truncate}` without `machine.rollout`.
    How to fix: set `sampler_correction: none`, and drop `sampler_rejection`; they are for an engine such as vLLM.
    References: verl #2953 and huggingface/trl #3867: the mismatch is between engines.
    """
    engine = reading.machine.get("rollout")
    if engine is None or not isinstance(engine.spec, RolloutEngine) or not engine.spec.shares_weights:
        return
    for stage, part, spec in parts_of(reading, PolicyGradient):
        sampler = spec_of(stage, "sampler")
        stale = isinstance(sampler, Sampler) and sampler.max_staleness > 0
        weighs = spec.sampler_correction != "none"
        if (weighs or spec.sampler_rejection is not None) and not cut(stage) and not stale:
            key = "sampler_correction" if weighs else "sampler_rejection"
            what = f"sampler_correction: {spec.sampler_correction}" if weighs else key
            yield at_field(reading, part, key).finding(
                f"`{what}` has nothing to correct: the rollout engine is the trained model",
                *(related_span(reading, engine.path, "the engine", key=True) if engine.given else ()),
            )


@check("RC345", "normalised-nothing")
def normalised_nothing(reading: Reading) -> Iterator[Finding]:
    """The weights of a correction are to be normalised, but there is no correction.

    What it checks: `sampler_correction_normalised: true` comes with a `sampler_correction`.
    Why it matters: every weight would be 1, and so would their mean: the parameter has no effect.
    Example: `loss: {sampler_correction_normalised: true}`.
    How to fix: set `sampler_correction: truncate`, or drop `sampler_correction_normalised`.
    References: verl `rollout_is_batch_normalize`.
    """
    for _, part, spec in parts_of(reading, PolicyGradient):
        if spec.sampler_correction_normalised and spec.sampler_correction == "none":
            yield at_field(reading, part, "sampler_correction_normalised").finding(
                f"{display_name(part)} normalises the weights of a correction, but has none",
                remedy="set `sampler_correction: truncate`, or drop `sampler_correction_normalised`",
            )


@check("RC346", "correction-without-room")
def correction_without_room(reading: Reading) -> Iterator[Finding]:
    """The lowest weight of a correction is not below its highest.

    What it checks: `sampler_correction_floor` against `sampler_correction_cap`.
    Why it matters: no ratio is between them: every row would have weight 0, or every row the same.
    Example: `loss: {sampler_correction: mask, sampler_correction_floor: 3.0, sampler_correction_cap: 2.0}`.
    How to fix: set a floor below the cap, such as 0.5 and 2.0.
    References: IcePop masks what is outside of 0.5 and 5.0.
    """
    for _, part, spec in parts_of(reading, PolicyGradient):
        floor, cap = spec.sampler_correction_floor, spec.sampler_correction_cap
        if spec.sampler_correction != "none" and floor >= cap:
            entry = (
                "sampler_correction_floor" if is_given(reading, (*part.path, "sampler_correction_floor")) else "type"
            )
            yield Finding(
                f"the lowest weight of the correction, {floor:g}, is not below the highest, {cap:g}",
                (
                    *field_span(reading, part, entry),
                    *related_span(reading, (*part.path, "sampler_correction_cap"), "the highest"),
                ),
                help="set a floor below the cap, such as `sampler_correction_floor: 0.5, sampler_correction_cap: 2.0`",
                path=dotted((*part.path, "sampler_correction_floor")),
            )


@check("RC429", "no-room-to-end")
def no_room_to_end(reading: Reading) -> Iterator[Finding]:
    """The shortest allowed completion is longer than the longest.

    What it checks: `min_completion_length` against `max_completion_length`.
    Why it matters: no completion could end by itself; every one would be cut.
    Example: `sampler: {min_completion_length: 64, max_completion_length: 32}`.
    How to fix: set `min_completion_length` well below `max_completion_length`.
    References: huggingface/trl #5826 and #7077: rows that are all cut leave nothing to average over.
    """
    for stage in reading.stages.values():
        spec = spec_of(stage, "sampler")
        least, most = 0 if spec is None else spec.shortest_completion(), longest_turn(stage) or 1
        if spec is not None and least >= most and least:
            part = stage.of("sampler")[0]
            turn = bool(stage.of("environment") and spec.max_turn_length)
            yield at_field(reading, part, "min_completion_length").finding(
                f"completions of stage `{stage.name}` cannot end before token {least} but are cut at {most}",
                *related_span(
                    reading, (*part.path, "max_turn_length" if turn else "max_completion_length"), "cut here"
                ),
            )


@check("RC431", "stop-that-cannot")
def stop_that_cannot(reading: Reading) -> Iterator[Finding]:
    """A stop text is empty, or longer than any completion.

    What it checks: every entry of `stop` has a character; with the tokenizer `characters`, it has at most as many as a
    completion has tokens.
    Why it matters: the empty text ends every turn at its first token; a text longer than the completion never ends one.
    Example: `stop: [""]`.
    How to fix: give the text that ends an answer, such as `</answer>`, or drop it.
    References: recipec: a turn ends with the token that completes one of the texts.
    """
    for stage in reading.stages.values():
        spec = spec_of(stage, "sampler")
        model = from_scratch(reading, stage)
        characters = model is not None and model.tokenizer == "characters"
        longest = longest_turn(stage) if characters else None
        for i, text in enumerate(() if spec is None else spec.stop):
            if text and (longest is None or len(text) <= longest):
                continue
            part = stage.of("sampler")[0]
            yield at_path(reading, (*part.path, "stop", i)).finding(
                "an empty stop text ends every turn at once"
                if not text
                else f"the stop text `{text}` has {len(text)} characters, completions at most {longest} tokens",
                why="every text contains the empty one" if not text else "a token of this tokenizer is one character",
            )


@check("RC439", "limits-unknown")
def limits_unknown(reading: Reading) -> Iterator[Finding]:
    """Rows that a limit cut are to be left out, but the sampler does not say which they are.

    What it checks: `truncated: drop` of a sampler that provides `truncated_R`.
    Why it matters: the option would have no effect.
    Example: `sampler: {type: mine, truncated: drop}` with a sampler of another package that does not provide it.
    How to fix: drop `truncated`, or let the sampler provide `truncated_R`.
    References: Yu et al., DAPO, https://arxiv.org/abs/2503.14476, 2025, section 3.4: overlong filtering.
    """
    for stage in reading.stages.values():
        spec, part = spec_of(stage, "sampler"), next(iter(stage.of("sampler")), None)
        if part is None or spec is None:
            continue
        if stage.kind == "rl" and spec.truncated == "drop" and "truncated_R" not in spec.provides():
            yield at_field(reading, part, "truncated").finding(
                f"{display_name(part)} does not say which rows a limit cut, so none can be left out"
            )


@check("RC459", "interrupted-never")
def interrupted_never(reading: Reading) -> Iterator[Finding]:
    """Thinking is to be interrupted where it cannot be.

    What it checks: `sampler.interrupt.after` is less than `max_completion_length`, in an `rl` stage without an
    environment.
    Why it matters: a completion has ended by then. Turns of an environment are parts of one sequence, which the
    environment and the policy write by turns; a text that neither of them wrote has no turn there.
    Example: `sampler: {max_completion_length: 1024, interrupt: {after: 1024, text: "</think>"}}`.
    How to fix: lower `after`, so that the text and an answer have room; or drop `interrupt`.
    References: Khatri et al., ScaleRL, https://arxiv.org/abs/2510.13786, 2025: room for an answer is left.
    """
    for stage, part, spec in parts_of(reading, Chain):
        if spec.interrupt is None:
            continue
        where = (*part.path, "interrupt")
        problem = ""
        if stage.of("environment"):
            problem = "an environment plays episodes of several turns"
        elif stage.kind not in {None, "rl"}:
            problem = "it samples answers for pairs"
        elif spec.interrupt.after >= spec.max_completion_length:
            problem = f"completions have {spec.max_completion_length} tokens at most"
        if problem:
            yield at_path(reading, where).finding(
                f"stage `{stage.name}` interrupts thinking after {spec.interrupt.after} tokens, but {problem}"
            )
