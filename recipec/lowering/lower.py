"""Write a recipe down as a graph: rows become nodes; sums, broadcasts, loops and hand-overs become visible.

Nodes are ordered by their signals, and in reading order where signals leave a choice;
so KL in the reward, which needs the reference, is not a special case.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any, TypeVar

from recipec.component import Component, is_origin, is_signal, texts
from recipec.graph import BOOKKEEPING, FORMAT, EvaluationSpecs, Graph, Input, Loop, Node, StageGraph, Value, digest
from recipec.lowering.drafts import UnboundNode, dump, keys_of, provider_of
from recipec.lowering.inheritance import adapter_start, policies, reference_settings
from recipec.lowering.nodes import draft_stage
from recipec.signals import reward_level
from recipec.spec.attention import Auto
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import UNANSWERED, Evaluation, Levels, Recipe, Stage, weights_kind
from recipec.spec.reference import Reference
from recipec.spec.reward import Reward
from recipec.spec.sampler import Sampler

ARTIFACTS = {"rl": ("policy", "rollouts"), "sft": ("policy",), "dpo": ("policy",), "rm": ("policy",)}
T = TypeVar("T")


def lower(recipe: Recipe) -> Graph:
    """Lower a recipe that passed every check.

    Spec digests are over meaning alone: neither the order of keys nor a default that is written out,
    neither `attention` nor `machine`, changes one.
    """
    stages: dict[str, StageGraph] = {}
    names = {name: [n for n in sources(stage) if n in recipe.stages] for name, stage in recipe.stages.items()}
    for name in topological_order(names):
        stages[name] = lower_stage(recipe, name, stages)
    evaluations = {name: _evaluation(recipe, evaluation) for name, evaluation in recipe.evaluate.items()}
    consumed = dict.fromkeys(("recipec", "name", "seed", "vars", "use"), "recipe")
    consumed |= dict.fromkeys(keys_of(recipe.machine, "machine"), "machine")
    consumed |= dict.fromkeys(keys_of(recipe.trackers, "trackers"), "trackers")
    for name, evaluation in recipe.evaluate.items():
        consumed |= dict.fromkeys(keys_of(evaluation, f"evaluate.{name}"), "evaluate")
    for name, stage in recipe.stages.items():
        consumed |= dict.fromkeys(_stage_keys(name, stage), name)
        consumed |= {key: node.id for node in stages[name].nodes() for key in node.keys}
    return Graph(
        name=recipe.name,
        seed=recipe.seed,
        stages=tuple(stages.values()),
        evaluate={name: _evaluation_dump(recipe, name, specs) for name, specs in evaluations.items()},
        evaluations=evaluations,
        machine=dump(recipe.machine),
        consumed=dict(sorted(consumed.items())),
        trackers=recipe.trackers,
    )


def lower_stage(recipe: Recipe, name: str, done: Mapping[str, StageGraph]) -> StageGraph:
    """Lower one stage after its sources."""
    stage, policy = recipe.stages[name], policies(recipe)[name]
    drafts = {draft.id: draft for draft in draft_stage(name, stage, policy)}
    nodes: dict[str, Node] = {}
    for key in topological_order({d.id: d.sources(drafts) for d in drafts.values()}):
        nodes[key] = _node(drafts[key], nodes, drafts, done)
    setup, before, steps, updates = _nodes_by_phase(name, _setup(recipe, name), nodes.values(), drafts)
    lagged = _lagged(stage)
    body = _resampled(name, stage, steps, drafts)
    update = Loop(f"{name}/updates", "updates", updates, ("weights", "optimizer", *lagged))
    ahead = isinstance(stage.sampler, Sampler) and stage.kind == "rl" and stage.sampler.max_staleness > 0
    carries = ("weights", "optimizer", *lagged, "cursors", "draws", *_moments(stage), *(("rollouts",) if ahead else ()))
    pairs = ("pairs",) if stage.preference is not None else ()
    return StageGraph(
        name=name,
        kind=stage.kind,
        origin=stage.from_,
        setup=setup,
        before=before,
        loop=Loop(f"{name}/steps", "steps", (*body, update), carries),
        artifacts=(*ARTIFACTS[stage.kind], *pairs),
        settings=_settings(recipe, name, policy, nodes),
        digest=_stage_digest(recipe, name, nodes[f"{name}/optimizer"], done),
    )


def _nodes_by_phase(
    name: str, setup: Sequence[Node], nodes: Collection[Node], drafts: Mapping[str, UnboundNode]
) -> tuple[tuple[Node, ...], ...]:
    """Return the nodes of the setup, before the loop, of a step and of an update, bound to what they are built from."""
    nodes_by_phase: dict[str, list[Node]] = {"setup": [*setup], "before": [], "steps": [], "updates": []}
    for node in nodes:
        nodes_by_phase[drafts[node.id].place].append(node)
    ids = {node.id for node in (*setup, *nodes)}
    uses = {draft.id: draft.uses for draft in drafts.values()}
    uses |= {node.id: node.spec.uses for node in setup if node.spec}
    return tuple(
        tuple(_with_parts(node, name, uses[node.id], ids) for node in phase) for phase in nodes_by_phase.values()
    )


def _lagged(stage: Stage) -> tuple[str, ...]:
    """Return the models that follow the policy, and thus change from one update to the next."""
    reference = isinstance(stage.reference, Reference) and stage.reference.follows() is not None
    return (*(("reference",) if reference else ()), *(("critic",) if stage.critic is not None else ()))


def _moments(stage: Stage) -> tuple[str, ...]:
    """Return what normalisation of rewards keeps of earlier steps, and of earlier tries of a step."""
    running = any(isinstance(spec, Reward) and spec.normalise != "none" for spec in stage.reward.values())
    return ("moments",) if running else ()


def _stage_digest(recipe: Recipe, name: str, optimizer: Node, done: Mapping[str, StageGraph]) -> str:
    """Return the digest of what a stage means.

    Draws are keyed by the name of the stage, so the name has a meaning; all else that has one flows into the optimizer.
    """
    stage = recipe.stages[name]
    origin_digest = done[stage.from_].digest if weights_kind(stage.from_) == "stage" else stage.from_
    budget = {key: value for key, value in dump(stage.budget).items() if key not in BOOKKEEPING}
    return digest(FORMAT, name, stage.kind, origin_digest, stage.adapter, recipe.seed, budget, optimizer.digest)


def _resampled(
    name: str, stage: Stage, steps: Sequence[Node], drafts: Mapping[str, UnboundNode]
) -> tuple[Node | Loop, ...]:
    """Put what the total reward waits for into a loop of its own, where groups without a signal are sampled again."""
    if stage.kind != "rl" or not isinstance(stage.sampler, Sampler) or stage.sampler.resamples() is None:
        return tuple(steps)
    inside = {provider_of("reward_R", drafts)}
    for node in reversed(steps):
        if node.id in inside:
            inside |= {node_input.value.node for node_input in node.inputs}
    tries = tuple(node for node in steps if node.id in inside)
    loop = Loop(f"{name}/resamples", "resamples", tries, ("cursors", "draws", *_moments(stage)))
    return (loop, *(node for node in steps if node.id not in inside))


def sources(stage: Stage) -> Iterator[str]:
    """Yield what a stage starts from or reads: names of stages, and of models from elsewhere."""
    yield stage.from_
    for spec in (stage.data, stage.preference, stage.reference, stage.critic, stage.knowledge, *stage.reward.values()):
        for _, info, text in texts(spec) if spec else ():
            if is_origin(info):
                yield text
            elif is_signal(info) and not reward_level(text):
                yield text.rpartition(".")[0]


def topological_order(sources_of: Mapping[T, Iterable[T]]) -> Iterator[T]:
    """Yield keys so that each comes after its sources; where that leaves a choice, in the mapping's order.

    >>> list(topological_order({"loss": ["policy"], "data": [], "policy": ["data"]}))
    ['data', 'policy', 'loss']

    Raises:
        graphlib.CycleError: a key is its own source.
    """
    rank = {key: i for i, key in enumerate(sources_of)}
    keys = list(sources_of)
    sorter = TopologicalSorter(sources_of)
    sorter.prepare()
    ready = [rank[key] for key in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        key = keys[heapq.heappop(ready)]
        yield key
        sorter.done(key)
        for more in sorter.get_ready():
            heapq.heappush(ready, rank[more])


def _node(
    draft: UnboundNode, nodes: Mapping[str, Node], drafts: Mapping[str, UnboundNode], done: Mapping[str, StageGraph]
) -> Node:
    inputs = [Input(parameter, Value(signal, source)) for parameter, signal, source in draft.bound(drafts)]
    input_digests = [(i.parameter, i.value.signal, nodes[i.value.node].digest) for i in inputs]
    input_digests += [
        ("", "", nodes[source].digest)
        for source in draft.sources(drafts)
        if source not in {i.value.node for i in inputs}
    ]
    artifact_digests = [(artifact, done[stage].digest) for stage, artifact in draft.artifacts if stage in done]
    return Node(
        id=draft.id,
        slot=draft.slot,
        type=draft.type,
        impl=draft.impl,
        params=draft.params,
        inputs=tuple(inputs),
        outputs=draft.outputs,
        digest=digest(FORMAT, draft.slot, draft.type, draft.params, input_digests, artifact_digests),
        keys=draft.keys,
        level=draft.level,
        of_critic=draft.of_critic,
        spec=draft.spec,
    )


def _setup(recipe: Recipe, name: str) -> tuple[Node, ...]:
    """Return the nodes of what computes a stage: how samples share a forward pass, who samples, who trains."""
    parts = {"attention": recipe.stages[name].attention or Auto()}
    parts |= {slot: getattr(recipe.machine, key) for key, slot in ENGINE_SLOTS.items()}
    return tuple(_setup_node(f"{name}/{part}", spec) for part, spec in parts.items())


def _setup_node(node: str, spec: Component) -> Node:
    params = {key: value for key, value in dump(spec).items() if key != "type"}
    return Node(node, spec.slot, spec.type_name, spec.impl, params, (), (), "", spec=spec)


def _with_parts(node: Node, stage: str, uses: Sequence[str], ids: Collection[str]) -> Node:
    """Bind what the node's implementation is built from to the nodes of its stage; what the stage lacks stays out."""
    parts = [Input(part, Value(part, f"{stage}/{part}")) for part in uses if f"{stage}/{part}" in ids]
    return replace(node, parts=tuple(parts))


