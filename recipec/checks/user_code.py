"""The user's own functions and environments, checked without running them: RC622, RC756 and RC814."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from recipec.checks.queries import Spans, span_of
from recipec.diagnostics.model import Finding, RecipeError, Span, check, dotted
from recipec.diagnostics.phrases import did_you_mean, listed
from recipec.reading.partial import Reading
from recipec.reading.paths import rebased
from recipec.reading.user_code import WORLD, Class, Signature, classes_in, functions_in, may_mention, other_names
from recipec.spec.reward import Environment

# No file of reward functions is a megabyte, and checking stays quick whoever wrote the recipe.
_LARGEST = 1 << 20


@check("RC622", "own-function")
def own_function(reading: Reading) -> Iterator[Finding]:
    """A reward or a tool is a function that is not in the files under `use`, or that cannot be called.

    What it checks: the files under `use`, read as text and never run: each is valid Python, one of them has the
    function at its top level, and the parameters of a reward are those of TRL (`prompts`, `completions`) or of verl
    (`solution_str`). Files that do not exist, or are not below the recipe, are left to `run`.
    Why it matters: otherwise the mistake would show only after the first answers were sampled.
    Example: `reward: {total: {type: function, name: invoice_totals}}` for `def invoice_total`.
    How to fix: correct the name, or write `f(prompts, completions, **columns)` or `compute_score(data_source,
    solution_str, ground_truth)`.
    """
    files = _files(reading)
    if files is None:
        return
    functions: dict[str, Signature] = {}
    other: dict[str, tuple[str, Span]] = {}
    all_read = True
    for number, path, shown in files:
        if path is None:
            all_read = False
            continue
        try:
            functions |= functions_in(path, shown)
            other |= other_names(path, shown)
        except RecipeError as refused:
            problem = refused.diagnostics[0]
            remedy = f"correct the file: `python -m py_compile {shown}` shows the same error"
            spans = (*problem.spans, *span_of(reading, ("use", number)))
            yield Finding(problem.message, spans, help=remedy, path=f"use.{number}")
            all_read = False
    for part in reading.parts:
        if part.spec is not None and part.spec.user_code == "function":
            for name in part.spec.user_names():
                if name in other and name not in functions:
                    yield _not_a_function(reading, (*part.path, "name"), name, *other[name])
                    continue
                yield from _problem(reading, (*part.path, "name"), name, functions, all_read=all_read)
        elif part.spec is not None and part.spec.user_code == "tool" and all_read:
            yield from _absent_tools(reading, part.path, part.spec.user_names(), functions)


def _not_a_function(reading: Reading, path: tuple[str | int, ...], name: str, what: str, place: Span) -> Finding:
    """Build the finding of a name that the files under `use` have for something else than a function."""
    remedy = f"write a function: `def {name}(completions, **columns)`"
    remedy += {
        "a lambda": " with `return` before what the lambda computes",
        "imported": " that calls it, or name the file that defines it under `use`",
    }.get(what, ", which may call an object")
    spans = (*span_of(reading, path), place)
    return Finding(f"`{name}` is {what}, not a function of the file", spans, help=remedy, path=dotted(path))


def _absent_tools(
    reading: Reading, path: tuple[str | int, ...], names: Sequence[str], functions: Mapping[str, Signature]
) -> Iterator[Finding]:
    public = [name for name in functions if not name.startswith("_")]
    for number, name in enumerate(names):
        if name not in public:
            where = (*path, "functions", number)
            yield _absent("tool", name, public, span_of(reading, where), where)


def _files(reading: Reading) -> list[tuple[int, Path | None, str]] | None:
    """List number, path and shown name of the files under `use`; no path where it is left to `run`, None: no list."""
    use = reading.resolved.data.get("use")
    if not isinstance(use, list) or reading.fragment or not reading.resolved.files:
        return None
    root = reading.resolved.files[0]
    files: list[tuple[int, Path | None, str]] = []
    for number, entry in enumerate(use):
        moved = rebased(str(entry), reading.resolved.file(("use", number)), root)
        path = Path(root).parent / moved
        outside = posixpath.normpath(moved).startswith(("..", "/"))
        known = not outside and _readable(path)
        files.append(
            (number, path if known else None, posixpath.normpath(posixpath.join(posixpath.dirname(root), moved)))
        )
    return files


def _readable(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= _LARGEST
    except OSError:  # its name is too long
        return False


@check("RC814", "own-environment")
def own_environment(reading: Reading) -> Iterator[Finding]:
    """An environment names a class that is not in the files under `use`, or that is not an environment.

    What it checks: the files under `use`, read as text and never run: one of them has the class at its top level, with
    `reset(self, task, seed)` and `step(self, action)`, and optionally `tasks(split, size, seed)`.
    Why it matters: otherwise the mistake would show only after the model was loaded.
    Example: `environment: {type: own, name: Maze}` for a class with `step(self)`.
    How to fix: correct the name, or write `reset(self, task, seed)`, `step(self, action)` and, if it has its own tasks,
    a static method `tasks(split, size, seed)`.
    """
    parts = (*reading.parts, *(p for trial in reading.trials.values() for p in trial.parts))
    wanted = [(part, part.spec) for part in parts if part.spec is not None and part.spec.user_code == "class"]
    files = _files(reading)
    if files is None or not wanted:
        return
    classes: dict[str, Class] = {}
    all_read = all(path is not None for _, path, _ in files)
    for _, path, shown in reversed(files):
        try:
            classes |= classes_in(path, shown, WORLD | {"tasks": 3}) if path is not None else {}
        except RecipeError:  # RC622 tells of it
            all_read = False
    for part, spec in wanted:
        for name in spec.user_names():
            yield from _class_problem(reading, (*part.path, "name"), name, classes, all_read=all_read)


@check("RC756", "environment-without-reward", "warning")
def environment_without_reward(reading: Reading) -> Iterator[Finding]:
    """The only reward is that of the user's environment, and its file never names a reward.

    What it checks: where all levels of `reward` are `environment`, the word `reward` in the files with the class, read
    as text and never run; a file that imports other packages may have it there.
    Why it matters: `step` gives a reward only as `reward` of the mapping that it returns; without it every episode has
    the reward 0, and all advantages are 0 (RC930).
    Example: `step` returns the text of the next observation, and nothing else.
    How to fix: return a mapping, such as `{"observation": text, "reward": 1.0, "terminated": True}`, or add a level of
    `reward` that scores the answers.
    """
    files = [(path, shown) for _, path, shown in _files(reading) or () if path is not None]
    for stage in reading.stages.values():
        levels, played = [*stage.of("reward")], [*stage.of("environment")]
        spec = played[0].spec if played else None
        alone = bool(levels) and all(isinstance(part.spec, Environment) for part in levels)
        if spec is None or spec.user_code != "class" or not alone:
            continue
        for path, shown in files:
            try:
                kind = classes_in(path, shown, WORLD).get(spec.user_names()[0])
                silent = kind is not None and kind.whole and not may_mention(path, shown, "reward")
            except RecipeError:  # RC622 tells of it
                continue
            if kind is not None and silent:
                at = (*levels[0].path, "type")
                message = f"`{kind.name}` gives no reward: {shown} never names one"
                yield Finding(message, (*span_of(reading, at), *kind.spans("step")), path=dotted(levels[0].path))


def _absent(what: str, name: str, have: list[str], spans: Spans, path: tuple[str | int, ...]) -> Finding:
    """Build the finding of a name that no file under `use` defines."""
    last = re.split(r"[.:/]", name)[-1]
    close = f"write `name: {last}`;" if last in have and last != name else did_you_mean(name, have)
    remedy = f"{close} the files under `use` have {listed(have)} at their top level".strip()
    if name.startswith("_"):
        remedy += "; names that begin with an underscore are not called: rename the function"
    return Finding(f"there is no {what} `{name}`", spans, help=remedy, path=dotted(path))


def _class_problem(
    reading: Reading, path: tuple[str | int, ...], name: str, classes: dict[str, Class], *, all_read: bool
) -> Iterator[Finding]:
    spans = span_of(reading, path)
    if name not in classes:
        if all_read:
            yield _absent("environment class", name, list(classes), spans, path)
        return
    kind = classes[name]
    missing = [method for method in WORLD if method not in kind.methods and kind.whole]
    wrong = [method for method, fits in kind.methods.items() if not fits]
    if missing or wrong:
        method = missing[0] if missing else wrong[0]
        static = "@staticmethod\ndef tasks(split, size, seed)"
        needed = {"reset": "def reset(self, task, seed)", "step": "def step(self, action)", "tasks": static}[method]
        verb = f"has no `{method}`" if missing else f"has a `{method}` that cannot be called as it will be"
        remedy = f"write `{' '.join(needed.split())}:`"
        yield Finding(f"the class `{name}` {verb}", (*spans, *kind.spans(method)), help=remedy, path=dotted(path))


def _problem(
    reading: Reading, path: tuple[str | int, ...], name: str, functions: dict[str, Signature], *, all_read: bool
) -> Iterator[Finding]:
    spans = span_of(reading, path)
    public = [known for known in functions if not known.startswith("_")]
    if name not in public:
        if all_read:
            yield _absent("reward function", name, public, spans, path)
    elif functions[name].form is None:
        yield Finding(
            f"the reward function `{name}` takes neither `completions` nor `solution_str`",
            (*spans, *functions[name].spans),
            path=dotted(path),
        )
