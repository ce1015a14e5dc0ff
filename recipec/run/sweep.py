"""Runs of one recipe with several values of its keys, in one directory: `recipec run --each KEY=A,B`."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.artifacts import disk_errors, write_atomic
from recipec.report import compare
from recipec.run.check import check_requirements
from recipec.run.launching import Prepared, RunArguments, prepare, started

PAGE = "comparison.html"
RESULTS = "sweep.json"
_OPENING = {"[": 1, "{": 1, "]": -1, "}": -1}


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a sweep.

    Example: ``Member("seed-1_learning_rate-1e-5", ("seed=1", "stages.explore.optimizer.learning_rate=1e-5"))``.
    """

    name: str
    """Name of its run directory."""
    overrides: tuple[str, ...]


@dataclass(slots=True)
class Sweep:
    """How the runs of a sweep ended.

    Example: ``Sweep(Path("runs/quickstart-sweep"), finished=["seed-0", "seed-1"])``.
    """

    folder: Path
    finished: list[str] = field(default_factory=list)
    failed: dict[str, list[Diagnostic]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    """Runs that continue when the sweep is started again, and those that have not begun."""

    @property
    def page(self) -> Path:
        """The page that compares the finished runs."""
        return self.folder / PAGE

    def text(self) -> str:
        """Write the last held-out results of each finished run, and their means over seeds."""
        return compare.text([self.folder / name for name in self.finished])


def members(each: Sequence[str]) -> list[Member]:
    """Return the cross product of ``KEY=VALUE,VALUE`` arguments, the last one changing fastest.

    >>> [one.name for one in members(["seed=0,1", "stages.a.optimizer.learning_rate=1e-5,3e-5"])]
    ['seed-0_learning_rate-1e-5', 'seed-0_learning_rate-3e-5', 'seed-1_learning_rate-1e-5', 'seed-1_learning_rate-3e-5']

    Raises:
        RecipeError: RC974, an argument is not of this form, or two of them say the same.
    """
    axes: dict[str, list[str]] = {}
    for text in each:
        key, equals, rest = text.partition("=")
        values = list(split_values(rest))
        if not key or not equals or not all(values):
            raise RecipeError(errors.bad_each(text, "write `KEY=VALUE,VALUE`, for example `seed=0,1,2`"))
        if key in axes:
            raise RecipeError(errors.bad_each(text, f"`{key}` is there twice: write all of its values in one `--each`"))
        if len(set(values)) < len(values):
            raise RecipeError(errors.bad_each(text, "a value is there twice"))
        axes[key] = values
    shown = {key: short_name(key, list(axes)) for key in axes}
    unique_members: dict[str, Member] = {}
    for number, chosen in enumerate(itertools.product(*axes.values()), 1):
        pairs = list(zip(axes, chosen, strict=True))
        name = "_".join(f"{shown[key]}-{file_name(value)}" for key, value in pairs)
        unique = name if name not in unique_members else f"{name}_{number}"
        unique_members[unique] = Member(unique, tuple(f"{key}={value}" for key, value in pairs))
    return list(unique_members.values())


def split_values(text: str) -> Iterator[str]:
    """Split at the commas that are in no brackets.

    >>> list(split_values("[1, 2],{a: 3, b: 4},x"))
    ['[1, 2]', '{a: 3, b: 4}', 'x']
    """
    depth, value = 0, ""
    for letter in text:
        depth += _OPENING.get(letter, 0)
        if letter == "," and depth == 0:
            yield value.strip()
            value = ""
        else:
            value += letter
    yield value.strip()


def short_name(key: str, keys: Sequence[str]) -> str:
    """Return the end of a dotted key that tells it from the others.

    >>> short_name("stages.a.loss.beta", ["stages.a.loss.beta", "stages.b.loss.beta"])
    'a.loss.beta'
    """
    parts = key.split(".")
    for count in range(1, len(parts)):
        end = parts[-count:]
        if not any(other != key and other.split(".")[-count:] == end for other in keys):
            return ".".join(end)
    return key


def file_name(value: str) -> str:
    """Return a value as a part of a file name of any system.

    >>> file_name("org/name"), file_name("[1, 2]"), file_name("{}")
    ('org-name', '1-2', 'value')
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", value).strip("-. ")[:60] or "value"


def run_sweep(arguments: RunArguments, each: Sequence[str], folder: Path | None, say: Callable[[str], None]) -> Sweep:
    """Run every member one after another, each in a process of its own; one that fails does not stop the others.

    All of them are compiled before the first one starts. A member that is finished is skipped.

    Raises:
        RecipeError: RC974, and everything that is wrong with the recipe of a member.
    """
    wanted = members(each)
    first = prepare(_of(arguments, wanted[0], Path("sweep")))
    sweep = Sweep(folder or Path("runs") / f"{first.graph.name}-sweep")
    ready = [(one, _prepared(arguments, one, sweep.folder)) for one in wanted]
    for number, (member, prepared) in enumerate(ready, 1):
        say(f"[{number}/{len(ready)}] {member.name}")
        try:
            _run(sweep, member, prepared, _of(arguments, member, sweep.folder))
        except KeyboardInterrupt:
            sweep.stopped += [other.name for other, _ in ready[number - 1 :]]
            break
        for problem in sweep.failed.get(member.name, []):
            say(f"{member.name}: {problem.severity}[{problem.code}]: {problem.message}")
    _write(sweep)
    return sweep


def _of(arguments: RunArguments, member: Member, folder: Path) -> RunArguments:
    return replace(arguments, overrides=(*arguments.overrides, *member.overrides), out=folder / member.name)


def _prepared(arguments: RunArguments, member: Member, folder: Path) -> Prepared:
    return prepare(_of(arguments, member, folder))


def _run(sweep: Sweep, member: Member, prepared: Prepared, arguments: RunArguments) -> None:
    if not prepared.planned.changes and (prepared.options.out / "model").exists():
        sweep.finished.append(member.name)
        return
    try:
        check_requirements(prepared.graph, prepared.options)  # before a process is started that would find the same
        outcome = started(arguments)
    except RecipeError as error:
        sweep.failed[member.name] = list(error.diagnostics)
        return
    problems = [one for one in outcome.diagnostics if one.is_error]
    if problems:
        sweep.failed[member.name] = problems
    elif outcome.finished:
        sweep.finished.append(member.name)
    else:
        sweep.stopped.append(member.name)


def _write(sweep: Sweep) -> None:
    """Write how the runs ended, and a page that compares those that have finished."""
    about = {
        "format": 1,
        "finished": sweep.finished,
        "failed": {name: [f"{one.code}: {one.message}" for one in problems] for name, problems in sweep.failed.items()},
        "stopped": sweep.stopped,
    }
    with disk_errors(sweep.folder):
        write_atomic(sweep.folder / RESULTS, json.dumps(about, indent=1) + "\n")
        if sweep.finished:
            compare.write([sweep.folder / name for name in sweep.finished], sweep.page)
