"""The reference of the documentation, written from the code.

``python -m recipec.catalogue.reference_docs docs/reference`` writes it.

``keys.md`` is what surrounds the components of a recipe, ``components.md`` what fills its slots, ``signals.md`` what
they exchange, ``codes.md`` what can be wrong.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from recipec.catalogue import code_pages
from recipec.catalogue.listing import contract, keys
from recipec.component import Component, Section, components_of
from recipec.signals import AXES, SIGNALS
from recipec.spec.data import Columns
from recipec.spec.knowledge import Diseases
from recipec.spec.machine import ENGINES, Machine, Service
from recipec.spec.policy import Images, Lora, Scratch, VisionScratch
from recipec.spec.recipe import SLOTS, Budget, Evaluation, Recipe, Sampling, Stage

SECTIONS: tuple[tuple[str, type[Section]], ...] = (
    ("The recipe", Recipe),
    ("A stage, `stages.NAME`", Stage),
    ("`stages.NAME.budget`", Budget),
    ("An evaluation, `evaluate.NAME`", Evaluation),
    ("`evaluate.NAME.sampler`", Sampling),
    ("`machine`", Machine),
    ("`machine.services.NAME`", Service),
    ("`columns` of `data: {type: file}`", Columns),
    ("`lora` of a policy", Lora),
    ("`scratch` of a policy", Scratch),
    ("`scratch` of a policy that sees", VisionScratch),
    ("`image` of a policy that sees", Images),
    ("`diseases` of `knowledge: {type: hpo}`", Diseases),
)
_MATH = re.compile(r"^\.\. math:: ?((?:.*\n?)(?:[ ]+.*\n?)*)", re.MULTILINE)
_LINK = re.compile(r"`([^`<]+?)\s+<([^>]+)>`_")


def pages() -> dict[str, str]:
    """Return every page of the reference by its file name.

    >>> sorted(pages())
    ['codes.md', 'components.md', 'keys.md', 'signals.md']
    """
    written = {"keys.md": _keys(), "components.md": _components(), "signals.md": _signals()}
    return {name: "\n".join(lines) + "\n" for name, lines in written.items()} | {"codes.md": code_pages.reference()}


def _keys() -> Iterator[str]:
    yield "# Keys\n\nWritten by `make reference` from the models of `recipec/spec/`."
    yield "What fills the slots of a stage is in [components.md](components.md)."
    for title, cls in SECTIONS:
        yield f"\n## {title}\n\n{_prose(cls)}\n"
        yield from _table(cls)


def _components() -> Iterator[str]:
    yield "# Components\n\nWritten by `make reference` from the specs of `recipec/spec/`."
    yield "A requirement such as `group_R` is filled by the signal that the parameter of the same stem names."
    for slot in SLOTS:
        kinds = [f"`{kind}`: {word}" for kind in ("rl", "sft", "dpo") if (word := slot.in_kind(kind)) != "no"]
        default = f" Without a `type`: `{slot.default}`." if slot.default else ""
        yield f"\n## {slot.name}\n\n{', '.join(kinds)}.{default}"
        for cls in components_of(slot.name).values():
            yield from _component(cls)
    yield "\n## machine"
    for key, names in ENGINES.items():
        for name in names:
            yield from _component(components_of("machine")[name], f" (`machine.{key}`)")


def _component(cls: type[Component], where: str = "") -> Iterator[str]:
    yield f"\n### {cls.slot}/{cls.type_name}{where}\n"
    if not cls.available():
        yield "*Checked, and not yet run by this version: RC501.*\n"
    yield _prose(cls)
    if cls.slot != "machine":
        for word, signals in zip(("Requires", "Provides"), contract(cls), strict=True):
            named = ", ".join(re.sub(r"^\w+", r"`\g<0>`", signal) for signal in signals)
            yield f"\n{word}: {named or 'nothing'}."
    if len(cls.model_fields) > 1:
        yield ""
        yield from _table(cls)


def _signals() -> Iterator[str]:
    yield "# Signals\n\nWritten by `make reference` from `recipec/signals.py`.\n"
    yield "A name ends in its axes.\n\n| axis | counts |\n|---|---|"
    for axis, meaning in AXES.items():
        yield f"| `{axis}` | {meaning} |"
    kinds = {"column": "Columns", "scalar": "Scalars", "feature": "Features of an environment or of a sampler",
             "artifact": "Artifacts, named `STAGE.artifact`"}  # fmt: skip
    for kind, title in kinds.items():
        typed = kind in {"column", "scalar"}
        yield f"\n## {title}\n"
        yield "| signal | dtype | unit | meaning |\n|---|---|---|---|" if typed else "| signal | meaning |\n|---|---|"
        for signal in SIGNALS.values():
            if signal.kind == kind:
                cells = [f"`{signal.name}`", *([signal.dtype, signal.unit] if typed else []), _cell(signal.doc)]
                yield f"| {' | '.join(cells)} |"


def _table(cls: type[Section]) -> Iterator[str]:
    yield "| key | takes | if absent | meaning |\n|---|---|---|---|"
    for key in keys(cls):
        if key.name != "type":
            default = key.default.removesuffix(" if absent")
            yield f"| `{key.name}` | {_cell(key.takes)} | {_cell(default)} | {_cell(key.doc)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(cls: type[Section]) -> str:
    """Turn a docstring into Markdown: maths, links, references as a list."""
    text = inspect.cleandoc(cls.__doc__ or "")
    text, _, cited = text.partition("References:\n")
    text = text.replace("``", "`")
    text = _MATH.sub(lambda found: f"```math\n{inspect.cleandoc(found[1])}\n```\n", text)
    links = ["* " + _LINK.sub(r"[\1](\2)", line.strip()) for line in cited.splitlines() if line.strip()]
    return "\n".join([text.strip(), *([""] if links else []), *links])


def main(folder: Path) -> None:
    """Write every page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
