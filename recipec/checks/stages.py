"""How stages follow each other: what they start from, and what crosses: RC301 to RC312."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    Spans,
    adapter_of,
    dotted,
    from_scratch,
    is_given,
    longest_turn,
    parent,
    related_span,
    span_of,
    spec_of,
)
from recipec.diagnostics.model import Finding, check
from recipec.reading.nearest_names import did_you_mean, nearest
from recipec.reading.partial import Reading, StageReading
from recipec.spec.recipe import weights_kind


def _earlier(reading: Reading, stage: StageReading) -> list[str]:
    order = list(reading.stages)
    return order[: order.index(stage.name)]


@check("RC301", "unknown-stage")
def unknown_stage(reading: Reading) -> Iterator[Finding]:
    """`from` is a bare word, and no stage is called so.

    What it checks: a `from` that is neither a path nor `org/name` nor `package:…` nor `scratch` is a stage of the
    recipe.
    Why it matters: nothing is looked up anywhere else, so the word must mean something here.
    Example: `from: explor`, or `from: gpt2` for a model of the hub.
    How to fix: the name of an earlier stage; a model of the hub as `org/name`; a directory as `./name`.
    """
    for stage in reading.stages.values():
        if (
            stage.origin is None
            or weights_kind(stage.origin) != "stage"
            or stage.origin in reading.stages
            or reading.fragment
        ):
            continue
        close = did_you_mean(nearest(stage.origin, [*_earlier(reading, stage), "scratch"]))
        yield Finding(
            f"there is no stage `{stage.origin}` to start from",
            span_of(reading, (*stage.path, "from")),
            why="a bare word after `from` is a stage of this recipe; nothing else is searched for it",
            help=close or "name an earlier stage, a directory as `./name`, or a model of the hub as `org/name`",
            path=dotted((*stage.path, "from")),
        )


@check("RC302", "not-yet-there")
def not_yet_there(reading: Reading) -> Iterator[Finding]:
    """A stage starts from itself or from a stage that comes after it.

    What it checks: `from` names a stage that stands before.
    Why it matters: stages run in the order in which they stand, and the weights would not exist yet.
    Example: a stage `learn` with `from: learn`.
    How to fix: an earlier stage, or move this one down.
    """
    for stage in reading.stages.values():
        if stage.origin in reading.stages and stage.origin not in _earlier(reading, stage):
            same = stage.origin == stage.name
            label = f"stage `{stage.origin}` stands here"
            yield Finding(
                f"stage `{stage.name}` starts from " + ("itself" if same else f"`{stage.origin}`, which comes later"),
                (
                    *span_of(reading, (*stage.path, "from")),
                    *(() if same else related_span(reading, reading.stages[str(stage.origin)].path, label, key=True)),
                ),
                why="stages run in the order in which they stand; these weights would not exist yet",
                help="name an earlier stage" + ("" if same else f", or move `{stage.name}` below `{stage.origin}`"),
                path=dotted((*stage.path, "from")),
            )


@check("RC303", "adapter-undecided")
def adapter_undecided(reading: Reading) -> Iterator[Finding]:
    """A stage starts from one that ends with an adapter and does not say what becomes of it.

    What it checks: `adapter` is given where the parent stage trains LoRA.
    Why it matters: training the adapter further and merging it into the weights before a fresh one are different
    experiments.
    Example: `from: explore` after a stage with `lora`, without `adapter`.
    How to fix: `adapter: continue` or `adapter: merge`.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        if origin is None or adapter_of(origin) is None or is_given(reading, (*stage.path, "adapter")):
            continue
        source = next(part for part in origin.of("policy"))
        yield Finding(
            f"stage `{origin.name}` ends with an adapter, and `{stage.name}` does not say what becomes of it",
            (
                *span_of(reading, (*stage.path, "from")),
                *related_span(reading, (*source.path, "lora"), "the adapter comes from here", key=True),
            ),
            why="to train it further and to merge it before a fresh one starts are different experiments",
            help="add `adapter: continue` or `adapter: merge`",
            path=dotted((*stage.path, "adapter")),
        )


@check("RC304", "no-adapter")
def no_adapter(reading: Reading) -> Iterator[Finding]:
    """A stage says what becomes of an adapter that its parent does not have.

    What it checks: `adapter` stands only where `from` names a stage with `lora`, or weights that may carry an adapter
    (a directory, the hub).
    Why it matters: there is nothing to continue or merge, so something else was meant.
    Example: `adapter: continue` with `from: scratch`.
    How to fix: drop `adapter`, or give the parent's `policy` a `lora`.
    """
    for stage in reading.stages.values():
        if not stage.adapter or stage.origin is None or reading.fragment:
            continue
        kind = weights_kind(stage.origin)
        origin = parent(reading, stage)
        unread = origin is not None and any(part.spec is None for part in origin.of("policy"))
        if kind in {"directory", "hub"} or unread or (origin is None and kind == "stage"):
            continue
        if origin is None or adapter_of(origin) is None:
            whose = f"stage `{origin.name}`" if origin else f"`{stage.origin}`"
            yield Finding(
                f"`adapter: {stage.adapter}` has nothing to {stage.adapter}: {whose} has no adapter",
                span_of(reading, (*stage.path, "adapter")),
                why="the stage would not do what it says",
                help="drop `adapter`" + (f", or give the policy of `{origin.name}` a `lora`" if origin else ""),
                path=dotted((*stage.path, "adapter")),
            )


