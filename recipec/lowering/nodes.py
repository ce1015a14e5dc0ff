"""One row of components as drafts of nodes: what each needs and makes, before anything is ordered or hashed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recipec.component import Component, Need, Section
from recipec.signals import SIGNALS, reward_level
from recipec.spec.advantage import Advantage
from recipec.spec.recipe import Stage
from recipec.spec.reference import Frozen, Reference
from recipec.spec.sampler import Sampler

OPS = "recipec.runtime.objective.compiler_ops:"
Place = Literal["before", "steps", "updates"]
IMAGES = ("pixels_I", "image_row_I")
_SHAPE = ("shift", "clip")
_OF_EPISODES = ("gamma", "invalid_action_penalty")


@dataclass(frozen=True, slots=True)
class UnboundNode:
    """A node that is not bound yet.

    Example: ``UnboundNode("explore/broadcast.advantage_RT", "compiler", "broadcast",
    "recipec…compiler_ops:broadcast", {},
    (("advantage_R", "advantage_R", ""), ("trained_RT", "trained_RT", "")), ("advantage_RT",))``.
    """

    id: str
    slot: str
    type: str
    impl: str
    params: Mapping[str, Any]
    needs: tuple[tuple[str, str, str], ...]
    """Parameter, signal, and the id of the node it must come from (empty: whoever publishes the signal)."""
    outputs: tuple[str, ...]
    keys: tuple[str, ...] = ()
    place: Place = "steps"
    publishes: bool = True
    """Whether others may ask for its outputs by name; a level's own output is only for the sum."""
    artifacts: tuple[tuple[str, str], ...] = ()
    """Stage and artifact that the node reads."""
    spec: Component | None = None
    uses: tuple[str, ...] = ()
    """Parts of the stage that its implementation is built from."""

    def bound(self, drafts: Mapping[str, UnboundNode]) -> Iterator[tuple[str, str, str]]:
        """Yield parameter, signal and the id of the node that makes it, for every column it takes."""
        for parameter, signal, source in self.needs:
            if SIGNALS[signal].kind in {"column", "scalar"}:
                yield parameter, signal, source or provider_of(signal, drafts)

    def sources(self, drafts: Mapping[str, UnboundNode]) -> tuple[str, ...]:
        """Ids of the nodes it waits for, those of features and of facts too."""
        found = [source or provider_of(signal, drafts) for _, signal, source in self.needs]
        return tuple(dict.fromkeys(found))


def provider_of(signal: str, drafts: Mapping[str, UnboundNode]) -> str:
    """Return the id of the node that others get a signal from."""
    found = [draft.id for draft in drafts.values() if draft.publishes and signal in draft.outputs]
    assert found, f"nothing provides `{signal}`: the wiring checks must refuse this recipe"
    return found[-1]


def dump(section: Section) -> dict[str, Any]:
    """Return a section as JSON data with every default written out."""
    return section.model_dump(mode="json", by_alias=True)


def keys_of(value: Any, prefix: str) -> Iterator[str]:
    """Yield the dotted key of every parameter below ``prefix``, given or not.

    >>> from recipec.spec.loss import Dpo
    >>> list(keys_of(Dpo(), "stages.align.loss"))[:2]
    ['stages.align.loss.type', 'stages.align.loss.beta']
    """
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            yield from keys_of(getattr(value, name), f"{prefix}.{info.alias or name}")
    elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
        for name, item in value.items():
            yield from keys_of(item, f"{prefix}.{name}")
    else:
        yield prefix


