"""The components of a stage as drafts of nodes: what each needs and makes, before anything is ordered or hashed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recipec.component import Component
from recipec.lowering.credit import draft_credit
from recipec.lowering.drafts import Take, UnboundNode, component_node, dump, keys_of, level_node, op
from recipec.spec.critic import Critic
from recipec.spec.recipe import Stage
from recipec.spec.reference import Frozen
from recipec.spec.reward import Reward
from recipec.spec.sampler import Sampler

IMAGES = ("pixels_I", "image_row_I")
_OF_EPISODES = ("gamma", "invalid_action_penalty")


def draft_stage(name: str, stage: Stage, policy: Component) -> list[UnboundNode]:
    """Draft every node of a stage in reading order, the compiler's own among them."""
    slots = {draft.slot: draft for draft in _single(name, stage)}
    rewards = [level_node(name, "reward", level, spec) for level, spec in sorted(stage.reward.items())]
    credit = draft_credit(name, stage)
    scored = stage.kind == "rl"
    excluded = _exclusions(name, stage) if scored else []
    out = ("excluded_R", excluded[-1].id) if excluded else ("failed_R", f"{name}/sum.reward_R")
    updates = _updates(name, stage, policy, failed=(("failed_R", *out),) if scored else ())
    needed = {signal for draft in [*slots.values(), *rewards, *credit, *updates] for _, signal, _ in draft.needs}
    drafts = [slots[slot] for slot in ("knowledge", "environment", "data", "sampler", "preference") if slot in slots]
    drafts += _rows(name, stage, policy, needed)
    if scored:
        normalised = {draft.level: draft for draft in _normalised(name, rewards)}
        total = _sum_rewards(name, stage, rewards, normalised)
        drafts += [*rewards, *normalised.values(), total, *_episodes(name, stage, needed), *excluded]
    drafts += _passes(name, policy, slots, needed)
    drafts += [slots["grouping"]] if "grouping" in slots else []
    drafts += [*credit, *updates]
    drafts = [_beside_policy(draft, policy) for draft in drafts]
    read = {signal for draft in drafts for _, signal, _ in draft.needs}
    return [_placed(_asked(draft, read, stage), stage) for draft in drafts]


def _rows(name: str, stage: Stage, policy: Component, needed: Collection[str]) -> Iterator[UnboundNode]:
    """Draft what makes rows of examples and pairs, and gives rows their images."""
    if stage.kind != "rl":
        yield _collate(name, stage)
    if "margin_R" in needed:
        yield op(name, "margins", "scored_pairs:collate_margins", ("chosen_P",), ("margin_R",))
    if any(need.signal in IMAGES for need in policy.requires()):
        yield _images(name, stage)


def _passes(
    name: str, policy: Component, slots: Mapping[str, UnboundNode], needed: Collection[str]
) -> Iterator[UnboundNode]:
    """Draft the passes of models over all rows of a step: of the reference, the policy before updates, the critic."""
    if "reference" in slots:
        # a teacher is computed with the rows of an update; a step needs no pass of its own
        unread = "teacher" in needed and "ref_logprob_RT" not in needed
        teacher = replace(slots["reference"], place="before", needs=(), outputs=("teacher",))
        yield teacher if unread else slots["reference"]
    elif "ref_logprob_RT" in needed:
        yield component_node(name, "reference", Frozen(), keys=())
    if "old_logprob_RT" in needed:
        yield _old(name, policy, needed)
    if "critic" in slots:
        yield replace(slots["critic"], id=f"{name}/values", outputs=("old_value_RT",), keys=())


def _single(name: str, stage: Stage) -> Iterator[UnboundNode]:
    for slot in ("data", "knowledge", "environment", "sampler", "preference", "reference", "critic", "grouping"):
        spec: Component | None = getattr(stage, slot)
        if spec is not None:
            yield component_node(name, slot, spec, keys=tuple(keys_of(spec, f"stages.{name}.{slot}")))


def _collate(name: str, stage: Stage) -> UnboundNode:
    rows = ("tokens_RT", "attend_RT", "trained_RT", "turn_RT", "prompt_id_R")
    if _labelled(stage):
        more = (*rows, "by_pair_R", "desirable_R", "mismatched_R")
        return op(name, "collate", "labelled_answers:collate_labelled", ("completion_P",), more)
    if stage.kind == "sft":
        return op(name, "collate", "collate_completions", ("completion_P",), rows)
    return op(name, "collate", "collate_pairs", ("chosen_P", "rejected_P"), (*rows, "by_pair_R", "chosen_R"))


