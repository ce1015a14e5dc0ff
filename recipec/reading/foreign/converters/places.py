"""Names, paths, models, data sets and adapters."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Several,
    Values,
    converter,
    items_of,
    number,
    of_value,
)
from recipec.reading.foreign.tables import Row

_FORMS = {"json", "parquet", "csv", "text", "arrow"}
"""Names of loaders of local files, in place of a data set."""
_LOCAL = re.compile(r"^(\.{0,2}/|~|\$)|\.(jsonl?|parquet|csv|txt|arrow)$")


@of_value
def name(value: Any) -> Any:
    """A name of a run, from a name or a directory."""
    known = re.sub(r"\$\([^)]*\)|\$\{[^}]*\}|\$\w+|`[^`]*`", "", str(value or ""))
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(known.rstrip("/"))).strip("-._")[:100]
    if not word or not re.match(r"[A-Za-z0-9]", word):
        raise Refused("it gives no name")
    return word


def home_less(text: str) -> str:
    """Return a path without a directory that only the writer's machine knows.

    >>> home_less("$HOME/data/a.parquet"), home_less("~/m"), home_less("data/a.jsonl"), home_less("/abs/a")
    ('data/a.parquet', 'm', 'data/a.jsonl', '/abs/a')
    >>> home_less('$(cd "$D/.." && pwd)/rewards/a.py')
    'rewards/a.py'
    """
    return re.sub(r"^(?:~|\$\w+|\$\{\w+(?::?[-=][^}]*)?\}|\$\(.*\))/", "", text.strip())


@converter
def path(value: Any, row: Row, file: File) -> Values:
    """A file of data; of several files their folder, if they share one."""
    files = [home_less(str(item)) for item in items_of(value)]
    if not files:
        raise Needless("it is empty")
    if len(files) > 1:
        raise Several([{row.to: resolved(each)} for each in files])
    return {row.to: resolved(files[0])}


def resolved(text: str) -> str:
    """Return a text that no shell has to complete.

    Raises:
        Refused: it has such a part.
    """
    if "$" in text or "`" in text:
        raise Refused(f"`{text}` has a part that only a shell knows")
    return text


@converter
def raw_texts(value: Any, row: Row, file: File) -> Values:
    """A data set of texts, in a column of the usual name."""
    column = file.get("pretraining_dataset.text_column") or "text"
    columns = {"data.columns.text": str(column)}
    try:
        return {**dataset(value, row, file), **columns}
    except Several as several:
        raise Several([{**each, **columns} for each in several.each]) from None


@converter
def held_out_set(value: Any, row: Row, file: File) -> Values:
    """Held-out examples, on which the loss is measured, or pairs, of which the margin is."""
    metric = "margin" if file.kind == "dpo" else "loss"
    return {**dataset(value, row, file), "evaluate.held_out.metrics": [metric]}


@converter
def files_of(value: Any, row: Row, file: File, key: str) -> Values:
    """Files of a data set: those of a local one, which is named by its form."""
    if "/" in str(file.get(key) or ""):
        raise Refused("files of a data set of the hub are not chosen: `config` and `split` are")
    return path(value, row, file)


@converter
def held_out_path(value: Any, row: Row, file: File) -> Values:
    """A file of held-out examples, on which the loss is measured, or pairs, of which the margin is."""
    metric = "margin" if file.kind == "dpo" else "loss"
    return {**path(value, row, file), "evaluate.held_out.metrics": [metric]}


_ORGANISATIONS = {
    **dict.fromkeys(("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), "openai-community"),
    "distilgpt2": "distilbert",
}
"""Organisations of models that the hub also has under their name alone."""


@of_value
def origin(value: Any) -> Any:
    """A model: of the hub, or a directory."""
    if not value or str(value) in {"null", "None"}:
        raise Needless("it is not set")
    text = str(value)
    moved = resolved(home_less(text))
    if moved in _ORGANISATIONS:
        return f"{_ORGANISATIONS[moved]}/{moved}"
    if moved.startswith(("./", "../", "/")) or (re.fullmatch(r"[\w.-]+/[\w.@-]+", moved) and moved == text):
        return moved.rstrip("/")
    if moved == text and "/" not in moved:
        raise Refused(f"`{text}` is a model without an organisation: write `org/name` or a directory")
    return f"./{moved.rstrip('/')}"


@converter
def same_model(value: Any, row: Row, file: File, key: str) -> Values:
    """A reference model, unless it is the policy's."""
    if not value or value == file.get(key):
        raise Needless("it is the policy as it entered the stage")
    return {row.to: origin(value)}


@converter
def revision(value: Any, row: Row, file: File, key: str) -> Values:
    """A revision, which is part of the name here."""
    if not value or str(value) == "main":
        raise Needless("`main` is the default")
    model = file.get(key)
    if not model or str(model).startswith((".", "/", "~", "$")):
        raise Needless("a directory has no revision")
    return {row.to: f"{model}@{value}"}


