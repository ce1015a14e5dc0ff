"""Rollouts sampled ahead of the updates: their order, their age, what a checkpoint keeps, and a run's own numbers."""

import json
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from support.running_stages import running
from support.small_recipes import RL

from recipec.runtime.context import StageContext
from recipec.runtime.data.table import Table
from recipec.runtime.logging.statistics import of_staleness
from recipec.runtime.rollout.lookahead import Lookahead
from recipec.runtime.stage.loop import run_loop

PROMPTS, PER_STEP, STEPS = 40, 4, 30


class Trainer:
    """A run without a model: completions have lengths from a long-tailed distribution, and take as long to sample."""

    def __init__(self, tmp_path, staleness, *, overlaps):
        """Begin a run of ``STEPS`` steps."""
        context = StageContext(root=tmp_path, cache=tmp_path, seed=3, stage="explore")
        self.source = Table({"prompt_P": list(range(PROMPTS))}, context)
        self.engine = 0
        self.weights = 0
        self.sampling = 0
        self.rows = []
        self.staleness = staleness
        self.lookahead = Lookahead(max(1, staleness), self.source, self.sample, self.renew, overlaps=overlaps)
        self.lookahead.begin(STEPS, self.draw)

    def draw(self):
        """Draw the prompts of the next step."""
        return self.source.draw(PER_STEP)

    def sample(self, step, drawn):
        """Write a completion of each prompt; its length depends on step and prompt alone."""
        self.sampling += 1
        lengths = [int(np.random.default_rng((step, prompt)).pareto(1.1) * 20) + 1 for prompt in drawn["prompt_P"]]
        time.sleep(min(max(lengths), 200) * 1e-5)
        self.sampling -= 1
        return {"length_R": lengths, "version_R": [self.engine] * len(lengths), "thread": threading.get_ident()}

    def renew(self, step):
        """Take over the weights; meanwhile nothing may be sampled."""
        assert step == self.weights
        assert not self.sampling
        self.engine = step

    def step(self, step):
        """Train on the rows of a step."""
        if self.staleness:
            drawn, made = self.lookahead.take(step)
        else:
            self.engine, drawn = step, self.draw()
            made = self.sample(step, drawn)
        self.rows.append((drawn["prompt_P"], made["length_R"], made["version_R"]))
        self.weights = step + 1
        return made

    def run(self, first=0):
        """Take all steps."""
        for step in range(first, STEPS):
            self.step(step)
        self.lookahead.close()
        return self


