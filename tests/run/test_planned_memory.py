"""What a plan counts is what a run holds."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import planned_memory


@pytest.mark.parametrize(("dtype", "lora"), [("bfloat16", ""), ("float32", ""), ("bfloat16", planned_memory.ADAPTER)])
def test_plan_counts_what_is_held(tmp_path: Path, dtype: str, lora: str) -> None:
    """State is counted to the byte, copies and adapters in float32 too; activations within a twentieth."""
    text = planned_memory.recipe(dtype, lora, checkpointing=False, hidden=128, layers=2, positions=64)
    planned, found = planned_memory.measured(tmp_path, text, positions=64)
    state = ("weights", "gradients", "optimizer")
    assert {name: planned[name] for name in state} == {name: found[name] for name in state}
    assert planned["activations"] == pytest.approx(found["activations"], rel=0.05)
