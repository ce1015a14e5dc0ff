"""Rows of data files: JSONL and parquet, single files, folders of splits, the hub. Nothing here executes anything."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.errors.model import no_hub
from recipec.diagnostics.model import RecipeError
from recipec.host.jsonl import lines_of, read_array, read_objects
from recipec.runtime.images.embedded import named_images
from recipec.runtime.rng import rng_for
from recipec.spec.data import File

Columns = Mapping[str, Any]
LINES = (".jsonl", ".ndjson", ".json")
ENDINGS = (*LINES, ".parquet")
_SLICE = re.compile(r"(?P<name>[\w.-]+)\[(?P<begin>\d+%?)?:(?P<end>\d+%?)?\]")
_PART = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d{1,9})")
_HASH = re.compile(r"(?<=-of-\d{5})-[0-9a-f]{8,}$")
_DEPTH = 200
_NARROW: Mapping[str, Callable[[float], Any]] = {"halffloat": np.float16, "float": np.float32}
_SPLITS = {"train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data file.

    Example: ``Row(0, "data/train.jsonl", 1, {"prompt": "2+2=", "answer": "4"})``.
    """

    index: int
    """Number of the row in the data, from 0: the task's id."""
    file: str
    """The file as the recipe names it."""
    number: int
    """Line of the file (JSONL) or row (parquet), from 1."""
    columns: Mapping[str, Any]


def read_rows(
    path: Path,
    split: str | None,
    shown: str,
    limit: int | None = None,
    images: Callable[[Columns], dict[str, Any]] = named_images,
) -> list[Row]:
    """Read the rows of a file, or of a folder's split; messages name the path ``shown``.

    ``images`` gives names to the images that a row of a parquet file holds itself.

    Raises:
        RecipeError: RC700 to RC704, with file and row.
    """
    name, bounds = split_of(split)
    lines: Iterator[tuple[str, int, dict[str, Any]]] = (
        (name, number, images(columns) if file.suffix == ".parquet" else columns)
        for file, name in _files(path, name, shown)
        for number, columns in (_parquet(file, name) if file.suffix == ".parquet" else _lines(file, name))
    )
    if bounds is not None:
        all_lines = list(lines)
        lines = iter(all_lines[slice(*(bound and bound(len(all_lines)) for bound in bounds))])
    rows = [Row(index, *line) for index, line in enumerate(itertools.islice(lines, limit))]
    for row in rows:
        if _deep(row.columns):
            raise RecipeError(errors.broken_row(row.file, row.number, f"a column is nested more than {_DEPTH} deep"))
    if not rows:
        raise RecipeError(errors.no_rows(shown, errors.EMPTY if bounds is None else f"`{split}` leaves none of them"))
    return rows


def split_of(split: str | None) -> tuple[str | None, Sequence[Callable[[int], int] | None] | None]:
    """Return the name of a split and, of ``NAME[a:b]``, where it begins and ends, given the number of rows.

    >>> name, (begin, end) = split_of("train[10%:90%]")
    >>> name, begin(50), end(50)
    ('train', 5, 45)
    """
    slice_match = _SLICE.fullmatch(split or "")
    if slice_match is None:
        return split, None
    return slice_match["name"], [_bound(slice_match[key]) if slice_match[key] else None for key in ("begin", "end")]


def _bound(bound: str) -> Callable[[int], int]:
    share = bound.removesuffix("%")
    return (lambda rows: rows * int(share) // 100) if share != bound else (lambda _: int(bound))


def part_of(rows: list[Row], spec: File) -> list[Row]:
    """Return the rows that are held out at random, or the others, in their order; all where none are held out."""
    count = spec.val_rows or math.ceil(len(rows) * (spec.val_share or 0))
    if not count:
        return rows
    held_out = set(rng_for(spec.val_seed, "held out").permutation(len(rows))[:count].tolist())
    return [row for i, row in enumerate(rows) if (i in held_out) == (spec.part == "val")]


def _of_folder(path: Path, split: str | None, shown: str) -> list[tuple[Path, str]]:
    files = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and not p.name.startswith(".") and p.is_file())
    if any(path.glob("*.arrow")) and not any(p.suffix == ".parquet" for p in files):
        problem = "its rows are in .arrow files, as `save_to_disk` of the library datasets writes them"
        raise RecipeError(errors.unreadable_data(shown, problem))
    if not files:
        raise RecipeError(errors.no_rows(shown, f"the folder has no file that ends in {', '.join(ENDINGS)}"))
    names = {p.stem for p in files}
    if split is not None:
        files = [p for p in files if p.stem == split or p.stem.startswith(f"{split}-")]
    if not files or (split is None and len(names) > 1 and {n.partition("-")[0] for n in names} & _SPLITS):
        raise RecipeError(errors.which_split(shown, split, names))
    if problem := _incomplete(p.name for p in files):
        raise RecipeError(errors.unreadable_data(shown, problem))
    return [(p, f"{shown.rstrip('/')}/{p.name}") for p in files]


def _files(path: Path, split: str | None, shown: str) -> list[tuple[Path, str]]:
    if path.is_dir():
        return _of_folder(path, split, shown)
    if not path.exists():
        siblings = (p.name for p in path.parent.iterdir()) if path.parent.is_dir() else ()
        raise RecipeError(errors.data_missing(shown, "there is no such file or folder", siblings))
    if not path.is_file():
        raise RecipeError(errors.data_missing(shown, "it is neither a file nor a folder"))
    if path.suffix not in ENDINGS:
        raise RecipeError(errors.unreadable_data(shown, f"the format `{path.suffix or path.name}` is not supported"))
    if split is not None and split != path.stem:
        raise RecipeError(errors.which_split(shown, split, {path.stem}, is_file=True))
    return [(path, shown)]