def _settings(recipe: Recipe, name: str, policy: Component, nodes: Mapping[str, Node]) -> dict[str, Any]:
    """Collect what the loop itself reads; none of it adds to the digest what its key did not."""
    stage = recipe.stages[name]
    sampler = stage.sampler if stage.kind == "rl" else None
    # an evaluation that bounds no length is bounded alike around every stage
    longest = sampler or next((other.sampler for other in recipe.stages.values() if other.kind == "rl"), None)
    attention = stage.attention or Auto()
    return {
        "kind": stage.kind,
        "from": stage.from_,
        "weights": weights_kind(stage.from_),
        "adapter": stage.adapter,
        "adapter_start": adapter_start(recipe, name),
        "policy": dump(policy),
        "attention": dump(attention),
        # a greedy sampler has no space of its own: log-probabilities are then those of the plain logits
        "temperature": (sampler.temperature if isinstance(sampler, Sampler) else 1.0) or 1.0,
        "num_generations": sampler.rows_per_prompt() if isinstance(sampler, Sampler) else 1,
        "max_completion_length": longest.longest_completion() if isinstance(longest, Sampler) else None,
        "budget": dump(stage.budget),
        "reference": reference_settings(recipe, name) if f"{name}/reference" in nodes else None,
    }


def _evaluation(recipe: Recipe, evaluation: Evaluation) -> EvaluationSpecs:
    """Complete an evaluation: without rewards or without an environment it takes those of the first rl stage.

    Rewards that compare answers with a knowledge graph take its own, or that of the first stage that has one.
    """
    first = _first_rl(recipe)
    graphs = (evaluation.knowledge, *(stage.knowledge for stage in recipe.stages.values()))
    knowledge = next((graph for graph in graphs if graph is not None), None)
    answered = not set(evaluation.metrics) <= UNANSWERED
    rewards = (evaluation.reward or (first.reward if first else {})) if answered else {}
    needed = {need.signal for spec in rewards.values() for need in spec.requires()}
    return EvaluationSpecs(
        data=evaluation.data,
        rewards=dict(sorted(rewards.items())),
        environment=(evaluation.environment or (first.environment if first else None)) if answered else None,
        knowledge=knowledge if "knowledge" in needed else None,
        sampling=evaluation.sampler,
    )


