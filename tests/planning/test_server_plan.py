"""What a plan says of rollout servers: their memory, what they read, and how sampling and training overlap."""

from typing import Any

import pytest
from support.built_recipes import part, recipe, rl

from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.hours import Schedule
from recipec.planning.machine_choice import choose
from recipec.planning.model_shapes import known_shape
from recipec.planning.plan import StagePlan, plan
from recipec.planning.plan_text import render_plan
from recipec.spec.machine import Machine
from recipec.spec.policy import Lora

QWEN = known_shape("Qwen/Qwen2.5-1.5B")
assert QWEN is not None


def planned(staleness: int = 0, **policy: Any) -> tuple[StagePlan, str]:
    """Plan a stage that samples from two servers of H100, of which each has one."""
    sampler = part("sampler", "chain", num_generations=8, max_completion_length=256, max_staleness=staleness)
    built = recipe(explore=rl(sampler=sampler, policy=part("policy", "causal_lm", dtype="bfloat16", **policy)))
    engine = part("rollout_engine", "vllm", servers=2, memory="auto")
    built = built.model_copy(update={"machine": Machine(accelerator="h100", rollout=engine)})
    shapes = dict.fromkeys(built.stages, QWEN)
    graph, chosen = choose(optimise(lower(built)), shapes)
    made = plan(graph, shapes, chosen=chosen)
    return made.stages[0], render_plan(made)


def test_servers_have_memory_of_their_own():
    """Weights, keys and values of sampling are on the servers, which take what vLLM takes of a device; no copy here."""
    stage, text = planned()
    assert {held.when for held in stage.memory} == {"always", "update", "step"}
    assert [held.name for held in stage.server] == ["engine", "keys and values", "graphs"]
    assert sum(held.bytes or 0 for held in stage.server) == pytest.approx(0.9 * 80e9)
    assert "  on each server" in text
    assert "machine.rollout.memory: 0.9, nothing else is on the devices of a server" in text


def test_sampling_and_training_take_turns_or_overlap():
    """With `max_staleness` a step lasts as long as its longer side; each side waits for the rest of the step."""
    turns, text = planned()
    ahead, other = planned(1)
    assert turns.schedule is not None
    assert ahead.schedule is not None
    times = [one.seconds or 0.0 for one in (*turns.phases, *turns.exchanges)]
    assert turns.schedule.step == pytest.approx(sum(times))
    assert ahead.schedule.step == pytest.approx(max(ahead.schedule.sampling, ahead.schedule.rest))
    assert turns.schedule.waits[0] + turns.schedule.waits[1] == pytest.approx(1.0)
    assert min(ahead.schedule.waits) == 0.0
    assert "servers and training take turns" in text
    assert "sampled 1 ahead" in other
    assert turns.seconds == pytest.approx((turns.steps or 0) * turns.schedule.step)
    assert (ahead.seconds or 0) < (turns.seconds or 0)


def test_what_servers_read_after_an_update():
    """Weights every `max_staleness` steps; of a policy with an adapter the adapter alone."""
    read = {
        case: next(one.bytes for one in stage.exchanges if one.name == "update servers")
        for case, (stage, _) in {"each": planned(), "every 2": planned(2), "adapter": planned(lora=Lora(r=8))}.items()
    }
    assert QWEN is not None
    assert read["each"] == 2 * QWEN.parameters
    assert read["every 2"] == QWEN.parameters
    assert read["adapter"] < read["each"] / 50


def test_a_schedule_without_time_waits_for_nobody():
    """No time at all is no division by zero."""
    assert Schedule(0.0, 0.0).waits == (1.0, 1.0)
