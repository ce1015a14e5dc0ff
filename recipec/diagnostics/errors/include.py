"""Includes, references and overrides: RC118 to RC128."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, Span, diagnostic
from recipec.diagnostics.phrases import did_you_mean, listed, question


@diagnostic("RC118", "bad-reference")
def bad_reference(place: Span, written: str, problem: str, path: str, chain: tuple[Span, ...] = ()) -> Finding:
    r"""A `${` does not start a reference: names joined by dots, from the top of the recipe.

    Why it matters: a reference stands for another value of the recipe and for nothing else. Resolvers, which read the
    environment, files or the clock, are not supported, so that a recipe means the same on every machine.
    Example: `${vars.}`, `${.sibling}`, `${oc.env:DATA}`, a `${` that is never closed.
    How to fix: write `${vars.name}` or another key from the top of the recipe, set what differs between machines with
    `--set vars.name=…`, and write `\${` for the characters themselves.
    """
    return Finding(f"`{written}` is not a reference: {problem}", (place, *chain), path=path)


@diagnostic("RC119", "bad-extends")
def bad_extends(place: Span, problem: str, instead: str, path: str, chain: tuple[Span, ...] = ()) -> Finding:
    """An `extends` is not a path or a list of paths, or a stage extends a whole recipe.

    Why it matters: a stage cannot contain stages; it can only extend fragments, files without `stages`.
    Example: `extends: {file: base.yaml}`.
    How to fix: write `extends: [recipec:algorithms/grpo]`, or the path of a file.
    """
    return Finding(problem, (place, *chain), help=instead, path=path)


@diagnostic("RC120", "include-not-found")
def include_not_found(
    place: Span, written: str, looked: str, known: Sequence[str], path: str, chain: tuple[Span, ...] = ()
) -> Finding:
    """A file named by `extends` does not exist.

    Why it matters: the settings of that file would be missing.
    Example: `extends: [recipec:algorithms/gpro]`.
    How to fix: give a path relative to the file with the `extends`, or `recipec:` and a shipped file; `.yaml` may be
    left out.
    """
    message = f"`{written}` does not exist: looked for {looked}"
    shipped = [name for name in known if name.partition(":")[2].endswith(f"/{_stem(written)}")]
    return Finding(message, (place, *chain), help=question(shipped) or did_you_mean(written, known), path=path)


def _stem(written: str) -> str:
    return written.rpartition("/")[2].removesuffix(".yml").removesuffix(".yaml")


@diagnostic("RC121", "include-outside")
def include_outside(
    place: Span, written: str, root: str, path: str, chain: tuple[Span, ...] = (), *, link: bool = False
) -> Finding:
    """A file named by `extends` is outside the project, or behind a symbolic link that leads out of it.

    What it checks: the project is the nearest folder above the recipe with `.git` or `pyproject.toml`, else the
    recipe's own folder. Files that are shipped with the package are allowed too.
    Why it matters: a recipe from elsewhere must not read other files of yours.
    Example: `extends: [../../../etc/defaults.yaml]`.
    How to fix: copy the file into the project.
    """
    how = "is a symbolic link out of" if link else "is outside"
    return Finding(f"`{written}` {how} the project {root}", (place, *chain), path=path)


@diagnostic("RC123", "include-cycle")
def include_cycle(place: Span, files: Sequence[str], path: str, chain: tuple[Span, ...] = ()) -> Finding:
    """A file extends itself, directly or through other files.

    Why it matters: the recipe would never end.
    Example: `a.yaml` extends `b.yaml`, which extends `a.yaml`.
    How to fix: move the shared part to a third file.
    """
    return Finding("files extend each other in a cycle: " + " → ".join(files), (place, *chain), path=path)


@diagnostic("RC125", "bad-override")
def bad_override(
    place: Span, problem: str, name: str = "", known: Sequence[str] = (), path: str = "", chain: tuple[Span, ...] = ()
) -> Finding:
    """An argument of `--set` is not `path.to.key=value`, or its path does not exist in the recipe.

    Why it matters: a misspelt path would set a key that nothing reads.
    Example: `--set epsilon 0.2`, `--set seed=`, `--set stages.explor.seed=1` where the stage is called `explore`.
    How to fix: write `path.to.key=value`, for example `stages.explore.loss.epsilon=0.2`, with the path that `recipec
    compile --format text` shows; `null` removes a key, `''` is the empty text.
    """
    remedy = did_you_mean(name, known) or (f"there are {listed(known)}" if known else "")
    return Finding(problem, (place, *chain), help=remedy, path=path)


@diagnostic("RC127", "unknown-reference")
def unknown_reference(
    place: Span, target: str, missing: str, near: str, path: str, chain: tuple[Span, ...] = ()
) -> Finding:
    """A `${…}` names a key that the recipe does not have, after `extends` and `--set`.

    Why it matters: there is no value to insert.
    Example: `${vars.learning_rat}`.
    How to fix: define the key, or write its whole path from the top of the recipe.
    """
    message = f"`${{{target}}}` refers to nothing: there is no `{missing}`"
    plain = f"a column or other text is written without `${{}}`: `{target}`; a value of `vars` is `${{vars.{target}}}`"
    if target.isupper():
        plain = f"variables of the environment are not read: define `vars: {{{target.lower()}: …}}`, "
        plain += f"write `${{vars.{target.lower()}}}`, and set it with `--set vars.{target.lower()}=…`"
    return Finding(message, (place, *chain), help=near or ("" if "." in target else plain), path=path)


@diagnostic("RC128", "reference-cycle")
def reference_cycle(place: Span, circle: Sequence[str], path: str, chain: tuple[Span, ...] = ()) -> Finding:
    """References refer to each other in a cycle, directly or through the mappings that hold them.

    Why it matters: no value can be computed.
    Example: `vars: {a: "${vars.b}", b: "${vars.a}"}`.
    How to fix: give one of them a plain value.
    """
    return Finding("references form a cycle: " + " → ".join(circle), (place, *chain), path=path)