def _evaluation_dump(recipe: Recipe, name: str, specs: EvaluationSpecs) -> dict[str, Any]:
    """Return an evaluation as JSON data; its episodes have the limits of the first rl stage, around every stage."""
    first = _first_rl(recipe)
    sampler = first.sampler if first else None
    data = dump(recipe.evaluate[name])
    data["reward"] = {level: dump(spec) for level, spec in specs.rewards.items()}
    data["environment"] = dump(specs.environment) if specs.environment else None
    data["limits"] = _limits(sampler) if isinstance(sampler, Sampler) else {}
    data.pop("knowledge", None)
    if specs.knowledge is not None:
        data["knowledge"] = dump(specs.knowledge)
    return data


def _limits(sampler: Sampler) -> dict[str, int | None]:
    """Return what bounds the episodes of an evaluation."""
    return {
        "max_turn_length": sampler.max_turn_length,
        "max_context_length": sampler.max_context_length,
        "max_completion_length": sampler.longest_completion(),
    }


def _first_rl(recipe: Recipe) -> Stage | None:
    return next((stage for stage in recipe.stages.values() if stage.kind == "rl"), None)


def _stage_keys(name: str, stage: Stage) -> Iterator[str]:
    prefix = f"stages.{name}"
    level_keys = [f"advantage.{key}" for key in Levels.model_fields] if stage.advantage else []
    for key in ("kind", "from", "adapter", "allow", *level_keys):
        yield f"{prefix}.{key}"
    yield from keys_of(stage.budget, f"{prefix}.budget")
    if stage.attention is not None:
        yield from keys_of(stage.attention, f"{prefix}.attention")
