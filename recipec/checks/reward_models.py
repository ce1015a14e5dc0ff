"""Reward models in the place of policies, and the other way round: RC470 to RC472."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_field, at_path, display_name
from recipec.checks.reward_bounds import rewards_of
from recipec.component import is_origin, texts
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import did_you_mean
from recipec.reading.partial import Reading
from recipec.spec.policy import Policy
from recipec.spec.recipe import UNANSWERED, weights_kind
from recipec.spec.reward import Reward


@check("RC470", "reward-model-as-policy")
def reward_model_as_policy(reading: Reading) -> Iterator[Finding]:
    """A stage reads a reward model where it needs a policy.

    What it checks: only stages of kind `rm` start from a stage of kind `rm`, and no `reference` is one.
    Why it matters: an `rm` stage leaves a model with one output, which gives scores and predicts no token.
    Example: `kind: rl` with `from: judge`, where `judge` is of kind `rm`.
    How to fix: start from the stage before it; let a reward read it, as `reward: {quality: {type: model,
    from: judge}}`.
    References: Ouyang et al., InstructGPT, https://arxiv.org/abs/2203.02155, 2022: a reward model has one output.
    """
    models = {stage.name for stage in reading.stages.values() if stage.kind == "rm"}
    for stage in reading.stages.values():
        if stage.origin in models and stage.kind != "rm":
            at = (*stage.path, "from")
            yield at_path(reading, at).finding(
                f"stage `{stage.name}` (`{stage.kind}`) starts from `{stage.origin}`, which leaves a reward model"
            )
        for part in stage.of("reference"):
            for key, info, text in texts(part.spec) if part.spec is not None else ():
                if is_origin(info) and weights_kind(text) == "stage" and text in models:
                    yield at_field(reading, part, key).finding(
                        f"{display_name(part)} is `{text}`, which leaves a reward model"
                    )


@check("RC471", "unsupported-reward-model")
def unsupported_reward_model(reading: Reading) -> Iterator[Finding]:
    """The policy of an `rm` stage cannot have a scalar head in this version.

    What it checks: the policy of an `rm` stage is a `causal_lm` without `head_dtype`.
    Why it matters: the head of a reward model is computed in float32 in any case, and models that see images have no
    form with one.
    Example: `kind: rm` with `policy: {head_dtype: float32}`.
    How to fix: write the policy of the stage without it: `policy: {type: causal_lm}`.
    References: Transformers, AutoModelForSequenceClassification, https://huggingface.co/docs/transformers.
    """
    for stage in reading.stages.values():
        for part in stage.of("policy") if stage.kind == "rm" else ():
            spec = part.spec
            if not isinstance(spec, Policy):
                continue
            if not spec.scalar_impl:
                problem, key = f"{display_name(part)} has no form with a scalar head", "type"
            elif spec.params().get("head_dtype"):
                problem, key = "a reward model cannot have `head_dtype`", "head_dtype"
            else:
                continue
            yield at_field(reading, part, key).finding(problem)


@check("RC472", "no-reward-model")
def no_reward_model(reading: Reading) -> Iterator[Finding]:
    """A reward reads the reward model of a stage that is not there, or not of kind `rm`.

    What it checks: a bare word as `from` of a reward is an earlier stage of kind `rm`; the rewards of an evaluation
    read no stage, since evaluations also run before the first one.
    Why it matters: stages of other kinds leave a policy, which gives no score, and a later stage has none yet.
    Example: `reward: {quality: {type: model, from: imitate}}`, where `imitate` is an `sft` stage.
    How to fix: name an earlier stage of kind `rm`, a directory as `./name`, or a model of the hub as `org/name`; give
    an evaluation rewards of its own.
    References: Ouyang et al., InstructGPT, https://arxiv.org/abs/2203.02155, 2022: the reward model is trained first.
    """
    order = list(reading.stages)
    for stage in reading.stages.values():
        earlier = [name for name in order[: order.index(stage.name)] if reading.stages[name].kind == "rm"]
        for part in stage.of("reward"):
            for key, text in _stages_of(part.spec):
                if text in earlier or reading.fragment:
                    continue
                there = reading.stages.get(text)
                if there is not None and there.kind is None:
                    continue  # which is reported there
                problem = "there is no such stage" if there is None else f"it is of kind `{there.kind}`"
                problem = "it does not come before" if there is not None and there.kind == "rm" else problem
                yield at_field(reading, part, key).finding(
                    f"{display_name(part)} reads the reward model of stage `{text}`, but {problem}",
                    remedy=did_you_mean(text, earlier),
                )
    for name, evaluation in reading.evaluate.items():
        levels = None if set(evaluation.metrics) <= UNANSWERED else rewards_of(reading, name)
        for level, spec in levels.specs.items() if levels is not None else ():
            for _, text in _stages_of(spec):
                yield at_path(reading, ("evaluate", name), key=True).finding(
                    f"evaluation `{name}` scores with the reward model of stage `{text}`, which does not exist before "
                    "the first stage",
                    remedy=f"give it rewards of its own, without `{level}`",
                )


def _stages_of(spec: object) -> Iterator[tuple[str, str]]:
    """Yield key and name of every stage that a reward reads a model of."""
    for key, info, text in texts(spec) if isinstance(spec, Reward) else ():
        if is_origin(info) and weights_kind(text) == "stage":
            yield key, text
