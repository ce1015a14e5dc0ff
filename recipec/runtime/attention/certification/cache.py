"""Certificates of architectures, kept in the user's cache folder.

An architecture certifies if a small random model of it gives the same log-probabilities and gradients under prefix-tree
attention as for each sequence on its own.  Results are kept by configuration and by the versions of torch and
transformers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from recipec.diagnostics.phrases import first_line
from recipec.host.build_once import build_once
from recipec.runtime.attention.certification.run import Certificate, certify
from recipec.runtime.attention.certification.tiny_config import shrink

_VERSION = 5
"""Of the comparison; results of another one are not used."""
_certified: dict[str, Certificate] = {}
"""Certificates that this process has made or read."""


def certificate(config: Any, cache: Path) -> Certificate:
    """Return the certificate of a configuration's architecture; make it if these versions have not made it yet."""
    try:
        small = shrink(config)
    except Exception as error:  # noqa: BLE001 - each family validates its own keys with its own exceptions
        return Certificate(equal=False, why=f"no small model of this architecture can be built: {first_line(error)}")
    described = json.dumps(small.to_dict(), sort_keys=True, default=str)
    key = (_VERSION, torch.__version__, transformers.__version__, type(small).__name__, described)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    if digest not in _certified:
        file = cache / "attention" / f"{digest}.json"

        def write(path: Path) -> None:
            path.write_text(json.dumps(asdict(certify(small))), encoding="utf-8")

        _certified[digest] = build_once(file, _read, write)
    return _certified[digest]


def _read(file: Path) -> Certificate | None:
    try:
        return Certificate(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