def draft_stage(name: str, stage: Stage, policy: Component) -> list[UnboundNode]:
    """Draft every node of a stage in reading order, the compiler's own among them."""
    row = {draft.slot: draft for draft in _single(name, stage)}
    rewards = [_level(name, "reward", level, spec) for level, spec in sorted(stage.reward.items())]
    credit = _credit(name, stage)
    excluded = _exclusions(name, stage) if rewards else []
    out = excluded[-1].id if excluded else f"{name}/sum.reward_R" if rewards else ""
    updates = _updates(name, stage, policy, failed=out)
    needed = {signal for draft in [*row.values(), *rewards, *credit, *updates] for _, signal, _ in draft.needs}
    drafts = [row[slot] for slot in ("knowledge", "environment", "data", "sampler", "preference") if slot in row]
    if stage.kind != "rl":
        drafts.append(_collate(name, stage))
    if any(need.signal in IMAGES for need in policy.requires()):
        drafts.append(_images(name, stage))
    if rewards:
        drafts += [*rewards, _sum_rewards(name, stage, rewards), *_episodes(name, stage, needed), *excluded]
    if "reference" in row:
        drafts.append(row["reference"])
    elif "ref_logprob_RT" in needed:
        drafts.append(_component(name, "reference", Frozen(), keys=()))
    if "old_logprob_RT" in needed:
        drafts.append(_old(name, policy))
    if "grouping" in row:
        drafts.append(row["grouping"])
    drafts += credit
    drafts += updates
    drafts = [_beside_policy(draft, policy) for draft in drafts]
    asked = {signal for draft in drafts for _, signal, _ in draft.needs}
    return [_placed(_asked(draft, asked, stage), stage) for draft in drafts]


def _single(name: str, stage: Stage) -> Iterator[UnboundNode]:
    for slot in ("data", "knowledge", "environment", "sampler", "preference", "reference", "grouping"):
        spec: Component | None = getattr(stage, slot)
        if spec is not None:
            yield _component(name, slot, spec, keys=tuple(keys_of(spec, f"stages.{name}.{slot}")))


def _component(name: str, slot: str, spec: Component, *, keys: Sequence[str]) -> UnboundNode:
    needs = list(spec.requires())
    hidden = tuple(f"stages.{name}.{slot}.{param}" for param in spec.lowered if param not in _SHAPE)
    columns = {need.parameter: need for need in needs if "." not in need.signal}
    return UnboundNode(
        id=f"{name}/{slot}",
        slot=slot.partition(".")[0],
        type=spec.type_name,
        impl=spec.impl,
        params={key: value for key, value in dump(spec).items() if key != "type"},
        needs=tuple((need.parameter, need.signal, "") for need in columns.values()),
        outputs=spec.provides(),
        keys=tuple(key for key in keys if key not in hidden),
        artifacts=tuple(_artifacts(spec, needs)),
        spec=spec,
        uses=spec.uses,
    )


def _artifacts(spec: Component, needs: Sequence[Need]) -> Iterator[tuple[str, str]]:
    for need in needs:
        stage, dot, artifact = need.signal.rpartition(".")
        if dot and not reward_level(need.signal):
            yield stage, artifact
    if isinstance(spec, Reference) and (other := spec.other_model()) is not None:
        yield other, "policy"


def _level(name: str, slot: str, level: str, spec: Component) -> UnboundNode:
    keys = tuple(keys_of(spec, f"stages.{name}.{slot}.{level}"))
    draft = _component(name, f"{slot}.{level}", spec, keys=keys)
    own = tuple(signal for signal in draft.outputs if signal not in {"score_R", "return_R"})  # see `_episodes`
    named = [(need.parameter, reward_level(need.signal)) for need in spec.requires() if reward_level(need.signal)]
    needs = (*((parameter, "reward_R", f"{name}/reward.{other}") for parameter, other in named), *draft.needs)
    return replace(draft, outputs=own, needs=needs, publishes=slot != "advantage")


def _op(
    name: str,
    node: str,
    function: str,
    needs: Sequence[str],
    outputs: tuple[str, ...],
    *,
    params: Mapping[str, Any] | None = None,
    keys: tuple[str, ...] = (),
    place: Place = "steps",
) -> UnboundNode:
    bound = tuple((signal, signal, "") for signal in needs)
    return UnboundNode(
        f"{name}/{node}", "compiler", function, OPS + function, params or {}, bound, outputs, keys, place
    )


