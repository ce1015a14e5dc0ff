"""What can go wrong when pairs are made of a graph of facts: RC885 to RC894."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipec.diagnostics.model import Finding, diagnostic

_REMEDY = {
    "unlinked": "name the column that says what a question is about (`topic`), or give the graph more labels",
    "few_triples": "raise `hops`, `top_k` or `max_fact_tokens`, or lower `min_triples`",
    "few_claims": "lower `min_claims`, or ask questions that the graph speaks of",
    "equal": "raise `sampler.temperature`",
    "tied": "raise `sampler.temperature` or `sampler.num_generations`",
    "below_margin": "lower `margin`, or raise `sampler.num_generations`",
    "label": "drop `label`, or train the policy to name it first",
    "length_ratio": "raise `max_length_ratio`",
    "cut": "raise `sampler.max_completion_length`, or drop `ended`",
    "empty": "raise `sampler.min_completion_length`",
}


def counted(counts: Mapping[str, int]) -> str:
    """Say what was left out, by the reason, the most first.

    >>> counted({"equal": 2, "tied": 0, "few_claims": 5})
    '5 few claims, 2 equal'
    """
    most = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in most if count)


@diagnostic("RC885", "no-pairs-left")
def no_pairs_left(stage: str, rule: str, prompts: int, left_out: Mapping[str, int]) -> Finding:
    """Every pair of a preference was left out.

    What it checks: what is left of the prompts after the filters of `preference`.
    Why it matters: a stage without pairs would do nothing and look finished. Nothing was trained yet, and the answers
    are kept: with looser filters and `--replace` they are not sampled again.
    Example: `kg_rank` with `margin: 3` over answers that make one claim each.
    Use instead: what the message says of the filter that took the most.
    """
    most = max(left_out, key=lambda reason: left_out[reason], default="")
    return Finding(
        f"`{rule}` of stage `{stage}` left no pair of {prompts} prompts: {counted(left_out)}",
        why="a stage without pairs would train nothing and look finished",
        help=_REMEDY.get(most, "loosen the filters of the preference"),
        path=f"stages.{stage}.preference",
    )


@diagnostic("RC886", "no-topic")
def no_topic(task: int, column: str, have: Mapping[str, Any]) -> Finding:
    """A question lacks the column that says what it is about, or there is no text in it.

    What it checks: the column that `topic` names, of every row that claims are made about: text, or a list of texts.
    Why it matters: without it a claim such as "it itches" is about nothing.
    Example: `topic: disease` over rows that call it `diagnosis`.
    Use instead: the column's name; without `topic` the text of the question is searched.
    """
    listed = ", ".join(f"`{name}`" for name in list(have)[:12]) or "none"
    problem = "holds no text" if column in have else "is missing"
    return Finding(
        f"task {task}: the column `{column}`, which says what it is about, {problem}",
        why="a claim needs something that it is about",
        help=f"the row has {listed}; without `topic` the text of the question is searched",
    )


@diagnostic("RC887", "facts-not-shown")
def facts_not_shown(template: str, missing: str) -> Finding:
    """The template of `kg_rag` leaves out the facts or the question.

    What it checks: the template reads both `facts` and `question`.
    Why it matters: without the facts both answers are written from the same prompt; without the question they answer
    nothing.
    Example: a template that says `{{ prompt }}`.
    Use instead: `{{ question }}` and `{% for fact in facts %}{{ fact }}{% endfor %}`.
    """
    return Finding(
        f"{template} never reads `{missing}`",
        why="the preferred answer is the one that is written from the question and the facts",
        help="read `question` and `facts` in it; `entities` has the labels of what was looked up",
    )


@diagnostic("RC888", "no-knowledge-here")
def no_knowledge_here(what: str) -> Finding:
    """Claims are to be held against a graph, and there is none.

    What it checks: that a stage or an evaluation with `kg_consistency` has a `knowledge`.
    Why it matters: every claim would be unknown.
    Example: an evaluation with `kg_consistency` in a recipe none of whose stages has `knowledge`.
    Use instead: `knowledge: {type: triples, path: …}` in a stage.
    """
    return Finding(
        f"{what} holds claims against a graph of facts, and there is none",
        why="every claim would be unknown",
        help="give a stage `knowledge`, such as `{type: triples, path: …}`",
    )
