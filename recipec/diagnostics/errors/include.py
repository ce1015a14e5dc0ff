"""What can be wrong with including, overriding and referring: RC113 and RC118 to RC129."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.errors.text import did_you_mean
from recipec.diagnostics.model import Finding, Span, diagnostic


@diagnostic("RC113", "resolver")
def resolver(place: Span, written: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A `${…:…}` asks for a resolver.

    What it checks: that every `${…}` names a key of the recipe.
    Why it matters: a recipe means the same on every machine; resolvers read the environment, files or the clock.
    Example: `${oc.env:DATA}`.
    Use instead: `${vars.data}` with `vars: {data: …}`, and `--set vars.data=…` where it differs.
    """
    return Finding(
        f"`{written}` calls a resolver; only references such as ${{vars.name}} are allowed",
        (place, *spans),
        why="nothing in a recipe reads the environment: it must mean the same on every machine",
        help="give the value under `vars:`, and set it with --set vars.name=… where it differs",
        path=path,
    )


@diagnostic("RC118", "bad-reference")
def bad_reference(place: Span, written: str, problem: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    r"""A `${` does not start a reference.

    What it checks: the text between `${` and `}`: names joined by dots, from the top of the recipe.
    Why it matters: the text would be taken as it stands, or fail while the recipe runs.
    Example: `${vars.}`, `${.sibling}`, `${vars.${which}}`, a `${` that is never closed.
    Use instead: `${vars.name}` or `${stages.explore.sampler.temperature}`; `\${` for the characters themselves.
    """
    return Finding(
        f"`{written}` is not a reference: {problem}",
        (place, *spans),
        help="write ${vars.name} or another key from the top of the recipe; \\${ for the characters themselves",
        path=path,
    )


@diagnostic("RC119", "bad-extends")
def bad_extends(place: Span, problem: str, instead: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """An `extends` is not a list of files, or includes what cannot stand there.

    What it checks: that `extends` is a path or a list of paths, and that a stage extends fragments only.
    Why it matters: whole recipes have stages, and a stage cannot hold stages.
    Example: `extends: {file: base.yaml}`; a stage that extends a recipe.
    Use instead: `extends: [recipec:algorithms/grpo]`.
    """
    return Finding(problem, (place, *spans), help=instead, path=path)


@diagnostic("RC120", "include-not-found")
def include_not_found(
    place: Span, written: str, looked: str, known: Sequence[str], path: str, spans: tuple[Span, ...] = ()
) -> Finding:
    """A file named by `extends` does not exist.

    What it checks: paths relative to the file that names them; `recipec:` names what ships with the package.
    Why it matters: what the file would have said is missing.
    Example: `extends: [recipec:algorithms/gpro]`.
    Use instead: a path that exists; `.yaml` may be left out.
    """
    return Finding(
        f"`{written}` is not there: looked for {looked}",
        (place, *spans),
        help=did_you_mean(written, known) or "paths are relative to the file that says them; `.yaml` may be left out",
        path=path,
    )


@diagnostic("RC121", "include-outside")
def include_outside(place: Span, written: str, root: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A file named by `extends` lies outside the project.

    What it checks: that included files lie under the project root: the nearest folder above the recipe with `.git` or
    `pyproject.toml`, else the recipe's own folder; what ships with the package is allowed too.
    Why it matters: a recipe that was sent to you must not read other files of yours.
    Example: `extends: [../../../etc/defaults.yaml]`.
    Use instead: copy the file into the project.
    """
    return Finding(
        f"`{written}` is outside the project {root}",
        (place, *spans),
        why="a recipe may read nothing but its own project",
        help="copy the file into the project",
        path=path,
    )


@diagnostic("RC122", "include-symlink")
def include_symlink(place: Span, written: str, root: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A file named by `extends` is a link, or lies behind one, that leads out of the project.

    What it checks: where the path leads when every symbolic link is followed.
    Why it matters: a link in a recipe that was sent to you must not open other files of yours.
    Example: `extends: [shared.yaml]` where `shared.yaml` links to a home directory.
    Use instead: copy the file into the project.
    """
    return Finding(
        f"`{written}` is a symbolic link out of the project {root}",
        (place, *spans),
        why="a recipe may read nothing but its own project",
        help="copy the file into the project",
        path=path,
    )


@diagnostic("RC123", "include-cycle")
def include_cycle(place: Span, files: Sequence[str], path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A file extends itself, directly or through others.

    What it checks: the chain of `extends`.
    Why it matters: the recipe would have no end.
    Example: `a.yaml` extends `b.yaml`, which extends `a.yaml`.
    Use instead: move what both need into a third file.
    """
    return Finding(
        "files extend each other in a circle: " + " → ".join(files),
        (place, *spans),
        help="move what they share into a file of its own",
        path=path,
    )


@diagnostic("RC124", "too-many-includes")
def too_many_includes(place: Span, limit: int, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """A recipe includes too many files.

    What it checks: at most 32 different files, read at most 256 times and 4 MiB in all.
    Why it matters: what such a recipe says cannot be followed, and files that include others twice grow without bound.
    Example: ten files, each extending the next one twice.
    Use instead: fewer, larger fragments.
    """
    return Finding(
        f"too many includes: more than {limit} files, or the same ones again and again",
        (place, *spans),
        why="reading stops here: files that include each other often grow without bound",
        help="join fragments, or include each once",
        path=path,
    )


@diagnostic("RC125", "bad-override")
def bad_override(place: Span, argument: str, problem: str) -> Finding:
    """An argument of `--set` is not `path.to.key=value`.

    What it checks: a dotted path, `=`, and a value in YAML.
    Why it matters: it is not clear what should be set.
    Example: `--set epsilon 0.2`, `--set .loss=1`, `--set seed=`.
    Use instead: `--set stages.explore.loss.epsilon=0.2`; `null` removes a key; `''` is the empty text.
    """
    return Finding(
        f"`{argument}` sets nothing: {problem}",
        (place,),
        help="write path.to.key=value, for example stages.explore.loss.epsilon=0.2; null removes the key",
    )


@diagnostic("RC126", "override-path")
def override_path(
    place: Span, problem: str, name: str, known: Sequence[str], path: str, spans: tuple[Span, ...] = ()
) -> Finding:
    """The path of a `--set` leads nowhere.

    What it checks: that the path can be followed: through mappings, to items that a list has, to stages that exist,
    and that a removed key is there.
    Why it matters: a mistyped path would set something that nothing reads.
    Example: `--set stages.explor.seed=1` where the stage is called `explore`.
    Use instead: the path as `recipec compile --format text` shows it.
    """
    return Finding(problem, (place, *spans), help=did_you_mean(name, known), path=path)


@diagnostic("RC127", "unknown-reference")
def unknown_reference(
    place: Span, target: str, missing: str, near: str, path: str, spans: tuple[Span, ...] = ()
) -> Finding:
    """A `${…}` names a key that the recipe does not have.

    What it checks: every reference, after `extends` and `--set`.
    Why it matters: there is no value to put there.
    Example: `${vars.learning_rat}`.
    Use instead: a key that exists, written from the top of the recipe.
    """
    return Finding(
        f"`${{{target}}}` refers to nothing: there is no `{missing}`",
        (place, *spans),
        help=near or "define it, or write the whole path from the top of the recipe",
        path=path,
    )


@diagnostic("RC128", "reference-cycle")
def reference_cycle(place: Span, circle: Sequence[str], path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """References refer to each other in a circle.

    What it checks: what each `${…}` needs, through other references and through the mappings that hold them.
    Why it matters: no value can be computed.
    Example: `vars: {a: "${vars.b}", b: "${vars.a}"}`.
    Use instead: a plain value for one of them.
    """
    return Finding(
        "references go in a circle: " + " → ".join(circle),
        (place, *spans),
        help="give one of them a plain value",
        path=path,
    )


@diagnostic("RC129", "reference-growth")
def reference_growth(place: Span, problem: str, path: str, spans: tuple[Span, ...] = ()) -> Finding:
    """References would grow beyond all measure.

    What it checks: before anything is resolved, the size of what all references together stand for, at most 64 KiB,
    their number, at most 1000, and how many stand behind each other, at most 16.
    Why it matters: thirty lines, each naming the one before twice, stand for a gigabyte.
    Example: `a1: ${vars.a0}${vars.a0}`, `a2: ${vars.a1}${vars.a1}`, and so on.
    Use instead: long texts in template files.
    """
    return Finding(
        problem,
        (place, *spans),
        why="nothing was resolved: texts that double on every line fill any memory",
        help="keep long texts in template files and refer to values",
        path=path,
    )
