"""States to files and back, also those that several ranks write."""

import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from recipec.host.artifacts import committed, verify_folder
from recipec.host.jsonl import read_lines
from recipec.host.ranks import Ranks
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.model.state_files import described, disk_problems, load_state, save_tensors

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


def save_state(folder: Path, state: dict[str, object], *ranks: Ranks) -> None:
    """Write a state as one rank does, or each of several."""
    for rank in ranks or (Ranks(),):
        plain, tensors = described(state, rank)
        save_tensors(folder, tensors, rank)
    (folder / "state.json").write_text(json.dumps(plain))


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
    metrics_writer = MetricsWriter(tmp_path, "explore")
    metrics_writer.write(1, {"loss": 1.0, "broken": float("nan")})
    kept = metrics_writer.position()
    metrics_writer.write(2, {"loss": 2.0})
    with metrics_writer.path.open("a") as stream:
        stream.write('{"torn": ')
    assert len(read_lines(metrics_writer.path)) == 2
    metrics_writer.cut(kept)
    metrics_writer.close()

    assert [{"stage": "explore", "step": 1, "loss": 1.0, "broken": None}] == read_lines(metrics_writer.path)


@pytest.mark.parametrize("text", ["", '{"step": 1}\n', '{"step": 1, "loss": 12345}\n{"step": 2}\n'])
def test_a_journal_of_another_run_is_noticed(tmp_path: Path, text: str) -> None:
    """One that is shorter, or has its line ends in other places, is not whole; whole lines stay."""
    metrics_writer = MetricsWriter(tmp_path, "explore")
    metrics_writer.path.write_text(text)
    assert not metrics_writer.cut(15)
    assert metrics_writer.path.read_text() == "".join(
        line for line in text[:15].splitlines(keepends=True) if "\n" in line
    )
    metrics_writer.close()


def test_a_journal_with_other_numbers_is_noticed(tmp_path: Path) -> None:
    """A checkpoint remembers the hash of the metrics before it: another digit in them is not whole."""
    metrics_writer = MetricsWriter(tmp_path, "explore")
    metrics_writer.write(1, {"loss": 1.0})
    metrics_writer.close()
    position, digest = metrics_writer.position(), metrics_writer.digest()
    assert metrics_writer.cut(position, digest)
    metrics_writer.path.write_text(metrics_writer.path.read_text().replace("1.0", "7.0"))
    assert not metrics_writer.cut(position, digest)


class Played(Ranks):
    """One rank of several, in a process of its own or not."""

    def __init__(self, rank: int, size: int) -> None:
        """Be a rank."""
        self.rank, self.size = rank, size


def state(gathered: list[int]):
    """Return a state of three tensors in parts, and of some that every rank has; gathered ones are noted."""

    def part(number: int):
        def whole():
            gathered.append(number)
            return torch.full((number,), float(number))

        return whole

    same = torch.arange(3)
    return {"moments": {str(n): part(n) for n in (5, 2, 4)}, "step": same, "also": [same, 7]}


def test_ranks_share_the_writing(tmp_path):
    """Every rank gathers all tensors, in one order; each is written once, bytes about even, and all are read back."""
    final, size = tmp_path / "step-000001", 2
    with committed(final, {"digest": "d"}) as folder:
        for rank in range(size):
            gathered: list[int] = []
            own = described(state(gathered), Played(rank, size))[1]
            assert gathered == [5, 2, 4]
            assert set(own) == [{"/moments/5", "/step", "/also/0"}, {"/moments/2", "/moments/4"}][rank]
        save_state(folder, state([]), Played(0, size), Played(1, size))
    assert {path.name for path in final.glob("*.safetensors")} == {"state.safetensors", "state-0001.safetensors"}
    found = load_state(final)
    assert {name: tensor.tolist() for name, tensor in found["moments"].items()} == {
        str(n): [float(n)] * n for n in (5, 2, 4)
    }
    assert found["also"][0].tolist() == found["step"].tolist() == [0, 1, 2]
    assert found["also"][1] == 7


def test_a_checkpoint_without_all_of_its_files_is_none(tmp_path):
    """The manifest names every file: a share that is missing or cut short makes the folder invalid."""
    for harm in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])):
        final = tmp_path / f"step-{len(list(tmp_path.iterdir())):06d}"
        with committed(final, {"digest": "d"}) as folder:
            save_state(folder, state([]), Played(0, 2), Played(1, 2))
        assert verify_folder(final) is not None
        harm(final / "state-0001.safetensors")
        assert verify_folder(final) is None
    with pytest.raises(KeyError):
        load_state(tmp_path / "step-000000")


def test_one_process_writes_one_file(tmp_path):
    """A whole state is one file of tensors, as ever."""
    save_state(tmp_path, state([]))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["state.safetensors"]
    assert load_state(tmp_path)["moments"]["2"].tolist() == [2.0, 2.0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_library_in_rust_meets_a_full_disk(tmp_path):
    """What tokenizers and safetensors raise is the OSError that it was; another exception stays what it is."""
    with pytest.raises(OSError, match="No space left") as raised, disk_problems():
        Tokenizer(models.BPE()).save("/dev/full")
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError), disk_problems():
        save_file({"a": torch.zeros(1)}, tmp_path / "missing" / "a.safetensors")
    with pytest.raises(ValueError, match="os error"), disk_problems():
        raise ValueError("not an os error 28")
