"""What a plan says of several devices: memory of each, what they send each other, how long they wait, and hours."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from support.built_recipes import part, recipe, rl

from recipec.component import Component
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.accelerators import accelerators
from recipec.planning.communication import exchanges, forward_rounds
from recipec.planning.cost import phases
from recipec.planning.memory import host, memory
from recipec.planning.model_shapes import known_shape, scratch_shape
from recipec.planning.plan import Plan, plan
from recipec.planning.plan_text import render_plan
from recipec.planning.stage_workload import CUDA_GRAPH_BYTES, StageWorkload
from recipec.planning.step_sizes import lengths
from recipec.spec.machine import Machine
from recipec.spec.policy import Lora
from recipec.spec.recipe import Budget, Recipe

SHAPE = scratch_shape({"hidden_size": 32, "layers": 2, "heads": 2})
QWEN = known_shape("Qwen/Qwen2.5-1.5B")
assert SHAPE is not None
assert QWEN is not None
BFLOAT16 = part("policy", "causal_lm", dtype="bfloat16")


def engine_of(name: str, **params: Any) -> Component:
    """A training engine."""
    return part("train_engine", name, **params)


def on(built: Recipe, **more: object) -> Recipe:
    """A recipe on a machine."""
    return built.model_copy(update={"machine": Machine(**more)})


def machine(**more: object) -> Machine:
    """A machine of H100."""
    return Machine(accelerator="h100", **more)


def planned(built: Recipe) -> Plan:
    """The plan of a recipe with a small model everywhere."""
    return plan(optimise(lower(built)), dict.fromkeys(built.stages, SHAPE))


def work(built: Recipe, shape=SHAPE) -> StageWorkload:
    """One stage with its sizes."""
    stage = optimise(lower(built)).stages[0]
    return StageWorkload(stage, shape, lengths(stage))


def held_by(one: StageWorkload) -> dict[str, float | None]:
    """What is in the memory of a device."""
    return {held.name: held.bytes for held in memory(one)}


def test_devices_share() -> None:
    """Hours come from the accelerator that is named; they halve where the work does, and exchanges come on top."""
    one = recipe(a=rl()).model_copy(update={"machine": machine(devices=1)})
    more = recipe(a=rl()).model_copy(update={"machine": machine(devices=2)})
    alone, shared = (planned(built).stages[0] for built in (one, more))
    assert alone.phases[-1].seconds == 2 * shared.phases[-1].seconds > 0
    assert (alone.exchanges, [one.name for one in shared.exchanges]) == ((), ["sum gradients"])
    assert alone.seconds == 5 * sum(phase.seconds for phase in alone.phases)
    assert shared.seconds == 5 * (sum(p.seconds for p in shared.phases) + sum(e.seconds for e in shared.exchanges))
    assert "NVIDIA H100" in render_plan(planned(one))
    assert planned(recipe(a=rl())).stages[0].seconds is None


@pytest.mark.parametrize(
    ("engine", "expected"),
    [  # bytes of a parameter: weights, gradients, optimizer; of two bytes with four for the update, on four devices
        ({"name": "local"}, (2, 2 + 4, 12)),
        ({"name": "deepspeed", "zero": 1}, (2, 2 + 4 / 4, 12 / 4)),
        ({"name": "deepspeed", "zero": 2}, (2, 2 / 4 + 4 / 4, 12 / 4)),
        ({"name": "deepspeed", "zero": 3}, (2 / 4, 2 / 4 + 4 / 4, 12 / 4)),
        ({"name": "fsdp"}, (2 / 4, 2 / 4 + 4 / 4, 12 / 4)),
        ({"name": "deepspeed", "zero": 2, "offload": True}, (2, 2 / 4 + 4 / 4, 0)),
        ({"name": "deepspeed", "zero": 3, "offload_parameters": True}, (0, 0, 12 / 4)),
        ({"name": "fsdp", "offload": True}, (0, 0, 0)),
    ],
)
def test_engines_spread_what_they_say(engine: dict[str, Any], expected: tuple[float, ...]) -> None:
    """Each engine spreads over four devices what its stage says; what is offloaded is in the host's memory."""
    built = on(recipe(a=rl(policy=BFLOAT16)), train=engine_of(**engine))
    found = replace(work(built, QWEN), devices=2, nodes=2)
    held, beside = held_by(found), {one.name: one.bytes for one in host(found)}
    n = QWEN.parameters
    assert tuple(held[name] / n for name in ("weights", "gradients", "optimizer")) == pytest.approx(expected)
    moments, _, _ = found.partition_counts
    if found.train.offloads_optimizer():
        assert beside["optimizer"] == 2 * 12 * n / moments
    if found.train.offloads_parameters():
        assert beside["weights"] == 2 * 2 * n / 4


