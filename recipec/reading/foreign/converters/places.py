"""Names, paths, models, data sets and adapters."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from recipec.reading.foreign.converters.registry import (
    Given,
    Needless,
    Refused,
    Several,
    Values,
    converter,
    items_of,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row

_FORMS = {"json", "parquet", "csv", "text", "arrow"}
"""Names of loaders of local files, in place of a data set."""
_TARGETS = {"all-linear", "all_linear", "all"}
_LOCAL = re.compile(r"^(\.{0,2}/|~|\$)|\.(jsonl?|parquet|csv|txt|arrow)$")


@converter
def name(value: Any, row: Row, given: Given) -> Values:
    """A name of a run, from a name or a directory."""
    del given
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(str(value or "").rstrip("/"))).strip("-._")[:100]
    if not word or not re.match(r"[A-Za-z0-9]", word):
        raise Refused("it gives no name")
    return {row.to: word}


def home_less(text: str) -> str:
    """Return a path without a directory that only the writer's machine knows.

    >>> home_less("$HOME/data/a.parquet"), home_less("~/m"), home_less("data/a.jsonl"), home_less("/abs/a")
    ('data/a.parquet', 'm', 'data/a.jsonl', '/abs/a')
    """
    return re.sub(r"^(?:~|\$\w+|\$\{\w+(?::?[-=][^}]*)?\}|\$\(pwd\))/", "", text.strip())


@converter
def path(value: Any, row: Row, given: Given) -> Values:
    """A file of data; of several files their folder, if they share one."""
    del given
    files = [home_less(str(item)) for item in items_of(value)]
    if not files:
        raise Needless("it is empty")
    if len(files) > 1:
        raise Several([{row.to: resolved(file)} for file in files])
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
def held_out_set(value: Any, row: Row, given: Given) -> Values:
    """Held-out examples, on which the loss is measured, or pairs, of which the margin is."""
    metric = "margin" if given.kind == "dpo" else "loss"
    return {**dataset(value, row, given), "evaluate.held_out.metrics": [metric]}


@converter
def files_of(value: Any, row: Row, given: Given, key: str) -> Values:
    """Files of a data set: those of a local one, which is named by its form."""
    if "/" in str(given.get(key) or ""):
        raise Refused("files of a data set of the hub are not chosen: `config` and `split` are")
    return path(value, row, given)


@converter
def held_out_path(value: Any, row: Row, given: Given) -> Values:
    """A file of held-out examples, on which the loss is measured."""
    return {**path(value, row, given), "evaluate.held_out.metrics": ["loss"]}


@converter
def origin(value: Any, row: Row, given: Given) -> Values:
    """A model: of the hub, or a directory."""
    del given
    if not value or str(value) in {"null", "None"}:
        raise Needless("it is not set")
    text = str(value)
    moved = resolved(home_less(text))
    if moved.startswith(("./", "../", "/")) or (re.fullmatch(r"[\w.-]+/[\w.@-]+", moved) and moved == text):
        return {row.to: moved.rstrip("/")}
    if moved == text and "/" not in moved:
        raise Refused(f"`{text}` is a model without an organisation: write `org/name` or a directory")
    return {row.to: f"./{moved.rstrip('/')}"}


@converter
def same_model(value: Any, row: Row, given: Given, key: str) -> Values:
    """A reference model, unless it is the policy's."""
    if not value or value == given.get(key):
        raise Needless("it is the policy as it entered the stage")
    return origin(value, row, given)


@converter
def revision(value: Any, row: Row, given: Given, key: str) -> Values:
    """A revision, which is part of the name here."""
    if not value or str(value) == "main":
        raise Needless("`main` is the default")
    model = given.get(key)
    if not model or str(model).startswith((".", "/", "~", "$")):
        raise Needless("a directory has no revision")
    return {row.to: f"{model}@{value}"}


