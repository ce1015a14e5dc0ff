"""Where stages start from, and what they inherit: RC301 to RC311."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recipec.checks.queries import (
    Spans,
    at_path,
    from_scratch,
    is_given,
    longest_turn,
    parent,
    related_span,
    span_of,
    spec_of,
    trains_adapter,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.diagnostics.phrases import did_you_mean, folded
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.critic import Critic
from recipec.spec.recipe import STAGE_NAME, weights_kind
from recipec.spec.reference import Reference


def _earlier(reading: Reading, stage: StageReading) -> list[str]:
    order = list(reading.stages)
    return order[: order.index(stage.name)]


@check("RC301", "unknown-stage")
def unknown_stage(reading: Reading) -> Iterator[Finding]:
    """`from` is a bare word, but no stage has that name.

    What it checks: a `from` that is not a path, `org/name`, `package:…` or `scratch` is a stage of the recipe; and
    `STAGE/checkpoint-100` is not read as a model of the hub.
    Why it matters: a bare word after `from` is a stage of this recipe; it is not looked up anywhere else.
    Example: `from: explor`, or `from: gpt2` for a model of the hub.
    How to fix: name an earlier stage, a directory as `./name`, a model of the hub as `org/name`, or one in an
    installed package as `package:name`.
    """
    renamed = {folded(name) for name in reading.stages if not STAGE_NAME.fullmatch(name)}  # RC140 says so
    for stage in reading.stages.values():
        if (
            stage.origin is None
            or (weights_kind(stage.origin) != "stage" and not _inside_stage(reading, stage))
            or stage.origin in reading.stages
            or stage.origin in renamed
            or set(stage.origin) & set("$\\“”„«»")  # RC172 says so
            or reading.fragment
        ):
            continue
        named = stage.origin.removeprefix("stages.").partition("/")[0].removesuffix(".policy")
        exact = f"write `from: {named}`" if named in _earlier(reading, stage) else ""
        close = exact or did_you_mean(stage.origin, [*_earlier(reading, stage), "scratch"])
        yield at_path(reading, (*stage.path, "from")).finding(
            f"there is no stage `{stage.origin}` to start from", remedy=close
        )


def _inside_stage(reading: Reading, stage: StageReading) -> bool:
    """Whether `from` names a part of what an earlier stage leaves, which has the form of a model of the hub."""
    name, _, rest = (stage.origin or "").partition("/")
    return name in _earlier(reading, stage) and bool(_PARTS.fullmatch(rest))


_PARTS = re.compile(
    r"(?:(?:global_)?step|checkpoint)s?(?:[-_]?\d+)?|policy|model|weights|adapter|merged|final|last|best|\d+"
)
"""Folders of a stage, as other tools name them."""


@check("RC302", "not-yet-there")
def not_yet_there(reading: Reading) -> Iterator[Finding]:
    """A stage starts from itself or from a later stage.

    What it checks: `from` names an earlier stage.
    Why it matters: stages run in the order of the file; the weights would not exist yet.
    Example: a stage `learn` with `from: learn`.
    How to fix: name an earlier stage, or move this one down.
    """
    for stage in reading.stages.values():
        if stage.origin in reading.stages and stage.origin not in _earlier(reading, stage):
            same = stage.origin == stage.name
            label = f"stage `{stage.origin}` stands here"
            yield at_path(reading, (*stage.path, "from")).finding(
                f"stage `{stage.name}` starts from " + ("itself" if same else f"`{stage.origin}`, which comes later"),
                *(() if same else related_span(reading, reading.stages[str(stage.origin)].path, label, key=True)),
                remedy="name an earlier stage" + ("" if same else f", or move `{stage.name}` below `{stage.origin}`"),
            )


@check("RC303", "adapter-undecided")
def adapter_undecided(reading: Reading) -> Iterator[Finding]:
    """A stage starts from one that ends with an adapter, but has no `adapter`.

    What it checks: `adapter` is given where the parent stage trains LoRA.
    Why it matters: training the adapter further and merging it before a new one starts are different experiments.
    Example: `from: explore` after a stage with `lora`, without `adapter`.
    How to fix: add `adapter: continue` or `adapter: merge`.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        if origin is None or not trains_adapter(reading, origin) or is_given(reading, (*stage.path, "adapter")):
            continue
        policy = next((part.path for part in origin.of("policy") if is_given(reading, (*part.path, "lora"))), None)
        source = (*policy, "lora") if policy else (*origin.path, "adapter")
        yield Finding(
            f"stage `{origin.name}` ends with an adapter, but `{stage.name}` has no `adapter`",
            (
                *span_of(reading, (*stage.path, "from")),
                *related_span(reading, source, "the adapter comes from here", key=True),
            ),
            path=dotted((*stage.path, "adapter")),
        )


