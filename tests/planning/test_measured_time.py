"""Times of phases from measured rates: every rate counts where it should, and a run is timed as a sum."""

from dataclasses import fields, replace

import pytest
from support.built_recipes import part, recipe, rl, scratch, sft

from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.planning.cost import Phase, phases
from recipec.planning.measured_time import Rates, seconds, timed_plan
from recipec.planning.model_shapes import scratch_shape
from recipec.planning.plan import Plan, plan
from recipec.planning.plan_text import render_plan
from recipec.planning.stage_workload import StageWorkload
from recipec.planning.step_sizes import lengths
from recipec.spec.machine import Machine
from recipec.spec.recipe import Budget, Recipe

SHAPE = scratch_shape({"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": 64})
RATES = Rates(
    "cpu", 1, trained=8e-6, read=2e-6, decoded=2e-4, trained_ends=1e-3, read_ends=5e-4, decoded_ends=1e-3,
    trained_logits=1e-6, scored_logits=4e-7, bandwidth=1e9,
)  # fmt: skip
CHECKPOINTING = part("train_engine", "local", gradient_checkpointing=True)
SAMPLE = {"read", "decoded", "decoded_ends"}
UPDATE = {"trained", "trained_ends", "trained_logits"}


def work(built: Recipe) -> StageWorkload:
    """One stage with its sizes."""
    stage = optimise(lower(built)).stages[0]
    assert SHAPE is not None
    return StageWorkload(stage, SHAPE, lengths(stage, 64))


def planned(built: Recipe) -> Plan:
    """The plan of a recipe with a small model everywhere."""
    return plan(optimise(lower(built)), dict.fromkeys(built.stages, SHAPE))


@pytest.fixture
def sampled() -> StageWorkload:
    """A stage that samples, scores and trains."""
    return work(recipe(explore=rl()))


@pytest.mark.parametrize(("phase", "counted"), [("sample", SAMPLE), ("update", UPDATE)])
def test_each_measurement_counts_where_it_belongs(sampled, phase, counted):
    """A phase takes longer on a machine that is slower at what it does, and only at that."""
    found = next(one for one in phases(sampled) if one.name == phase)
    took = seconds(sampled, found, RATES)
    assert took is not None
    for name in (one.name for one in fields(RATES) if one.type == "float" and one.name != "bandwidth"):
        slower = seconds(sampled, found, replace(RATES, **{name: 2 * getattr(RATES, name)}))
        assert slower is not None
        assert (slower > took) == (name in counted), name


def test_updates_are_counted_by_hand():
    """Layers by tokens, the head by scored tokens, ends by passes, and the optimizer's traffic by the bandwidth."""
    of = work(recipe(learn=sft(budget=Budget(steps=5, rows_per_step=4, microbatch_tokens=128), policy=scratch())))
    found = next(one for one in phases(of) if one.name == "update")
    assert found.tokens == 4 * 64
    expected = 256 * 2 * 8e-6 + 256 * 1e-6 + 2 * 1e-3 + 48 * of.trainable_parameters / 1e9
    assert seconds(of, found, RATES) == pytest.approx(expected)


def test_a_trained_adapter_takes_less_and_checkpointing_more():
    """A frozen matrix has one product fewer; layers that are computed again are read once more."""
    plain, adapted = (work(recipe(learn=sft(policy=scratch(**more)))) for more in ({}, {"lora": {"r": 4}}))
    again = work(recipe(learn=sft(policy=scratch())).model_copy(update={"machine": Machine(train=CHECKPOINTING)}))
    took = [seconds(of, next(iter(phases(of))), RATES) or 0.0 for of in (plain, adapted, again)]
    assert took[1] < took[0]
    assert took[2] == pytest.approx(took[0] + 4 * 64 * 2 * RATES.read)


def test_what_is_not_known_has_no_time(sampled):
    """A phase of unknown work has no time, and rewards, which run without the model, take none."""
    assert seconds(sampled, Phase("update", None, None, None, ""), RATES) is None
    assert seconds(sampled, Phase("reward", 0, 0.0, 0.0, ""), RATES) == 0.0


def test_an_engine_with_weights_of_its_own_is_not_timed():
    """Sampling by vLLM has no time, since what was timed is the model itself; updates have one."""
    built = recipe(explore=rl()).model_copy(update={"machine": Machine(rollout=part("rollout_engine", "vllm"))})
    (stage,) = timed_plan(planned(built), lambda _: (work(built), RATES)).stages
    times = {phase.name: phase.seconds for phase in stage.phases}
    assert times["sample"] is None
    assert times["update"]
    assert stage.seconds is None


def test_a_plan_says_what_its_times_rest_on(sampled):
    """Steps times phases is the time of a stage; the text names the rates; finished stages are not measured."""
    built = recipe(explore=rl())
    before = planned(built)
    (stage,) = timed_plan(before, lambda _: (sampled, RATES)).stages
    assert stage.steps
    assert stage.seconds == pytest.approx(stage.steps * sum(phase.seconds or 0.0 for phase in stage.phases))
    assert "timed now (cpu, 1 thread)" in render_plan(replace(before, stages=(stage,)))
    done = replace(before, stages=(replace(before.stages[0], action="skip"),))
    assert timed_plan(done, lambda _: pytest.fail("measured")).stages == done.stages
