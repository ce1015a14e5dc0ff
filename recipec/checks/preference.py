"""Preferences that give no pairs, or pairs without meaning: RC334 to RC339."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import (
    Spans,
    at_field,
    at_part,
    display_name,
    field_span,
    is_given,
    parts_of,
    related_span,
    spec_of,
)
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Reading, StageReading
from recipec.spec.preference import Facts, KgRag, KgRank
from recipec.spec.reward import KgConsistency
from recipec.spec.sampler import Sampler


def _shown(reading: Reading, stage: StageReading, key: str, label: str) -> Spans:
    """Show a parameter of the sampler, or the sampler where it is left to its default."""
    part = stage.of("sampler")[0]
    path = (*part.path, key)
    return related_span(reading, path if is_given(reading, path) else part.path, label, key=not is_given(reading, path))


@check("RC334", "one-answer-to-rank")
def one_answer_to_rank(reading: Reading) -> Iterator[Finding]:
    """The best answer is paired with the worst, but there is only one.

    What it checks: `num_generations` of the sampler is 2 or more where the preference is `kg_rank`.
    Why it matters: no prompt would give a pair.
    Example: `preference: {type: kg_rank}` with `sampler: {num_generations: 1}`.
    How to fix: set `sampler.num_generations` to 4 or more, up to 16.
    References: Yuan et al., Self-Rewarding Language Models, https://arxiv.org/abs/2401.10020, 2024: 4 answers a prompt.
    """
    for stage, part, _ in parts_of(reading, KgRank):
        sampler = spec_of(stage, "sampler")
        if isinstance(sampler, Sampler) and sampler.rows_per_prompt() < 2:
            yield at_part(reading, part).finding(
                f"{display_name(part)} pairs the best answer with the worst, but each prompt gets one answer",
                *_shown(reading, stage, "num_generations", "one answer"),
            )


@check("RC335", "answers-all-the-same")
def answers_all_the_same(reading: Reading) -> Iterator[Finding]:
    """Several answers to a prompt are compared, but all are the same.

    What it checks: `temperature` is above 0 where a preference compares several answers to the same text: those of
    `kg_rank`, or of more than one pair per prompt of `kg_rag`.
    Why it matters: at temperature 0 all answers to a prompt are the same; pairs would be ties, or copies of each other.
    Example: `preference: {type: kg_rank}` with `sampler: {temperature: 0}`.
    How to fix: set `sampler.temperature` above 0; for `kg_rag`, one pair per prompt at temperature 0 is possible too.
    References: Shao et al., DeepSeekMath, https://arxiv.org/abs/2402.03300, 2024: what is compared is sampled.
    """
    for stage, part, spec in parts_of(reading, Facts):
        sampler = spec_of(stage, "sampler")
        if isinstance(sampler, Sampler) and sampler.temperature == 0 and sampler.rows_per_prompt() > 1:
            other = ", or `num_generations: 1`" if isinstance(spec, KgRag) else ""
            yield Finding(
                f"the {sampler.rows_per_prompt()} answers that {display_name(part)} compares are all the same",
                (
                    *_shown(reading, stage, "temperature", "each answer is the most likely one"),
                    *field_span(reading, part, "type"),
                ),
                help=f"set sampler.temperature above 0{other}",
                path=dotted((*stage.of("sampler")[0].path, "temperature")),
            )


@check("RC336", "tag-without-label", "warning")
def tag_without_label(reading: Reading) -> Iterator[Finding]:
    """A preference has a `tag` for a label, but no `label`.

    What it checks: `tag` of a preference comes with `label`.
    Why it matters: the tag is not used, and pairs that disagree about the label are kept.
    Example: `preference: {type: kg_rag, tag: answer}`.
    How to fix: add `label` with the name of its column, or drop `tag`.
    References: recipec: `label` names the column, `tag` where in the answer to look for its text.
    """
    for _, part, spec in parts_of(reading, Facts):
        if spec.tag is not None and spec.label is None:
            yield at_field(reading, part, "tag").finding(
                f"`tag: {spec.tag}` of {display_name(part)} locates a label, but there is no `label`"
            )


@check("RC337", "support-earns-nothing")
def support_earns_nothing(reading: Reading) -> Iterator[Finding]:
    """A claim that the knowledge graph supports gets no more than one that it contradicts.

    What it checks: `supported` above `contradicted`, in `kg_rag`, `kg_rank` and rewards `kg_consistency`.
    Why it matters: the policy would learn to contradict the facts, or nothing.
    Example: `preference: {type: kg_rank, contradicted: 1.0}`.
    How to fix: set `supported` above `contradicted`, for example 1 and -1.
    References: Tian et al., Fine-tuning Language Models for Factuality, https://arxiv.org/abs/2311.08401, 2023.
    """
    for part in (*reading.parts, *(part for trial in reading.trials.values() for part in trial.parts)):
        spec = part.spec
        if isinstance(spec, Facts | KgConsistency) and spec.supported <= spec.contradicted:
            key = "contradicted" if is_given(reading, (*part.path, "contradicted")) else "supported"
            yield at_field(reading, part, key).finding(
                f"a supported claim gets {spec.supported:g}, a contradicted one {spec.contradicted:g}"
            )


@check("RC338", "facts-without-knowledge")
def facts_without_knowledge(reading: Reading) -> Iterator[Finding]:
    """An evaluation scores answers by facts, but neither it nor a stage has a `knowledge`.

    What it checks: the reward `kg_consistency` of evaluations, their own or that of the first `rl` stage, against the
    `knowledge` of the evaluation and of the stages.
    Why it matters: an evaluation uses its own knowledge graph, or that of the first stage that has one.
    Example: `evaluate: {dev: {…, reward: {facts: {type: kg_consistency}}}}` in a recipe without `knowledge`.
    How to fix: give the evaluation `knowledge`, such as `{type: triples, path: facts.ttl}`, or drop this reward.
    References: recipec: facts are read once and shared by stages and evaluations.
    """
    if any(stage.of("knowledge") for stage in reading.stages.values()) or reading.fragment:
        return
    for name, trial in reading.trials.items():
        own = any(part.slot == "knowledge" for part in trial.parts)
        for part in () if own else trial.parts:
            if part.slot == "reward" and part.spec is not None and part.spec.needs("knowledge"):
                yield at_part(reading, part).finding(
                    f"evaluation `{name}` scores answers by facts, but neither it nor a stage has a `knowledge`"
                )


@check("RC339", "margin-out-of-reach")
def margin_out_of_reach(reading: Reading) -> Iterator[Finding]:
    """No two answers can differ in score by as much as the `margin` of a preference.

    What it checks: `margin` with `average: mean` against the values of claims: two means differ at most by the largest
    value minus the smallest, with 0 for an answer without claims.
    Why it matters: every pair would be left out, after all answers were sampled.
    Example: `preference: {type: kg_rank, average: mean, margin: 3}`.
    How to fix: lower `margin`, or set `average: sum`.
    References: recipec: an average is within the range of its values.
    """
    for _, part, spec in parts_of(reading, Facts):
        values = (spec.supported, spec.contradicted, spec.unknown, 0.0)
        most = max(values) - min(values)
        margin = spec.margin if isinstance(spec, KgRag | KgRank) else None
        if spec.average == "mean" and margin is not None and margin > most:
            yield at_field(reading, part, "margin").finding(
                f"scores of {display_name(part)} differ by {most:g} at most, but the margin is {margin:g}",
                *related_span(reading, (*part.path, "average"), "means of claims"),
            )