@check("RC304", "no-adapter")
def no_adapter(reading: Reading) -> Iterator[Finding]:
    """A stage has `adapter`, but its parent has no adapter.

    What it checks: `adapter` is set only where `from` names a stage with `lora`, or weights that may carry an adapter
    (a directory, the hub).
    Why it matters: there is nothing to continue or merge.
    Example: `adapter: continue` with `from: scratch`.
    How to fix: drop `adapter`, or give the parent's `policy` a `lora`.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        followed = origin is not None and _lacks_adapter(reading, origin)  # which is reported there
        if not reading.fragment and _lacks_adapter(reading, stage) and not followed:
            whose = f"stage `{origin.name}`" if origin else f"`{stage.origin}`"
            yield at_path(reading, (*stage.path, "adapter")).finding(
                f"`adapter: {stage.adapter}` has nothing to {stage.adapter}: {whose} has no adapter",
                remedy="drop `adapter`" + (f", or give the policy of `{origin.name}` a `lora`" if origin else ""),
            )


def _lacks_adapter(reading: Reading, stage: StageReading) -> bool:
    """Whether `adapter` is given where it is known that the parent has none."""
    if not stage.adapter or stage.origin is None:
        return False
    kind = weights_kind(stage.origin)
    origin = parent(reading, stage)
    if origin is None:
        return kind not in {"directory", "hub", "stage"}
    unread = any(part.spec is None for part in origin.of("policy"))
    unread = unread or origin.kind is None  # what such a stage has is not known
    return origin.name in _earlier(reading, stage) and not unread and not trains_adapter(reading, origin)


@check("RC305", "policy-twice")
def policy_twice(reading: Reading) -> Iterator[Finding]:
    """A stage describes again the policy that it inherits by `from`.

    What it checks: a stage that starts from another stage has a `policy` only to train a new adapter, or after
    `adapter: merge`.
    Why it matters: weights, type and a continued adapter come from the parent stage; two descriptions of one model
    could disagree.
    Example: `policy: {type: causal_lm}` in the second stage, or `lora` together with `adapter: continue`.
    How to fix: drop the second `policy`; `adapter: merge` with `policy: {lora: …}` starts a new adapter.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        if origin is None or not is_given(reading, (*stage.path, "policy")):
            continue
        own, before = spec_of(stage, "policy"), spec_of(origin, "policy")
        if own is None or before is None:
            continue
        instead = "drop this `policy`; after `adapter: merge` it may give a fresh `lora`"
        if own.type_name != before.type_name:
            if stage.adapter == "merge" and own.adapter() is not None:
                instead = f"say `type: {before.type_name}` in it"
            problem = f"it is a `{own.type_name}`, and the weights of `{origin.name}` are a `{before.type_name}`"
        elif before.adapter() is not None and stage.adapter != "merge":
            problem = f"the adapter of `{origin.name}` goes on, and its shape cannot change"
        elif before.adapter() is None and own.adapter() is None:
            problem = f"it crosses with `from: {origin.name}`, and this one adds no adapter"
        else:
            continue
        yield at_path(reading, (*stage.path, "policy"), key=True).finding(
            f"stage `{stage.name}` describes the policy again: {problem}",
            *related_span(reading, origin.of("policy")[0].path, f"the policy of `{origin.name}`", key=True),
            remedy=instead,
        )


@check("RC306", "scratch-undescribed")
def scratch_undescribed(reading: Reading) -> Iterator[Finding]:
    """A stage starts from scratch, but has no `policy.scratch`.

    What it checks: `from: scratch` comes with `policy.scratch`.
    Why it matters: there is no model to take sizes and tokenizer from.
    Example: `from: scratch` with `policy: {type: causal_lm}`.
    How to fix: add `policy: {scratch: {hidden_size: 128, layers: 4, heads: 4}}`.
    """
    for stage in reading.stages.values():
        policy = spec_of(stage, "policy")
        unread = bool(stage.of("policy")) and policy is None
        if stage.origin == "scratch" and not unread and (policy is None or policy.new_model() is None):
            yield Finding(
                f"stage `{stage.name}` starts from scratch, but has no `policy.scratch`",
                span_of(reading, (*stage.path, "from")),
                path=dotted((*stage.path, "policy", "scratch")),
            )


@check("RC307", "scratch-unused")
def scratch_unused(reading: Reading) -> Iterator[Finding]:
    """A stage describes a new model, but starts from existing weights.

    What it checks: `policy.scratch` is set only with `from: scratch`.
    Why it matters: either the description or the weights would be ignored.
    Example: `from: ./model` with `policy: {scratch: {…}}`.
    How to fix: use `from: scratch`, or drop `policy.scratch`.
    """
    for stage in reading.stages.values():
        path = (*stage.path, "policy", "scratch")
        policy = spec_of(stage, "policy")
        own = None if policy is None else policy.new_model()
        kind = weights_kind(stage.origin or "scratch")
        exists = kind != "scratch" and (kind != "stage" or stage.origin in _earlier(reading, stage))
        if exists and own is not None and is_given(reading, path):
            yield at_path(reading, path, key=True).finding(
                f"stage `{stage.name}` describes a new model, but starts from `{stage.origin}`",
                *related_span(reading, (*stage.path, "from"), "it starts from here"),
            )