@pytest.mark.parametrize("staleness", [1, 2, 5])
@pytest.mark.parametrize("overlaps", [False, True])
def test_order_age_and_lengths(tmp_path, staleness, overlaps):
    """Steps have the prompts and lengths of the synchronous run, in order, from weights of a step that is known."""
    synchronous = Trainer(tmp_path, 0, overlaps=False).run()
    found = Trainer(tmp_path, staleness, overlaps=overlaps).run()
    assert [row[:2] for row in found.rows] == [row[:2] for row in synchronous.rows]
    assert max(max(lengths) for _, lengths, _ in found.rows) > 500  # what an asynchronous queue would put off
    for step, (_, _, versions) in enumerate(found.rows):
        assert set(versions) == {staleness * max(0, (step - 1) // staleness)}
        assert 0 <= step - versions[0] <= staleness
    assert [versions[0] for *_, versions in synchronous.rows] == list(range(STEPS))


def test_sampling_overlaps_training(tmp_path):
    """With servers the rollouts of the next step are sampled in another thread, while a step is trained."""
    trainer = Trainer(tmp_path, 1, overlaps=True)
    made = trainer.step(0)
    assert made["thread"] != threading.get_ident()
    trainer.lookahead.settle()
    assert trainer.lookahead.state()["rows"][0]["version_R"] == [0] * PER_STEP
    trainer.lookahead.close()


@pytest.mark.parametrize("killed", [1, 4, 5, 6])
def test_a_checkpoint_keeps_what_no_step_has_taken(tmp_path, killed):
    """A run that is continued from its checkpoint has the rows of one that was not: none is lost or sampled twice."""
    whole = Trainer(tmp_path, 3, overlaps=True).run()
    first = Trainer(tmp_path, 3, overlaps=True)
    for step in range(killed):
        first.step(step)
    state = json.loads(json.dumps({"source": first.source.state(), "lookahead": first.lookahead.state()}))
    first.lookahead.close()
    second = Trainer(tmp_path, 3, overlaps=True)
    second.source.load(state["source"])
    second.lookahead.load(state["lookahead"])
    second.weights = killed
    assert second.source.state() == state["source"]
    second.run(killed)
    assert first.rows + second.rows == whole.rows


def test_a_failure_is_raised_in_its_step(tmp_path):
    """What goes wrong while a step is sampled ahead ends that step, and not the one that is trained meanwhile."""
    trainer = Trainer(tmp_path, 2, overlaps=True)
    sample = trainer.lookahead.sample

    def fails(step, drawn):
        if step == 2:
            raise OSError("no server is left")
        return sample(step, drawn)

    trainer.lookahead.sample = fails
    trainer.step(0)
    trainer.step(1)
    with pytest.raises(OSError, match="no server"):
        trainer.step(2)
    trainer.lookahead.close()


def trained(folder, staleness, *more, stops=((),)):
    """Run a tiny stage on a CPU, stopped and continued; return its metrics, rows and weights."""
    folder.mkdir()
    recipe = RL.replace("num_generations: 2", "num_generations: 4").replace("steps: 2", "steps: 6")
    asked = (f"stages.explore.sampler.max_staleness={staleness}", "stages.explore.loss.sampler_correction=truncate")
    for turn in stops:
        with ExitStack() as closing:
            stop = iter(turn)
            stage = running(folder, recipe, closing, *asked, *more, stopped=lambda stop=stop: next(stop, False))
            run_loop(stage)
            weights = {name: weight.detach().clone() for name, weight in stage.policy.trainable_parameters().items()}
    home = folder / "run" / "stages" / "explore"
    lines = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
    files = sorted((home / "samples").glob("step-*.jsonl"))
    return lines, [[json.loads(row) for row in path.read_text().splitlines()] for path in files], weights


def test_rows_say_which_weights_sampled_them(tmp_path):
    """The version is in each row, its age in the metrics, and the gap of log-probabilities shows the updates."""
    lines, rows, _ = trained(tmp_path / "run", 2)
    assert [{row["policy_version"] for row in step} for step in rows] == [{0}, {0}, {0}, {2}, {2}, {4}]
    assert [line["sampling/staleness/max"] for line in lines] == [0, 1, 2, 1, 2, 1]
    gaps = {line["sampling/staleness/max"]: line["sampling/sampling_logp_difference/max"] for line in lines[:3]}
    assert gaps[0] < 1e-5 < gaps[2]


def test_a_stopped_stage_continues_to_the_same_rows_and_weights(tmp_path):
    """Stopped in every place of the schedule, and started again: rows, metrics and weights are those of one go."""
    clocks = ("seconds/", "rate/")
    whole = trained(tmp_path / "whole", 2)
    parted = trained(tmp_path / "parted", 2, stops=([False, True], [False, True], [False, False, True], []))
    assert parted[1] == whole[1]
    for one, other in zip(parted[0], whole[0], strict=True):
        assert {k: v for k, v in one.items() if not k.startswith(clocks)} == {
            k: v for k, v in other.items() if not k.startswith(clocks)
        }
    assert all(torch.equal(weight, parted[2][name]) for name, weight in whole[2].items())


def test_without_staleness_nothing_is_recorded():
    """The rows of a synchronous step have no version, and its metrics no age."""
    assert of_staleness({}, 3) == {}