def _collate(name: str, stage: Stage) -> UnboundNode:
    rows = ("tokens_RT", "attend_RT", "trained_RT", "turn_RT", "prompt_id_R")
    if _labelled(stage):
        more = (*rows, "by_pair_R", "desirable_R", "mismatched_R")
        return _labelled_op(name, "collate", "collate_labelled", ("completion_P",), more)
    if stage.kind == "sft":
        return _op(name, "collate", "collate_completions", ("completion_P",), rows)
    return _op(name, "collate", "collate_pairs", ("chosen_P", "rejected_P"), (*rows, "by_pair_R", "chosen_R"))


def _labelled_op(name: str, node: str, function: str, needs: Sequence[str], outputs: tuple[str, ...]) -> UnboundNode:
    return replace(
        _op(name, node, function, needs, outputs), impl=OPS.replace("compiler_ops", "labelled_answers") + function
    )


def _labelled(stage: Stage) -> bool:
    """Whether the rows of a stage are labelled answers, each with a mismatched one."""
    return stage.kind == "sft" and stage.loss is not None and stage.loss.needs("desirable_R")


def _images(name: str, stage: Stage) -> UnboundNode:
    """Draft what gives rows the images of their tasks or examples: every pass over a row then sees the same ones."""
    function, needs = {
        "rl": ("images_of_prompts", ("prompt_P", "by_prompt_R")),
        "sft": ("images_of_completions", ("completion_P",)),
        "dpo": ("images_of_pairs", ("chosen_P", "rejected_P")),
    }[stage.kind]
    return _op(name, "images", function, needs, IMAGES)


def _beside_policy(draft: UnboundNode, policy: Component) -> UnboundNode:
    """Let a reference see the images that the policy sees."""
    seen = tuple(need.signal for need in policy.requires() if need.signal in IMAGES)
    if draft.slot != "reference" or not seen:
        return draft
    return replace(draft, needs=(*draft.needs, *((signal, signal, "") for signal in seen)))


def _sum_rewards(name: str, stage: Stage, levels: Sequence[UnboundNode]) -> UnboundNode:
    keys = tuple(f"stages.{name}.reward.{level}.weight" for level in sorted(stage.reward))
    weights: dict[str, Any] = {"weights": [level.params["weight"] for level in levels]}
    if any(level.params["shift"] or level.params["clip"] for level in levels):
        weights["shapes"] = [[level.params["shift"], level.params["clip"]] for level in levels]
    steps = isinstance(stage.sampler, Sampler) and stage.sampler.rows == "step"
    function, needs = ("sum_step_rewards", ("error_R", "episode_id_R")) if steps else ("sum_rewards", ("error_R",))
    draft = _op(name, "sum.reward_R", function, needs, ("reward_R", "failed_R"), params=weights, keys=keys)
    return replace(draft, needs=(*draft.needs, *(("*reward_R", "reward_R", level.id) for level in levels)))


def _episodes(name: str, stage: Stage, needed: Collection[str]) -> Iterator[UnboundNode]:
    """Draft what an episode's rows know of each other, by the sum of the reward levels."""
    steps = ("reward_R", "episode_id_R", "step_R")
    for level, spec in stage.reward.items():
        if "return_R" in spec.provides():
            params = {key: value for key, value in dump(spec).items() if key in _OF_EPISODES}
            keys = tuple(f"stages.{name}.reward.{level}.{key}" for key in params)
            needs, gives = (*steps, "action_valid_R"), ("score_R", "return_R")
            yield _op(name, "episodes", "episode_returns", needs, gives, params=params, keys=keys)
            return
    if "score_R" in needed:
        yield _op(name, "sum.score_R", "episode_total", steps, ("score_R",))