@check("RC308", "unknown-reference")
def unknown_reference(reading: Reading) -> Iterator[Finding]:
    """A reference or a critic names a stage that does not exist or does not come before.

    What it checks: a bare word as `reference.from` or `critic.from` is an earlier stage.
    Why it matters: stages run in the order of the file; its weights would not exist yet.
    Example: `reference: {type: frozen, from: later}`.
    How to fix: name an earlier stage, a directory as `./name`, or a model of the hub as `org/name`; without `from`, the
    reference is the policy that entered the stage, and a critic starts from its weights.
    """
    for stage, part, origin in _other_models(reading):
        if weights_kind(origin) != "stage" or origin in _earlier(reading, stage):
            continue
        if origin == stage.name:
            problem = f"itself: without `from` {_ENTERED[part.slot]}"
        elif origin in reading.stages:
            problem = f"`{origin}`, which comes later"
        else:
            problem = f"`{origin}`, and there is no such stage"
        yield at_path(reading, (*part.path, "from")).finding(
            f"the {part.slot} of stage `{stage.name}` is {problem}",
            remedy=did_you_mean(origin, _earlier(reading, stage)),
        )


_ENTERED = {
    "reference": "a frozen reference is the policy as it entered",
    "critic": "a critic starts from the weights of the policy",
}


def _other_models(reading: Reading) -> Iterator[tuple[StageReading, Part, str]]:
    """Yield the references and critics that name other weights than those of the policy."""
    for stage in reading.stages.values():
        for part in (*stage.of("reference"), *stage.of("critic")):
            if isinstance(part.spec, Reference | Critic) and (origin := part.spec.other_model()) is not None:
                yield stage, part, origin


@check("RC309", "scratch-reference")
def scratch_reference(reading: Reading) -> Iterator[Finding]:
    """A reference or a critic is a new model with random weights.

    What it checks: `reference.from` and `critic.from` are not `scratch`.
    Why it matters: a policy that stays close to random weights learns nothing, and no section describes the new model
    of a critic.
    Example: `reference: {type: frozen, from: scratch}`.
    How to fix: drop `from`: the reference is then the policy that entered the stage, and a critic starts from its
    weights with a new head.
    """
    for stage, part, origin in _other_models(reading):
        if origin == "scratch":
            yield at_path(reading, (*part.path, "from")).finding(
                f"the {part.slot} of stage `{stage.name}` would be a model with random weights"
            )


@check("RC310", "merge-into-quantized")
def merge_into_quantized(reading: Reading) -> Iterator[Finding]:
    """An adapter would be merged into quantized weights.

    What it checks: `adapter: merge` where the policy has `quantization`.
    Why it matters: the merged weights would be rounded to four bits again, which gives another model than the one that
    was trained.
    Example: `adapter: merge` after a stage with `quantization: nf4`.
    How to fix: use `adapter: continue`.
    References: Dettmers et al., QLoRA, https://arxiv.org/abs/2305.14314, 2023.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        policy = spec_of(origin, "policy") if origin is not None else None
        if stage.adapter == "merge" and origin and policy is not None and policy.quantized():
            source = (*origin.of("policy")[0].path, "quantization")
            yield at_path(reading, (*stage.path, "adapter")).finding(
                f"stage `{stage.name}` would merge an adapter into the quantized weights of `{origin.name}`",
                *related_span(reading, source, "quantized here"),
            )


@check("RC311", "too-long")
def too_long(reading: Reading) -> Iterator[Finding]:
    """Prompt and completion together may be longer than the model's positions.

    What it checks: the lengths of a stage against `policy.scratch.max_positions`, where the recipe builds the model.
    Why it matters: the model has nothing beyond its last position.
    Example: `max_positions: 64` with `max_completion_length: 64`.
    How to fix: raise `policy.scratch.max_positions`, or shorten prompts and completions.
    """
    for stage in reading.stages.values():
        model = from_scratch(reading, stage)
        if model is None:
            continue
        data, sampler = spec_of(stage, "data"), spec_of(stage, "sampler")
        prompt = (data.max_length if data is not None else None) or 0
        written = longest_turn(stage) or 0  # an episode ends before it would pass the positions
        if prompt + written <= model.max_positions - bool(written and not prompt):
            continue
        own = stage.of("environment") and sampler is not None and sampler.max_turn_length
        turn = "max_turn_length" if own else "max_completion_length"
        slot, key = ("sampler", turn) if written else ("data", "max_length")
        longest = f"{prompt} + {written}" if prompt and written else str(prompt or f"a prompt and {written}")
        yield Finding(
            f"rows of stage `{stage.name}` may be {longest} tokens, but the model has {model.max_positions} positions",
            (*span_of(reading, (*stage.of(slot)[0].path, key)), *_positions(reading, stage)),
            path=dotted((*stage.path, slot, key)),
        )


def _positions(reading: Reading, stage: StageReading) -> Spans:
    at: StageReading | None = stage
    while at is not None and at.origin != "scratch":
        at = parent(reading, at)
    return related_span(reading, (*at.path, "policy", "scratch", "max_positions"), "the model's length") if at else ()
