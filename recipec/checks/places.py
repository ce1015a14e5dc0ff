"""Texts that name files, models and data sets in a form that has no meaning: RC171 to RC174."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from recipec.checks.queries import dotted, is_given, span_of, spec_of
from recipec.component import is_origin, is_path
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Part, Path, Reading

_TEMPLATE = re.compile(r"\{\{|\{%|\n")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ELSEWHERE = (
    (re.compile(r"^\w[\w+.-]*://"), "a URL is not read: download it, or name it as `org/name` of the hub"),
    (re.compile(r"^~"), "`~` is not the home directory here: write the path from `/`, or relative to the recipe"),
    (re.compile(r"\$"), "variables of a shell are not read: write the path itself, or `${vars.NAME}`"),
    (re.compile(r"[*?]"), "patterns are not read: name the file, or the folder that has the files"),
)


def _parts(reading: Reading) -> Iterator[Part]:
    for part in reading.parts:
        if part.given:
            yield part
    for trial in reading.trials.values():
        yield from trial.parts


def _texts(reading: Reading, mark: Any) -> Iterator[tuple[Path, str]]:
    """Yield the texts of parameters with a mark: those that name files, or weights."""
    for part in _parts(reading):
        said: Any = reading.resolved.data
        for step in part.path:
            said = said.get(step) if isinstance(said, Mapping) else None
        for name, info in part.cls.model_fields.items() if part.cls is not None else ():
            key = info.alias or name
            if mark(info) and isinstance(said, Mapping) and isinstance(said.get(key), str):
                yield (*part.path, key), said[key]


@check("RC171", "text-in-place-of-file")
def text_for_file(reading: Reading) -> Iterator[Finding]:
    """A key that names a file has the text of a template.

    What it checks: `{{`, `{%` and line breaks in keys such as `chat_template` and `template`.
    Why it matters: the text would be looked up as the name of a file, when the run starts.
    Example: `chat_template: "{% for m in messages %}{{ m.content }}{% endfor %}"`.
    How to fix: put the text into a file, such as `chat.j2`, and name the file.
    """
    for path, text in _texts(reading, is_path):
        if _TEMPLATE.search(text):
            message = f"`{path[-1]}` is the text of a template, and must be the name of a file"
            yield Finding(message, span_of(reading, path), path=dotted(path))


@check("RC172", "unknown-form-of-place")
def unknown_form(reading: Reading) -> Iterator[Finding]:
    """A file, a model or a data set is named in a form that has no meaning here.

    What it checks: URLs, `~`, `$NAME` and patterns such as `*` in names of files and weights; names of more or fewer
    parts than `org/name[@revision]` in `data.hub`; parts of a split, such as `train[:1000]`.
    Why it matters: it would fail when the run looks for it.
    Example: `from: https://huggingface.co/org/model`, `path: data/*.jsonl`, `hub: gsm8k`.
    How to fix: write `org/name` for the hub, and paths from `/` or relative to the recipe; `data.limit` takes the first
    rows of a split.
    """
    origins = [(stage.path, stage.origin) for stage in reading.stages.values() if stage.origin]
    named = [((*path, "from"), text) for path, text in origins]
    for path, text in (*named, *_texts(reading, is_path), *_texts(reading, is_origin)):
        if _TEMPLATE.search(text):
            continue
        help_ = next((help_ for pattern, help_ in _ELSEWHERE if pattern.search(text)), "")
        if help_:
            yield Finding(
                f"`{path[-1]}` names `{text}`, which is not read", span_of(reading, path), help=help_, path=dotted(path)
            )
    for path, text in _hub(reading, "hub"):
        if not _HUB.fullmatch(text):
            remedy = "write `org/name`, or `org/name@revision`"
            yield Finding(
                f"`hub` names `{text}`, which is not a data set of the hub",
                span_of(reading, path),
                help=remedy,
                path=dotted(path),
            )
    for path, text in _hub(reading, "split"):
        if "[" in text or "+" in text:
            whole = re.split(r"[\[+]", text)[0]
            remedy = f"write `split: {whole}`; `limit` takes its first rows"
            yield Finding(
                f"`split` names `{text}`, a part of a split", span_of(reading, path), help=remedy, path=dotted(path)
            )


def _hub(reading: Reading, key: str) -> Iterator[tuple[Path, str]]:
    """Yield a text of the data that come from the hub."""
    for part in _parts(reading):
        if (
            part.slot == "data"
            and isinstance(text := getattr(part.spec, key, None), str)
            and getattr(part.spec, "hub", None)
        ):
            yield (*part.path, key), text


@check("RC173", "truncate-outside-sft")
def truncate_outside_sft(reading: Reading) -> Iterator[Finding]:
    """Data of a stage that is not `sft` are to be truncated.

    What it checks: `overlong: truncate` in `rl` and `dpo` stages.
    Why it matters: only examples of `sft` are truncated; elsewhere the run stops at the first long row, as with
    `overlong: error`.
    Example: `kind: rl` with `data: {path: a.jsonl, max_length: 512, overlong: truncate}`.
    How to fix: set `overlong` to `drop`, which counts what it drops, or to `error`.
    """
    for stage in reading.stages.values():
        spec: Any = spec_of(stage, "data")
        path = (*stage.path, "data", "overlong")
        if stage.kind not in {None, "sft"} and spec is not None and spec.overlong == "truncate":
            message = f"stage `{stage.name}` truncates its data, which only `sft` stages do"
            yield Finding(message, span_of(reading, path), path=dotted(path))


@check("RC174", "images-of-the-hub")
def images_of_the_hub(reading: Reading) -> Iterator[Finding]:
    """Images are read from a data set of the hub.

    What it checks: `columns.images`, where the recipe itself sets it, next to `hub`.
    Why it matters: images of the hub are not fetched, so that the run would stop.
    Example: `data: {hub: org/pictures, columns: {images: images}}`.
    How to fix: download the data set into a folder, and name that as `path`.
    """
    for part in _parts(reading):
        path = (*part.path, "columns", "images")
        spec: Any = part.spec
        if part.slot == "data" and is_given(reading, path) and getattr(spec, "hub", None) and spec.columns.images:
            yield Finding("images of the hub are not fetched", span_of(reading, path), path=dotted(path))