def _labelled(stage: Stage) -> bool:
    """Whether the rows of a stage are labelled answers, each with a mismatched one."""
    return stage.kind == "sft" and stage.loss is not None and stage.loss.needs("desirable_R")


def _images(name: str, stage: Stage) -> UnboundNode:
    """Draft what gives rows the images of their tasks or examples: every pass over a row then sees the same ones."""
    function, needs = {
        "rl": ("images_of_prompts", ("prompt_P", "by_prompt_R")),
        "sft": ("images_of_completions", ("completion_P",)),
    }.get(stage.kind, ("images_of_pairs", ("chosen_P", "rejected_P")))
    return op(name, "images", function, needs, IMAGES)


def _beside_policy(draft: UnboundNode, policy: Component) -> UnboundNode:
    """Let a reference see the images that the policy sees."""
    seen = tuple(need.signal for need in policy.requires() if need.signal in IMAGES)
    if draft.slot != "reference" or not seen:
        return draft
    return replace(draft, needs=(*draft.needs, *((signal, signal, "") for signal in seen)))


def _normalised(name: str, levels: Sequence[UnboundNode]) -> Iterator[UnboundNode]:
    """Draft what normalises reward levels on their way into the sum; others that read a level get it as it is."""
    for draft in levels:
        if (how := draft.params["normalise"]) != "none":
            params = {"level": draft.level, "centred": how != "running_std", "scaled": how != "running_mean"}
            needs = ("error_R", ("reward_R", "reward_R", draft.id))
            function = "running_normaliser:RunningNormaliser"
            made = op(name, f"normalise.{draft.level}", function, needs, ("reward_R",), params=params)
            yield replace(made, publishes=False, level=draft.level)


def _sum_rewards(
    name: str, stage: Stage, levels: Sequence[UnboundNode], normalised: Mapping[str, UnboundNode]
) -> UnboundNode:
    """Draft the total reward, of each level as it is or as it is ``normalised``."""
    keys = tuple(f"stages.{name}.reward.{level}.weight" for level in sorted(stage.reward))
    weights: dict[str, Any] = {"weights": [level.params["weight"] for level in levels]}
    if any(level.params["shift"] or level.params["clip"] for level in levels):
        weights["shapes"] = [[level.params["shift"], level.params["clip"]] for level in levels]
    if any(level.spec.abstains for level in levels if isinstance(level.spec, Reward)):
        weights["abstains"] = [isinstance(level.spec, Reward) and level.spec.abstains for level in levels]
    steps = isinstance(stage.sampler, Sampler) and stage.sampler.rows == "step"
    function, rows = ("sum_step_rewards", ("error_R", "episode_id_R")) if steps else ("sum_rewards", ("error_R",))
    needs = (*rows, *(("*reward_R", "reward_R", normalised.get(level.level, level).id) for level in levels))
    return op(name, "sum.reward_R", function, needs, ("reward_R", "failed_R"), params=weights, keys=keys)


def _episodes(name: str, stage: Stage, needed: Collection[str]) -> Iterator[UnboundNode]:
    """Draft what an episode's rows know of each other, by the sum of the reward levels."""
    steps = ("reward_R", "episode_id_R", "step_R")
    for level, spec in stage.reward.items():
        if "return_R" in spec.provides():
            params = {key: value for key, value in dump(spec).items() if key in _OF_EPISODES}
            keys = tuple(f"stages.{name}.reward.{level}.{key}" for key in params)
            needs, gives = (*steps, "action_valid_R"), ("score_R", "return_R")
            yield op(name, "episodes", "episode_returns", needs, gives, params=params, keys=keys)
            return
    if "score_R" in needed:
        yield op(name, "sum.score_R", "episode_total", steps, ("score_R",))


