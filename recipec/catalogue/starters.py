"""The files of a new recipe: a copy of a shipped recipe and of everything that it names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from recipec.language.yaml_reader import read_source
from recipec.package_files import shipped

START = "start"
"""Folder of the shipped recipes that are meant as beginnings."""
SCHEMAS = ".recipec"
"""Folder next to a new recipe with the schemas that its first line names, so that the line is right in every clone."""
_SCHEMA = re.compile(r"^# yaml-language-server: \$schema=\S*/(\S+)$", re.MULTILINE)
_IMAGES = ("image", "images")


def starters() -> list[str]:
    """Return the names of the shipped beginnings.

    >>> starters()
    ['chat', 'environment', 'maths', 'reward']
    """
    return sorted(path.stem for path in (shipped("recipes") / START).glob("*.yaml"))


def starter(name: str, dest: Path) -> dict[Path, bytes] | None:
    """Return the files of a new recipe by their paths; ``name`` is that of a beginning or of any shipped recipe."""
    folder, stem = shipped("recipes"), name.removesuffix(".yaml")
    path = next((p for p in (folder / START / f"{stem}.yaml", folder / f"{stem}.yaml") if p.is_file()), None)
    if path is None:
        return None
    files: dict[Path, bytes] = {}
    _take(path, dest, dest.parent / SCHEMAS, files)
    return files


def _take(path: Path, dest: Path, schemas: Path, files: dict[Path, bytes]) -> None:
    """Copy a shipped file or folder and the files that it names; shipped templates are put into ``prompts/``."""
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            _take(inner, dest / inner.name, schemas, files)
        return
    files[dest] = path.read_bytes()
    if path.suffix == ".jsonl":
        files |= {dest.parent / image: (path.parent / image).read_bytes() for image in _images(path)}
    if path.suffix == ".yaml":
        _take_recipe(path, dest, schemas, files)


def _take_recipe(path: Path, dest: Path, schemas: Path, files: dict[Path, bytes]) -> None:
    """Copy a shipped YAML file, the schema of its first line, and the files that it names."""
    text, templates = path.read_text(encoding="utf-8"), shipped("templates").resolve()
    root = read_source(path, text).root
    if match := _SCHEMA.search(text):
        schema = schemas / match[1]
        files[schema] = (shipped("schemas") / match[1]).read_bytes()
        text = text.replace(match[0], f"# yaml-language-server: $schema={os.path.relpath(schema, dest.parent)}")
    text = re.sub(rf"(?<=recipec )(run|check) \S*{re.escape(path.name)}", rf"\1 {dest.name}", text)
    for value in set(_texts(root.plain() if root else None)):
        named = (path.parent / value).resolve()
        if "\n" in value or not value or not named.exists() or named == path.parent.resolve():
            continue
        if named.is_relative_to(path.parent.resolve()):
            _take(named, dest.parent / value, schemas, files)
        elif named.is_relative_to(templates):
            text = text.replace(value, f"./prompts/{named.name}")
            files[dest.parent / "prompts" / named.name] = named.read_bytes()
    files[dest] = text.encode()


def _images(path: Path) -> Iterator[str]:
    """Yield the images that the rows of a shipped file name and that are shipped with it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name in _texts([row.get(column) for column in _IMAGES]):
            if (path.parent / name).is_file():
                yield name


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _texts(item)