@converter
def dataset(value: Any, row: Row, given: Given) -> Values:
    """A data set: of the hub, or a file."""
    if not value:
        raise Needless("it is not set")
    items = items_of(value)
    if items[:1] and str(items[0]) in _FORMS:
        raise Needless("its files are named")
    if len(items) > 1:
        raise Several([dataset([item], row, given) for item in items])
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
def dataset_names(value: Any, row: Row, given: Given) -> Values:
    """Names of a table of data sets that is not read."""
    names_, folder = items_of(value), given.get("dataset_dir") or "data"
    if not names_:
        raise Needless("it is not set")
    if len(names_) > 1:
        raise Several([dataset_names([item], row, given) for item in names_])
    text = str(names_[0])
    if "/" in text:
        return dataset(text, row, given)
    return {row.to: posixpath.join(home_less(str(folder)), f"{text}.jsonl")}


@converter
def mixer(value: Any, row: Row, given: Given) -> Values:
    """Pairs of a data set and its share."""
    items = [str(item) for item in (value.split() if isinstance(value, str) else items_of(value))]
    sets = [item for item in items if not re.fullmatch(r"[\d.]+", item)]
    return dataset(sets, row, given)


@converter
def split(value: Any, row: Row, given: Given) -> Values:
    """A split, or a part of one."""
    del given
    if not value:
        raise Needless("it is not set")
    return {row.to: str(value)}


@converter
def template(value: Any, row: Row, given: Given) -> Values:
    """A chat template: a file or its text."""
    del given
    if not value:
        raise Needless("it is not set")
    text = str(value)
    if "{" in text or "\n" in text:
        return {row.to: text}
    if not text.endswith((".j2", ".jinja", ".jinja2")):
        raise Refused("a template is a Jinja file, not a name or a tokenizer")
    return {row.to: home_less(text)}


@converter
def device(value: Any, row: Row, given: Given) -> Values:
    """A type of device."""
    del given
    if str(value) not in {"cpu", "cuda", "auto"}:
        raise Refused("devices are `cpu` and `cuda`")
    return {row.to: str(value)}


@converter
def dtype(value: Any, row: Row, given: Given) -> Values:
    """A data type of weights."""
    del given
    text = str(value).lower().removeprefix("torch.")
    known = {"bf16": "bfloat16", "bfloat16": "bfloat16", "fp32": "float32", "float32": "float32", "float": "float32"}
    if text in {"none", "null", "auto"}:
        raise Needless("the default is float32")
    if text not in known:
        raise Refused("`policy.dtype` is float32 or bfloat16")
    return {row.to: known[text]}


@converter
def lora(value: Any, row: Row, given: Given) -> Values:
    """The switch of LoRA, reported with its parameters."""
    del row, given
    raise Needless("with the parameters of the adapter" if on(value) else "it is off")


@converter
def adapter(value: Any, row: Row, given: Given) -> Values:
    """The kind of adapter, or of fine-tuning."""
    del given
    text = str(value or "").lower()
    if text in {"lora", "qlora"}:
        return {f"{row.to}.r": 8} if row.name == "_" else _switched(text)
    if text in {"", "full", "none", "null"}:
        raise Needless("all weights are trained")
    raise Refused(f"`{text}` is not offered: LoRA is the only adapter")


def _switched(text: str) -> Values:
    raise Needless("with the parameters of the adapter" + (" and `load_in_4bit`" if text == "qlora" else ""))


@converter
def lora_rank(value: Any, row: Row, given: Given, key: str) -> Values:
    """A rank; without a scaling of its own, twice the rank."""
    if str(given.get(key)) in {"full", "freeze"} or not on(given.get(key)):
        raise Needless(f"`{key}` is {given.get(key)}")
    found: Values = {row.to: whole(value)}
    return found if given.get("lora_alpha") is not None else {**found, "policy.lora.alpha": 2 * whole(value)}


@converter
def targets(value: Any, row: Row, given: Given, key: str = "") -> Values:
    """Names of adapted layers."""
    if key and (not on(given.get(key)) or str(given.get(key)) == "full"):
        raise Needless(f"`{key}` is off")
    items = [str(item) for item in items_of(value)]
    if len(items) == 1 and items[0] in _TARGETS:
        return {row.to: "all_linear"}
    if not items:
        raise Needless("it is not set")
    if any(re.search(r"[*\\|()^$]", item) for item in items):
        raise Refused("layers are named, not matched by a pattern")
    return {row.to: items}
