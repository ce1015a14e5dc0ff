"""Numbers that no stage should have, put into every signal of its graph: none reaches a weight or the optimizer."""

import math
import re
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from support.running_stages import running
from support.small_recipes import RL, SFT, rows

from recipec.compile import compile_recipe
from recipec.diagnostics.model import RecipeError
from recipec.graph import Value
from recipec.runtime.stage import loop, rollout_log
from recipec.signals import SIGNALS

PAIRS = rows(*({"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}z", "completion": f"c{i}"} for i in range(4)))
WHOLE = RL.replace(
    "loss: {type: clipped}",
    "loss: {type: clipped, beta: 0.1, entropy: 0.01, ratio_to: old_logprob_RT, sampler_correction: truncate}",
).replace("prompts_per_step: 2", "prompts_per_step: 2, updates_per_step: 2")


def paired(kind: str, *more: str) -> str:
    """Make a stage of pairs."""
    made = SFT.replace("kind: sft", f"kind: {kind}").replace("rows_per_step", "pairs_per_step")
    return made.replace("    budget", "".join(f"    {line}\n" for line in more) + "    budget")


ANSWERS = "num_generations: 4, max_completion_length: 2"
CRITIC = """\
    critic: {warmup_steps: 0, cliprange_value: 0.2, optimizer: {learning_rate: 1.0e-3}}
    advantage: {credit: {type: gae, beta: 0.05}, whiten: tokens}
"""
STAGES = {
    "sft of one row": SFT.replace("rows_per_step: 2", "rows_per_step: 1"),
    "rl": RL.replace("num_generations: 2, max_completion_length: 4", ANSWERS),
    "rl, all terms": WHOLE.replace("num_generations: 2, max_completion_length: 4", ANSWERS),
    "ppo": RL.replace("num_generations: 2, max_completion_length: 4", ANSWERS).replace(
        "    advantage:\n      group: {type: group_relative}\n", CRITIC
    ),
    "dpo": paired("dpo", "loss: {type: dpo}"),
    "rm": paired("rm"),
}
BAD = (math.nan, math.inf, -math.inf, 3e38)
"""What a column becomes, and its first row alone; products with the last overflow."""
STRUCTURE = {"attend_RT", "chosen_R"}
"""Flags that cannot be otherwise: which positions are padding, which row of a pair is which."""


class Stage:
    """A tiny stage whose weights and optimizer are put back before every step."""

    def __init__(self, recipe: str) -> None:
        self.closing = ExitStack()
        self.stage = running(Path(mkdtemp()), recipe, self.closing, rows=PAIRS)
        self.stage.train_engine.begin(9)
        if self.stage.critic is not None:
            self.stage.critic.engine.begin(9)
        self.once, self.update = loop.nodes_of(self.stage.graph.loop)
        loop.fill_reference_cache(self.stage, self.once)
        loop.one_step(self.stage, self.once, self.update)  # moments are there, and every part is built
        self.call = self.stage.runner.call
        self.kept = {name: _copied(part.state()) for name, part in self.stage.parts()}

    def step(self, node: str = "", signal: str = "", spoil=None) -> str:
        """Take a step with a spoiled signal; return the diagnostic that it ended with, or nothing."""
        for name, part in self.stage.parts():
            part.load(_copied(self.kept[name]))
        rollout_log.rows_path(self.stage).unlink(
            missing_ok=True
        )  # rewards of an interrupted attempt would be taken over
        self.stage.runner.call = partial(self._call, node, signal, spoil)
        try:
            loop.one_step(self.stage, self.once, self.update)
        except RecipeError as refused:
            return f"{refused.diagnostics[0].code}: {refused.diagnostics[0].message}"
        return ""

    def _call(self, node, signal, spoil, called, values, **draws):
        metrics = self.call(called, values, **draws)
        if called.id == node:
            values[Value(signal, node)] = spoil(values[Value(signal, node)])
        return metrics

    def numbers(self):
        """Yield every number of the weights and of what is in a checkpoint."""
        yield from self.stage.policy.trainable_parameters().values()
        for _, part in self.stage.parts():
            yield from _leaves(part.state())


def _copied(state):
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list | tuple) else state


def _leaves(state):
    if isinstance(state, torch.Tensor | float):
        yield torch.as_tensor(state)
    for value in state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ():
        yield from _leaves(value)


@cache
def built(name: str) -> Stage:
    """Build a stage once."""
    return Stage(STAGES[name])


def spoiled(bad: float, rows: int | None, column: torch.Tensor) -> torch.Tensor:
    """Make the first rows of a column a bad number, or a scalar itself."""
    if not column.ndim:
        return column * bad
    made = column.clone()
    made[:rows] = bad
    return made


def signals(dtype: str):
    """Name every signal of a type in the graph of every stage: stage, node, signal."""
    for name, recipe in STAGES.items():
        graph = compile_recipe("r.yaml", text=recipe).graph
        for node in graph.stages[0].nodes():
            for signal in node.outputs:
                if SIGNALS[signal].dtype.startswith(dtype) and signal not in STRUCTURE:
                    yield pytest.param(name, node.id, signal, id=f"{name} {node.id} {signal}")


def told(stage: Stage, node: str, signal: str) -> bool:
    """Whether a NaN there must be told: something reads it, and it does not mean that a reward failed."""
    nodes = list(stage.stage.graph.nodes())
    read = any(given.value == Value(signal, node) for one in nodes for given in one.inputs)
    return signal == "loss" or (read and not any(one.id == node and one.slot == "reward" for one in nodes))


@pytest.mark.parametrize(("name", "node", "signal"), list(signals("float")))
def test_no_bad_number_reaches_the_weights(name, node, signal):
    """Weights, moments and all else of a checkpoint stay finite; NaN is RC763 with the signal and the row's prompt."""
    stage = built(name)
    for bad, several in ((math.nan, 1), *((bad, None) for bad in BAD)):
        said = stage.step(node, signal, partial(spoiled, bad, several))
        assert all(bool(torch.isfinite(numbers).all()) for numbers in stage.numbers()), (bad, said)
        assert said == "" or said.startswith("RC763: "), said
        if math.isnan(bad) and several is None and told(stage, node, signal):
            assert re.search(rf"`{signal}` is nan in a row of prompt \d", said), said


@pytest.mark.parametrize(
    ("name", "node", "signal"),
    [case for case in signals("bool") if case.id != "dpo learn/collate trained_RT"],  # the key of the cached reference
)
def test_flags_of_every_row_leave_finite_weights(name, node, signal):
    """All rows failed, were cut, or have no trained token: the step ends, or is refused with a code."""
    stage = built(name)
    for flag in (True, False):
        said = stage.step(node, signal, lambda column, flag=flag: torch.full_like(column, flag))
        assert all(bool(torch.isfinite(numbers).all()) for numbers in stage.numbers()), (flag, said)
