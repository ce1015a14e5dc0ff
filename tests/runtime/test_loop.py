"""The loop: which rows are scored before it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipec.runtime.loop import drawn_rows
from recipec.runtime.setting import Setting
from recipec.runtime.table import Table


@pytest.mark.parametrize(("steps", "scored"), [(2, 6), (9, 10)])
def test_only_rows_that_will_be_drawn_are_scored(steps: int, scored: int) -> None:
    """A stage that ends within an epoch scores the rows of its steps; the draws that follow are the same ones."""
    table = Table({"chosen_P": list(range(10))}, Setting(Path(), Path(), 0, "align"))
    stage: Any = SimpleNamespace(total=steps, per_step=3, source=table, budget={})

    found = [row for columns in drawn_rows(stage) for row in columns["chosen_P"]]

    assert len(set(found)) == len(found) == scored
    assert {row for _ in range(2) for row in table.draw(3)["chosen_P"]} <= set(found)
