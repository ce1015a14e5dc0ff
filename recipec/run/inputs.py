"""Inputs of a stage that its graph names: files, packages, earlier stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from recipec.component import is_origin, is_signal, names_file, texts
from recipec.graph import StageGraph
from recipec.host.jsonl import lines_of
from recipec.host.preflight import stage_specs
from recipec.package_files import named_file
from recipec.spec.recipe import distribution_of, weights_kind


def named_files(stage: StageGraph) -> Iterator[str]:
    """Every file that a parameter of the stage's components names, and every folder of a model or a tokenizer."""
    for info, value in _texts_of(stage):
        if names_file(info, value) or (is_origin(info) and weights_kind(value) == "directory"):
            yield value


def named_packages(stage: StageGraph) -> Iterator[str]:
    """Every package that brings components of the stage, or data or weights, except its initial weights."""
    for node in (*stage.setup, *stage.nodes()):
        if node.spec is not None:
            yield from node.spec.distributions()
    for _, spec in stage_specs(stage):
        yield from spec.data_packages
    for info, value in _texts_of(stage):
        if is_origin(info) and weights_kind(value) == "package":
            yield distribution_of(value)


def named_stages(stage: StageGraph) -> Iterator[str]:
    """The stages with policies or rows that the components of a stage read, except the one that it starts from."""
    for info, value in _texts_of(stage):
        if is_origin(info) and weights_kind(value) == "stage":
            yield value
        if is_signal(info) and "." in value:
            yield value.rpartition(".")[0]


def _texts_of(stage: StageGraph) -> Iterator[tuple[FieldInfo, str]]:
    """Yield every parameter of the stage's components that holds a text, and the text."""
    for _, spec in stage_specs(stage):
        yield from ((info, text) for _, info, text in texts(spec))


def counted_rows(stage: StageGraph, root: Path) -> int | None:
    """Count the rows of a JSONL file that a stage reads; other data is not opened."""
    path = named_file(root, str(stage.params("data").get("path") or ""))
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    with path.open("rb") as stream:
        return sum(1 for line in lines_of(stream) if line.strip())
