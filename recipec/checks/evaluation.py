"""Tasks, rewards and metrics of an evaluation: RC212, RC213, RC460 to RC463."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.dataflow import possible_providers
from recipec.checks.queries import at_path, related_span, span_of
from recipec.checks.reward_bounds import Levels, judged, rewards_of
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import listed, nearest, question
from recipec.reading.partial import Part, Reading
from recipec.spec.recipe import IMITATED, PAIRED, UNANSWERED, Evaluation

_COUNTED = ("accuracy", "avg", "pass")
"""Metrics of answers that count as right by their reward."""
_OF_TRAINING = ("logprob_RT", "old_logprob_RT", "old_collision_RT", "ref_logprob_RT", "entropy_RT")
"""What an evaluation does not compute."""


def _metrics(reading: Reading) -> Iterator[tuple[str, int, str, Levels]]:
    """Yield every metric of answers with what scores them: evaluation, place in the list, metric, rewards."""
    for name, evaluation in reading.evaluate.items():
        levels = rewards_of(reading, name)
        for index, metric in enumerate(evaluation.metrics):
            if levels is not None and metric not in UNANSWERED:
                yield name, index, metric, levels


def _lent(levels: Levels) -> str:
    return f", which come from stage `{levels.lender}`," if levels.lender else ""


@check("RC460", "no-labels")
def no_labels(reading: Reading) -> Iterator[Finding]:
    """An F1 over labels needs exactly one reward with labels; the evaluation has none or several.

    What it checks: `macro_f1` and `majority_macro_f1` come with exactly one reward level `exact_match`, which names the
    column of the right label and the tag of the answer.
    Why it matters: an F1 is an average over classes: it needs the right label and the predicted label of every row.
    Example: `metrics: [macro_f1]` with `reward: {right: {type: verifier}}`.
    How to fix: give the evaluation one level `{type: exact_match, answer: COLUMN, labels: […]}`.
    References: Opitz & Burst, Macro F1 and Macro F1, https://arxiv.org/abs/1911.03347, 2019.
    """
    for name, index, metric, levels in _metrics(reading):
        known = [level for level, spec in levels.specs.items() if (answer := spec.answer_in()) and answer.column]
        if not metric.endswith("macro_f1") or len(known) == 1:
            continue
        listed = " and ".join(f"`{level}`" for level in known)
        problem = f"both {listed} name labels" if known else "none of them names labels"
        yield at_path(reading, ("evaluate", name, "metrics", index)).finding(
            f"`{metric}` needs labels, but of the rewards of evaluation `{name}`{_lent(levels)} {problem}",
            *related_span(reading, levels.path, "the rewards", key=True),
        )


@check("RC461", "margin-without-pairs")
def margin_without_pairs(reading: Reading) -> Iterator[Finding]:
    """The metric `margin` is used with data that has no pairs.

    What it checks: `margin` comes with data that can give a chosen and a rejected answer: rows of a file.
    Why it matters: there is no chosen and rejected answer to compare.
    Example: `evaluate: {pairs: {data: {type: reasoning_gym, task: chain_sum}, metrics: [margin]}}`.
    How to fix: use data of a file with the columns prompt, chosen and rejected.
    References: Rafailov et al., DPO, https://arxiv.org/abs/2305.18290, 2023: pairs of a chosen and a rejected answer.
    """
    for name, evaluation in reading.evaluate.items():
        if PAIRED in evaluation.metrics and not {"chosen_P", "rejected_P"} <= set(evaluation.data.declares()):
            index = evaluation.metrics.index(PAIRED)
            yield at_path(reading, ("evaluate", name, "metrics", index)).finding(
                f"`margin` compares pairs, but data `{evaluation.data.type_name}` of evaluation `{name}` has none",
                *related_span(reading, ("evaluate", name, "data"), "the data", key=True),
            )


@check("RC447", "loss-without-answers")
def loss_without_answers(reading: Reading) -> Iterator[Finding]:
    """The metric `loss` is used with data that has no answers.

    What it checks: `loss` comes with data that can give a completion: rows of a file, reasoning-gym, rollouts.
    Why it matters: it is the likelihood of given answers.
    Example: `evaluate: {tasks: {data: {type: environment}, metrics: [loss]}}`.
    How to fix: use data of a file with the columns prompt and completion, or messages.
    References: TRL, `SFTTrainer`: `eval_loss` of `eval_dataset`.
    """
    for name, evaluation in reading.evaluate.items():
        if IMITATED in evaluation.metrics and "completion_P" not in evaluation.data.declares():
            index = evaluation.metrics.index(IMITATED)
            yield at_path(reading, ("evaluate", name, "metrics", index)).finding(
                f"`loss` is of given answers, but data `{evaluation.data.type_name}` of evaluation `{name}` has none",
                *related_span(reading, ("evaluate", name, "data"), "the data", key=True),
            )


@check("RC462", "no-such-level")
def no_such_level(reading: Reading) -> Iterator[Finding]:
    """A metric is the mean of a reward level that the evaluation does not have.

    What it checks: `reward.LEVEL` against the names of the evaluation's reward levels, and `consistency` against their
    types: one is `kg_consistency`.
    Why it matters: there is nothing to average.
    Example: `metrics: [reward.shape]` with `reward: {label: {type: exact_match}}`.
    How to fix: name an existing level, or add the level under `reward` of the evaluation with `weight: 0`, so that it
    does not count in the total.
    References: TRL reports each reward function by its name as `rewards/NAME/mean`.
    """
    for name, index, metric, levels in _metrics(reading):
        level_name = metric.partition(".")[2]
        there = level_name in levels.specs
        if metric == "consistency":
            there = any(spec.needs("knowledge") for spec in levels.specs.values())
        elif not level_name:
            continue
        if there:
            continue
        close = question([f"reward.{level}" for level in nearest(level_name, levels.specs)]) if level_name else ""
        what = f"none is named `{level_name}`" if level_name else "none is a `kg_consistency`"
        yield at_path(reading, ("evaluate", name, "metrics", index)).finding(
            f"`{metric}` is the mean of a level, but of the rewards of evaluation `{name}`{_lent(levels)} {what}",
            *related_span(reading, levels.path, "the rewards", key=True),
            remedy=close
            or f"the levels are {listed(levels.specs)}; a level with `weight: 0` is measured without effect",
        )


@check("RC463", "blurred-accuracy", "warning")
def blurred_accuracy(reading: Reading) -> Iterator[Finding]:
    """Wrong answers may count as right, or no right answer does.

    What it checks: `correct_at` of an evaluation is above everything that a wrong answer can get and not above the most
    that a right one can, by the values and weights of its reward levels.
    Why it matters: the accuracy would measure something else, such as the format.
    Example: rewards of 7 and -1 for the label and up to 2 for the format: a wrong label in good format earns 1.
    How to fix: set `correct_at` between the two, or give the evaluation its own `reward` with the level that judges the
    answer, and others with `weight: 0`.
    References: DeepSeek-AI, DeepSeek-R1, https://arxiv.org/abs/2501.12948, 2025: accuracy and format apart.
    """
    for name, evaluation in reading.evaluate.items():
        levels = rewards_of(reading, name)
        metric = next((m for m in evaluation.metrics if m.partition("@")[0] in _COUNTED), None)
        bounds = judged(list(levels.specs.values())) if levels is not None and metric else None
        if levels is None or bounds is None:
            continue
        (least, best), (_, most) = bounds
        at = evaluation.correct_at
        if most >= at:
            problem = f"a wrong answer may earn {most:g}"
        elif best < at:
            problem = f"a right answer earns {best:g} at most"
        else:
            continue
        between = f"set `correct_at` above {most:g} and up to {least:g}, or " if most < least else ""
        yield at_path(reading, ("evaluate", name, "correct_at")).finding(
            f"`{metric}` of evaluation `{name}` counts answers from {at:g} on as right, but {problem}",
            *related_span(reading, levels.path, "the rewards", key=True),
            remedy=f"{between}give the evaluation the level that judges, and others with `weight: 0`",
        )


def answered(evaluation: Evaluation) -> bool:
    """Whether an evaluation has the policy write answers: one of given answers alone does not."""
    return not set(evaluation.metrics) <= UNANSWERED


def environment_of(reading: Reading, name: str) -> Part | None:
    """Return the environment that an evaluation asks: its own, or else that of the first `rl` stage."""
    own = [part for part in reading.trials[name].parts if part.slot == "environment"]
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    return next(iter(own or (scoring.of("environment") if scoring else ())), None)


@check("RC213", "evaluation-without-tasks")
def evaluation_without_tasks(reading: Reading) -> Iterator[Finding]:
    """An evaluation uses its environment's own tasks, but the environment has no tasks.

    What it checks: data `environment` of an evaluation against its environment, or that of the first `rl` stage.
    Why it matters: the policy would have no tasks.
    Example: `evaluate: {dev: {data: {type: environment}}}` in a recipe with the environment `search_qa`.
    How to fix: use data of a file, or an environment with tasks, such as `alfworld`.
    """
    for name, evaluation in reading.evaluate.items():
        environment = environment_of(reading, name)
        if not evaluation.data.needs("tasks") or (environment is not None and "tasks" in environment.could_provide()):
            continue
        bringing = ", ".join(f"`{maker}`" for slot, maker in possible_providers("tasks", None) if slot == "environment")
        yield Finding(
            f"evaluation `{name}` takes the tasks of its environment, but "
            + (f"`{environment.name}` has none" if environment else "there is no environment"),
            (
                *span_of(reading, ("evaluate", name, "data", "type")),
                *(
                    related_span(reading, (*environment.path, "type"), f"the environment is `{environment.name}`")
                    if environment
                    else ()
                ),
            ),
            help=f"use data of a file, or an environment with tasks: {bringing}",
            path=f"evaluate.{name}.data",
        )


@check("RC212", "reward-needs-training")
def reward_needs_training(reading: Reading) -> Iterator[Finding]:
    """An evaluation scores answers with a reward that exists only in training.

    What it checks: rewards of evaluations, their own and those they take from the first `rl` stage, need nothing but
    tasks and answers, and for the reward `environment` an environment: the evaluation's own or that stage's.
    Why it matters: an evaluation has tasks and answers, but no old policy and no reference.
    Example: `evaluate: {dev: {…, reward: {drift: {type: kl_penalty}}}}`.
    How to fix: list under `reward` of the evaluation the rewards that judge answers.
    """
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    for name, evaluation in reading.evaluate.items():
        own = evaluation.reward
        inherited = {part.level: part.spec for part in scoring.of("reward")} if scoring and not own else {}
        for level, spec in (own or inherited).items() if answered(evaluation) else ():
            played = evaluation.environment is not None or bool(scoring and scoring.of("environment"))
            if spec is None:
                continue
            training = spec.needs(*_OF_TRAINING)
            if training or (spec.needs("rewards") and not played):
                path = ("evaluate", name, "reward", level) if own else ("evaluate", name)
                origin = "" if own else f", which it takes from stage `{scoring.name if scoring else ''}`,"
                lacks = f"`{spec.type_name}` exists only in training" if training else "it has no environment"
                more = "" if training else ", or give the evaluation an `environment`"
                yield at_path(reading, path, key=True).finding(
                    f"evaluation `{name}` cannot score with `{level}`{origin} since {lacks}",
                    remedy=f"list under `reward` of the evaluation the rewards that judge answers{more}",
                )
