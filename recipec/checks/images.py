"""Images that a policy does not get, or cannot read: RC215 and RC216."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import Spans, at_path, display_name, is_given, related_span, span_of, spec_of
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Path, Reading, StageReading
from recipec.spec.data import Columns, File


def _sees(stage: StageReading) -> bool | None:
    """Whether the policy of a stage reads images; None where it could not be read."""
    spec = spec_of(stage, "policy")
    return None if spec is None else spec.sees


@check("RC215", "images-nowhere", "warning")
def images_nowhere(reading: Reading) -> Iterator[Finding]:
    """A vision-language policy is trained in a stage without images.

    What it checks: the data of a stage with policy `vision_lm`: tasks of `reasoning_gym` and of an `environment` have
    no images, and an environment does not show those of a file.
    Why it matters: the policy would not be trained on images and may forget what it knows about them.
    Example: `policy: {type: vision_lm}` with `data: {type: reasoning_gym, …}`.
    How to fix: use data of a file with a column `images`, or the cheaper `policy: {type: causal_lm}`; if text only is
    intended, allow the warning.
    """
    for stage in reading.stages.values():
        part = next((part for part in stage.of("data") if part.given), None)
        if part is None or not _sees(stage):
            continue
        cls: Any = part.cls  # the reader fills the slot with data
        why = "" if cls is None else cls.without_images
        why = why or ("an environment writes its prompts" if stage.of("environment") else "")
        if not why:
            continue
        yield Finding(
            f"the policy of stage `{stage.name}` reads images, but {display_name(part)} has none: {why}",
            (*span_of(reading, (*part.path, "type"), key=True), *_policy(reading, stage)),
            path=dotted(part.path),
        )


@check("RC216", "images-unread")
def images_unread(reading: Reading) -> Iterator[Finding]:
    """The image column is named, but the images would not be read.

    What it checks: where the recipe itself sets `columns.images`, in stages and evaluations: the policy reads images,
    and no environment writes the prompts.
    Why it matters: answers about an image would be trained or scored without the image. Evaluations run before and
    after every stage, so the policy of every stage must read images.
    Example: `data: {path: a.jsonl, columns: {images: photo}}` with `policy: {type: causal_lm}`.
    How to fix: use `policy: {type: vision_lm}` without an environment, or drop `images`.
    """
    for stage in reading.stages.values():
        path = (*stage.path, "data", "columns", "images")
        if not _named(reading, path, spec_of(stage, "data")):
            continue
        if _sees(stage) is False:
            yield _unread(reading, path, f"the policy of stage `{stage.name}` reads text only", _policy(reading, stage))
        elif stage.of("environment"):
            between = related_span(reading, (*stage.path, "environment"), "the environment", key=True)
            yield _unread(reading, path, f"the environment of stage `{stage.name}` writes its prompts", between)
    for name, evaluation in reading.evaluate.items():
        path = ("evaluate", name, "data", "columns", "images")
        blind = next((stage for stage in reading.stages.values() if _sees(stage) is False), None)
        if blind is not None and _named(reading, path, evaluation.data):
            who = f"the policy of stage `{blind.name}`, which is also evaluated, reads text only"
            yield _unread(reading, path, who, _policy(reading, blind))


def _named(reading: Reading, path: Path, data: Any) -> bool:
    """Whether the recipe itself names the column; the default, written out or not, is looked for and may be absent."""
    default = Columns.model_fields["images"].default
    return is_given(reading, path) and isinstance(data, File) and data.columns.images not in {"", default}


def _unread(reading: Reading, path: Path, who: str, spans: Spans) -> Finding:
    return at_path(reading, path).finding(f"`columns.images` names images, but {who}", *spans)


def _policy(reading: Reading, stage: StageReading) -> Spans:
    return tuple(
        span for part in stage.of("policy") for span in related_span(reading, (*part.path, "type"), "the policy")
    )