def test_working_sets_of_sharding() -> None:
    """FSDP2 gathers two layers and the root, ZeRO 3 up to its bound; gradients have buffers on several devices."""
    fsdp, zero3, zero2 = (
        replace(work(on(recipe(a=rl(policy=BFLOAT16)), train=engine_of(**engine)), QWEN), devices=8)
        for engine in ({"name": "fsdp"}, {"name": "deepspeed", "zero": 3}, {"name": "deepspeed", "zero": 2})
    )
    assert QWEN.layers * QWEN.layer + QWEN.root == QWEN.parameters
    assert held_by(fsdp)["gathered weights"] == 2 * (2 * QWEN.layer + QWEN.root)
    assert held_by(fsdp)["buffers"] == 2 * QWEN.layer
    assert held_by(zero3)["gathered weights"] == 2 * 10**9
    assert held_by(zero3)["buffers"] == 2 * 5 * 10**8
    assert "gathered weights" not in held_by(zero2)
    assert held_by(zero3)["copy to sample"] == 2 * QWEN.parameters
    assert "copy to sample" not in held_by(zero2)
    assert "buffers" not in held_by(replace(zero2, devices=1))


def test_a_critic_is_counted() -> None:
    """It holds weights and moments of its own, its checkpoints too; next to an adapter its gradients are the larger."""
    level = {"advantage": {"credit": part("advantage", "gae")}}
    without = planned(recipe(explore=rl()))
    found = planned(recipe(explore=rl(critic=part("critic", "value_model"), **level)))
    size = SHAPE.parameters
    held, plain = ({one.name: one.bytes for one in made.stages[0].memory} for made in (found, without))
    assert held["critic"] == size * (4 + 8)
    assert "gradients of the critic" not in held
    assert {name: held[name] for name in plain} == plain
    narrow = part("policy", "causal_lm", dtype="bfloat16", lora=Lora(r=2))
    critic = part("critic", "value_model", dtype="bfloat16")
    held = {
        one.name: one.bytes
        for one in planned(recipe(explore=rl(policy=narrow, critic=critic, **level))).stages[0].memory
    }
    assert held["critic"] == size * (2 + 8 + 4)
    assert held["gradients of the critic"] == size * (2 + 4) - held["gradients"]
    named = part("critic", "value_model", **{"from": "org/unknown"})
    held = {one.name: one.bytes for one in planned(recipe(explore=rl(critic=named, **level))).stages[0].memory}
    assert held["critic"] is None
    disk, before = ({one.name: one.bytes for one in made.stages[0].disk} for made in (found, without))
    assert disk["checkpoints"] == 2 * before["checkpoints"]
    assert [phase.name for phase in found.stages[0].phases][-3:] == ["values", "critic", "update"]


def test_sampling_and_updates_take_turns() -> None:
    """A device must hold what is always there, and the larger of what updates and what sampling need."""
    found = planned(on(recipe(a=rl()), devices=1)).stages[0]
    sums = {when: sum(h.bytes for h in found.memory if h.when == when) for when in ("always", "update", "sample")}
    assert found.peak == sums["always"] + max(sums["update"], sums["sample"])
    assert min(sums.values()) > 0


def test_an_engine_fills_its_share() -> None:
    """Of an engine's share of a device, what weights and graphs leave is keys and values, and bounds the rows."""
    rollout = part("rollout_engine", "vllm", tensor_parallel=4, memory=0.1)
    built = recipe(a=rl(policy=BFLOAT16)).model_copy(update={"machine": machine(devices=4, rollout=rollout)})
    found = replace(work(built, QWEN), devices=4, accelerator=accelerators()["h100"])
    held = held_by(found)
    assert held["engine"] == 2 * QWEN.parameters / 4
    assert held["keys and values"] == pytest.approx(8e9 - held["engine"] - CUDA_GRAPH_BYTES)
    row = 2 * QWEN.layers * 1 * QWEN.head_dim * 2 * 48  # two key-value heads on four devices: each has one
    assert found.kv_bytes_per_row == row
    small = replace(
        found,
        accelerator=replace(accelerators()["h100"], memory=10 * held["engine"] + 10 * CUDA_GRAPH_BYTES + 25 * row),
    )
    assert small.concurrent_rows == 2


