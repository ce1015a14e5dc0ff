"""Values of trainers of agents: their data only gives the number of tasks of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipec.reading.foreign.converters.places import path
from recipec.reading.foreign.converters.plain import positive, same
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    converter,
    number,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row

_TASKS = "data.type"


def _environment(value: Any, names: Mapping[str, Any]) -> Any:
    """Find what an environment is here: its name there is a part of the value."""
    return next((ours for name, ours in names.items() if name.lower().split("/")[0] in str(value).lower()), None)


def _has_tasks(file: File, name: str) -> bool:
    found = _environment(file.get(name), file.choices(name))
    return isinstance(found, Mapping) and _TASKS in found


@converter
def task_environment(value: Any, row: Row, file: File) -> Values:
    """An environment, and whether it has its tasks or takes them from data."""
    found = _environment(value, file.choices(row.name))
    if found is None:
        raise Refused(f"`{value}` is not shipped: a class of yours is `environment: {{type: own}}`")
    if isinstance(found, str) and found.startswith("!"):
        raise Refused(found[1:])
    return {row.to: found} if isinstance(found, str) else {**found}


@converter
def files_of_tasks(value: Any, row: Row, file: File, name: str) -> Values:
    """A file of tasks, of environments that have none."""
    if _has_tasks(file, name):
        raise Needless("the environment has its tasks: the file only gives their number")
    return path(value, row, file)


@converter
def number_of_tasks(value: Any, row: Row, file: File, name: str) -> Values:
    """How many tasks an evaluation has, of environments that have their tasks."""
    if not _has_tasks(file, name):
        raise Needless("all rows of the held-out file are answered")
    return {row.to: positive(value)}


@converter
def epochs_of_tasks(value: Any, row: Row, file: File, name: str) -> Values:
    """A number of epochs, which are single steps where the data is as long as a batch."""
    return {row.to if _has_tasks(file, name) else "budget.epochs": same(value)}


@converter
def task_seed(value: Any, row: Row, file: File, name: str) -> Values:
    """The seed of an environment's tasks."""
    if not _has_tasks(file, name):
        raise Needless("tasks are drawn with the recipe's `seed`")
    return {row.to: same(value)}


@converter
def plus(value: Any, row: Row, file: File, other: str) -> Values:
    """A sum of two names."""
    return {row.to: number(value) + number(file.get(other) or 0)}


@of_value
def earlier_turns(value: Any) -> Any:
    """A number of turns, the present one among them."""
    return max(0, whole(value) - 1)


@converter
def needless(value: Any, row: Row, file: File, *why: str) -> Values:
    """What need not be written in this trainer."""
    raise Needless(" ".join(why))


@converter
def step_discount(value: Any, row: Row, file: File, estimator: str) -> Values:
    """A discount factor of the steps of an episode, where steps have advantages of their own."""
    if str(file.get(estimator)) != "gigpo":
        raise Needless(f"`{file.get(estimator)}` does not read it: an episode has one score")
    return {row.to: same(value)}


@converter
def similarity(value: Any, row: Row, file: File, estimator: str) -> Values:
    """Whether similar states are one group."""
    if str(file.get(estimator)) != "gigpo":
        raise Needless("states are not grouped")
    return {row.to: "similarity" if on(value) else "exact"}


@converter
def retriever(value: Any, row: Row, file: File, name: str) -> Values:
    """A setting of the retriever, of environments that search."""
    ours = _environment(file.get(name), file.choices(name))
    if ours is None or isinstance(ours, Mapping):
        raise Needless("the environment does not search")
    found: Values = {row.to: same(value)}
    service = row.to.split(".")[2]
    if row.to.startswith("machine."):
        found |= {"environment.retriever.type": "http", "environment.retriever.service": service}
    return found
