"""Remove work that provably does not change the result, and report what, why and what it saves.

Each rewrite takes one stage and returns it changed or unchanged; ``REWRITES`` lists them in order.
Digests are those of ``lower``: a graph means the same before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from recipec.graph import Graph, Input, Loop, Node, Removal, StageGraph, Value
from recipec.spec.loss import Loss
from recipec.spec.policy import Policy
from recipec.spec.reference import Reference
from recipec.spec.sampler import Sampler

Rewrite = Callable[[StageGraph], StageGraph]
OLD_PASS, REFERENCE_PASS = "old-policy forward pass", "reference forward pass"
UNREAD_LOGITS = "logits of untrained tokens"


def drop_reference(stage: StageGraph) -> StageGraph:
    """Drop a reference pass with unused log-probabilities."""
    reference = stage.node("reference")
    if reference is None or any(_readers(stage, "ref_logprob_RT")) or reference in stage.before:
        return stage
    why = "`ref_logprob_RT` is not used: no loss with `beta`, no reward and no ratio needs it"
    saves = "one forward pass over all rows of a step, and the memory of the reference model"
    kept = {**stage.settings, "reference": None}
    return _without(replace(stage, settings=kept), reference, Removal(REFERENCE_PASS, why, saves))


def drop_old_pass(stage: StageGraph) -> StageGraph:
    """Use the log-probabilities of the update as the old ones if the policy does not change in between.

    With one update per step, the policy of the update is the policy that sampled: the ratio is
    exp(lp - detach(lp)), which is 1 and has the gradient of lp.
    """
    old, policy = stage.node("old"), stage.node("policy")
    if old is None or policy is None:
        return stage
    readers = list(_readers(stage, "old_logprob_RT"))
    loss = stage.node("loss")
    if loss is None or readers != [loss] or not one_update(stage) or drops_out(stage):
        return stage
    if any(column.value.signal == "sampler_logprob_RT" for column in loss.inputs):  # an engine mismatch is corrected
        return stage
    own = Input("logprob_RT", Value("logprob_RT", policy.id))
    name = f"{stage.name}/detach"
    # both compute the same numbers, so the nodes that read them keep their digests
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
    why = "with one update per step, no dropout and no `sampler_correction`, the ratio is always 1"
    saves = "one forward pass over all rows of a step"
    stage = _without(stage, old, Removal(OLD_PASS, why, saves))
    was = Value("old_logprob_RT", old.id)
    turned = tuple(replace(i, value=Value("old_logprob_RT", name)) if i.value == was else i for i in loss.inputs)
    return _mapped(stage, lambda node: [detach, replace(node, inputs=turned)] if node.id == loss.id else [node])


def drop_zero_credit(stage: StageGraph) -> StageGraph:
    """Skip rows with advantage 0 in the update if the objective has no other term.

    Denominators remain those of the whole minibatch, and the optimizer steps even if no row is left.
    """
    loss, policy = stage.node("loss"), stage.node("policy")
    if loss is None or policy is None or not isinstance(loss.spec, Loss):
        return stage
    if not loss.spec.credit_alone() or drops_out(stage):
        return stage
    why = "without KL, entropy bonus and dropout, they contribute nothing to loss or gradient"
    saves = "typically all samples of a group with equal rewards"
    marked = replace(policy, decided={"drop_zero_credit": True})
    stage = _mapped(stage, lambda node: [marked] if node.id == policy.id else [node])
    return _noted(stage, Removal("forward and backward passes of zero-advantage samples", why, saves))


def cache_reference(stage: StageGraph) -> StageGraph:
    """Compute the log-probabilities of a frozen reference only once if the data are fixed."""
    reference = stage.node("reference")
    if stage.kind != "dpo" or reference is None or not isinstance(reference.spec, Reference):
        return stage
    if reference.spec.follows() is not None:
        return stage
    settings = {**stage.settings["reference"], "mode": "cached", "instead_of": stage.settings["reference"]["mode"]}
    why = "data and reference do not change, so its log-probabilities are computed once, before the first update"
    saves = "one forward pass over the data in every epoch after the first, and the memory of the reference model"
    kept = {**stage.settings, "reference": settings}
    return _noted(replace(stage, settings=kept), Removal("reference forward pass of later epochs", why, saves))


def score_needed(stage: StageGraph) -> StageGraph:
    """Record that logits are computed only for trained tokens, in chunks."""
    if stage.kind == "rm":
        return stage
    why = "log-probabilities are needed only at trained tokens, and the logits of a token depend on its position alone"
    saves = "the output layer on prompts and padding, and memory: only one chunk of logits exists at a time"
    return _noted(stage, Removal(UNREAD_LOGITS, why, saves))


REWRITES: tuple[Rewrite, ...] = (drop_reference, drop_old_pass, drop_zero_credit, cache_reference, score_needed)


def optimise(graph: Graph, only: Collection[str] | None = None) -> Graph:
    """Apply every rewrite, or ``only`` those named; with ``only=()`` the graph is not changed.

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
    # the keys of a removed node count as read by its stage
    consumed = {key: by if by in nodes else by.partition("/")[0] for key, by in graph.consumed.items()}
    return replace(graph, stages=tuple(stages), consumed=consumed)


def one_update(stage: StageGraph) -> bool:
    """Whether every step takes exactly one optimizer update."""
    budget = stage.settings["budget"]
    if budget["passes"] != 1:
        return False
    if budget["rows_per_update"] is not None:
        sampler = stage.spec(Sampler)
        # only trajectories have a number of rows that is known before they are sampled
        rows = None if sampler is None else sampler.group_size("by_prompt_R")
        return rows is not None and bool(budget["rows_per_update"] >= (budget["prompts_per_step"] or 0) * rows)
    if budget["prompts_per_update"] is not None:
        return bool(budget["prompts_per_update"] >= (budget["prompts_per_step"] or 0))
    return bool((budget["updates_per_step"] or 1) == 1)


def drops_out(stage: StageGraph) -> bool:
    """Whether two training passes over the same row may differ."""
    return bool(stage.required(Policy).dropout_rates())


def _readers(stage: StageGraph, signal: str) -> Iterator[Node]:
    return (node for node in stage.nodes() if any(column.value.signal == signal for column in node.inputs))


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
