"""What depends on a clock is asked once: a continued step gets the outcomes that were written down."""

import json
import math
from pathlib import Path

import torch

from recipec.graph import Node, Value
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner
from recipec.runtime.logging.statistics import recorded

NODE = Node("explore/reward.right", "reward", "math_verify", "", {}, (), ("reward_R",), "0", level="right")


def test_recorded_timeouts_are_replayed(tmp_path: Path) -> None:
    """A row that timed out before fails again though it is scored now; one that was scored keeps its score."""
    path = tmp_path / "step-000003.jsonl"
    path.write_text("".join(json.dumps({"rewards": {"right": value}}) + "\n" for value in (None, 1.0, 0.0)))
    runner = GraphRunner(StageContext(tmp_path, tmp_path, 0, "explore"))
    runner._functions[NODE.id] = lambda: {"reward_R": torch.tensor([1.0, math.nan, 0.0], dtype=torch.float64)}
    runner.recorded = recorded(path, [NODE])
    values: dict[Value, torch.Tensor] = {}
    runner.call(NODE, values)

    assert str(values[Value("reward_R", NODE.id)].tolist()) == "[nan, 1.0, 0.0]"


def test_a_first_attempt_has_nothing_to_replay(tmp_path: Path) -> None:
    """Without rows of the step the rewards are what the components say."""
    assert recorded(tmp_path / "step-000000.jsonl", [NODE]) == {}