def _credit(name: str, stage: Stage) -> list[UnboundNode]:
    """Draft the levels of credit and what makes one credit of them.

    ``sum`` adds them; ``sequential`` hands the credit so far to the next level, in the order of the recipe;
    ``per_token`` compares the tokens of a group in place of its rows, and needs no broadcast.
    """
    if not stage.advantage:
        return []
    keys = (f"stages.{name}.advantage.combine",)
    if stage.combine == "per_token":
        levels = [
            _token_level(_level(name, "advantage", level, spec), spec)
            for level, spec in sorted(stage.advantage.items())
        ]
        total = _op(name, "sum.advantage_RT", "sum_token_advantages", ("trained_RT",), ("advantage_RT",), keys=keys)
        more = (("*advantage_RT", "advantage_RT", level.id) for level in levels)
        return [*levels, replace(total, needs=(*total.needs, *more))]
    written = stage.advantage.items() if stage.combine == "sequential" else sorted(stage.advantage.items())
    levels = [_level(name, "advantage", level, spec) for level, spec in written]
    last = levels
    if stage.combine == "sequential":
        for place, before in enumerate(levels[:-1], 1):
            levels[place] = replace(levels[place], needs=tuple(_continued(levels[place].needs, before.id)))
        last = levels[-1:]
    total = _op(name, "sum.advantage_R", "sum_advantages", (), ("advantage_R",), keys=keys)
    totals = [replace(total, needs=tuple(("*advantage_R", "advantage_R", level.id) for level in last))]
    if stage.whiten != "none":
        needs = ("failed_R", "trained_RT")
        totals.append(_further(name, totals[-1], "whiten", "whiten", needs, {"over": stage.whiten}))
    if stage.clip is not None:
        totals.append(_further(name, totals[-1], "clip", "clip_advantages", (), {"bound": stage.clip}))
    spread = _op(name, "broadcast.advantage_RT", "broadcast", ("advantage_R", "trained_RT"), ("advantage_RT",))
    return [*levels, *totals, spread]


def _further(
    name: str, before: UnboundNode, node: str, function: str, needs: tuple[str, ...], params: Mapping[str, Any]
) -> UnboundNode:
    """Draft what is done to the advantage as a whole; it is then the one that others ask for."""
    keys = (f"stages.{name}.advantage.{node}",)
    made = _op(name, f"{node}.advantage_R", function, needs, ("advantage_R",), params=params, keys=keys)
    return replace(made, needs=(("advantage_R", "advantage_R", before.id), *made.needs))


def _exclusions(name: str, stage: Stage) -> list[UnboundNode]:
    """Draft what leaves further rows out of the loss: those that a limit cut, and those of groups without a signal."""
    sampler, made = stage.sampler, list[UnboundNode]()
    assert isinstance(sampler, Sampler), "the reader fills the slot `sampler` with such"
    if sampler.truncated == "drop":
        made.append(_op(name, "exclude.truncated", "exclude_truncated", ("failed_R", "truncated_R"), ("excluded_R",)))
    if (found := sampler.drops()) is not None:
        out = ("excluded_R", "excluded_R", made[-1].id) if made else ("excluded_R", "failed_R", "")
        level = f"{name}/reward.{found.level}" if found.level else ""
        op = _op(name, "exclude.groups", "exclude_groups", ("by_prompt_R", "episode_id_R"), ("excluded_R",))
        needs = (("failed_R", "failed_R", ""), out, ("reward_R", "reward_R", level), *op.needs)
        made.append(replace(op, needs=needs, params={"between": found.between}))
    return made


def _continued(needs: Iterable[tuple[str, str, str]], before: str) -> Iterator[tuple[str, str, str]]:
    """Let a level compare the credit of the level before it in place of its own column."""
    for parameter, signal, source in needs:
        yield (parameter, "advantage_R", before) if parameter == "value_R" else (parameter, signal, source)


def _token_level(level: UnboundNode, spec: Component) -> UnboundNode:
    """Let a level compare tokens: the same parameters, and the extent of each row beside its columns."""
    assert isinstance(spec, Advantage), "the reader fills the slot `advantage` with such"
    needs = tuple(need for need in level.needs if need[0] in {"value_R", "group_R", "failed_R"})
    more = tuple((signal, signal, "") for signal in ("attend_RT", "trained_RT"))
    params = {key: value for key, value in level.params.items() if key in spec.token_params}
    op = replace(
        level,
        slot="compiler",
        type=spec.over_tokens.rpartition(":")[2],
        spec=None,
        impl=spec.over_tokens,
        params=params,
    )
    return replace(op, needs=(*needs, *more), outputs=("advantage_RT",))


