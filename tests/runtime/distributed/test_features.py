"""The cells of the table of docs/machines.md that no other test has: agents and images over two processes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import equality


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trees", "vision"])
def test_two_processes_are_one(tmp_path, name):
    """Rows and evaluations are identical, and weights equal up to rounding, with copies and with shards."""
    case = equality.CASES[name]
    one = equality.ran(case, tmp_path / "one")
    for engine in ("local", "fsdp"):
        two = equality.ran(case, tmp_path / engine, ("machine.devices=2", *equality.ENGINES[engine]))
        found = equality.compared(case, one, two)
        assert all(equality.right(cell, equality.MOST) for cell in found.values()), found
        assert any(cell["rows"] for cell in found.values())


def test_what_differs_is_shown():
    """A cell has the difference of weights, and says so where rows or evaluations differ or nothing was trained."""
    cell = {"weights": 2.5e-6, "moved": True, "rows": 8, "rows_that_differ": 0, "same_evaluations": True}
    assert equality.right(cell, 1e-5)
    for change, shown in (
        ({"rows_that_differ": 3}, "2.5e-6, 3 rows differ"),
        ({"same_evaluations": False}, "2.5e-6, evaluations differ"),
        ({"moved": False}, "2.5e-6"),
        ({"weights": 1.0}, "1.0e0"),
    ):
        assert not equality.right(cell | change, 1e-5)
        assert equality.cell_text(cell | change) == shown
