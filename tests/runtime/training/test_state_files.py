"""States to files and back."""

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from recipec.run.jsonl import read_lines
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.training.state_files import load_state, save_state

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3).map(torch.tensor),
)  # fmt: skip
STATES = st.dictionaries(st.text(max_size=4), st.recursive(LEAVES, lambda s: st.lists(s, max_size=3), max_leaves=6))


def same(a: object, b: object) -> bool:
    """Compare nested states, tensors by bits and type."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b and type(a) is type(b)


@given(STATES)
def test_states_come_back(tmp_path_factory: object, state: dict[str, object]) -> None:
    """Nested values and tensors are the same after saving and loading."""
    folder: Path = tmp_path_factory.mktemp("state")  # type: ignore[attr-defined]
    save_state(folder, state)

    assert same(state, load_state(folder))


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    """No tensor changes its type on the way."""
    tensor = torch.tensor([1.0, 1e-3], dtype=torch.bfloat16)
    save_state(tmp_path, {"w": tensor})

    assert torch.equal(tensor, load_state(tmp_path)["w"])


def test_a_journal_is_cut_back(tmp_path: Path) -> None:
    """What was written after a checkpoint is forgotten, a torn line among it."""
    metrics_writer = MetricsWriter(tmp_path, "explore", tmp_path / "tb")
    metrics_writer.write(1, {"loss": 1.0, "broken": float("nan")})
    kept = metrics_writer.position()
    metrics_writer.write(2, {"loss": 2.0})
    with metrics_writer.path.open("a") as stream:
        stream.write('{"torn": ')
    assert len(read_lines(metrics_writer.path)) == 2
    metrics_writer.cut(kept)
    metrics_writer.close()

    assert [{"stage": "explore", "step": 1, "loss": 1.0, "broken": None}] == read_lines(metrics_writer.path)
