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
from recipec.diagnostics.errors import run as faults
from recipec.diagnostics.model import Diagnostic, Refused
from recipec.graph import Graph, Node, StageGraph, Value
from recipec.run.artifacts import RunFolder, committed, verify_folder
from recipec.run.executor import Options
from recipec.run.progress import Display
from recipec.runtime.context import Setting, StoppedEarly, cache_folder
from recipec.runtime.data.table import Table
from recipec.runtime.environment.protocol import Environment
from recipec.runtime.environment.replayed import Clocked
from recipec.runtime.evaluation.evaluate import Evaluator
from recipec.runtime.graph_runner import Values, Walk, read_spec, spec_of
from recipec.runtime.images.image_store import Album, sees
from recipec.runtime.logging.metrics_writer import Journal
from recipec.runtime.loop import run_stage, split
from recipec.runtime.model.causal_lm import Origin
from recipec.runtime.model.weights import quiet
from recipec.runtime.objective.cached_reference import Cached
from recipec.runtime.preference.pair_files import made_once
from recipec.runtime.running_stage import Stage
from recipec.runtime.training.local import Followed, Scored
from recipec.runtime.training.optimizer import AdamW, freeze
from recipec.runtime.user_code import load_functions
from recipec.spec.recipe import weights_kind


@quiet()  # its advice on masks is about padding that it takes sampled tokens for
def run(
    *,
    graph: Graph,
    stage: StageGraph,
    first: bool,
    folder: RunFolder,
    options: Options,
    display: Display,
    stopped: Callable[[], bool],
    digest: str,
    begun: Callable[[], None] = lambda: None,
    warn: Callable[[Diagnostic], None] = lambda _: None,
) -> bool:
    """Run one stage and commit its artifacts; return whether it ended (else it was stopped, resumably)."""
    machine = graph.machine
    setting = arrange(graph, stage, folder, options)
    setting.say = lambda text: display.say(f"{stage.name}: {text}")
    folder.begin(stage.name, digest)
    journal = Journal(folder.stage(stage.name), stage.name, folder.path / "tensorboard")
    with ExitStack() as closing:
        closing.callback(journal.close)
        try:
            bound = bind(stage, folder, setting, journal, display, stopped, digest, machine, closing)
        except StoppedEarly:
            return False
        bound.begun = begun
        bound.warn = warn
        bound.replace = options.replace
        evaluator = Evaluator(graph, stage, setting, bound.policy, folder, display)
        closing.callback(evaluator.close)
        bound.evaluate = lambda step: evaluator(step, bound.total, first=first)
        ended = run_stage(bound)
        if ended:
            commit(bound)
    return ended