@converter
def dataset(value: Any, row: Row, file: File) -> Values:
    """A data set: of the hub, or a file."""
    if not value:
        raise Needless("it is not set")
    items = items_of(value)
    if items[:1] and str(items[0]) in _FORMS:
        raise Needless("its files are named")
    if len(items) > 1:
        raise Several([dataset([item], row, file) for item in items])
    text = resolved(home_less(str(items[0])).split("@")[0])
    head = row.to.rpartition(".")[0]
    if _LOCAL.search(str(items[0])) or text.startswith("/"):
        return {f"{head}.path": text}
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return {f"{head}.hub": text}
    if "/" not in text:
        raise Refused(
            f"`{text}` is a data set without an organisation, or of the tool alone: give `hub: org/name` or a file"
        )
    return {f"{head}.path": text}


@converter
def dataset_at(value: Any, row: Row, file: File) -> Values:
    """A data set of the hub with its split, ``org/name@split``, or a file."""
    split = str(value or "").partition("@")[2]
    return {**dataset(value, row, file), **({f"{row.to.rpartition('.')[0]}.split": split} if split else {})}


@converter
def files_or_sets(value: Any, row: Row, file: File) -> Values:
    """Files of data, or data sets of the hub with a split, ``org/name:split``."""
    items = [str(item) for item in items_of(value)]
    if len(items) > 1:
        raise Several([files_or_sets(item, row, file) for item in items])
    if not items or posixpath.splitext(items[0])[1].lower() in {".parquet", ".json", ".jsonl"}:
        return path(value, row, file)
    place, _, split = items[0].partition(":")
    return {**dataset(place, row, file), **({f"{row.to.rpartition('.')[0]}.split": split} if split else {})}


@converter
def dataset_in(value: Any, row: Row, file: File) -> Values:
    """A data set of the hub with the folder of a configuration, ``org/name@folder``, or a file."""
    found = dataset(value, row, file)
    folder = str(value or "").partition("@")[2].strip()
    return {**found, **({f"{row.to.rpartition('.')[0]}.config": folder} if folder else {})}


@converter
def dataset_names(value: Any, row: Row, file: File) -> Values:
    """Names of a table of data sets that is not read."""
    names_, folder = items_of(value), file.get("dataset_dir") or "data"
    if not names_:
        raise Needless("it is not set")
    if len(names_) > 1:
        raise Several([dataset_names([item], row, file) for item in names_])
    text = str(names_[0])
    if "/" in text:
        return dataset(text, row, file)
    return {row.to: posixpath.join(home_less(str(folder)), f"{text}.jsonl")}


@converter
def mixer(value: Any, row: Row, file: File) -> Values:
    """Pairs of a data set and its share, or its number of rows."""
    items = [str(item) for item in (value.split() if isinstance(value, str) else items_of(value))]
    head = row.to.rpartition(".")[0]
    sets: list[Values] = []
    for item in items:
        if not re.fullmatch(r"[\d.]+", item):
            sets.append(dataset([item], row, file))
        elif sets and "." not in item:
            sets[-1] = {**sets[-1], f"{head}.limit": int(item)}
        elif sets and float(item) != 1:
            sets[-1] = {**sets[-1], f"{head}.weight": float(item)}
    return _several(sets, head)


def _several(sets: list[Values], head: str) -> Values:
    """Return one source, or raise those of a mixture."""
    if not sets:
        raise Needless("it is not set")
    if len(sets) == 1 and f"{head}.weight" not in sets[0]:
        return sets[0]
    raise Several(sets)


@converter
def shares(value: Any, row: Row, file: File, splits: str = "") -> Values:
    """Data sets with their shares or numbers of rows; the first split is trained on."""
    head = row.to.rpartition(".")[0]
    named = next((str(item) for item in items_of(file.get(splits)) if "train" in str(item)), "")
    sets = [
        {
            **dataset([name_], row, file),
            **({f"{head}.split": named} if named else {}),
            **_share(share, head),
        }
        for name_, share in (value or [{}])[0].items()
    ]
    return _several(sets, head)


def _share(share: Any, head: str) -> Values:
    """Return a share of the rows, or a number of them: a whole number above 1."""
    if isinstance(share, int) and share > 1:
        return {f"{head}.limit": share}
    return {} if number(share) == 1 else {f"{head}.weight": number(share)}


@converter
def described(value: Any, row: Row, file: File) -> Values:
    """Data sets that are described one by one: configuration, split and weight."""
    head = row.to.rpartition(".")[0]
    sets: list[Values] = []
    for one in value or []:
        place = one.get("id", one.get("path"))
        found = dataset([place], row, file)
        for name_, key in (("config", "config"), ("name", "config"), ("split", "split")):
            if one.get(name_):
                found[f"{head}.{key}"] = str(one[name_])
        if one.get("weight") is not None and number(one["weight"]) != 1:
            found[f"{head}.weight"] = number(one["weight"])
        sets.append(found)
    return _several(sets, head)


@of_value
def split(value: Any) -> Any:
    """A split, or a part of one."""
    if not value:
        raise Needless("it is not set")
    return str(value)


@converter
def pretraining(value: Any, row: Row, file: File) -> Values:
    """A form of raw text."""
    if str(value) in {"pretrain", "completion"}:
        raise Needless("raw text is the column `text`, and its files are read whole")
    raise Refused("raw text is a column, `data.columns.text`, of files that are read whole")