@check("RC305", "policy-twice")
def policy_twice(reading: Reading) -> Iterator[Finding]:
    """A stage gives a policy again that crosses with `from`.

    What it checks: a stage that starts from another stage has a `policy` only to train a fresh adapter, or after
    `adapter: merge`.
    Why it matters: the weights, their type and a continued adapter come from the parent; two descriptions of one
    model would drift apart.
    Example: `policy: {type: causal_lm}` in the second stage, or a `lora` beside `adapter: continue`.
    How to fix: drop the second `policy`; `adapter: merge` and `policy: {lora: …}` start a fresh adapter.
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
            if stage.adapter == "merge" and own.lora is not None:
                instead = f"say `type: {before.type_name}` in it"
            problem = f"it is a `{own.type_name}`, and the weights of `{origin.name}` are a `{before.type_name}`"
        elif before.lora is not None and stage.adapter != "merge":
            problem = f"the adapter of `{origin.name}` goes on, and its shape cannot change"
        elif before.lora is None and own.lora is None:
            problem = f"it crosses with `from: {origin.name}`, and this one adds no adapter"
        else:
            continue
        yield Finding(
            f"stage `{stage.name}` gives the policy again: {problem}",
            (
                *span_of(reading, (*stage.path, "policy"), key=True),
                *related_span(reading, origin.of("policy")[0].path, f"the policy of `{origin.name}`", key=True),
            ),
            why="a model that is described twice is described two ways before long",
            help=instead,
            path=dotted((*stage.path, "policy")),
        )


@check("RC306", "scratch-undescribed")
def scratch_undescribed(reading: Reading) -> Iterator[Finding]:
    """A stage starts from scratch and does not say what to build.

    What it checks: `from: scratch` comes with `policy.scratch`.
    Why it matters: there is no model to copy sizes from.
    Example: `from: scratch` with `policy: {type: causal_lm}`.
    How to fix: `policy: {scratch: {hidden_size: 128, layers: 4, heads: 4}}`.
    """
    for stage in reading.stages.values():
        part = next(iter(stage.of("policy")), None)
        unread = part is not None and part.spec is None
        if stage.origin == "scratch" and not unread and getattr(part and part.spec, "scratch", None) is None:
            yield Finding(
                f"stage `{stage.name}` starts from scratch, and no `policy.scratch` says what to build",
                span_of(reading, (*stage.path, "from")),
                why="there is no model to take sizes and tokenizer from",
                help="add `policy: {scratch: {hidden_size: 128, layers: 4, heads: 4}}`",
                path=dotted((*stage.path, "policy", "scratch")),
            )


@check("RC307", "scratch-unused")
def scratch_unused(reading: Reading) -> Iterator[Finding]:
    """A stage describes a new model and starts from existing weights.

    What it checks: `policy.scratch` stands only beside `from: scratch`.
    Why it matters: the description would be ignored, or the weights; either way one of the two was not meant.
    Example: `from: ./model` with `policy: {scratch: {…}}`.
    How to fix: `from: scratch`, or drop `policy.scratch`.
    """
    for stage in reading.stages.values():
        path = (*stage.path, "policy", "scratch")
        own = getattr(spec_of(stage, "policy"), "scratch", None)
        kind = weights_kind(stage.origin or "scratch")
        exists = kind != "scratch" and (kind != "stage" or stage.origin in _earlier(reading, stage))
        if exists and own is not None and is_given(reading, path):
            yield Finding(
                f"stage `{stage.name}` describes a new model and starts from `{stage.origin}`",
                (
                    *span_of(reading, path, key=True),
                    *related_span(reading, (*stage.path, "from"), "it starts from here"),
                ),
                why="one of the two would be ignored",
                help="use `from: scratch`, or drop `policy.scratch`",
                path=dotted(path),
            )


@check("RC308", "unknown-reference")
def unknown_reference(reading: Reading) -> Iterator[Finding]:
    """A reference names a stage that does not exist or does not stand before.

    What it checks: `reference.from`, where it is a bare word, is an earlier stage.
    Why it matters: its weights would not exist when they are needed.
    Example: `reference: {type: frozen, from: later}`.
    How to fix: an earlier stage, a directory as `./name`, or a model of the hub as `org/name`; without `from` it is
    the policy as it entered the stage.
    """
    for stage in reading.stages.values():
        for part in stage.of("reference"):
            origin = getattr(part.spec, "from_", None)
            if origin is None or weights_kind(origin) != "stage" or origin in _earlier(reading, stage):
                continue
            if origin == stage.name:
                problem = "itself: without `from` a frozen reference is the policy as it entered"
            elif origin in reading.stages:
                problem = f"`{origin}`, which comes later"
            else:
                problem = f"`{origin}`, and there is no such stage"
            close = did_you_mean(nearest(origin, _earlier(reading, stage)))
            yield Finding(
                f"the reference of stage `{stage.name}` is {problem}",
                span_of(reading, (*part.path, "from")),
                why="stages run in the order in which they stand; its weights would not exist yet",
                help=close or "name an earlier stage, a directory as `./name`, a model as `org/name`, or drop `from`",
                path=dotted((*part.path, "from")),
            )


@check("RC309", "scratch-reference")
def scratch_reference(reading: Reading) -> Iterator[Finding]:
    """A reference is a new model with random weights.

    What it checks: `reference.from` is not `scratch`.
    Why it matters: to stay near random weights is to learn nothing.
    Example: `reference: {type: frozen, from: scratch}`.
    How to fix: drop `from`: the reference is then the policy as it entered the stage.
    """
    for stage in reading.stages.values():
        for part in stage.of("reference"):
            if getattr(part.spec, "from_", None) == "scratch":
                yield Finding(
                    f"the reference of stage `{stage.name}` would be a model with random weights",
                    span_of(reading, (*part.path, "from")),
                    why="to stay near random weights is to learn nothing",
                    help="drop `from`: the reference is then the policy as it entered the stage",
                    path=dotted((*part.path, "from")),
                )


@check("RC310", "merge-into-quantized")
def merge_into_quantized(reading: Reading) -> Iterator[Finding]:
    """An adapter would be merged into quantized weights.

    What it checks: `adapter: merge` where the policy has `quantization`.
    Why it matters: the merged weights would be rounded to four bits again, and the model that goes on is not the one
    that was trained.
    Example: `adapter: merge` after a stage with `quantization: nf4`.
    How to fix: `adapter: continue`.
    References: Dettmers et al., QLoRA, https://arxiv.org/abs/2305.14314, 2023.
    """
    for stage in reading.stages.values():
        origin = parent(reading, stage)
        if stage.adapter == "merge" and origin and getattr(spec_of(origin, "policy"), "quantization", None):
            source = (*origin.of("policy")[0].path, "quantization")
            yield Finding(
                f"stage `{stage.name}` would merge an adapter into the quantized weights of `{origin.name}`",
                (*span_of(reading, (*stage.path, "adapter")), *related_span(reading, source, "quantized here")),
                why="the sum is rounded to four bits again, so it is not the model that was trained",
                help="use `adapter: continue`",
                path=dotted((*stage.path, "adapter")),
            )


@check("RC311", "too-long")
def too_long(reading: Reading) -> Iterator[Finding]:
    """Prompt and completion together are longer than the model.

    What it checks: the lengths of a stage against `policy.scratch.max_positions`, where the recipe builds the model.
    Why it matters: positions beyond the last were never trained, or do not exist.
    Example: `max_positions: 64` with `max_completion_length: 64`.
    How to fix: more positions, or shorter prompts and completions.
    """
    for stage in reading.stages.values():
        model = from_scratch(reading, stage)
        if model is None:
            continue
        prompt = getattr(spec_of(stage, "data"), "max_length", None) or 0
        written = longest_turn(stage) or 0  # an episode ends before it would pass the positions
        if prompt + written <= model.max_positions - bool(written and not prompt):
            continue
        own = stage.of("environment") and getattr(spec_of(stage, "sampler"), "max_turn_length", None)
        turn = "max_turn_length" if own else "max_completion_length"
        slot, key = ("sampler", turn) if written else ("data", "max_length")
        longest = f"{prompt} + {written}" if prompt and written else str(prompt or f"a prompt and {written}")
        yield Finding(
            f"rows of stage `{stage.name}` may be {longest} tokens, and the model has {model.max_positions} positions",
            (*span_of(reading, (*stage.of(slot)[0].path, key)), *_positions(reading, stage)),
            why="there is nothing beyond the last position",
            help="raise policy.scratch.max_positions, or shorten prompts and completions",
            path=dotted((*stage.path, slot, key)),
        )


def _positions(reading: Reading, stage: StageReading) -> Spans:
    at: StageReading | None = stage
    while at is not None and at.origin != "scratch":
        at = parent(reading, at)
    return related_span(reading, (*at.path, "policy", "scratch", "max_positions"), "the model's length") if at else ()
