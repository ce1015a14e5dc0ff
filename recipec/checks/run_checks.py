"""The list of all checks by family, and the warnings that a stage allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from recipec.checks import (
    advantage,
    advantage_levels,
    allow,
    attention,
    budgets,
    critic,
    devices,
    distillation,
    episodes,
    evaluation,
    images,
    knowledge,
    loss,
    machine,
    optimizer,
    places,
    preference,
    prompts,
    reward_models,
    rollout_engine,
    sampling,
    signal_references,
    signed_advantage,
    stages,
    staleness,
    trust,
    user_code,
    wiring,
)
from recipec.diagnostics.model import Diagnostic, dotted
from recipec.reading.field_descriptions import keys_of
from recipec.reading.partial import Reading
from recipec.spec.recipe import Evaluation, Stage

Check = Callable[[Reading], Iterator[Diagnostic]]

WIRING: tuple[Check, ...] = (
    signal_references.wrong_axes,
    signal_references.wrong_unit,
    signal_references.not_a_column,
    wiring.unmet_requirement,
    wiring.two_providers,
    wiring.cycle,
    signal_references.unknown_artifact,
    wiring.no_pairs,
    wiring.no_verifier,
    wiring.unused_component,
    wiring.no_environment,
    evaluation.evaluation_without_tasks,
    wiring.credit_unread,
    images.images_nowhere,
    images.images_unread,
    evaluation.reward_needs_training,
)
STAGES: tuple[Check, ...] = (
    stages.unknown_stage,
    stages.not_yet_there,
    stages.adapter_undecided,
    stages.no_adapter,
    stages.policy_twice,
    stages.scratch_undescribed,
    stages.scratch_unused,
    stages.unknown_reference,
    stages.scratch_reference,
    stages.merge_into_quantized,
    stages.too_long,
    reward_models.reward_model_as_policy,
    reward_models.unsupported_reward_model,
    reward_models.no_reward_model,
    critic.critic_without_target,
    critic.unsupported_critic,
    critic.policy_never_trains,
    distillation.unsupported_teacher,
    budgets.uneven_updates,
    budgets.more_updates_than_rows,
    budgets.never_saved,
    budgets.never_evaluated,
    budgets.condition_never_seen,
    budgets.too_few_answers,
    budgets.nothing_scores,
    budgets.equal_answers,
    evaluation.no_labels,
    evaluation.margin_without_pairs,
    evaluation.loss_without_answers,
    evaluation.no_such_level,
    evaluation.blurred_accuracy,
    knowledge.unknown_format,
    knowledge.unknown_reader,
    knowledge.parameter_of_other_format,
    knowledge.graph_of_each_stage,
    knowledge.relation_left_out,
    budgets.split_pairs,
    budgets.no_own_file,
    budgets.unused_own_file,
    allow.bad_allow,
    preference.one_answer_to_rank,
    preference.answers_all_the_same,
    preference.tag_without_label,
    preference.support_earns_nothing,
    preference.facts_without_knowledge,
    preference.margin_out_of_reach,
)
NUMERICS: tuple[Check, ...] = (
    advantage.group_of_one,
    advantage.nothing_to_learn,
    advantage.rewards_cancel,
    advantage.constant_reward,
    advantage.threshold_out_of_reach,
    advantage.unreachable_length,
    advantage.small_trees,
    advantage.too_many_kept,
    advantage.undiscounted_steps,
    advantage.similarity_threshold,
    signed_advantage.filter_against_sign,
    signed_advantage.sign_outvoted,
    signed_advantage.blurred_sign,
    signed_advantage.wrong_sign,
    signed_advantage.tied_to_the_start,
    signed_advantage.never_refreshed,
    advantage_levels.level_of_rows,
    advantage_levels.value_of_further_level,
    advantage_levels.nothing_to_combine,
    advantage_levels.penalty_unread,
    advantage_levels.charged_outliers,
    advantage_levels.unknown_reward_level,
    advantage_levels.whole_credit_of_tokens,
    advantage_levels.tokens_in_sequence,
    advantage_levels.greedy_baseline,
    episodes.windowed_trajectory,
    episodes.parameter_of_episodes,
    episodes.filter_of_one,
    episodes.filter_that_never_tries,
    episodes.no_room_for_a_turn,
    episodes.template_unread,
    prompts.prompt_that_shares_little,
    prompts.nothing_to_pack,
    prompts.end_of_prompt_cut,
    episodes.filter_without_rewards,
    sampling.interrupted_never,
    sampling.greedy_learning,
    sampling.ratio_of_two_spaces,
    sampling.cut_distribution,
    sampling.normalised_nothing,
    sampling.correction_without_room,
    sampling.correction_of_nothing,
    sampling.no_room_to_end,
    sampling.stop_that_cannot,
    sampling.limits_unknown,
    loss.kl_twice,
    loss.coarse_ratio_fine_credit,
    loss.coarse_ratio_fine_mean,
    loss.dropout_in_ratio,
    loss.tight_dual_clip,
    loss.clip_lower,
    loss.estimator_without_gradient,
    loss.no_normaliser,
    loss.unread_normaliser,
    loss.smoothing_unread,
    loss.ipo_of_sums,
    loss.no_trust_region,
    loss.shared_prefix_dropout,
    optimizer.two_warmups,
    optimizer.endless_warmup,
    optimizer.high_learning_rate,
    optimizer.low_learning_rate,
    optimizer.forgetful_moments,
    optimizer.schedule_unread,
)
MACHINE: tuple[Check, ...] = (
    machine.not_in_this_version,
    machine.later_engine,
    machine.too_many_devices,
    machine.unknown_service,
    machine.unused_service,
    machine.row_over_microbatch,
    machine.group_over_engine,
    machine.quantized_without_adapter,
    rollout_engine.temperature_below_engine,
    machine.answers_over_positions,
    devices.devices_do_not_divide,
    devices.heads_do_not_divide,
    devices.adapter_not_for_engine,
    devices.two_precisions,
    devices.images_not_for_engine,
    devices.copy_for_sampling,
    devices.offload_without_zero,
    devices.fewer_prompts_than_ranks,
    devices.exactness_needs_copies,
    devices.moments_in_parts,
    staleness.stale_rows_uncorrected,
    staleness.correction_declined,
    staleness.ahead_of_its_rewards,
    staleness.ahead_without_overlap,
    staleness.ahead_of_nothing,
    staleness.retired_pairs,
    attention.nothing_shared,
    attention.little_shared,
    attention.scattered_groups,
    attention.needs_gpu,
    attention.group_over_microbatch,
    attention.prefix_tree_over_devices,
    attention.other_models_over_devices,
)
TRUST: tuple[Check, ...] = (
    trust.never_trusted,
    trust.secret_in_recipe,
    trust.impossible_name,
    trust.typographic_quotes,
    places.text_for_file,
    places.unknown_form,
    places.unknown_template,
    user_code.own_function,
    user_code.own_environment,
    user_code.environment_without_reward,
)


def planned(reading: Reading) -> tuple[Check, ...]:
    """Return the checks by the plan, which is made of a whole recipe that names an accelerator."""
    if reading.recipe is None or reading.recipe.machine.accelerator is None:
        return ()
    from recipec.checks import memory  # noqa: PLC0415 - importing what plans takes longer than most checks

    return (memory.does_not_fit, memory.group_over_cache)


def check_all(reading: Reading) -> list[Diagnostic]:
    """Run every check over what could be read; a fragment is only checked against itself.

    Warnings that a stage allows are left out, and entries of `allow` without effect are reported.
    If the text could not be read to its end, nothing is reported that the rest could change;
    nothing is reported of a value with a reference that cannot be resolved.
    """
    resolved = reading.resolved
    families = (WIRING, STAGES, NUMERICS, MACHINE, TRUST) if resolved.complete else (NUMERICS, TRUST)
    unknown = {dotted(path) for path in resolved.unknown}
    found = [d for family in families for one in family for d in one(reading) if d.path not in unknown]
    wrong = (d for found_by in (resolved.diagnostics, reading.diagnostics, found) for d in found_by)
    if resolved.complete and not any(diagnostic.is_error for diagnostic in wrong):
        found += [d for one in planned(reading) for d in one(reading)]
    used: set[tuple[str, str]] = set()
    kept = []
    found = [diagnostic for diagnostic in found if not follows(reading, diagnostic)]
    for diagnostic in found:
        stage = allowing(reading, diagnostic)
        if stage is None:
            kept.append(diagnostic)
        else:
            used.add((stage, diagnostic.code))
    if (
        resolved.complete
        and not reading.fragment
        and not any(diagnostic.is_error for diagnostic in reading.diagnostics)
    ):
        kept += allow.unused_allow(reading, used)
    return kept


FOLLOWING: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("RC303", "RC304", "RC305"), ("policy", "adapter", "from")),
    "RC325": ("reward", "kind", "environment"),
    "RC330": ("reward", "environment", "use"),
    "RC331": ("reward", "environment", "use"),
}
"""Codes of what is missing, or has no effect, and the keys of a stage or an evaluation that it depends on."""


def follows(reading: Reading, diagnostic: Diagnostic) -> bool:
    """Whether a diagnostic may only follow from a key that could not be read, which has its own.

    Such keys are those of ``FOLLOWING`` and unknown ones, in any stage or evaluation.
    """
    keys = FOLLOWING.get(diagnostic.code)
    if keys is None:
        return False
    wrong = [one for one in (*reading.resolved.diagnostics, *reading.diagnostics) if one.is_error]
    known = {*keys_of(Stage), *keys_of(Evaluation)}
    named = [key for one in wrong for key in one.path.split(".")[2:3] if one.path.startswith(("stages.", "evaluate."))]
    return any(key in keys or key not in known for key in named)


def allowing(reading: Reading, diagnostic: Diagnostic) -> str | None:
    """Return the stage that allows a warning of its own; None if it is not allowed."""
    if diagnostic.is_error:
        return None
    for stage in reading.stages.values():
        inside = ".".join(str(step) for step in stage.path)
        if stage.allow.get(diagnostic.code) and (not inside or f"{diagnostic.path}.".startswith(f"{inside}.")):
            return stage.name
    return None
