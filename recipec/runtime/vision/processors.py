"""Image preprocessing: the model's own image processor, as its folder describes it, with the recipe's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from recipec.diagnostics.errors import vision as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.model import weights
from recipec.runtime.model.vision_families import Family
from recipec.spec.policy import Images

_OWN, _JOINT = "preprocessor_config.json", "processor_config.json"
_ABOUT_FILE = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map", "image_seq_len"}


def described(folder: Path) -> dict[str, Any]:
    """Read how a model's images are prepared.

    Raises:
        RecipeError: RC735, RC854, the folder does not say.
    """
    for name in (_OWN, _JOINT):
        if (folder / name).is_file():
            config = weights.read_json(folder / name)
            config = config if name == _OWN else config.get("image_processor", {})
            if isinstance(config, dict) and config:
                return config
    raise RecipeError(errors.no_processor(str(folder), f"it has no {_OWN}"))


def build(config: Mapping[str, Any], family: Family, kind: str, images: Images, named: str) -> Any:
    """Build an image processor that needs no torchvision.

    Raises:
        RecipeError: RC854, it cannot be built from its description; RC856, it does not take a parameter.
    """
    options = {name: getattr(images, name) for name in ("min_pixels", "max_pixels", "split")}
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in family.params:
            raise RecipeError(errors.foreign_param(name, kind))
    config = {name: value for name, value in config.items() if name not in _ABOUT_FILE} | family.configure(options)
    try:
        return getattr(transformers, family.processors[kind])(**config)
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise RecipeError(errors.no_processor(named, str(error).strip().partition("\n")[0])) from error


def save(processor: Any, family: Family, kind: str, folder: Path) -> None:
    """Write descriptions that the library's own classes read: for images alone, and for text and images together."""
    own = json.loads(processor.to_json_string()) | {"processor_class": family.joint[kind]}
    joint = {"processor_class": family.joint[kind], **family.processor_settings()}
    for name, what in ((_OWN, own), (_JOINT, joint)):
        (folder / name).write_text(json.dumps(what, indent=2, sort_keys=True) + "\n", encoding="utf-8")
