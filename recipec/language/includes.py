"""Files that extend files: what `extends` names, found inside the project and merged in order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from recipec.diagnostics.errors import include as errors
from recipec.diagnostics.errors.text import over_limit
from recipec.diagnostics.model import Diagnostic, Span
from recipec.diagnostics.phrases import nearest
from recipec.language.merge import merge, without
from recipec.language.nodes import Node, Source
from recipec.language.yaml_reader import read_source
from recipec.package_files import SHIPPED, shipped

MAX_FILES = 32
MAX_READS = 256
MAX_CHARACTERS = 4 * 2**20


def project_root(file: str) -> Path:
    """Return the nearest folder above ``file`` with ``.git`` or ``pyproject.toml``, else its own folder."""
    folder = Path(file).absolute().parent
    for above in (folder, *folder.parents):
        if os.access(above / ".git", os.F_OK) or os.access(above / "pyproject.toml", os.F_OK):
            return above
    return folder


@dataclass(slots=True)
class Includes:
    """The reading of one recipe with all that it extends."""

    source: Source
    sources: dict[str, Source] = field(default_factory=dict)
    found: list[Diagnostic] = field(default_factory=list)
    complete: bool = True
    reads: int = 0
    characters: int = 0
    root: Path | None = None
    full: bool = False
    folders: dict[Path, list[str]] = field(default_factory=dict)
    """Names of the recipes in a folder where a file was missing."""

    def expand(self, source: Source, open_files: tuple[str, ...], at: str = "") -> Node | None:
        """Return the tree of a file merged over all that it extends; ``at`` is the stage that includes it."""
        self.sources.setdefault(source.file, source)
        self.found.extend(source.diagnostics)
        self.complete = self.complete and source.complete
        if source.root is None:
            return None
        root = source.root
        stages = root.value.get("stages")
        if not at and stages is not None and isinstance(stages.value, dict):
            rows = {  # before the recipe is laid on what it extends: a stage's fragments come after a base recipe
                name: self._extended(stage, source, open_files, f"stages.{name}")
                if isinstance(stage.value, dict)
                else stage
                for name, stage in stages.value.items()
            }
            root = replace(root, value={**root.value, "stages": replace(stages, value=rows)})
        return self._extended(root, source, open_files, at)

    def _extended(self, node: Node, source: Source, open_files: tuple[str, ...], at: str) -> Node:
        """Return a recipe, fragment or stage merged over what its ``extends`` names."""
        extends = node.value.get("extends")
        if extends is None:
            return node
        under: Node | None = None
        for entry in self._entries(extends, f"{at}.extends" if at else "extends"):
            included = self._include(entry, source, open_files, at)
            if included is None:
                self.complete = False
            else:
                under = included if under is None else merge(under, included)
        own = without(node, "extends")
        return merge(under, own)

    def _entries(self, extends: Node, path: str) -> list[Node]:
        good: list[Node] = []
        for entry in extends.value if isinstance(extends.value, list) else [extends]:
            if extends.value is None:
                continue
            if isinstance(entry.value, str) and entry.value.strip() and "${" not in entry.value:
                good.append(entry)
                continue
            wanted = "write extends: [recipec:algorithms/grpo], or the path of a file"
            problem = "`extends` takes paths of files"
            if isinstance(entry.value, str) and entry.value.strip():
                problem = "`extends` is read before any reference, so it cannot have one"
            self.found.append(errors.bad_extends(_place(entry), problem, wanted, path, entry.chain))
            self.complete = False
        return good

    def _include(self, entry: Node, source: Source, open_files: tuple[str, ...], at: str) -> Node | None:
        path = f"{at}.extends" if at else "extends"
        self.reads += 1
        if self.reads > MAX_READS or self.characters > MAX_CHARACTERS:
            self._too_many(entry, path)
            return None
        located = self._located(entry, source, path)
        if located is None:
            return None
        name, file = located
        if name in open_files:
            circle = [*open_files[open_files.index(name) :], name]
            self.found.append(errors.include_cycle(entry.span, circle, path, entry.chain))
            return None
        if name not in self.sources and len(self.sources) > MAX_FILES:
            self._too_many(entry, path)
            return None
        chain = (entry.span.labelled("included from here"), *entry.chain)
        included = read_source(file, chain=chain, name=name)
        self.characters += len(included.text)
        tree = self.expand(included, (*open_files, name), at)
        if tree is not None and at and "stages" in tree.value:
            wanted = "let the recipe extend it, or name a fragment: a file without `stages`"
            problem = f"`{entry.value}` is a whole recipe; a stage extends fragments only"
            self.found.append(errors.bad_extends(entry.span, problem, wanted, path, entry.chain))
            return None
        return without(tree, "recipec") if tree is not None and at else tree

    def _too_many(self, entry: Node, path: str) -> None:
        if not self.full:
            self.found.append(over_limit(entry.span, f"{MAX_FILES} includes", path, entry.chain))
        self.full = True

    def _located(self, entry: Node, source: Source, path: str) -> tuple[str, str] | None:
        """Return the name and the place of the file that an entry names; or None, the reason among the findings."""
        written: str = entry.value
        name = _name(written, source.file)
        ours = name.startswith(SHIPPED)
        if self.root is None:
            self.root = project_root(self.source.file)
        root = shipped("recipes") if ours else self.root
        shown = "recipes of the package" if ours else f"`{root.name}`"
        target = os.path.normpath(root / name.removeprefix(SHIPPED) if ours else Path(name).absolute())
        if "\0" in written or not any(map(Path(target).is_relative_to, (root, shipped("recipes")))):
            self.found.append(errors.include_outside(entry.span, written, shown, path, entry.chain))
            return None
        for suffix in ("", ".yaml"):
            if os.path.isfile(target + suffix):  # noqa: PTH113 - a name that is too long is simply no file
                if not _inside(target + suffix, root) and not _inside(target + suffix, shipped("recipes")):
                    self.found.append(errors.include_outside(entry.span, written, shown, path, entry.chain, link=True))
                    return None
                return name + suffix, target + suffix
        looked = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
        known = self._neighbours(Path(target), root, written)
        self.found.append(errors.include_not_found(entry.span, written, looked, known, path, entry.chain))
        return None

    def _neighbours(self, target: Path, root: Path, written: str) -> list[str]:
        """Return what could have been written instead: the recipes in the folder that was named."""
        folder = target.parent
        if folder not in self.folders:
            inside = os.path.isdir(folder) and _inside(str(folder), root)  # noqa: PTH112 - the name may be too long
            self.folders[folder] = sorted(file.stem for file in folder.glob("*.yaml")) if inside else []
        start = written[: len(written) - len(target.name)]
        suffix = ".yaml" if target.suffix == ".yaml" else ""
        here = [start + stem + suffix for stem in self.folders[folder]]
        found = nearest(written, here) or (here and written.startswith(SHIPPED))
        return here if found else [*here, *_shipped_as(target.stem)]


def _shipped_as(stem: str) -> list[str]:
    """Return the shipped recipes and fragments of a name."""
    recipes = shipped("recipes")
    files = [file.relative_to(recipes) for file in recipes.rglob("*.yaml") if file.stem == stem]
    return sorted(f"{SHIPPED}{file.with_suffix('').as_posix()}" for file in files)


def _name(written: str, including: str) -> str:
    """Return the name of an included file: relative to the file that says it, `recipec:…` for what is shipped.

    >>> _name("../base", "recipes/a/b.yaml"), _name("grpo", "recipec:algorithms/dapo.yaml")
    ('recipes/base', 'recipec:algorithms/grpo')
    """
    if written.startswith(SHIPPED):
        return SHIPPED + os.path.normpath(written.removeprefix(SHIPPED))
    scheme = SHIPPED if including.startswith(SHIPPED) else ""
    return scheme + os.path.normpath(Path(including.removeprefix(scheme)).parent / written)


def _inside(file: str, root: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def _place(node: Node) -> Span:
    return node.key if node.value is None and node.key else node.span
