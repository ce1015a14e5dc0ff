"""Preference pairs from knowledge graphs: RC885 to RC888."""

from __future__ import annotations

from collections.abc import Mapping

from recipec.diagnostics.model import Finding, diagnostic

_REMEDY = {
    "unlinked": "name the column with the topic of a question (`topic`), or give the knowledge graph more labels",
    "few_triples": "raise `hops`, `top_k` or `max_fact_tokens`, or lower `min_triples`",
    "few_claims": "lower `min_claims`, or ask questions about the subject of the knowledge graph",
    "equal": "raise `sampler.temperature`",
    "tied": "raise `sampler.temperature` or `sampler.num_generations`",
    "below_margin": "lower `margin`, or raise `sampler.num_generations`",
    "label": "drop `label`, or train the policy to name it first",
    "length_ratio": "raise `max_length_ratio`",
    "cut": "raise `sampler.max_completion_length`, or drop `ended`",
    "empty": "raise `sampler.min_completion_length`",
}


def counted(counts: Mapping[str, int]) -> str:
    """List what was left out, by the reason, the most frequent first.

    >>> counted({"equal": 2, "tied": 0, "few_claims": 5})
    '5 few claims, 2 equal'
    """
    most = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in most if count)


@diagnostic("RC885", "no-pairs-left")
def no_pairs_left(stage: str, rule: str, prompts: int, left_out: Mapping[str, int]) -> Finding:
    """The filters of a `preference` left out every pair.

    Why it matters: the stage would finish without training anything. The answers are kept: with looser filters and
    `--replace` they are not sampled again.
    Example: `kg_rank` with `margin: 3` for answers with one claim each.
    How to fix: loosen the filter that left out most of the pairs.
    """
    most = max(left_out, key=lambda reason: left_out[reason], default="")
    return Finding(
        f"`{rule}` of stage `{stage}` left no pair of {prompts} prompts: {counted(left_out)}",
        help=_REMEDY.get(most, ""),
        path=f"stages.{stage}.preference",
    )


@diagnostic("RC887", "facts-not-shown")
def facts_not_shown(template: str, missing: str) -> Finding:
    """The template of `kg_rag` does not use both `facts` and `question`.

    Why it matters: the preferred answer is written from the question and the facts. Without the facts, both answers
    would be written from the same prompt.
    Example: a template with `{{ prompt }}` only.
    How to fix: use `{{ question }}` and `{% for fact in facts %}{{ fact }}{% endfor %}`; `entities` has the labels of
    the entities that were looked up.
    """
    return Finding(f"{template} does not use `{missing}`")


@diagnostic("RC888", "no-knowledge-here")
def no_knowledge_here(what: str) -> Finding:
    """A stage or an evaluation uses `kg_consistency`, but has no `knowledge`.

    Why it matters: every claim would be unknown.
    Example: an evaluation with `kg_consistency` in a recipe without any `knowledge`.
    How to fix: give a stage `knowledge`, such as `{type: triples, path: …}`.
    """
    return Finding(f"{what} compares claims with a knowledge graph, but no stage has one")
