"""Names of a file as they are looked up: the last of each, and data sets that are described by several as one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from recipec.importing.recognise import Recognised
from recipec.importing.sources import Entry
from recipec.reading.foreign.values import part


def last(entries: Sequence[Entry]) -> list[Entry]:
    """Keep the last of each name, as command lines do."""
    return list({entry.name: entry for entry in entries}.values())


def gathered(entries: Sequence[Entry], found: Recognised) -> list[Entry]:
    """Make one entry of a list of data sets that are described by several names each."""
    wholes = found.tool.wholes(found.trainer.kind)
    made: dict[str, Entry] = {}
    rest: list[Entry] = []
    for entry in entries:
        whole = next((name for name in wholes if entry.name.startswith(f"{name}.")), None)
        if whole is None or entry.name.removeprefix(f"{whole}.") in _OF_ITSELF:
            rest.append(entry)
            continue
        key = entry.name.removeprefix(f"{whole}.")
        first = made.setdefault(whole, Entry(whole, [{}], entry.line))
        held = first.value if key not in first.value[-1] else [*first.value, {}]
        held[-1][key] = entry.value
        made[whole] = replace(first, value=held, unresolved=(*first.unresolved, *entry.unresolved))
    return sorted([*rest, *made.values()], key=lambda entry: entry.line)


_OF_ITSELF = {"fraction", "columns", "data_dir", "data_files"}
"""Names in such a section that have rows of their own."""


def together(entries: Sequence[Entry], found: Recognised) -> list[Entry]:
    """Make one entry with a list of the places of data that a list of mappings names one by one."""
    made: dict[str, Entry] = {}
    rest = []
    for entry in entries:
        row = found.tool.row(entry.name, found.trainer.kind, found.trainer)
        if row is None or row.how not in {"dataset", "path", "raw_texts"} or entry.value is None:
            rest.append(entry)
        elif entry.name in made:
            first = made[entry.name]
            held = first.value if isinstance(first.value, list) else [first.value]
            made[entry.name] = replace(first, value=[*held, entry.value])
        else:
            made[entry.name] = entry
    return sorted([*rest, *made.values()], key=lambda entry: entry.line)


def mixture(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the data of several sources, each under the name of its file or set.

    >>> sorted(mixture([{"data.path": "gsm8k/train.parquet"}, {"data.hub": "org/math"}]))
    ['data.sources.gsm8k.path', 'data.sources.math.hub', 'data.type']
    """
    made: dict[str, Any] = {}
    for number, values in enumerate(each, 1):
        ((first, value), *_) = values.items()
        head = first.rpartition(".")[0]
        place = PurePath(str(value))
        stem = place.name if first.endswith(".hub") else place.stem
        stem = place.parent.name if stem.lower() in _SPLITS and place.parent.name else stem
        name = re.sub(r"[^a-z0-9]+", "_", str(values.get(f"{head}.split") or stem).lower()).strip("_")
        name = name if name[:1].isalpha() else f"source_{number}"
        name = f"{name}_{number}" if any(f".sources.{name}." in known for known in made) else name
        made |= {f"{head}.type": part("several")}
        made |= {f"{head}.sources.{name}.{path.removeprefix(f'{head}.')}": to for path, to in values.items()}
    return made


_SPLITS = {"train", "training", "test", "val", "validation", "valid", "dev", "data"}
"""Names of files that do not tell one source from another."""
