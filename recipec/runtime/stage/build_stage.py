"""From a compiled stage to running parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from recipec import graph as graphs
from recipec.component import load_object
from recipec.diagnostics.errors import machine as machine_errors, ranks as rank_errors, run as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph, Node, StageGraph, Value
from recipec.host.artifacts import RunFolder
from recipec.host.options import Options, StageRun
from recipec.host.preflight import service_keys
from recipec.host.waits import working_on
from recipec.runtime.attention.sequence_parallel_attention import SequenceParallelAttention
from recipec.runtime.context import StageContext, StoppedBeforeFirstStep, cache_folder
from recipec.runtime.data.table import Table
from recipec.runtime.distributed.sequence_parallel import SequenceParallelGroup
from recipec.runtime.environment.replayed import ReplayedEnvironment
from recipec.runtime.evaluation.evaluate import Evaluator
from recipec.runtime.graph_runner import GraphRunner, Values, arguments, build_part, located_at
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.logging.tensorboard_tracker import TensorBoardTracker
from recipec.runtime.logging.tracker import LenientTracker, TrackedStage, Tracker
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.weights import quiet
from recipec.runtime.objective.cached_reference import CachedReference
from recipec.runtime.objective.distillation import Teacher
from recipec.runtime.preference.pair_files import made_once
from recipec.runtime.protocols import Attention, Policy, RolloutEngine, TaskSource
from recipec.runtime.rollout.shared_rollouts import LeaderRollouts, SharedRollouts
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.runtime.stage.build_lookahead import sampled_ahead
from recipec.runtime.stage.loop import run_loop
from recipec.runtime.stage.running_stage import Observers, RunningStage
from recipec.runtime.stage.stage_artifacts import commit
from recipec.runtime.training.optimizer import freeze
from recipec.runtime.training.scoring import ReferencePass, ScoringPass
from recipec.runtime.user_code import load_functions
from recipec.spec.attention import Dense
from recipec.spec.policy import Policy as PolicySpec
from recipec.spec.recipe import weights_kind
from recipec.spec.train_engine import TrainEngine

_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc")


@quiet()  # its advice on masks is about padding that it takes sampled tokens for
def run_stage(graph: Graph, stage: StageGraph, folder: RunFolder, options: Options, run: StageRun) -> bool:
    """Run one stage and commit its artifacts; return whether it ended (else it was stopped, resumably)."""
    with ExitStack() as closing:
        closing.enter_context(working_on(f"stages.{stage.name}"))
        context = make_context(graph, stage, folder, options, run)
        run.ranks.on_leader(lambda: folder.begin(stage.name, run.digest))
        running = None
        try:
            running = build(graph, stage, folder, context, run, closing, replace=options.replace)
            ended = run_loop(running)
        except StoppedBeforeFirstStep:
            return False
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            step = 0 if running is None else running.step + 1
            raise RecipeError(errors.out_of_memory(stage.name, step, str(context.device))) from error
        if ended:
            commit(running)
    return ended


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; torch has no type of its own for that of a CPU.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), out_of_memory(RuntimeError("shape"))
    (True, False)
    """
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY)


