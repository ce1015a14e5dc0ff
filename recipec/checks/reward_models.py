"""Reward models in the place of policies, and the other way round: RC470 and RC471."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import display_name, dotted, field_span, span_of
from recipec.component import is_origin, texts
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading
from recipec.spec.policy import Policy
from recipec.spec.recipe import weights_kind


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
            yield Finding(
                f"stage `{stage.name}` (`{stage.kind}`) starts from `{stage.origin}`, which leaves a reward model",
                span_of(reading, at),
                path=dotted(at),
            )
        for part in stage.of("reference"):
            for key, info, text in texts(part.spec) if part.spec is not None else ():
                if is_origin(info) and weights_kind(text) == "stage" and text in models:
                    yield Finding(
                        f"{display_name(part)} is `{text}`, which leaves a reward model",
                        field_span(reading, part, key),
                        path=dotted((*part.path, key)),
                    )


@check("RC471", "unsupported-reward-model")
def unsupported_reward_model(reading: Reading) -> Iterator[Finding]:
    """The policy of an `rm` stage cannot have a scalar head in this version.

    What it checks: the policy of an `rm` stage is a `causal_lm` without `lora`, `quantization` and `head_dtype`.
    Why it matters: all weights and the new head are trained, and saved as one plain sequence classifier; its head is
    computed in float32 in any case.
    Example: `kind: rm` with `policy: {lora: {r: 16}}`.
    How to fix: write the policy of the stage without them: `policy: {type: causal_lm}`. With `adapter: merge`,
    it starts from an earlier stage with an adapter.
    References: Transformers, AutoModelForSequenceClassification, https://huggingface.co/docs/transformers.
    """
    for stage in reading.stages.values():
        for part in stage.of("policy") if stage.kind == "rm" else ():
            spec = part.spec
            if not isinstance(spec, Policy):
                continue
            set_keys = {"lora": spec.adapter() is not None, "quantization": spec.quantized()}
            set_keys["head_dtype"] = spec.scalar_impl != "" and bool(spec.params().get("head_dtype"))
            wrong = next((key for key, found in set_keys.items() if found), None)
            if not spec.scalar_impl:
                problem, key = f"{display_name(part)} has no form with a scalar head", "type"
            elif wrong or stage.adapter == "continue":
                key = wrong or "type"
                problem = f"a reward model cannot have `{wrong or 'adapter: continue'}`"
            else:
                continue
            yield Finding(problem, field_span(reading, part, key), path=dotted((*part.path, key)))
