"""From a compiled stage to running parts, and from a trained policy to artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from recipec.component import Component
from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph, Node, StageGraph, Value
from recipec.run.artifacts import RunFolder, committed, verify_folder
from recipec.run.executor import Options
from recipec.run.progress import Progress
from recipec.runtime.context import StageContext, StoppedBeforeFirstStep, cache_folder
from recipec.runtime.data.table import Table
from recipec.runtime.environment.protocol import Environment
from recipec.runtime.environment.replayed import ReplayedEnvironment
from recipec.runtime.evaluation.evaluate import Evaluator
from recipec.runtime.graph_runner import GraphRunner, Values, load_spec, spec_of
from recipec.runtime.images.image_store import ImageStore, is_vision_model
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.loop import run_loop, split
from recipec.runtime.model.causal_lm import Origin
from recipec.runtime.model.weights import quiet
from recipec.runtime.objective.cached_reference import CachedReference
from recipec.runtime.preference.pair_files import made_once
from recipec.runtime.running_stage import RunningStage
from recipec.runtime.training.local import ReferencePass, ScoringPass
from recipec.runtime.training.optimizer import AdamW, freeze
from recipec.runtime.user_code import load_functions
from recipec.spec.recipe import weights_kind


@quiet()  # its advice on masks is about padding that it takes sampled tokens for
def run_stage(
    *,
    graph: Graph,
    stage: StageGraph,
    first: bool,
    folder: RunFolder,
    options: Options,
    display: Progress,
    stopped: Callable[[], bool],
    digest: str,
    begun: Callable[[], None] = lambda: None,
    warn: Callable[[Diagnostic], None] = lambda _: None,
) -> bool:
    """Run one stage and commit its artifacts; return whether it ended (else it was stopped, resumably)."""
    machine = graph.machine
    context = make_context(graph, stage, folder, options)
    context.say = lambda text: display.say(f"{stage.name}: {text}")
    folder.begin(stage.name, digest)
    metrics_writer = MetricsWriter(folder.stage(stage.name), stage.name, folder.path / "tensorboard")
    with ExitStack() as closing:
        closing.callback(metrics_writer.close)
        try:
            bound = build(stage, folder, context, metrics_writer, display, stopped, digest, machine, closing)
        except StoppedBeforeFirstStep:
            return False
        bound.begun = begun
        bound.warn = warn
        bound.replace = options.replace
        evaluator = Evaluator(graph, stage, context, bound.policy, folder, display)
        closing.callback(evaluator.close)
        bound.evaluate = lambda step: evaluator(step, bound.total, first=first)
        ended = run_loop(bound)
        if ended:
            commit(bound)
    return ended


def make_context(graph: Graph, stage: StageGraph, folder: RunFolder, options: Options) -> StageContext:
    """Fix device, threads and what components may reach.

    Raises:
        RecipeError: RC771, the recipe asks for a device that is not here.
    """
    machine = graph.machine
    torch.set_num_threads(int(machine.get("threads") or 1))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    asked = str(machine.get("device", "auto"))
    if asked == "cuda" and not torch.cuda.is_available():
        raise RecipeError(errors.no_device(asked))
    device = "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
    artifacts = {
        f"{earlier.name}.{artifact}": folder.stage(earlier.name) / artifact
        for earlier in graph.stages
        for artifact in earlier.artifacts
    }
    called = [node for node in stage.nodes() if (node.slot, node.type) == ("reward", "function")]
    return StageContext(
        root=options.root,
        cache=cache_folder(),
        seed=graph.seed,
        stage=stage.name,
        temperature=float(stage.settings.get("temperature", 1.0)),
        device=torch.device(device),
        functions=load_functions(options.use, [str(node.params["name"]) for node in called]),
        use=tuple(options.use),
        artifacts=artifacts,
        services={name: str(service["url"]) for name, service in machine.get("services", {}).items()},
        rollout=load_spec("machine", machine.get("rollout", {"type": "hf"})),
        predicted=predicted(options.plan, stage.name),
        home=folder.stage(stage.name),
    )


def predicted(plan: str, stage: str) -> Mapping[str, Any] | None:
    """Return what the plan of the run says that rows of a stage share, where the recipe fixes it.

    >>> predicted("{}", "explore") is None
    True
    """
    stages = json.loads(plan).get("stages", ())
    said = next((one.get("sharing") for one in stages if one["name"] == stage), None)
    return said if said and said["fixed"] else None


def build(
    stage: StageGraph,
    folder: RunFolder,
    context: StageContext,
    metrics_writer: MetricsWriter,
    display: Progress,
    stopped: Callable[[], bool],
    digest: str,
    machine: Mapping[str, Any],
    closing: ExitStack,
) -> RunningStage:
    """Build the policy, the engine and every part that has a state; ``closing`` ends what they hold."""
    settings = stage.settings
    policy_spec = load_spec("policy", settings["policy"])
    policy = policy_spec.load()(policy_spec, context, weights_origin(stage, folder, context))
    context.policy = policy
    context.image_store = ImageStore(policy) if is_vision_model(policy) else None
    attention = load_spec("attention", settings.get("attention") or {"type": "auto"})
    policy.use(attention.load()(attention, context))
    _, update = split(stage.loop)
    optimizer_node = next(node for node in update if node.slot == "optimizer")
    optimizer = AdamW(spec_of(optimizer_node), context)  # type: ignore[arg-type]
    freeze(policy.model, optimizer.spec.freeze, policy.parts())  # before a reference copies what is trained
    runner = GraphRunner(context, shared_parts(stage, context, policy))
    closing.callback(runner.close)
    context.stopped = stopped
    before = build_inputs(stage, runner, digest)
    source = find_source(stage, runner, before)
    engine_spec = load_spec("machine", machine.get("train", {"type": "local"}))
    runner.instances[optimizer_node.id] = optimizer
    for node in stage.nodes():
        if node.id not in runner.instances and node.slot != "compiler" and spec_of(node).state:
            runner.instance(node)  # made on first use, it would miss what a checkpoint says of it
    return RunningStage(
        graph=stage,
        context=context,
        folder=folder,
        runner=runner,
        policy=policy,
        source=source,
        optimizer=optimizer,
        engine=engine_spec.load()(engine_spec, context),
        metrics_writer=metrics_writer,
        show=display,
        evaluate=lambda _step: {},
        stopped=stopped,
        digest=digest,
        values=before,
    )


def build_inputs(stage: StageGraph, runner: GraphRunner, digest: str) -> Values:
    """Build what is there before the loop, in the order of the graph, and make the pairs where the stage makes any.

    What takes no columns is reached through the setting: a world, a graph of facts, the sampler that a preference asks.

    Raises:
        StoppedEarly: the run was asked to stop while pairs were made.
    """
    context, made = runner.context, Values()
    for node in stage.before:
        if node.slot == "environment":
            context.environment = runner.instances[node.id] = environment(spec_of(node), context)
        elif node.slot == "knowledge":
            context.knowledge = runner.instance(node)
            context.say(context.knowledge.about)
        elif node.slot == "sampler":
            context.sampler = spec_of(node)
        elif node.slot == "data":  # pairs are made of all of its tasks
            runner.instance(node).prepare("rl")
            made[Value("prompt_P", node.id)] = runner.instance(node).tasks
        elif node.slot == "preference":
            assert context.home is not None
            about = {"digest": digest, "stage": stage.name, "artifact": "pairs"}
            columns = [made[given.value] for given in node.inputs]
            pairs = made_once(runner.instance(node), columns, context.home / "pairs", about)
            made |= {Value(signal, node.id): pairs[signal] for signal in node.outputs}
        else:
            runner.call(node, made)
    return made


def environment(spec: Component, context: StageContext) -> Environment:
    """Build an environment whose timeouts can be had again."""
    found: Environment = ReplayedEnvironment(spec.load()(spec, context))
    return found


def shared_parts(stage: StageGraph, context: StageContext, policy: Any) -> dict[str, Any]:
    """Parts that several nodes share, by node id: the policy in its updates, as the old one, behind a reference."""
    tokens = int(stage.settings["budget"]["microbatch_tokens"])
    score = partial(policy.logprobs, entropy=False)
    found: dict[str, Any] = {}
    for node in stage.nodes():
        if node.slot == "policy":
            old = "old_logprob_RT" in node.outputs
            found[node.id] = ScoringPass(score, "old_logprob_RT", tokens=tokens, policy=policy) if old else policy
        if node.slot == "reference":
            found[node.id] = reference(node, stage, context, policy, tokens=tokens)
    return found


def reference(node: Node, stage: StageGraph, context: StageContext, policy: Any, *, tokens: int) -> Any:
    """Keep the reference the way the compiler chose."""
    settings = stage.settings["reference"]
    if settings["mode"] == "cached" and settings["instead_of"] != "other":
        score = partial(policy.logprobs, entropy=False)
        return CachedReference(ScoringPass(score, "ref_logprob_RT", tokens=tokens, policy=policy))
    spec = spec_of(node)
    made = ReferencePass(spec.load()(spec, context), "ref_logprob_RT", tokens=tokens, policy=policy)
    return CachedReference(made) if settings["mode"] == "cached" else made


def weights_origin(stage: StageGraph, folder: RunFolder, context: StageContext) -> Origin:
    """Say where the stage's weights come from, and what becomes of the parent's adapter."""
    kind = weights_kind(stage.origin)
    adapter = stage.settings.get("adapter")
    if kind == "stage":
        return Origin("directory", str((folder.stage(stage.origin) / "policy").resolve()), adapter)
    path = str(context.root / stage.origin) if kind == "directory" else stage.origin
    return Origin(kind, path, adapter)


def find_source(stage: StageGraph, runner: GraphRunner, before: Values) -> Any:
    """What the loop draws from: pairs made before it, else the data."""
    made: dict[str, Any] = {}
    for node in stage.before:
        if node.slot == "preference":
            made = {signal: before[Value(signal, node.id)] for signal in node.outputs}
    if made:
        return Table(made, runner.context)
    node = next(node for node in stage.nodes() if node.slot == "data")
    instance = runner.instance(node)
    instance.prepare(stage.kind)
    return instance


def commit(stage: RunningStage) -> None:
    """Save what the stage leaves behind: its policy last, since that says that the stage is done."""
    name = stage.graph.name
    home = stage.folder.stage(name)
    about = {"digest": stage.digest, "stage": name}
    for artifact in sorted(stage.graph.artifacts, key=lambda a: a == "policy"):
        there = verify_folder(home / artifact)
        if there is not None and there.get("digest") == stage.digest:
            continue  # committed before the run was killed
        with committed(home / artifact, {**about, "artifact": artifact}) as folder:
            if artifact == "policy":
                stage.policy.save(folder)
            elif artifact == "rollouts":
                for path in sorted((home / "samples").glob("step-*.jsonl")):
                    shutil.copy2(path, folder / path.name)
            else:
                preference = next(i for i in stage.runner.instances.values() if hasattr(i, "write"))
                preference.write(folder)
