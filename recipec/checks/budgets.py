"""Length and updates of a stage, evaluations, and the user's own functions: RC320 to RC331, RC550."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from recipec.checks.queries import at_path, group_size, related_span, span_of, units_per_step
from recipec.component import components_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Reading
from recipec.spec.recipe import PAIRED_KINDS, UNANSWERED, UNIT


@check("RC320", "uneven-updates", "warning")
def uneven_updates(reading: Reading) -> Iterator[Finding]:
    """The prompts of a step do not divide into its updates.

    What it checks: `prompts_per_update` (or `updates_per_step`) divides the prompts of a step, where `remainder` is
    `keep`.
    Why it matters: the last update of each step has fewer prompts, but moves the weights as far as the others.
    Example: `prompts_per_step: 10, prompts_per_update: 4`: updates of 4, 4 and 2 prompts.
    How to fix: choose numbers that divide, or set `remainder: drop` or `remainder: copy`.
    """
    for stage in reading.stages.values():
        budget, units = stage.budget, units_per_step(stage)
        if budget is None or units is None or budget.remainder != "keep" or budget.shuffle_rows:
            continue
        size, key = budget.prompts_per_update, "prompts_per_update"
        parts = f"{units // size} of {size} and one of {units % size}" if size else ""
        if size is None and budget.updates_per_step:
            size, key = budget.updates_per_step, "updates_per_step"
            parts = f"{size - units % size} of {units // size} and {units % size} of {units // size + 1}"
        if size is None or size > units or units % size == 0:
            continue
        yield at_path(reading, (*stage.path, "budget", key)).finding(
            f"updates of stage `{stage.name}` are uneven: {units} are split into {parts}"
        )


@check("RC321", "more-updates-than-rows")
def more_updates_than_rows(reading: Reading) -> Iterator[Finding]:
    """An update is larger than a step, or a step has more updates than groups.

    What it checks: `prompts_per_update`, `rows_per_update` and `updates_per_step` against the size of a step. Groups
    stay together unless `shuffle_rows` is on.
    Why it matters: some updates would have no rows.
    Example: `prompts_per_step: 4, updates_per_step: 8`.
    How to fix: use at most as many updates as prompts (or pairs, or rows), or a larger step.
    """
    for stage in reading.stages.values():
        budget, units = stage.budget, units_per_step(stage)
        if budget is None or units is None or stage.kind is None:
            continue
        each = {"sft": 1, "dpo": 2, "rm": 2, "rl": group_size(stage, "by_prompt_R")}[stage.kind]
        rows = None if each is None else units * each
        pieces = rows if budget.shuffle_rows else units
        unit = "rows" if budget.shuffle_rows else UNIT[stage.kind].removesuffix("_per_step")
        pairs = (
            ("updates_per_step", budget.updates_per_step, pieces, unit),
            ("prompts_per_update", budget.prompts_per_update, units, "prompts"),
            ("rows_per_update", budget.rows_per_update, rows, "rows"),
        )
        for key, wanted, most, name in pairs:
            if wanted is not None and most is not None and wanted > most:
                yield at_path(reading, (*stage.path, "budget", key)).finding(
                    f"`{key}: {wanted}` is more than the {most} {name} of a step",
                    remedy=f"use at most {most}, or a larger step",
                )


@check("RC322", "never-saved", "warning")
def never_saved(reading: Reading) -> Iterator[Finding]:
    """A stage ends before its first checkpoint is due.

    What it checks: `save_every` against `steps`.
    Why it matters: a run that is interrupted starts the stage again, although the recipe asks for checkpoints.
    Example: `steps: 20, save_every: 50`.
    How to fix: use a smaller number, or drop it: every stage is saved at its end.
    """
    for stage in reading.stages.values():
        budget = stage.budget
        if budget is not None and budget.steps and budget.save_every and budget.save_every > budget.steps:
            yield at_path(reading, (*stage.path, "budget", "save_every")).finding(
                f"stage `{stage.name}` ends after {budget.steps} steps, before a checkpoint is due "
                f"({budget.save_every})",
                *related_span(reading, (*stage.path, "budget", "steps"), "the stage ends here"),
            )


@check("RC323", "never-evaluated", "warning")
def never_evaluated(reading: Reading) -> Iterator[Finding]:
    """An evaluation is due after more steps than any stage has.

    What it checks: `every` of an evaluation against the longest stage.
    Why it matters: the evaluation would run only before the first stage and after each stage, which gives no curve.
    Example: `every: 500` where every stage has 100 steps.
    How to fix: use a smaller number, or drop it.
    """
    steps = [stage.budget.steps if stage.budget is not None else None for stage in reading.stages.values()]
    known = [count for count in steps if count is not None]
    if not known or len(known) < len(steps):
        return
    for name, evaluation in reading.evaluate.items():
        if evaluation.every is not None and evaluation.every > max(known):
            yield at_path(reading, ("evaluate", name, "every")).finding(
                f"evaluation `{name}` is due every {evaluation.every} steps, but no stage has more than {max(known)}"
            )


@check("RC550", "condition-never-seen")
def condition_never_seen(reading: Reading) -> Iterator[Finding]:
    """`stop_when` names a condition that no metric of the stage shows.

    What it checks: rewards exist in `rl` stages alone; `kl_runs_away` needs a reference, and `entropy_collapsed` a loss
    that reads the entropy.
    Why it matters: the stage would never be stopped by it.
    Example: `stop_when: [no_credit]` in a stage of kind `sft`.
    How to fix: delete the condition, set `loss.beta` for `kl_runs_away` or `loss.entropy` for `entropy_collapsed`.
    """
    for stage in reading.stages.values():
        named = stage.budget.stop_when if stage.budget is not None and not reading.fragment else ()
        losses = [part.spec for part in stage.of("loss")]
        if stage.kind is None or None in losses:
            continue
        needs = {"entropy_collapsed": "entropy_RT", "kl_runs_away": "ref_logprob_RT"}
        for i, name in enumerate(named):
            if name == "no_gradient":
                continue
            is_measured = name not in needs or any(spec is not None and spec.needs(needs[name]) for spec in losses)
            if stage.kind != "rl" or not is_measured:
                yield at_path(reading, (*stage.path, "budget", "stop_when", i)).finding(
                    f"stage `{stage.name}` has no metric that shows `{name}`"
                )


@check("RC324", "too-few-answers")
def too_few_answers(reading: Reading) -> Iterator[Finding]:
    """A metric of an evaluation needs more answers per prompt than are sampled.

    What it checks: `avg@K` and `pass@K` need at least K answers; `majority` and `majority_macro_f1` at least 2.
    Why it matters: `pass@8` cannot be estimated from one answer, and a single answer has no majority.
    Example: `metrics: [pass@8]` with `sampler: {num_generations: 4}`.
    How to fix: raise `sampler.num_generations` of the evaluation, and its temperature.
    References: Chen et al., Evaluating Large Language Models Trained on Code, https://arxiv.org/abs/2107.03374, 2021.
    """
    for name, evaluation in reading.evaluate.items():
        samples = evaluation.sampler.num_generations
        for i, metric in enumerate(evaluation.metrics):
            kind, _, count = metric.partition("@")
            least = int(count) if count else 2 if kind.startswith("majority") else 1
            if least > samples:
                yield at_path(reading, ("evaluate", name, "metrics", i)).finding(
                    f"`{metric}` needs {least} answers per prompt, but evaluation `{name}` samples {samples}",
                    *related_span(reading, ("evaluate", name, "sampler", "num_generations"), f"{samples} here"),
                    remedy=f"set sampler.num_generations of the evaluation to {least} or more",
                )


@check("RC325", "nothing-scores")
def nothing_scores(reading: Reading) -> Iterator[Finding]:
    """An evaluation has no reward, and no `rl` stage has one that it could use.

    What it checks: an evaluation without `reward` takes those of the first `rl` stage; one must exist. The metric
    `margin` alone compares pairs and needs none.
    Why it matters: without `reward`, an evaluation uses the rewards of the first `rl` stage, and this recipe has none.
    Example: a recipe of one `sft` stage with an evaluation that names only data.
    How to fix: add `reward: {right: {type: …}}` to the evaluation.
    """
    if any(stage.kind in {"rl", None} for stage in reading.stages.values()) or not reading.stages:
        return
    for name, evaluation in reading.evaluate.items():
        if not evaluation.reward and not set(evaluation.metrics) <= UNANSWERED:
            yield Finding(
                f"nothing scores the answers of evaluation `{name}`",
                span_of(reading, ("evaluate", name), key=True),
                path=f"evaluate.{name}.reward",
            )


@check("RC326", "equal-answers", "warning")
def equal_answers(reading: Reading) -> Iterator[Finding]:
    """An evaluation samples several answers at temperature 0.

    What it checks: `num_generations` above 1 with `temperature` 0.
    Why it matters: at temperature 0, the default of evaluations, all answers are the same, so that `avg@K`, `pass@K`
    and `majority` equal the accuracy.
    Example: `sampler: {num_generations: 8, temperature: 0.0}`.
    How to fix: set `sampler.temperature` of the evaluation above 0, or sample one answer.
    """
    for name, evaluation in reading.evaluate.items():
        if evaluation.sampler.num_generations > 1 and evaluation.sampler.temperature == 0:
            yield Finding(
                f"the {evaluation.sampler.num_generations} answers that evaluation `{name}` samples are all the same",
                span_of(reading, ("evaluate", name, "sampler", "num_generations")),
                path=f"evaluate.{name}.sampler",
            )


@check("RC327", "split-pairs")
def split_pairs(reading: Reading) -> Iterator[Finding]:
    """Minibatches of a dpo stage would be drawn from single rows.

    What it checks: `shuffle_rows` is off in a stage of kind `dpo` or `rm`.
    Why it matters: the objective compares the two rows of a pair, so both must be in the same minibatch.
    Example: `budget: {epochs: 1, pairs_per_step: 8, updates_per_step: 2, shuffle_rows: true}`.
    How to fix: drop `shuffle_rows`: the pairs of a step with several updates are always shuffled whole.
    References: Rafailov et al., DPO, https://arxiv.org/abs/2305.18290, 2023, eq. 7.
    """
    for stage in reading.stages.values():
        if stage.kind in PAIRED_KINDS and stage.budget is not None and stage.budget.shuffle_rows:
            yield at_path(reading, (*stage.path, "budget", "shuffle_rows")).finding(
                f"stage `{stage.name}` compares the rows of a pair, but `shuffle_rows` would separate them"
            )


@check("RC330", "no-own-file")
def no_own_file(reading: Reading) -> Iterator[Finding]:
    """A reward or an environment is the user's own, but the recipe names no file for it.

    What it checks: the reward `function` and the environment `own` come with `use`.
    Why it matters: functions and classes are looked up only in the files under `use`.
    Example: `reward: {total: {type: function, name: invoice_total}}` without `use`.
    How to fix: add `use: [./rewards.py]` at the top of the recipe.
    """
    if reading.resolved.data.get("use") or reading.fragment:
        return
    for part in own_parts(reading):
        if part.name:
            what = part.cls.user_code if part.cls else ""
            named = " `" + "`, `".join(part.spec.user_names()) + "`" if part.spec else ""
            named_code = f"the {what}{named}" if named else f"a {what} of yours"
            key = (*part.path, "functions" if what == "tool" else "name")
            yield at_path(reading, key).finding(
                f"the {part.slot} is {named_code}, but the recipe names no file with it",
                remedy=f"add `use: [./{part.slot}.py]` at the top of the recipe",
            )


def own_parts(reading: Reading) -> list[Part]:
    """Parts, of stages and of evaluations, that are the user's own, or may be: they could not be read."""
    parts = [*reading.parts, *(part for trial in reading.trials.values() for part in trial.parts)]
    return [part for part in parts if _is_own(part)]


def _is_own(part: Part) -> bool:
    if part.cls is not None:
        return bool(part.cls.user_code)
    return not part.name and any(cls.user_code for cls in components_of(part.slot).values())


@check("RC331", "unused-own-file", "warning")
def unused_own_file(reading: Reading) -> Iterator[Finding]:
    """`use` names a file twice, or a file of which nothing is used.

    What it checks: each entry of `use` once, and only where there is a reward `function` or an environment `own`.
    Why it matters: whoever runs the recipe would have to trust a file that has no effect.
    Example: `use: [./rewards.py]` in a recipe with built-in rewards only.
    How to fix: drop the entry.
    """
    use = reading.resolved.data.get("use")
    if not isinstance(use, list) or reading.fragment:
        return
    called = bool(own_parts(reading))
    seen: Counter[str] = Counter()
    for i, name in enumerate(use):
        seen[str(name)] += 1
        if seen[str(name)] > 1 or not called:
            problem = (
                "is named twice under `use`"
                if called
                else "is named under `use`, but the recipe uses no function or class of it"
            )
            yield at_path(reading, ("use", i)).finding(f"`{name}` {problem}")
