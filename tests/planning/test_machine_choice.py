"""What `auto` stands for: the lowest ZeRO stage and the largest forward pass that fit, and what else would."""

from dataclasses import replace
from typing import Any

import pytest
from support.built_recipes import part, recipe, rl

from recipec.graph import Graph
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.machine_choice import choose, fits, remedies
from recipec.planning.memory import memory
from recipec.planning.model_shapes import known_shape
from recipec.planning.plan import plan
from recipec.planning.plan_text import render_plan
from recipec.planning.stage_workload import StageWorkload, workload_of
from recipec.spec.machine import Machine
from recipec.spec.recipe import Budget

QWEN, LARGE = known_shape("Qwen/Qwen2.5-7B"), known_shape("Qwen/Qwen2.5-14B")
assert QWEN is not None
BFLOAT16 = part("policy", "causal_lm", dtype="bfloat16")
LONG = part("sampler", "chain", num_generations=8, max_completion_length=2000)


def compiled(tokens: int | str = 4096, *, accelerator: str | None = "l40s", **engine: Any) -> Graph:
    """A 7B policy on eight devices."""
    train = part("train_engine", "deepspeed", gradient_checkpointing=True, **engine)
    budget = Budget(steps=5, prompts_per_step=256, microbatch_tokens=tokens)
    built = recipe(a=rl(policy=BFLOAT16, sampler=LONG, budget=budget))
    machine = Machine(devices=8, accelerator=accelerator, train=train)
    return optimise(lower(built.model_copy(update={"machine": machine})))


def chosen(graph: Graph, shape=QWEN) -> tuple[StageWorkload | None, dict[str, tuple[object, str]]]:
    """The stage with its choices made, and they with their reasons."""
    graph, made = choose(graph, {"a": shape})
    work = None if shape is None else workload_of(graph, graph.stages[0], shape)
    return work, {one.key: (one.value, one.reason) for one in made["a"]}


def test_the_lowest_stage_that_fits() -> None:
    """Of the stages below the chosen one none fits; the engine of the run has the stage, and the graph the reason."""
    work, made = chosen(compiled(zero="auto"))
    assert work is not None
    (stage, reason) = made["machine.train.zero"]
    fitting = [z for z in (1, 2, 3) if fits(replace(work, stage=choose(compiled(zero=z), {"a": QWEN})[0].stages[0]))]
    assert stage == fitting[0] == 2
    assert "the lowest that fits" in reason
    assert work.train.zero == 2
    node = work.stage.node("train_engine")
    assert node is not None
    assert node.decided == {"zero": 2, "reason": reason}


@pytest.mark.parametrize(
    ("graph", "shape", "expected"),
    [
        (compiled("auto", zero="auto"), LARGE, "none fits"),
        (compiled("auto", zero="auto", accelerator=None), QWEN, "no `machine.accelerator` is named"),
        (compiled("auto", zero="auto"), None, "the sizes of the model are not known"),
    ],
)
def test_what_is_not_known_is_said(graph: Graph, shape: Any, expected: str) -> None:
    """Where nothing fits or memory is not known, the stage that needs least is taken, and the reason says so."""
    _, made = chosen(graph, shape)
    assert made["machine.train.zero"][0] == 3
    assert expected in made["machine.train.zero"][1]
    assert isinstance(made["budget.microbatch_tokens"][0], int)


def test_the_largest_pass_that_fits() -> None:
    """A pass of twice the tokens would not fit, and a row always does; the plan prints the value and its reason."""
    work, made = chosen(compiled("auto", zero=2))
    assert work is not None
    tokens, _ = made["budget.microbatch_tokens"]
    assert isinstance(tokens, int)
    budget = {**work.stage.settings["budget"], "microbatch_tokens": 2 * tokens}
    twice = replace(work, stage=replace(work.stage, settings={**work.stage.settings, "budget": budget}))
    assert fits(work)
    assert not fits(twice)
    graph, found = choose(compiled("auto", zero=2), {"a": QWEN})
    text = render_plan(plan(graph, {"a": QWEN}, chosen=found))
    assert f"chosen    budget.microbatch_tokens: {tokens}, the largest that fits" in text


def test_nothing_is_chosen_without_auto() -> None:
    """A recipe without `auto` keeps its graph."""
    graph = compiled(zero=3)
    assert choose(graph, {"a": QWEN}) == (graph, {"a": ()})


def test_remedies_add_up() -> None:
    """Each remedy has those before it, and needs less memory than they."""
    work, _ = chosen(compiled(16384, zero=1))
    assert work is not None
    found = [said for said, _ in remedies(work)]
    engine = ["zero: 2", "zero: 3", "offload: true", "offload_parameters: true"]
    assert found[3] == tuple(f"machine.train.{one}" for one in engine)
    assert found[4:] == [(*found[3], f"budget.microbatch_tokens: {n}") for n in (8192, 4096, 2048)]
    local = replace(work, stage=choose(local_graph(), {"a": QWEN})[0].stages[0])
    assert [said[-1] for said, _ in remedies(local)][:2] == [
        "machine.train.gradient_checkpointing: true",
        "machine.train.type: fsdp",
    ]


def local_graph() -> Graph:
    """The same stage with whole copies."""
    return optimise(lower(recipe(a=rl(policy=BFLOAT16, sampler=LONG))))


@pytest.mark.parametrize("sleep", [True, False])
def test_an_engine_takes_what_training_leaves(*, sleep: bool) -> None:
    """The engine's share fills a device to nine tenths; without sleep it leaves room for updates."""
    rollout = part("rollout_engine", "vllm", memory="auto", sleep=sleep)
    built = recipe(a=rl(policy=BFLOAT16, sampler=LONG, budget=Budget(steps=5, prompts_per_step=256)))
    train = part("train_engine", "fsdp", gradient_checkpointing=True)
    machine = Machine(devices=8, accelerator="h100", train=train, rollout=rollout)
    work, made = chosen(optimise(lower(built.model_copy(update={"machine": machine}))))
    assert work is not None
    assert work.accelerator is not None
    share, reason = made["machine.rollout.memory"]
    assert work.rollout.memory_share() == share
    assert "what training leaves" in reason
    sums = {when: sum(h.bytes for h in memory(work) if h.when == when) for when in ("always", "update", "sample")}
    most = sums["always"] + sums["sample" if sleep else "update"]
    assert 0.88 * work.accelerator.memory < most <= 0.9 * work.accelerator.memory