def _old(name: str, policy: Component) -> UnboundNode:
    old = _component(name, "policy", policy, keys=())
    return replace(old, id=f"{name}/old", outputs=("old_logprob_RT",), uses=("policy",))


def _updates(name: str, stage: Stage, policy: Component, *, failed: str) -> list[UnboundNode]:
    """Draft the body of the loop over updates: weigh -> policy -> loss -> optimizer.

    ``failed`` is the node that says which rows are out of the loss; empty where none can be.
    """
    assert stage.loss is not None
    assert stage.optimizer is not None
    prefix = f"stages.{name}"
    trained = _component(
        name, "policy", policy, keys=tuple(keys_of(stage.policy, f"{prefix}.policy")) if stage.policy else ()
    )
    loss = _component(name, "loss", stage.loss, keys=tuple(keys_of(stage.loss, f"{prefix}.loss")))
    optimizer = _component(
        name, "optimizer", stage.optimizer, keys=tuple(keys_of(stage.optimizer, f"{prefix}.optimizer"))
    )
    wanted = {signal for _, signal, _ in loss.needs}
    weigh: list[UnboundNode] = []
    if _labelled(stage):
        needs = ("old_logprob_RT", "ref_logprob_RT", "trained_RT", "mismatched_R")
        weigh = [
            _labelled_op(name, "baseline", "mismatch_baseline", needs, ("baseline_R",)),
            _labelled_op(name, "weigh", "weigh_labelled", ("mismatched_R",), ("weight_R",)),
        ]
    elif "weight_R" in wanted:
        weigh = [_op(name, "weigh", "weigh_pairs", ("by_pair_R",), ("weight_R",))]
        if "weight_RT" in wanted:
            weigh.append(_op(name, "weigh.chosen", "weigh_chosen", ("trained_RT", "chosen_R"), ("weight_RT",)))
    elif "weight_RT" in wanted:
        params = {key: loss.params[key] for key in stage.loss.lowered}
        keys = tuple(f"{prefix}.loss.{key}" for key in stage.loss.lowered)
        prompts = ("by_prompt_R",) if params["aggregate"] == "prompt_mean" else ()
        op = _op(name, "weigh", "weigh", ("trained_RT",), ("weight_RT",), params=params, keys=keys)
        signal = "failed_R" if failed.endswith("/sum.reward_R") else "excluded_R"
        out = (("failed_R", signal, failed),) if failed else ()
        weigh = [replace(op, needs=(*op.needs, *out, *((column, column, "") for column in prompts)))]
    return [replace(draft, place="updates") for draft in (*weigh, trained, loss, optimizer)]


def _asked(draft: UnboundNode, asked: set[str], stage: Stage) -> UnboundNode:
    """Leave out what a source of tasks could provide and nobody here reads, or reads from elsewhere.

    A sampler of a stage that makes pairs makes no rows of its own: it is asked by the preference.
    """
    pairs = stage.preference is not None
    if draft.slot == "sampler":
        return replace(draft, outputs=tuple(s for s in draft.outputs if (s == "sampling") == pairs))
    if draft.slot not in {"data", "preference"}:
        return draft
    elsewhere = {"chosen_P", "rejected_P"} if pairs and draft.slot == "data" else set()
    return replace(draft, outputs=tuple(s for s in draft.outputs if s in asked - elsewhere))


def _placed(draft: UnboundNode, stage: Stage) -> UnboundNode:
    """Put what is done once before the loop: facts, environments, and everything that makes pairs."""
    once = {"knowledge", "environment"}
    if stage.preference is not None:
        once |= {"data", "sampler", "preference"}
    return replace(draft, place="before") if draft.slot in once else draft