def test_what_devices_receive() -> None:
    """Gathering and summing move the bytes of ZeRO's analysis: 3 P in stage 3, 2 P in data parallelism."""
    budget = Budget(steps=5, prompts_per_step=8, updates_per_step=2, microbatch_tokens=4 * 48)
    sampler = part("sampler", "chain", num_generations=4, max_completion_length=16)

    def sent(**engine: Any) -> dict[str, float]:
        built = on(recipe(a=rl(sampler=sampler, budget=budget)), train=engine_of(**engine))
        found = replace(work(built), devices=4)
        alone = [phase for phase in phases(found) if phase.name == "update"]
        assert forward_rounds(found, alone[0]) == 2  # two updates of 16 rows, four of them in a pass, on four devices
        return {one.name: one.bytes for one in exchanges(found, alone)}

    weights = 4 * SHAPE.parameters * 3 / 4
    assert sent(name="local") == {"sum gradients": 2 * weights * 2}
    assert sent(name="deepspeed", zero=1) == {"sum gradients": 2 * weights * 2}
    assert sent(name="deepspeed", zero=2) == {"sum gradients": 2 * weights, "updated weights": 2 * weights}
    whole = {"gather weights": 4 * weights, "sum gradients": 2 * weights, "update sampler": weights}
    assert sent(name="deepspeed", zero=3) == sent(name="fsdp") == whole
    shard = SHAPE.parameters  # four bytes on four devices
    assert sent(name="deepspeed", zero=2, offload=True)["host memory"] == 2 * shard * 2
    assert sent(name="fsdp", offload=True) == {**whole, "host memory": shard * (4 + 2)}


def test_further_passes_over_rows_repeat_what_updates_send() -> None:
    """With three passes, three times as many updates gather weights and sum gradients; scores are made once."""
    sampler = part("sampler", "chain", num_generations=4, max_completion_length=16)

    def sent(passes: int, **engine: Any) -> dict[str, float]:
        budget = Budget(steps=5, prompts_per_step=8, updates_per_step=2, microbatch_tokens=4 * 48, passes=passes)
        found = replace(work(on(recipe(a=rl(sampler=sampler, budget=budget)), train=engine_of(**engine))), devices=4)
        assert {phase.name for phase in phases(found)} >= {"old", "update"}  # old: two updates make ratios not 1
        assert [forward_rounds(found, one) for one in phases(found) if one.name in {"old", "update"}] == [2, 2]
        return {one.name: one.bytes for one in exchanges(found, phases(found))}

    weights, shard = 4 * SHAPE.parameters * 3 / 4, SHAPE.parameters
    for passes in (1, 3):
        updates = 2 * passes
        assert sent(passes, name="local") == {"sum gradients": 2 * weights * updates}
        sums = {"sum gradients": weights * updates, "updated weights": weights * updates}
        assert sent(passes, name="deepspeed", zero=2) == sums
        assert sent(passes, name="deepspeed", zero=2, offload=True) == {**sums, "host memory": 2 * shard * updates}
        gathered = 2 * updates + 2  # forward and backward of each update, and two rounds of `old`
        whole = {"gather weights": weights * gathered, "sum gradients": weights * updates, "update sampler": weights}
        assert sent(passes, name="fsdp") == whole
        assert sent(passes, name="fsdp", offload=True) == {**whole, "host memory": shard * (gathered + updates)}


def test_devices_wait_where_prompts_do_not_divide() -> None:
    """Two prompts on three devices leave one without, in sampling; the time of the phase says so."""
    built = recipe(a=rl()).model_copy(update={"machine": machine(devices=3)})
    sample, _, update = planned(built).stages[0].phases
    assert sample.idle == pytest.approx(1 / 3)
    assert update.idle == pytest.approx(0)
    assert "devices wait 33% of it" in render_plan(planned(built))


def test_accelerators_are_those_that_a_recipe_can_name() -> None:
    """Every accelerator of the table may be said, and of every one that may be said the rates are known."""
    said = get_args(get_args(Machine.model_fields["accelerator"].annotation)[0])
    assert set(said) == set(accelerators())
    assert all(one.source for one in accelerators().values())
