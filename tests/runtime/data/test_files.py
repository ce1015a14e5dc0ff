"""Reading data files: places, formats, splits, and each broken line by its number."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from recipec.diagnostics.model import RecipeError
from recipec.runtime.data.files import configuration, hub_folder, read_rows


def refused(path, split=None):
    """Return the diagnostic that reading gives."""
    with pytest.raises(RecipeError) as caught:
        read_rows(path, split, "data/here")
    return caught.value.diagnostics[0]


def test_lines_keep_their_numbers(tmp_path):
    """Blank lines are passed over, and do not shift the numbers of those after them."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"x": 1}\n\n  \r\n{"x": 2}')
    assert [(r.index, r.number, r.columns["x"]) for r in read_rows(path, None, "a")] == [(0, 1, 1), (1, 4, 2)]


def test_a_list_of_objects_is_rows(tmp_path):
    """A `.json` file with one list is read by element; a line that is no object, or bad JSON, is named."""
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf [\n  {"x": 1},\n  {"x": 2}\n]\n')
    assert [(r.number, r.columns["x"]) for r in read_rows(path, None, "a")] == [(1, 1), (2, 2)]
    path.write_text('{"x": 1}\n{"x": 2}\n')
    assert len(read_rows(path, None, "a")) == 2
    for text, line, word in (
        ('[{"x": 1},\n 7]', 2, "element 2"),
        ('[\n{"x": }]', 2, "not JSON at column 7"),
        ("[NaN]", 1, "NaN"),
        ('[{"x": 1, "x": 2}]', 1, "the key `x` stands twice"),
        ('[{"x": 1e400}]', 1, "the number 1e400 is too large"),
        ("[" * 99_999, 1, "not JSON"),
    ):
        path.write_text(text)
        found = refused(path)
        assert (found.code, found.spans[0].line) == ("RC703", line)
        assert word in found.message


@pytest.mark.parametrize(
    ("split", "rows"),
    [("train[:3]", [0, 1, 2]), ("train[20%:50%]", [2, 3, 4]), ("train[8:]", [8, 9]), ("train[50%:6]", [5])],
)
def test_parts_of_a_split(tmp_path, split, rows):
    """A split is cut by numbers or percents of its rows; an empty part is an error."""
    (tmp_path / "train.jsonl").write_text("".join(f'{{"x": {i}}}\n' for i in range(10)))
    assert [r.columns["x"] for r in read_rows(tmp_path, split, "data")] == rows
    with pytest.raises(RecipeError) as caught:
        read_rows(tmp_path, "train[9:2]", "data")
    assert caught.value.diagnostics[0].code == "RC702"


def test_configurations_of_a_dataset(tmp_path):
    """Sub-folders with data files are configurations: one is taken, of several one must be named."""
    for name in ("main", "socratic"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-0.jsonl").write_text("{}")
    assert configuration(tmp_path, "org/set", "main") == tmp_path / "main"
    for config, word in ((None, "main, socratic"), ("mian", "no configuration `mian`")):
        with pytest.raises(RecipeError) as caught:
            configuration(tmp_path, "org/set", config)
        assert caught.value.diagnostics[0].code == "RC702"
        assert word in caught.value.diagnostics[0].message


def test_limit_takes_the_first_rows(tmp_path):
    """Rows beyond the limit are not even read."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1}\nbroken')
    assert len(read_rows(path, None, "a", 1)) == 1


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"{", "not JSON at column 2"),
        (b"[1]", "a list"),
        (b"null", "null"),
        (b'"x"', "text"),
        (b'{"x": NaN}', "NaN"),
        (b'{"x": -Infinity}', "Infinity"),
        (b'{"x": [-1e999]}', "the number -1e999 is too large"),
        (b'{"x": "\xff"}', "not UTF-8 at byte 8"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deeply"),
        (b'{"x": ' + b"9" * 5000 + b"}", "thousands of digits"),
    ],
)
def test_broken_lines(tmp_path, line, word):
    """What is no JSON object in UTF-8 is RC703, with its line."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": 1}\n' + line + b"\n")
    found = refused(path)
    assert (found.code, found.spans[0].line) == ("RC703", 2)
    assert word in found.message