def arrange(graph: Graph, stage: StageGraph, folder: RunFolder, options: Options) -> Setting:
    """Fix device, threads and what components may reach.

    Raises:
        Refused: RC771, the recipe asks for a device that is not here.
    """
    machine = graph.machine
    torch.set_num_threads(int(machine.get("threads") or 1))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    asked = str(machine.get("device", "auto"))
    if asked == "cuda" and not torch.cuda.is_available():
        raise Refused(faults.no_device(asked))
    device = "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
    artifacts = {
        f"{earlier.name}.{artifact}": folder.stage(earlier.name) / artifact
        for earlier in graph.stages
        for artifact in earlier.artifacts
    }
    called = [node for node in stage.nodes() if (node.slot, node.type) == ("reward", "function")]
    return Setting(
        root=options.root,
        cache=cache_folder(),
        seed=graph.seed,
        stage=stage.name,
        temperature=float(stage.settings.get("temperature", 1.0)),
        device=torch.device(device),
        functions=load_functions(options.use, [str(node.knobs["name"]) for node in called]),
        use=tuple(options.use),
        artifacts=artifacts,
        services={name: str(service["url"]) for name, service in machine.get("services", {}).items()},
        rollout=read_spec("machine", machine.get("rollout", {"type": "hf"})),
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


def bind(
    stage: StageGraph,
    folder: RunFolder,
    setting: Setting,
    journal: Journal,
    display: Display,
    stopped: Callable[[], bool],
    digest: str,
    machine: Mapping[str, Any],
    closing: ExitStack,
) -> Stage:
    """Build the policy, the engine and every part that has a state; ``closing`` ends what they hold."""
    settings = stage.settings
    policy_spec = read_spec("policy", settings["policy"])
    policy = policy_spec.load()(policy_spec, setting, origin(stage, folder, setting))
    setting.policy = policy
    setting.album = Album(policy) if sees(policy) else None
    attention = read_spec("attention", settings.get("attention") or {"type": "auto"})
    policy.use(attention.load()(attention, setting))
    _, update = split(stage.loop)
    optimizer_node = next(node for node in update if node.slot == "optimizer")
    optimizer = AdamW(spec_of(optimizer_node), setting)  # type: ignore[arg-type]
    freeze(policy.model, optimizer.spec.freeze, policy.parts())  # before a reference copies what is trained
    walk = Walk(setting, shared(stage, setting, policy))
    closing.callback(walk.close)
    setting.stopped = stopped
    before = prepared(stage, walk, digest)
    source = find_source(stage, walk, before)
    engine_spec = read_spec("machine", machine.get("train", {"type": "local"}))
    walk.instances[optimizer_node.id] = optimizer
    for node in stage.nodes():
        if node.id not in walk.instances and node.slot != "compiler" and spec_of(node).state:
            walk.instance(node)  # made on first use, it would miss what a checkpoint says of it
    return Stage(
        graph=stage,
        setting=setting,
        folder=folder,
        walk=walk,
        policy=policy,
        source=source,
        optimizer=optimizer,
        engine=engine_spec.load()(engine_spec, setting),
        journal=journal,
        show=display,
        evaluate=lambda _step: {},
        stopped=stopped,
        digest=digest,
        values=before,
    )


def prepared(stage: StageGraph, walk: Walk, digest: str) -> Values:
    """Build what is there before the loop, in the order of the graph, and make the pairs where the stage makes any.

    What takes no columns is reached through the setting: a world, a graph of facts, the sampler that a preference asks.

    Raises:
        StoppedEarly: the run was asked to stop while pairs were made.
    """
    setting, made = walk.setting, Values()
    for node in stage.before:
        if node.slot == "environment":
            setting.environment = walk.instances[node.id] = environment(spec_of(node), setting)
        elif node.slot == "knowledge":
            setting.knowledge = walk.instance(node)
            setting.say(setting.knowledge.about)
        elif node.slot == "sampler":
            setting.sampler = spec_of(node)
        elif node.slot == "data":  # pairs are made of all of its tasks
            walk.instance(node).prepare("rl")
            made[Value("prompt_P", node.id)] = walk.instance(node).tasks
        elif node.slot == "preference":
            assert setting.home is not None
            about = {"digest": digest, "stage": stage.name, "artifact": "pairs"}
            columns = [made[given.value] for given in node.inputs]
            pairs = made_once(walk.instance(node), columns, setting.home / "pairs", about)
            made |= {Value(signal, node.id): pairs[signal] for signal in node.outputs}
        else:
            walk.call(node, made)
    return made


def environment(spec: Component, setting: Setting) -> Environment:
    """Build an environment whose timeouts can be had again."""
    found: Environment = Clocked(spec.load()(spec, setting))
    return found


def shared(stage: StageGraph, setting: Setting, policy: Any) -> dict[str, Any]:
    """Parts that several nodes share, by node id: the policy in its updates, as the old one, behind a reference."""
    tokens = int(stage.settings["budget"]["microbatch_tokens"])
    score = partial(policy.logprobs, entropy=False)
    found: dict[str, Any] = {}
    for node in stage.nodes():
        if node.slot == "policy":
            old = "old_logprob_RT" in node.outputs
            found[node.id] = Scored(score, "old_logprob_RT", tokens=tokens, policy=policy) if old else policy
        if node.slot == "reference":
            found[node.id] = reference(node, stage, setting, policy, tokens=tokens)
    return found


def reference(node: Node, stage: StageGraph, setting: Setting, policy: Any, *, tokens: int) -> Any:
    """Keep the reference the way the compiler chose."""
    settings = stage.settings["reference"]
    if settings["mode"] == "cached" and settings["instead_of"] != "other":
        score = partial(policy.logprobs, entropy=False)
        return Cached(Scored(score, "ref_logprob_RT", tokens=tokens, policy=policy))
    spec = spec_of(node)
    made = Followed(spec.load()(spec, setting), "ref_logprob_RT", tokens=tokens, policy=policy)
    return Cached(made) if settings["mode"] == "cached" else made


def origin(stage: StageGraph, folder: RunFolder, setting: Setting) -> Origin:
    """Say where the stage's weights come from, and what becomes of the parent's adapter."""
    kind = weights_kind(stage.origin)
    adapter = stage.settings.get("adapter")
    if kind == "stage":
        return Origin("directory", str((folder.stage(stage.origin) / "policy").resolve()), adapter)
    path = str(setting.root / stage.origin) if kind == "directory" else stage.origin
    return Origin(kind, path, adapter)


def find_source(stage: StageGraph, walk: Walk, before: Values) -> Any:
    """What the loop draws from: pairs made before it, else the data."""
    made: dict[str, Any] = {}
    for node in stage.before:
        if node.slot == "preference":
            made = {signal: before[Value(signal, node.id)] for signal in node.outputs}
    if made:
        return Table(made, walk.setting)
    node = next(node for node in stage.nodes() if node.slot == "data")
    instance = walk.instance(node)
    instance.prepare(stage.kind)
    return instance


def commit(stage: Stage) -> None:
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
                preference = next(i for i in stage.walk.instances.values() if hasattr(i, "write"))
                preference.write(folder)