def _exclusions(name: str, stage: Stage) -> list[UnboundNode]:
    """Draft what leaves further rows out of the loss: cut ones, greedy ones, and those of groups without a signal."""
    sampler, drafts = stage.sampler, list[UnboundNode]()
    assert isinstance(sampler, Sampler), "the reader fills the slot `sampler` with such"
    if sampler.truncated == "drop":
        drafts.append(op(name, "exclude.truncated", "exclude_truncated", ("failed_R", "truncated_R"), ("excluded_R",)))
    if "greedy_R" in sampler.provides():
        needs: tuple[str | Take, ...] = (_out(drafts), "greedy_R")
        drafts.append(op(name, "exclude.greedy", "exclude_greedy", needs, ("excluded_R",)))
    if (group_filter := sampler.drops()) is not None:
        level = f"{name}/reward.{group_filter.level}" if group_filter.level else ""
        needs = ("failed_R", _out(drafts), ("reward_R", "reward_R", level), "by_prompt_R", "episode_id_R")
        params = {"between": group_filter.between}
        drafts.append(op(name, "exclude.groups", "exclude_groups", needs, ("excluded_R",), params=params))
    return drafts


def _out(drafts: Sequence[UnboundNode]) -> Take:
    """Bind the rows that are out of the loss so far: at first, those that failed."""
    return ("excluded_R", "excluded_R", drafts[-1].id) if drafts else ("excluded_R", "failed_R", "")


def _old(name: str, policy: Component, needed: Collection[str]) -> UnboundNode:
    old = component_node(name, "policy", policy, keys=())
    outputs = ("old_logprob_RT", *(("old_collision_RT",) if "old_collision_RT" in needed else ()))
    return replace(old, id=f"{name}/old", outputs=outputs, uses=("policy",))


def _updates(name: str, stage: Stage, policy: Component, *, failed: tuple[Take, ...]) -> list[UnboundNode]:
    """Draft the body of the loop over updates: weigh -> policy -> loss -> optimizer.

    ``failed`` takes what says which rows are out of the loss; empty where none can be.
    """
    assert stage.loss is not None
    assert stage.optimizer is not None
    prefix = f"stages.{name}"
    trained = component_node(
        name, "policy", policy, keys=tuple(keys_of(stage.policy, f"{prefix}.policy")) if stage.policy else ()
    )
    if stage.kind == "rm":
        trained = replace(trained, outputs=("model_score_R",))
    if stage.loss.needs("divergence_RT"):
        trained = _compared(trained, stage.loss, f"{prefix}.loss")
    loss = component_node(name, "loss", stage.loss, keys=tuple(keys_of(stage.loss, f"{prefix}.loss")))
    optimizer = component_node(
        name, "optimizer", stage.optimizer, keys=tuple(keys_of(stage.optimizer, f"{prefix}.optimizer"))
    )
    wanted = {signal for _, signal, _ in loss.needs}
    weigh: list[UnboundNode] = []
    if _labelled(stage):
        needs = ("old_logprob_RT", "ref_logprob_RT", "trained_RT", "mismatched_R")
        weigh = [
            op(name, "baseline", "labelled_answers:mismatch_baseline", needs, ("baseline_R",)),
            op(name, "weigh", "labelled_answers:weigh_labelled", ("mismatched_R",), ("weight_R",)),
        ]
    elif "weight_R" in wanted:
        weigh = [op(name, "weigh", "weigh_pairs", ("by_pair_R",), ("weight_R",))]
        if "weight_RT" in wanted:
            weigh.append(op(name, "weigh.chosen", "weigh_chosen", ("trained_RT", "chosen_R"), ("weight_RT",)))
    elif "weight_RT" in wanted:
        params = {key: loss.params[key] for key in ("aggregate", "normaliser")}
        keys = tuple(f"{prefix}.loss.{key}" for key in params)
        prompts = ("by_prompt_R",) if params["aggregate"] == "prompt_mean" else ()
        weigh = [
            op(name, "weigh", "weigh", ("trained_RT", *failed, *prompts), ("weight_RT",), params=params, keys=keys)
        ]
    if "correction_mean_R" in wanted:
        weigh.append(_mean_correction(name, loss))
    if "selected_RT" in wanted:
        weigh.append(_selection(name, loss, f"{prefix}.loss"))
    critic = _critic_updates(name, stage, failed) if stage.critic is not None else ()
    return [replace(draft, place="updates") for draft in (*critic, *weigh, trained, loss, optimizer)]