def test_places(tmp_path):
    """Missing, empty and foreign files are told apart, with a hint at the file that was meant."""
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "a.csv").write_text("x")
    missing = refused(tmp_path / "trian.jsonl")
    assert (missing.code, refused(tmp_path / "train.jsonl").code) == ("RC700", "RC702")
    assert refused(tmp_path / "a.csv").code == "RC704"
    assert refused(tmp_path / "no" / "where.jsonl").code == "RC700"


def test_splits_of_a_folder(tmp_path):
    """A folder's split is its file; without one named, rows kept for evaluation are never mixed in."""
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"x": "{name}"}}\n')
    assert read_rows(tmp_path, "test", "d")[0].columns == {"x": "test"}
    assert refused(tmp_path).code == "RC701"
    found = refused(tmp_path, "tset")
    assert (found.code, "did you mean `test`?" in found.help) == ("RC701", True)


def test_shards_of_a_folder_are_read_in_order(tmp_path):
    """Files that are no splits are parts of one data set."""
    for part in (2, 1):
        (tmp_path / f"part-{part}.jsonl").write_text(f'{{"x": {part}}}\n')
    assert [(r.index, r.file, r.columns["x"]) for r in read_rows(tmp_path, None, "d")] == [
        (0, "d/part-1.jsonl", 1),
        (1, "d/part-2.jsonl", 2),
    ]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "data-00000-of-00001.arrow").touch()
    (tmp_path / "saved" / "state.json").touch()
    found = refused(tmp_path / "saved")
    assert (found.code, "datasets.load_from_disk" in found.help) == ("RC704", True)
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty").code == "RC702"


def test_parquet(tmp_path):
    """Parquet rows are those of the table; a file that was cut short is RC704."""
    path = tmp_path / "a.parquet"
    said = [{"role": "user", "content": "hi"}]
    parquet.write_table(pa.table({"prompt": [said, said], "answer": ["1", "2"]}), path)
    rows = read_rows(path, None, "a")
    assert [(r.number, r.columns["answer"]) for r in rows] == [(1, "1"), (2, "2")]
    assert rows[0].columns["prompt"] == said
    path.write_bytes(path.read_bytes()[:50])
    assert refused(path).code == "RC704"


def test_hub_without_network(monkeypatch, tmp_path):
    """A dataset that is neither cached nor reachable is RC726."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError) as caught:
        hub_folder("nobody/nothing@main")
    assert caught.value.diagnostics[0].code == "RC726"


def test_a_split_is_read_whole_and_once(tmp_path):
    """A part that is missing, as after a download that was cut, and a split in two formats are refused."""
    for number in (0, 2):
        (tmp_path / f"train-{number:05d}-of-00003.jsonl").write_text('{"x": 1}\n')
    assert "`train-00001-of-00003` is missing" in refused(tmp_path, "train").message
    (tmp_path / "train-00001-of-00003-0f1e2d3c4b5a6978.jsonl").write_text('{"x": 1}\n')
    assert len(read_rows(tmp_path, "train", "data")) == 3
    for number in (1, 2):
        (tmp_path / f"dev-{number}-of-2.jsonl").write_text('{"x": 1}\n')
    assert len(read_rows(tmp_path, "dev", "data")) == 2
    (tmp_path / "test.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "test.json").write_text('[{"x": 1}]')
    assert "may have the same rows" in refused(tmp_path, "test").message


def test_narrow_floats_are_the_decimals_that_were_written(tmp_path):
    """0.1 in 32 or 16 bits is 0.1, at any depth; other numbers are exact."""
    narrow = [pa.float32(), pa.float16(), pa.list_(pa.float32()), pa.struct([("y", pa.float32()), ("z", pa.int64())])]
    values = [0.1, 0.1, [0.1, None, 3.3], {"y": 0.7, "z": 2**53 + 1}]
    columns = {
        str(i): pa.array([value, None], kind) for i, (value, kind) in enumerate(zip(values, narrow, strict=True))
    }
    parquet.write_table(
        pa.table({**columns, "wide": [0.1 + 0.2, 1.0], "big": [2**53 + 1, None]}), tmp_path / "a.parquet"
    )
    first, second = read_rows(tmp_path / "a.parquet", None, "a")
    assert [first.columns[str(i)] for i in range(4)] == values
    assert [second.columns[str(i)] for i in range(4)] == [None] * 4
    assert (first.columns["wide"], first.columns["big"]) == (0.1 + 0.2, 2**53 + 1)