def make_context(graph: Graph, stage: StageGraph, folder: RunFolder, options: Options, run: StageRun) -> StageContext:
    """Fix device and threads, and gather what components may read.

    Raises:
        RecipeError: RC771, the recipe asks for a device that is not here; RC779, for more than there are.
    """
    machine = graph.machine
    torch.set_num_threads(int(machine.get("threads") or 1))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    device_name = str(machine.get("device", "auto"))
    if device_name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(errors.no_device(device_name))
    on_gpu = device_name != "cpu" and torch.cuda.is_available()
    if on_gpu and run.ranks.local >= torch.cuda.device_count():
        raise RecipeError(rank_errors.too_few_devices(run.ranks.local + 1, torch.cuda.device_count()))
    device = torch.device("cuda", run.ranks.local) if on_gpu else torch.device("cpu")
    train = stage.required(TrainEngine)
    if run.ranks.size > 1 and run.ranks.size % train.sequence_partitions():
        problem = f"the run has {run.ranks.size} processes"
        raise RecipeError(machine_errors.sequences_not_spread(train.sequence_partitions(), problem))
    specs = [node.spec for node in stage.nodes() if node.spec is not None]
    functions = [name for spec in specs if spec.user_code == "function" for name in spec.user_names()]
    return StageContext(
        root=options.root,
        cache=cache_folder(),
        seed=graph.seed,
        stage=stage.name,
        temperature=float(stage.settings.get("temperature", 1.0)),
        device=device,
        ranks=run.ranks,
        bitwise_reproducible=machine.get("exactness") == "exact" and run.ranks.size > 1,
        hands_over=machine.get("exactness") != "exact",
        sharded=train.partitions(run.ranks.size)[2] > 1,
        sequence_parallel_size=train.sequence_partitions() if run.ranks.size > 1 else 1,
        functions=load_functions(options.use, functions),
        use=tuple(options.use),
        artifacts={
            f"{earlier.name}.{artifact}": folder.stage(earlier.name) / artifact
            for earlier in graph.stages
            for artifact in earlier.artifacts
        },
        services={name: str(service["url"]) for name, service in machine.get("services", {}).items()},
        service_keys=service_keys(machine),
        home=folder.stage(stage.name),
        begun=folder.begun(),
        say=lambda text: run.progress.say(f"{stage.name}: {text}"),
        stopped=lambda: run.ranks.any(run.stopped()),
    )


def build(
    graph: Graph,
    stage: StageGraph,
    folder: RunFolder,
    context: StageContext,
    run: StageRun,
    closing: ExitStack,
    *,
    replace: bool = False,
) -> RunningStage:
    """Build every part of a stage, whole; ``closing`` ends what they hold.

    Raises:
        StoppedBeforeFirstStep: the user stopped the run while pairs were made.
    """
    trackers = trackers_of(graph, stage, folder, run.digest, run.warn)
    metrics_writer = MetricsWriter(folder.stage(stage.name), stage.name, trackers)
    closing.callback(metrics_writer.close)
    policy = build_policy(stage, folder, context)
    runner, transfer = build_engines(stage, context, policy, closing)
    if stage.kind == "rl" or stage.before:  # pairs and extracted facts are sampled before the first step
        transfer.update()
    before = build_inputs(stage, runner, run.digest)
    source = find_source(stage, runner, before)
    environment = runner.instances.get(f"{stage.name}/environment")
    lookahead = sampled_ahead(stage, runner, transfer, folder, source)
    if lookahead is not None:
        closing.callback(lookahead.close)
    for node in stage.nodes():
        if node.spec.state if node.spec is not None else inspect.isclass(load_object(node.impl)):
            runner.instance(node)  # built on first use, it would miss what a checkpoint says of it
    settle = (lambda: None) if lookahead is None else lookahead.settle
    evaluator = Evaluator(graph, stage, context, runner, transfer, folder, run.progress, settle)
    closing.callback(evaluator.close)
    return RunningStage(
        graph=stage,
        context=context,
        folder=folder,
        runner=runner,
        policy=policy,
        source=source,
        weight_transfer=transfer,
        lookahead=lookahead,
        train_engine=transfer.train_engine,
        environment=environment,
        metrics_writer=metrics_writer,
        observers=Observers(run.watching or run.progress, run.stopped, run.begun, run.warn),
        evaluate=partial(evaluator, first=run.first),
        digest=run.digest,
        replace=replace,
        values=before,
    )


def trackers_of(
    graph: Graph, stage: StageGraph, folder: RunFolder, digest: str, warn: Callable[[Diagnostic], None]
) -> list[Tracker]:
    """Build TensorBoard's and those of the recipe; ``digest`` is the run digest of the stage."""
    key = graphs.digest(graph.name, folder.path.name, folder.begun(), stage.name, digest)
    settings = {"seed": graph.seed, **graphs.settings_of(stage)}
    about = TrackedStage(graph.name, stage.name, folder.path, key, settings)
    named = [(name, spec.load()(spec, about)) for name, spec in graph.trackers.items()]
    return [TensorBoardTracker(about), *(LenientTracker(name, tracker, warn) for name, tracker in named)]