def _incomplete(names: Iterable[str]) -> str:
    """Say which part of a split is missing, or there in two formats; empty where all are there once.

    >>> _incomplete(["train-00000-of-00002.parquet"]), _incomplete(["a.json", "a.jsonl"])
    ('`train-00001-of-00002` is missing', '`a.json` and `a.jsonl` may have the same rows: name one of them')
    """
    known: dict[str, str] = {}
    for name in names:
        stem = _HASH.sub("", Path(name).stem)
        if stem in known:
            return f"`{known[stem]}` and `{name}` may have the same rows: name one of them"
        known[stem] = name
    for part in filter(None, map(_PART.fullmatch, known)):
        split, last, width = part["split"], part["count"], len(part["number"])
        first = f"{split}-{last:>0{width}}-of-{last}" in known  # counted from 1, else from 0
        parts = (f"{split}-{number:0{width}d}-of-{last}" for number in range(first, int(last) + first))
        if missing := next((one for one in parts if one not in known), ""):
            return f"`{missing}` is missing"
    return ""


def _lines(path: Path, shown: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise RecipeError(errors.data_missing(shown, os.strerror(error.errno or 0))) from None
    with stream:
        if path.suffix == ".json" and stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
            yield from read_array(stream, lambda row, problem, column: errors.broken_row(shown, row, problem, column))
            return
        lines = lines_of(stream)
        yield from read_objects(lines, lambda line, problem, column: errors.broken_row(shown, line, problem, column))


def _parquet(path: Path, shown: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - JSONL does not need it
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise RecipeError(errors.package_missing("pyarrow", "train", "reading parquet")) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            narrow = {one.name: one.type for one in file.schema_arrow if _narrow(one.type)}
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {**row, **{name: _widened(row[name], kind) for name, kind in narrow.items()}}
    except RecipeError:
        raise
    except Exception as error:  # noqa: BLE001 - time zones and units raise whatever reads them
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        is_damage = isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError)
        what = "not a whole parquet file" if is_damage else f"a value of row {number + 1} or after it cannot be read"
        raise RecipeError(errors.unreadable_data(shown, f"{what}: {problem}")) from None


def _narrow(kind: Any) -> bool:
    """Whether a type of Arrow has floats of 16 or 32 bits in it."""
    return str(kind) in _NARROW or any(_narrow(kind.field(i).type) for i in range(kind.num_fields))


def _widened(value: Any, kind: Any) -> Any:
    """Return a value with the decimals that narrow floats stand for: 0.1, where float64 has 0.10000000149011612."""
    if value is None:
        return None
    if str(kind) in _NARROW:
        return float(str(_NARROW[str(kind)](value)))
    if isinstance(value, list):
        return [_widened(one, kind.field(0).type) for one in value]
    if isinstance(value, dict):
        types = [kind.field(i) for i in range(kind.num_fields)]
        return {
            one.name: _widened(value[one.name], one.type) if _narrow(one.type) else value[one.name] for one in types
        }
    return value


def _deep(value: Any, depth: int = 0) -> bool:
    if depth > _DEPTH:
        return True
    if isinstance(value, Mapping):
        return any(_deep(inner, depth + 1) for inner in value.values() if isinstance(inner, dict | list))
    return isinstance(value, list) and any(_deep(one, depth + 1) for one in value if isinstance(one, dict | list))


def hub_folder(name: str, config: str | None = None) -> Path:
    """Return the local folder of a hub dataset's files, ``org/name[@revision]``, downloading what is missing.

    Only data files are fetched; a dataset's own loading script is never run.

    Raises:
        RecipeError: RC726, the hub cannot be reached and the cache does not have it; RC716; RC702, the dataset has
            several configurations or not the one that is named.
    """
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - only hub datasets need it
    except ImportError:
        raise RecipeError(errors.package_missing("huggingface_hub", "train", "a dataset of the hub")) from None
    repository, _, revision = name.partition("@")
    patterns = [*(f"*{ending}" for ending in ENDINGS), "README.md"]
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
    except (OSError, ValueError) as error:
        # all errors of the hub client are of these two types
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecipeError(no_hub(name, problem)) from None
    return configuration(Path(folder), name, config)


def configuration(root: Path, name: str, config: str | None) -> Path:
    """Return the folder with the files of a dataset's configuration.

    Raises:
        RecipeError: RC702, there is none of this name, or there are several and none is named.
    """
    known = sorted(p.name for p in root.iterdir() if p.is_dir() and any(f.suffix in ENDINGS for f in p.iterdir()))
    if config is not None:
        if config not in known:
            raise RecipeError(
                errors.no_rows(name, f"it has no configuration `{config}`, only {', '.join(known) or 'files'}")
            )
        return root / config
    if (root / "data").is_dir():
        return root / "data"
    if known and not any(p.suffix in ENDINGS for p in root.iterdir()):
        if len(known) == 1:
            return root / known[0]
        raise RecipeError(errors.no_rows(name, f"set data.config to one of its configurations: {', '.join(known)}"))
    return root
