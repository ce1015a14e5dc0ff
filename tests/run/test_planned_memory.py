"""What a plan counts is what a run holds."""

import sys
from pathlib import Path

import pytest

import recipec

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import planned
import planned_memory


@pytest.mark.parametrize(("dtype", "lora"), [("bfloat16", ""), ("float32", ""), ("bfloat16", planned_memory.ADAPTER)])
def test_plan_counts_what_is_held(tmp_path: Path, dtype: str, lora: str) -> None:
    """State is counted to the byte, copies and adapters in float32 too; activations within a twentieth."""
    text = planned_memory.recipe(dtype, lora, checkpointing=False, hidden=128, layers=2, positions=64)
    planned, found = planned_memory.measured(tmp_path, text, positions=64)
    state = ("weights", "gradients", "optimizer")
    assert {name: planned[name] for name in state} == {name: found[name] for name in state}
    assert planned["activations"] == pytest.approx(found["activations"], rel=0.05)


@pytest.mark.parametrize("lora", ["", planned.ADAPTER])
def test_plan_counts_what_is_computed_and_written(tmp_path: Path, lora: str) -> None:
    """Operations of updates are counted within 4 %, with and without an adapter, and bytes on disk within a tenth."""
    values = {**planned.BASE, "hidden": 128, "layers": 5, "positions": 192, "tokens": 384, "rows": 4, "lora": lora}
    planned.write(tmp_path, values)
    expected = recipec.plan(tmp_path / "r.yaml").stages[0]
    found = planned.measured(tmp_path, values)
    update = next(phase for phase in expected.phases if phase.name == "update")
    assert update.flops == pytest.approx(found["flops update"], rel=0.04)
    assert sum(part.bytes or 0.0 for part in expected.disk) == pytest.approx(found["disk"], rel=0.1)