def build_engines(
    stage: StageGraph, context: StageContext, policy: Policy, closing: ExitStack
) -> tuple[GraphRunner, WeightTransfer]:
    """Build the runner of a stage's nodes, and its engines, between which weights are transferred."""
    runner = GraphRunner(context, (*stage.setup, *stage.nodes()), policy_parts(stage, policy))
    closing.callback(runner.close)
    # a sampler with a copy of the weights takes it before they are spread over ranks; a reference copies its shard
    transfer = weight_transfer(stage, runner, policy)
    runner.instances |= scoring_passes(stage, runner, policy)
    return runner, transfer


def weight_transfer(stage: StageGraph, runner: GraphRunner, policy: Policy) -> WeightTransfer:
    """Build the stage's engines, and what brings the weights of one into the other."""
    rollout, train = (required(stage, name) for name in ("rollout_engine", "train_engine"))
    spec: Any = rollout.spec
    ranks = runner.context.ranks
    if ranks.size > 1 and spec.apart():
        engine: RolloutEngine = LeaderRollouts(partial(runner.instance, rollout), ranks)
    else:
        engine = runner.instance(rollout)
        engine = SharedRollouts(engine, ranks) if ranks.size > 1 else engine
    runner.instances[rollout.id] = engine
    return WeightTransfer(spec, engine, runner.instance(train), policy, runner.context)


def required(stage: StageGraph, name: str) -> Node:
    """Return a node that every stage has."""
    node = stage.node(name)
    assert node is not None, f"{stage.name} has no {name}"
    return node


def build_policy(stage: StageGraph, folder: RunFolder, context: StageContext) -> CausalLm:
    """Load the policy, give it the attention that the graph names, and freeze what the recipe freezes."""
    node, attention, optimizer = (required(stage, name) for name in ("policy", "attention", "optimizer"))
    assert node.spec is not None
    assert attention.spec is not None
    assert isinstance(node.spec, PolicySpec)
    kind = load_object(node.spec.scalar_impl) if stage.kind == "rm" else node.spec.load()
    policy: CausalLm = kind(node.spec, context, weights_origin(stage, folder, context))
    policy.check_saveable()
    policy.set_attention(attention_of(attention, context))
    frozen: Any = optimizer.spec
    freeze(policy.model, frozen.freeze, policy.module_groups())  # before a reference copies what is trained
    return policy


def attention_of(node: Node, context: StageContext) -> Attention:
    """Build the attention of a stage; with sequence parallelism, `auto` is `packed`."""
    assert node.spec is not None, node.id
    if context.sequence_parallel_size > 1:
        sp_group = SequenceParallelGroup(context.ranks, context.sequence_parallel_size)
        return SequenceParallelAttention(node.spec, context, sp_group, padded=isinstance(node.spec, Dense))
    attention: Attention = node.spec.load()(node.spec, context, **node.decided)
    return attention


def build_inputs(stage: StageGraph, runner: GraphRunner, digest: str) -> Values:
    """Build what is there before the loop, in the order of the graph, and make the pairs where the stage makes any.

    Raises:
        StoppedBeforeFirstStep: the user stopped the run while pairs were made.
    """
    context, values = runner.context, Values()
    for node in stage.before:
        if node.slot == "environment":
            assert node.spec is not None, node.id
            build = partial(build_part, node.spec, context, runner.parts_of(node))
            runner.instances[node.id] = ReplayedEnvironment(build, context.ranks)
        elif node.slot == "knowledge":
            context.say(runner.instance(node).description)
        elif node.slot == "data":  # pairs are made of all of its tasks
            runner.instance(node).prepare("rl")
            values[Value("prompt_P", node.id)] = runner.instance(node).tasks
        elif node.slot == "preference":
            assert context.home is not None
            about = {"digest": digest, "stage": stage.name, "artifact": "pairs"}
            columns = arguments(node, values)
            with located_at(node, context):
                pairs = made_once(runner.instance(node), columns, context.home / "pairs", about, context.ranks)
            values |= {Value(signal, node.id): pairs[signal] for signal in node.outputs}
        elif node.outputs and node.slot == "compiler":
            runner.call(node, values)
    return values


