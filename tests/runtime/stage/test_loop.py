"""The loop on real tiny stages: what a step draws, samples, updates and writes, and how it stops and continues."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from support.running_stages import running
from support.small_recipes import RL, SFT, rows

from recipec.diagnostics.model import RecipeError
from recipec.runtime.protocols import Part
from recipec.runtime.stage import loop
from recipec.runtime.stage.resume import conditions_of

TEN = rows(*({"prompt": f"p{i}", "completion": f"c{i}"} for i in range(10)))


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close what stages hold at the end of a test."""
    with ExitStack() as stack:
        yield stack
    torch.use_deterministic_algorithms(mode=False)


def weights(stage) -> dict[str, torch.Tensor]:
    """Copy the trained weights of a stage."""
    return {name: parameter.detach().clone() for name, parameter in stage.policy.trainable_parameters().items()}


def metrics(stage) -> list[dict]:
    """Read what the stage wrote down."""
    return [json.loads(line) for line in stage.metrics_writer.path.read_text().splitlines()]


def test_a_stage_runs_to_its_end(tmp_path, closing) -> None:
    """Each step is written down with its metrics, the last one is in a checkpoint, and weights have moved."""
    stage = running(tmp_path, SFT, closing)
    before = weights(stage)

    assert loop.run_loop(stage)

    assert [line["step"] for line in metrics(stage)] == [1, 2]
    assert all({"loss", "grad_norm", "learning_rate", "num_tokens"} <= line.keys() for line in metrics(stage))
    assert stage.step == stage.train_engine.updates == 2
    assert stage.counters.tokens == metrics(stage)[-1]["num_tokens"]
    assert [path.name for path in stage.folder.checkpoints("learn")] == ["step-000002", "step-000001"]
    after = weights(stage)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_stopped_stage_continues_to_the_same_weights(tmp_path, closing) -> None:
    """A stage that is stopped after a step commits it; another process goes on from there, to the same bits."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder in (whole, parted):
        folder.mkdir()
    stage = running(whole, SFT, closing)
    assert loop.run_loop(stage)
    asked = iter([False, True])
    first = running(parted, SFT, closing, stopped=lambda: next(asked))
    assert not loop.run_loop(first)
    assert first.step == 1

    second = running(parted, SFT, closing)
    assert loop.run_loop(second)

    assert [line["step"] for line in metrics(second)] == [1, 2]
    assert {name: w.tolist() for name, w in weights(second).items()} == {
        n: w.tolist() for n, w in weights(stage).items()
    }


def test_the_engine_takes_over_weights_after_the_updates_of_each_step(tmp_path, closing, monkeypatch) -> None:
    """An engine with weights of its own is given them once a step, after the updates and before the next sampling."""
    stage = running(tmp_path, RL, closing)
    engine, seen, given = stage.weight_transfer.rollout_engine, [], []
    original = engine.generate
    monkeypatch.setattr(engine, "shares_weights", False)

    def generate(requests, sampling):
        seen.append("probe" if requests[0].keys[0][0] == "parity" else "generate")
        return original(requests, sampling)

    monkeypatch.setattr(engine, "generate", generate)
    monkeypatch.setattr(
        engine,
        "update_weights",
        lambda weights: (
            seen.append(f"weights of {stage.train_engine.updates}")
            or given.append({name: tensor.clone() for name, tensor in weights})
        ),
    )

    assert loop.run_loop(stage)
    assert loop.run_loop(stage)  # continues from the last checkpoint, at once at its end

    assert seen == [
        *("generate", "weights of 1", "probe", "generate", "weights of 2", "probe"),
        *("weights of 2", "probe"),
    ]
    assert 0.0 < stage.weight_transfer.gap < 1e-5
    parameters = dict(stage.policy.model.named_parameters(remove_duplicate=False))
    assert parameters.keys() <= given[-1].keys()  # tied weights under each of their names
    assert all(torch.equal(given[-1][name], parameters[name]) for name in parameters)


def test_the_gap_between_engines_is_written_down_at_every_step(tmp_path, closing) -> None:
    """Mean and maximum over the trained tokens of the first update, before weights moved: rounding, with `hf`."""
    several = (
        "budget.passes=3",
        "optimizer.learning_rate=0.1",
        "sampler.num_generations=8",
    )
    stage = running(tmp_path, RL, closing, *(f"stages.explore.{key}" for key in several))
    assert loop.run_loop(stage)
    for line in metrics(stage):
        mean, largest = (line[f"sampling/sampling_logp_difference/{of}"] for of in ("mean", "max"))
        assert 0.0 <= mean <= largest < 1e-5


def test_every_part_is_told_of_every_update(tmp_path, closing) -> None:
    """Parts that follow the policy hear of each update, with the number of updates so far."""
    stage = running(tmp_path, SFT, closing)
    heard: list[int] = []

    class Follower(Part):
        def after_update(self, updates: int) -> None:
            heard.append(updates)

    stage.runner.instances["learn/follower"] = Follower()
    assert loop.run_loop(stage)

    assert heard == [1, 2]


def test_every_pass_is_taken(tmp_path, closing) -> None:
    """A step trains its rows once in each of its passes, cut into minibatches anew, as its schedule plans."""
    stage = running(tmp_path, SFT, closing, "stages.learn.budget.passes=3", "stages.learn.budget.rows_per_update=1")
    planned = loop.planned_updates(stage)

    assert loop.run_loop(stage)

    assert stage.train_engine.updates == planned == 2 * 3 * stage.per_step


@pytest.mark.parametrize(("steps", "scored"), [(2, 6), (9, 10)])
def test_only_rows_that_will_be_drawn_are_scored(tmp_path, closing, steps: int, scored: int) -> None:
    """A stage that ends within an epoch scores the rows of its steps; the draws that follow are the same ones."""
    asked = (f"stages.learn.budget.steps={steps}", "stages.learn.budget.rows_per_step=3")
    stage = running(tmp_path, SFT, closing, *asked, rows=TEN)

    found = [task.id for columns in loop.planned_draws(stage) for task in columns["prompt_P"]]

    assert len(set(found)) == len(found) == scored
    assert {task.id for _ in range(2) for task in stage.source.draw(3)["prompt_P"]} <= set(found)


@pytest.mark.parametrize(("remainder", "sizes"), [("keep", [4, 4, 2]), ("drop", [4, 4, 4]), ("copy", [4, 4, 4])])
def test_the_end_of_an_epoch(tmp_path, closing, remainder: str, sizes: list[int]) -> None:
    """A short step at the end of an epoch is kept, skipped for the next epoch's first, or filled up with its rows."""
    asked = (f"stages.learn.budget.remainder={remainder}", "stages.learn.budget.rows_per_step=4")
    stage = running(tmp_path, SFT, closing, *asked, rows=TEN)

    drawn = [[task.id for task in loop.draw(stage)["prompt_P"]] for _ in range(3)]

    assert [len(ids) for ids in drawn] == sizes
    assert len({*drawn[0], *drawn[1]}) == 8
    if remainder == "copy":
        assert set(drawn[2][:2]) == set(range(10)) - {*drawn[0], *drawn[1]}


def test_data_without_a_whole_step_is_refused(tmp_path, closing) -> None:
    """Where short steps are dropped, data of less than one step leaves nothing to do."""
    asked = ("stages.learn.budget.remainder=drop", "stages.learn.budget.rows_per_step=11")
    with pytest.raises(RecipeError) as refused:
        loop.run_loop(running(tmp_path, SFT, closing, *asked, rows=TEN))

    assert refused.value.diagnostics[0].code == "RC767"


def test_attention_and_engines_are_conditions(tmp_path, closing) -> None:
    """What is in no digest but may change bits is asked for when a half-finished stage continues."""
    asked = (
        "stages.learn.attention.type=packed",
        "machine.train.gradient_checkpointing=true",
        "machine.rollout.max_rows=3",
    )
    found = conditions_of(running(tmp_path, SFT, closing, *asked))

    assert "packed" in found["attention"]
    assert '"gradient_checkpointing": true' in found["machine.train"]
    assert '"max_rows": 3' in found["machine.rollout"]
    assert {"threads", "torch", "device"} <= set(found)
