"""The loop: which rows are scored before it, and what a continued stage must find again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipec.runtime.context import StageContext
from recipec.runtime.data.table import Table
from recipec.runtime.loop import planned_draws
from recipec.runtime.training.resume import conditions_of
from recipec.spec.machine import Hf, Local


@pytest.mark.parametrize(("steps", "scored"), [(2, 6), (9, 10)])
def test_only_rows_that_will_be_drawn_are_scored(steps: int, scored: int) -> None:
    """A stage that ends within an epoch scores the rows of its steps; the draws that follow are the same ones."""
    table = Table({"chosen_P": list(range(10))}, StageContext(Path(), Path(), 0, "align"))
    stage: Any = SimpleNamespace(total=steps, per_step=3, source=table, budget={})

    found = [row for columns in planned_draws(stage) for row in columns["chosen_P"]]

    assert len(set(found)) == len(found) == scored
    assert {row for _ in range(2) for row in table.draw(3)["chosen_P"]} <= set(found)


def test_attention_and_engines_are_conditions() -> None:
    """What is in no digest but may change bits is asked for when a half-finished stage continues."""
    engine = SimpleNamespace(spec=Local(gradient_checkpointing=True))
    stage: Any = SimpleNamespace(
        graph=SimpleNamespace(settings={"attention": {"type": "packed"}}),
        engine=engine,
        context=SimpleNamespace(rollout=Hf(max_rows=3)),
    )

    found = conditions_of(stage)

    assert "packed" in found["attention"]
    assert '"gradient_checkpointing": true' in found["machine.train"]
    assert '"max_rows": 3' in found["machine.rollout"]
    assert {"threads", "torch", "device"} <= set(found)
