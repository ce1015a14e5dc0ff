"""Proof that an architecture computes forests as it computes rows, before any row of the user's goes through it.

A random model of the architecture (:mod:`.shrunk`) scores the rows of a tree one by one and as a forest, in float32
(:mod:`.proof`; :mod:`recipec.runtime.vision.certification` with images).  What was found is kept, for these versions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from recipec.diagnostics.model import RecipeError
from recipec.run.build_once import build_once
from recipec.runtime.attention.certification.run import Certificate, certify, first_line, lengthwise
from recipec.runtime.attention.certification.tiny_config import shrunk
from recipec.runtime.vision.families import family_of

_FORM = 3  # of this proof; a change makes every verdict anew
_certified: dict[str, Certificate] = {}
"""What this process has found or read."""


def certificate(config: Any, cache: Path) -> Certificate:
    """Certify the architecture of a configuration, or look up what was found for these versions."""
    sees = family_of(config) is not None
    try:
        small = _with_vision().shrunk(config) if sees else shrunk(config)
    except Exception as error:  # noqa: BLE001 - each family validates its own keys with its own exceptions
        return Certificate(equal=False, why=f"no small model of its kind can be made: {first_line(error)}")
    said = json.dumps(small.to_dict(), sort_keys=True, default=str)
    about = (_FORM, torch.__version__, transformers.__version__, type(small).__name__, said)
    digest = hashlib.sha256(repr(about).encode()).hexdigest()
    if digest in _certified:
        return _certified[digest]
    file = cache / "attention" / f"{digest}.json"

    def write(path: Path) -> None:
        made = _with_images(small, cache) if sees else certify(small)
        path.write_text(json.dumps(asdict(made)), encoding="utf-8")

    found = build_once(file, _read, write)
    _certified[digest] = found
    return found


def _with_vision() -> Any:
    """Return how models that see are certified."""
    from recipec.runtime.vision import certification as seeing  # noqa: PLC0415 - only images need Pillow

    return seeing


def _with_images(small: Any, cache: Path) -> Certificate:
    if why := lengthwise(small):
        return Certificate(equal=False, why=why)
    try:
        found: Certificate = _with_vision().certify(small, cache)
    except RecipeError as refused:
        return Certificate(equal=False, why=refused.diagnostics[0].message)
    except Exception as error:  # noqa: BLE001 - families fail in their own ways on what they do not know
        return Certificate(equal=False, why=first_line(error))
    return found


def _read(file: Path) -> Certificate | None:
    try:
        return Certificate(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
