"""Texts that name files, models and data sets in a form that has no meaning: RC171 to RC173."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from recipec.checks.queries import at_path
from recipec.component import is_origin, names_file
from recipec.diagnostics.errors.data import conversion
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import listed, nearest, question
from recipec.package_files import SHIPPED, shipped_templates
from recipec.reading.partial import Part, Path, Reading
from recipec.spec.recipe import weights_kind

_TEMPLATE = re.compile(r"\{\{|\{%|\n")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ELSEWHERE = (
    (re.compile(r"^\w[\w+.-]*://"), "a URL is not read: download it, or name it as `org/name` of the hub"),
    (
        re.compile(r"^(?=.*[.?!:]$).*?\w \w.*? \w"),  # linear in the length of a text
        "a sentence is not read here: write it into a file, such as `./text.j2`, and name that",
    ),
    (re.compile(r"^~"), "`~` is not the home directory here: write the path from `/`, or relative to the recipe"),
    (re.compile(r"\$"), "variables of a shell are not read: write the path itself, or `${vars.NAME}`"),
    (re.compile(r"^\s|\s$"), "remove the spaces around it: they would be a part of the name"),
    (re.compile(r"\\"), "write it with slashes: `org/name` for the hub, `./directory` for a directory"),
    (re.compile("[“”„«»]"), 'these quotes are a part of the name: write plain ones, `"`, or none'),
    (
        re.compile(r"\{\w*\}"),
        "braces are not filled in: in a template, a column is `{{ NAME }}`; else write `${vars.NAME}`",
    ),
    (re.compile(r"[*?]"), "patterns are not read: name the file, or the folder that has the files"),
)


def _parts(reading: Reading) -> Iterator[Part]:
    for part in reading.parts:
        if part.given:
            yield part
    for trial in reading.trials.values():
        yield from trial.parts


def _names_weights(info: FieldInfo, value: str) -> bool:
    del value
    return is_origin(info)


def _texts(reading: Reading, mark: Callable[[FieldInfo, str], bool]) -> Iterator[tuple[Path, str]]:
    """Yield the texts of parameters with a mark: those that name files, or weights."""
    for part in _parts(reading):
        inner: Any = reading.resolved.data
        for step in part.path:
            inner = inner.get(step) if isinstance(inner, Mapping) else None
        for name, info in part.cls.model_fields.items() if part.cls is not None else ():
            key = info.alias or name
            if isinstance(inner, Mapping) and isinstance(inner.get(key), str) and mark(info, inner[key]):
                yield (*part.path, key), inner[key]


@check("RC171", "text-in-place-of-file")
def text_for_file(reading: Reading) -> Iterator[Finding]:
    """A key that names a file has the text of a template.

    What it checks: `{{`, `{%` and line breaks in keys such as `path`, which take no text of a template.
    Why it matters: the text would be looked up as the name of a file, when the run starts.
    Example: `corpus: "{{ documents }}"`.
    How to fix: put the text into a file, such as `chat.j2`, and name the file.
    """
    for path, text in _texts(reading, names_file):
        if _TEMPLATE.search(text):
            message = f"`{path[-1]}` is the text of a template, and must be the name of a file"
            yield at_path(reading, path).finding(message)


@check("RC173", "unknown-chat-template")
def unknown_template(reading: Reading) -> Iterator[Finding]:
    """A chat template of the package is named that does not exist, or without the `recipec:chat/` before its name.

    What it checks: names of templates that begin with `recipec:`, and `chat_template` with a bare name.
    Why it matters: the name would be looked up as a file, when the run starts.
    Example: `chat_template: recipec:chat/lama3`, `chat_template: chatml`.
    How to fix: write one of the names of `templates/chat/`, such as `recipec:chat/chatml`; a file is `./chatml`.
    """
    known = {name.rpartition("/")[2]: name for name in shipped_templates()}
    for path, text in _texts(reading, names_file):
        if path[-1] == "chat_template" and text in known:
            message, similar = f"`chat_template` names the file `{text}`", [known[text]]
        elif text.startswith(SHIPPED) and text not in known.values():
            message = f"`{path[-1]}` names `{text}`, but the package has no such template"
            similar = [known[near] for near in nearest(text.rpartition("/")[2], known)]
        else:
            continue
        help_ = f"{question(similar)} The package has {listed(known.values(), len(known))}".lstrip()
        yield at_path(reading, path).finding(message, remedy=help_)


@check("RC172", "unknown-form-of-place")
def unknown_form(reading: Reading) -> Iterator[Finding]:
    """A file, a model or a data set is named in a form that has no meaning here.

    What it checks: URLs, `~`, `$NAME` and patterns such as `*` in names of files and weights; names of more or fewer
    parts than `org/name[@revision]` in `data.hub`; a bare word as `template`;
    data in formats such as CSV; a file of weights instead of a folder.
    Why it matters: it would fail when the run looks for it.
    Example: `from: https://huggingface.co/org/model`, `path: data/*.jsonl`, `hub: gsm8k`.
    How to fix: write `org/name` for the hub, and paths from `/` or relative to the recipe; a configuration of a
    data set is `config`.
    """
    origins = [(stage.path, stage.origin) for stage in reading.stages.values() if stage.origin]
    named = [((*path, "from"), text) for path, text in origins]
    for path, text in (*named, *_texts(reading, names_file), *_texts(reading, _names_weights)):
        if _TEMPLATE.search(text):
            continue
        help_ = next((help_ for pattern, help_ in _ELSEWHERE if pattern.search(text)), "")
        if help_:
            yield at_path(reading, path).finding(f"`{path[-1]}` names `{text}`, which is not read", remedy=help_)
    for path, text in _texts(reading, names_file):
        if path[-2:] == ("data", "path") and (remedy := conversion(text)):
            message = f"`path` names `{text}`, in a format that is not read"
            yield at_path(reading, path).finding(message, remedy=remedy)
    yield from _bare_templates(reading)
    yield from _no_weights(reading, named)
    for path, text in _hub(reading, "hub"):
        if not _HUB.fullmatch(text):
            remedy = "write `org/name`, or `org/name@revision`; a configuration is `config`, and a split is `split`"
            yield at_path(reading, path).finding(
                f"`hub` names `{text}`, which is not a data set of the hub", remedy=remedy
            )


def _bare_templates(reading: Reading) -> Iterator[Finding]:
    """Yield RC172 for a bare word as the file of a template."""
    for path, text in _texts(reading, names_file):
        if path[-1] == "template" and re.fullmatch(r"\w+", text):
            message = f"`template` names the file `{text}`"
            remedy = "write the path of a Jinja file, such as `./prompt.j2`, or the text of a template in quotes"
            yield at_path(reading, path).finding(message, remedy=remedy)


def _explained(text: str) -> bool:
    """Whether the form of a text is already refused for what it is."""
    return _TEMPLATE.search(text) is not None or any(pattern.search(text) for pattern, _ in _ELSEWHERE)


_REVISION = re.compile(r"main|master|[0-9a-f]{7,40}|v\d[\w.]*")
"""A revision of a model of the hub, at the end of its address."""


def _written(text: str) -> str:
    """Say how the weights that a text means are written.

    >>> _written("models/qwen/base"), _written("hf:org/model"), _written("org/model:main")
    ('a directory begins with a dot or a slash: `./models/qwen/base`', 'write `org/model`', 'write `org/model@main`')
    """
    name, _, revision = text.removesuffix("/").replace("/tree/", "/").rpartition("/")
    if _REVISION.fullmatch(revision) and _HUB.fullmatch(f"{name}@{revision}"):
        return f"write `{name}@{revision}`"
    head, _, tail = text.partition(":")
    if tail and (right := next((one for one in (tail.lstrip("/"), f"{head}@{tail}") if _HUB.fullmatch(one)), "")):
        return f"write `{right}`"
    return f"a directory begins with a dot or a slash: `./{text}`"


def _no_weights(reading: Reading, named: Sequence[tuple[Path, str]]) -> Iterator[Finding]:
    """Yield RC172 for a `from` that is neither a directory nor a model of the hub."""
    for path, text in named:
        if weights_kind(text) == "hub" and not _HUB.fullmatch(text) and text.isprintable() and not _explained(text):
            message = f"`from` names `{text}`, which is not a model of the hub"
            yield at_path(reading, path).finding(message, remedy=_written(text))
        # of an installed package, a GGUF file is a model
        if text.endswith((".safetensors", ".bin", ".gguf", ".pt")) and not text.startswith("package:"):
            message = f"`from` names the file `{text}`, not a model"
            remedy = "name the folder with configuration and tokenizer; GGUF is read from installed packages alone"
            yield at_path(reading, path).finding(message, remedy=remedy)


def _hub(reading: Reading, key: str) -> Iterator[tuple[Path, str]]:
    """Yield a text of data that come from the hub."""
    for part in _parts(reading):
        if (
            part.slot == "data"
            and isinstance(text := getattr(part.spec, key, None), str)
            and getattr(part.spec, "hub", None)
        ):
            yield (*part.path, key), text
