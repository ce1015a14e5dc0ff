"""The cells of the table of docs/machines.md that no other test has: agents and images over two processes."""

import sys
from pathlib import Path

import pytest
from support.images import noise
from support.ranks import difference, ran_forked
from support.small_recipes import SEEING, rows

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


def test_ranks_encode_together_whatever_their_rows_show(tmp_path):
    """Under shards, passes with different images, or with none, take part in gathering a frozen encoder's weights."""
    for number in range(4):
        noise(number, 16, 8 * (1 + number % 2)).save(tmp_path / f"{number}.png")
    shown = ([f"{i % 4}.png"] if i % 3 else [] for i in range(8))
    (tmp_path / "a.jsonl").write_text(
        rows(*({"prompt": f"what {i}", "completion": f"c{i}", "images": names} for i, names in enumerate(shown)))
    )
    text = SEEING.replace("{learning_rate: 1.0e-2}", "{learning_rate: 1.0e-3, freeze: [vision]}")
    (tmp_path / "r.yaml").write_text(
        text.replace("rows_per_step: 2", "rows_per_step: 4, microbatch_tokens: 40") + "machine: {device: cpu}\n"
    )
    ran_forked(tmp_path, "one")
    ran_forked(tmp_path, "two", "machine.devices=2", "machine.train.type=fsdp")
    assert difference(tmp_path / "one", tmp_path / "two", "learn") < 2e-5


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
