"""Leave out work that provably changes nothing, and say what, why and what it saves.

Each rewrite takes one stage and returns it changed, or as it was; ``REWRITES`` lists them in order.
Digests stay those of ``lower``: a graph means the same before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from recipec.graph import Graph, Input, Loop, Node, Removal, StageGraph, Value
from recipec.spec.sampler import Sampler

Rewrite = Callable[[StageGraph], StageGraph]
OLD_PASS, REFERENCE_PASS = "the old-policy pass", "the reference pass"
UNREAD_LOGITS = "logits of tokens that are not trained"


def drop_reference(stage: StageGraph) -> StageGraph:
    """Drop a reference pass whose log-probabilities nobody asks for."""
    reference = _node(stage, "reference")
    if reference is None or any(_readers(stage, "ref_logprob_RT")):
        return stage
    why = "nothing asks for `ref_logprob_RT`: no loss with `beta`, no reward and no ratio is held against it"
    saves = "one forward pass over every row of a step, and the memory of the reference"
    kept = {**stage.settings, "reference": None}
    return _without(replace(stage, settings=kept), reference, Removal(REFERENCE_PASS, why, saves))


def drop_old_pass(stage: StageGraph) -> StageGraph:
    """Take the policy's own log-probabilities as the old ones where nothing lies between them.

    With one update a batch, the policy of the update is the policy of the batch: the ratio is
    exp(lp - detach(lp)), which is 1 and has the gradient of lp.
    """
    old, policy = _node(stage, "old"), _node(stage, "policy")
    if old is None or policy is None:
        return stage
    readers = list(_readers(stage, "old_logprob_RT"))
    loss = _node(stage, "loss")
    if loss is None or readers != [loss] or not one_update(stage) or dropout(stage.settings["policy"]):
        return stage
    if loss.params.get("sampler_correction", "none") != "none":
        return stage
    own = Input("logprob_RT", Value("logprob_RT", policy.id))
    name = f"{stage.name}/detach"
    # the two make the same numbers, so what reads them keeps its digest
    detach = Node(
        name,
        "compiler",
        "detach",
        "recipec.runtime.objective.compiler_ops:detach",
        {},
        (own,),
        ("old_logprob_RT",),
        old.digest,
    )
    why = "every batch takes one update, nothing is dropped out and no engine mismatch is corrected: the ratio is 1"
    saves = "one forward pass over every row of a step"
    stage = _without(stage, old, Removal(OLD_PASS, why, saves))
    was = Value("old_logprob_RT", old.id)
    turned = tuple(replace(i, value=Value("old_logprob_RT", name)) if i.value == was else i for i in loss.inputs)
    return _mapped(stage, lambda node: [detach, replace(node, inputs=turned)] if node.id == loss.id else [node])


def drop_zero_credit(stage: StageGraph) -> StageGraph:
    """Leave rows without credit out of the forward pass where the objective is credit alone.

    Denominators are those of the whole minibatch, and the optimizer steps even if no row is left.
    """
    loss, policy = _node(stage, "loss"), _node(stage, "policy")
    if loss is None or policy is None or loss.type != "clipped":
        return stage
    if loss.params["beta"] or loss.params["entropy"] or dropout(stage.settings["policy"]):
        return stage
    why = "without KL, entropy bonus and dropout, a row whose credit is 0 on every token adds 0 to loss and gradient"
    saves = "forward and backward of those rows: all of a group with equal rewards"
    marked = replace(policy, decided={"drop_zero_credit": True})
    stage = _mapped(stage, lambda node: [marked] if node.id == policy.id else [node])
    return _noted(stage, Removal("the update's passes over rows without credit", why, saves))


def cache_reference(stage: StageGraph) -> StageGraph:
    """Compute the log-probabilities of a frozen reference once where the rows are fixed."""
    reference = _node(stage, "reference")
    if stage.kind != "dpo" or reference is None or reference.type != "frozen":
        return stage
    settings = {**stage.settings["reference"], "mode": "cached", "instead_of": stage.settings["reference"]["mode"]}
    why = "data and reference stay the same, so its log-probabilities are computed once, before the first update"
    saves = "one forward pass over the data in every epoch but the first, and the memory of the reference"
    kept = {**stage.settings, "reference": settings}
    return _noted(replace(stage, settings=kept), Removal("the reference pass of later epochs", why, saves))


def score_needed(stage: StageGraph) -> StageGraph:
    """Record that logits are computed only where a log-probability is read, some rows at a time."""
    why = "log-probabilities are read only at trained tokens, and each position's logits depend on it alone"
    saves = "the head's work on prompts and padding; no more than one chunk of logits is in memory"
    return _noted(stage, Removal(UNREAD_LOGITS, why, saves))


REWRITES: tuple[Rewrite, ...] = (drop_reference, drop_old_pass, drop_zero_credit, cache_reference, score_needed)


def optimise(graph: Graph, only: Collection[str] | None = None) -> Graph:
    """Apply every rewrite, or ``only`` those named; with ``only=()`` the graph stays as it was lowered.

    >>> [rewrite.__name__ for rewrite in REWRITES][:2]
    ['drop_reference', 'drop_old_pass']
    """
    stages = []
    for stage in graph.stages:
        for rewrite in REWRITES:
            if only is None or rewrite.__name__ in only:
                stage = rewrite(stage)  # noqa: PLW2901 - each rewrite continues from the one before
        stages.append(stage)
    nodes = {node.id for stage in stages for node in stage.nodes()}
    # a key whose node is gone was still read: by the stage, which decided so
    consumed = {key: by if by in nodes else by.partition("/")[0] for key, by in graph.consumed.items()}
    return replace(graph, stages=tuple(stages), consumed=consumed)


def one_update(stage: StageGraph) -> bool:
    """Whether every step takes exactly one optimizer update."""
    budget = stage.settings["budget"]
    if budget["passes"] != 1:
        return False
    if budget["rows_per_update"] is not None:
        sampler = _node(stage, "sampler")
        spec = sampler.spec if sampler is not None else None
        # only trajectories have a number of rows that is known before they are sampled
        rows = spec.group_size("by_prompt_R") if isinstance(spec, Sampler) else None
        return rows is not None and bool(budget["rows_per_update"] >= (budget["prompts_per_step"] or 0) * rows)
    if budget["prompts_per_update"] is not None:
        return bool(budget["prompts_per_update"] >= (budget["prompts_per_step"] or 0))
    return bool((budget["updates_per_step"] or 1) == 1)


def dropout(policy: Mapping[str, Any]) -> bool:
    """Whether two passes over the same row may differ."""
    return bool(policy.get("dropout") or (policy.get("lora") or {}).get("dropout"))


def _node(stage: StageGraph, name: str) -> Node | None:
    return next((node for node in stage.nodes() if node.id == f"{stage.name}/{name}"), None)


def _readers(stage: StageGraph, signal: str) -> Iterator[Node]:
    return (node for node in stage.nodes() if any(given.value.signal == signal for given in node.inputs))


def _noted(stage: StageGraph, removal: Removal) -> StageGraph:
    return replace(stage, removed=(*stage.removed, removal))


def _without(stage: StageGraph, gone: Node, removal: Removal) -> StageGraph:
    return _noted(_mapped(stage, lambda node: [] if node.id == gone.id else [node]), removal)


def _mapped(stage: StageGraph, change: Callable[[Node], list[Node]]) -> StageGraph:
    """Replace every node of a stage by none, one or several."""

    def loop(item: Loop) -> Loop:
        body: list[Node | Loop] = []
        for inner in item.body:
            body += [loop(inner)] if isinstance(inner, Loop) else change(inner)
        return replace(item, body=tuple(body))

    before = tuple(node for item in stage.before for node in change(item))
    return replace(stage, before=before, loop=loop(stage.loop))
