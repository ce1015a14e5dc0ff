"""Run digests: what the result of a stage depends on beyond its spec, hashed; equal digests need no second run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from recipec import graph as graphs
from recipec.component import load_object
from recipec.diagnostics.errors.data import data_missing
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import hash_tree
from recipec.host.options import Options
from recipec.host.packages import runtime_packages, version
from recipec.host.preflight import stage_specs
from recipec.package_files import named_file
from recipec.reading.used_source import used_source
from recipec.run.inputs import named_files, named_packages, named_stages
from recipec.spec.data import Data
from recipec.spec.recipe import distribution_of, weights_kind


def stage_inputs(stage: StageGraph, parents: Mapping[str, str], options: Options) -> dict[str, str]:
    """Return hashes of what a stage reads, by name: what a run digest differs by where the recipe is the same."""
    files, others = _files(stage, options.root), _stages(stage, parents)
    code = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in used_code(stage, options)}
    return {**files, **others, **code, stage.origin: _weights(stage, parents, options.root)}


def run_digest(stage: StageGraph, graph: Graph, parents: Mapping[str, str], options: Options) -> str:
    """Hash what the spec digest cannot know: data files, weights, templates, and the user's functions of the stage.

    Raises:
        RecipeError: RC750, a file of the user's code is missing or is not valid Python.
    """
    files, others = _files(stage, options.root), _stages(stage, parents)
    weights = _weights(stage, parents, options.root)
    return graphs.digest(stage.digest, graph.seed, weights, others, files, dict(used_code(stage, options)))


def _files(stage: StageGraph, root: Path) -> dict[str, str]:
    """Return hashes of files and images, and versions of packages."""
    files = {path: _hashed(named_file(root, path)) for path in sorted(set(named_files(stage)))}
    files |= {name: version(name) for name in sorted(set(named_packages(stage)))}
    return files | dict(named_images(stage, root))


def _stages(stage: StageGraph, parents: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of earlier stages that the stage reads, except the one that it starts from."""
    return {name: parents[name] for name in sorted(set(named_stages(stage)) & set(parents))}


def used_code(stage: StageGraph, options: Options) -> Iterator[tuple[str, str]]:
    """Yield name and normalised source of each of the user's functions and classes that the stage calls.

    An edit of a comment, or of a function that the stage does not call, is in no digest.
    """
    for _, spec in stage_specs(stage):
        for path in options.use if spec.user_code else ():
            for name in spec.user_names():
                source = used_source(path, name, os.path.relpath(path, options.root))
                if source is not None:
                    yield name, source


def named_images(stage: StageGraph, root: Path) -> Iterator[tuple[str, str]]:
    """Yield hashes of the images that the rows of the data name, where a policy sees them."""
    seen = any(column.parameter == "pixels_I" for node in stage.nodes() for column in node.inputs)
    for _, spec in stage_specs(stage):
        if seen and isinstance(spec, Data) and spec.image_digests:
            with runtime_packages():
                digests = load_object(spec.image_digests)
            yield from digests(spec, root).items()


def _hashed(path: Path) -> str:
    try:
        return hash_tree(path) if path.exists() else "absent"
    except OSError as error:
        raise RecipeError(data_missing(path.name, error.strerror or str(error))) from None


def _weights(stage: StageGraph, parents: Mapping[str, str], root: Path) -> str:
    match weights_kind(stage.origin):
        case "stage":
            return parents[stage.origin]
        case "directory":
            return _hashed(root / stage.origin)
        case "package":
            return f"{stage.origin}=={version(distribution_of(stage.origin))}"
        case _:
            return stage.origin