def policy_parts(stage: StageGraph, policy: Policy) -> dict[str, Any]:
    """Return the policy by the nodes that train it, and its attention."""
    trained = {node.id: policy for node in stage.nodes() if node.slot == "policy" and not _old(node)}
    return {**trained, required(stage, "attention").id: policy.attention}


def scoring_passes(stage: StageGraph, runner: GraphRunner, policy: Policy) -> dict[str, Any]:
    """Build the passes over whole batches: those of the old policy, of the reference and of the critic."""
    context = runner.context
    tokens = int(stage.settings["budget"]["microbatch_tokens"])
    instances: dict[str, Any] = {}
    for node in stage.nodes():
        if node.slot == "policy" and _old(node):
            score = partial(policy.logprobs, entropy=False, collision="old_collision_RT" in node.outputs)
            outputs = {name: name.removeprefix("old_") for name in node.outputs}
            instances[node.id] = ScoringPass(score, outputs, tokens=tokens, scorer=policy)
        if "old_value_RT" in node.outputs:
            critic = runner.instance(required(stage, "critic"))
            outputs = {"old_value_RT": "value_RT"}
            instances[node.id] = ScoringPass(critic, outputs, tokens=tokens, scorer=critic.model)
        if node.slot == "reference":
            instances[node.id] = reference(node, stage, context, policy, tokens=tokens)
    trained = required(stage, "policy")
    if "divergence_RT" in trained.outputs:
        assert isinstance(policy, CausalLm)
        teacher = Teacher(instances[required(stage, "reference").id].scorer, **trained.params["teacher"])
        policy.compares = partial(teacher.compared, policy)
    return instances


def _old(node: Node) -> bool:
    return "old_logprob_RT" in node.outputs


def reference(node: Node, stage: StageGraph, context: StageContext, policy: Policy, *, tokens: int) -> Any:
    """Keep the reference the way the compiler chose."""
    settings = stage.settings["reference"]
    if settings["mode"] == "cached" and settings["instead_of"] != "other":
        score = partial(policy.logprobs, entropy=False)
        return CachedReference(ScoringPass(score, {"ref_logprob_RT": "logprob_RT"}, tokens=tokens, scorer=policy))
    assert node.spec is not None
    scoring_pass = ReferencePass(build_part(node.spec, context, {"policy": policy}), tokens=tokens)
    return CachedReference(scoring_pass) if settings["mode"] == "cached" else scoring_pass


def weights_origin(stage: StageGraph, folder: RunFolder, context: StageContext) -> Origin:
    """Say where the stage's weights come from, and what becomes of the parent's adapter."""
    kind = weights_kind(stage.origin)
    adapter = stage.settings.get("adapter")
    if kind == "stage":
        return Origin("directory", str((folder.stage(stage.origin) / "policy").resolve()), adapter)
    path = str(context.root / stage.origin) if kind == "directory" else stage.origin
    return Origin(kind, path, adapter)


def find_source(stage: StageGraph, runner: GraphRunner, before: Values) -> TaskSource:
    """Return what the loop draws from: pairs made before it, else the data."""
    columns: dict[str, Any] = {}
    for node in stage.before:
        if node.slot == "preference":
            columns = {signal: before[Value(signal, node.id)] for signal in node.outputs}
    if columns:
        return Table(columns, runner.context)
    instance = runner.instance(required(stage, "data"))
    instance.prepare(stage.kind, {signal for node in stage.nodes() for signal in node.outputs})
    return instance  # type: ignore[no-any-return]