def _compared(policy: UnboundNode, loss: Component, at: str) -> UnboundNode:
    """Let the policy's node compare whole distributions with those of a teacher."""
    params = dump(loss)
    how = [key for key in loss.lowered if key not in ("aggregate", "normaliser")]
    return replace(
        policy,
        params={**policy.params, "teacher": {key: params[key] for key in how}},
        needs=(*policy.needs, ("teacher", "teacher", "")),
        outputs=("divergence_RT", "entropy_RT"),
        keys=(*policy.keys, *(f"{at}.{key}" for key in how)),
        uses=(*policy.uses, "reference"),
    )


def _critic_updates(name: str, stage: Stage, failed: tuple[Take, ...]) -> Iterator[UnboundNode]:
    """Draft an update of the critic: its values, and their distance from the targets that the advantage made."""
    assert isinstance(stage.critic, Critic), "the reader fills the slot `critic` with such"
    averaged = {"aggregate": "token_mean"}
    shares = op(name, "critic.weigh", "weigh", ("trained_RT", *failed), ("weight_RT",), params=averaged)
    yield replace(shares, publishes=False, of_critic=True)
    critic = component_node(name, "critic", stage.critic, keys=tuple(keys_of(stage.critic, f"stages.{name}.critic")))
    yield replace(critic, outputs=("value_RT",), of_critic=True)
    maker = next(level for level, spec in stage.advantage.items() if "target_value_RT" in spec.provides())
    params = {key: critic.params[key] for key in stage.critic.of_loss}
    target = ("target_value_RT", "target_value_RT", f"{name}/advantage.{maker}")
    needs = ("value_RT", "old_value_RT", target, "trained_RT", ("weight_RT", "weight_RT", shares.id))
    loss = op(name, "critic.loss", "gae:value_loss", needs, ("loss",), params=params)
    yield replace(loss, publishes=False, of_critic=True)


def _mean_correction(name: str, loss: UnboundNode) -> UnboundNode:
    """Draft what averages the weights of the correction for the sampling engine."""
    columns = ("ratio_to_RT", "sampler_logprob_RT", "trained_RT", "weight_RT")
    named = {parameter: signal for parameter, signal, _ in loss.needs}
    of = {"action": "sampler_correction"} | {key: f"sampler_correction_{key}" for key in ("level", "cap", "floor")}
    return op(
        name,
        "correction",
        "token_ratios:mean_correction",
        [(column, named[column], "") for column in columns],
        ("correction_mean_R",),
        params={key: loss.params[parameter] for key, parameter in of.items()},
    )


def _selection(name: str, loss: UnboundNode, at: str) -> UnboundNode:
    """Draft what selects tokens of the minibatch by the covariance of log-probability and advantage."""
    named = {parameter: signal for parameter, signal, _ in loss.needs}
    of = [key for key in ("share", "lowest", "highest") if key in loss.params]
    columns = ("ratio_to_RT", "advantage_RT", "trained_RT", "weight_RT")
    return op(
        name,
        "select",
        "covariance:select_tokens",
        [*((column, named[column], "") for column in columns), "tokens_RT"],
        ("selected_RT",),
        params={key: loss.params[key] for key in of},
        keys=tuple(f"{at}.{key}" for key in of),
    )


def _asked(draft: UnboundNode, read: set[str], stage: Stage) -> UnboundNode:
    """Leave out what a source of tasks could provide and no node here reads, or reads from elsewhere.

    A sampler of a stage that makes pairs makes no rows of its own: the preference calls it.
    """
    pairs = stage.preference is not None
    if draft.slot == "sampler":
        return replace(draft, outputs=tuple(s for s in draft.outputs if (s == "sampling") == pairs))
    if draft.slot not in {"data", "preference"}:
        return draft
    elsewhere = {"chosen_P", "rejected_P"} if pairs and draft.slot == "data" else set()
    return replace(draft, outputs=tuple(s for s in draft.outputs if s in read - elsewhere))


def _placed(draft: UnboundNode, stage: Stage) -> UnboundNode:
    """Put what is done once before the loop: facts, environments, and everything that makes pairs."""
    once = {"knowledge", "environment"}
    if stage.preference is not None:
        once |= {"data", "sampler", "preference"}
    return replace(draft, place="before") if draft.slot in once else draft
