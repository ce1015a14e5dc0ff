"""What judges a model's text by evaluating it: run only in the children of ``worker_pool``, without torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from recipec.diagnostics.phrases import nearest


def gym(argument: dict[str, Any]) -> Callable[[Any], Any]:
    """Make the reasoning-gym tasks of ``{task, size, seed, options}``; answer ``null`` with all of them.

    A request ``[index, answer]`` is answered with the task's own score.  Several verifiers of the package evaluate
    the answer, which is why they run here.

    Raises:
        LookupError: no such task; the text is the name that comes nearest, or empty.
        ValueError: the task refuses its options.
    """
    import reasoning_gym  # noqa: PLC0415 - 1.2 s, and only in the child
    from reasoning_gym.composite import DatasetSpec  # noqa: PLC0415
    from reasoning_gym.factory import DATASETS  # noqa: PLC0415

    name = argument["task"]
    if name not in DATASETS:
        raise LookupError(next(iter(nearest(name, DATASETS)), ""))
    try:
        # the package draws item i from seed + i: neighbouring seeds would share all but one of their tasks
        seed = argument["seed"] << 32
        options = argument["options"]
        if name == "composite":  # takes objects
            options = options | {"datasets": [DatasetSpec(**one) for one in options["datasets"]]}
        tasks = reasoning_gym.create_dataset(name, size=argument["size"], seed=seed, **options)
    except (TypeError, AssertionError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    entries: dict[int, Any] = {}

    def entry(index: int) -> Any:
        if index not in entries:
            entries[index] = tasks[index]
        return entries[index]

    def answer(request: Any) -> Any:
        if request is None:
            rows = [entry(i) for i in range(argument["size"])]
            return [{k: _plain(row[k]) for k in ("question", "answer", "metadata")} for row in rows]
        index, text = request
        return float(tasks.score_answer(answer=text, entry=entry(index)))

    return answer


def _plain(value: Any) -> Any:
    """Return a value as JSON keeps it, whatever a task put into its metadata."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def mathematics(argument: Any) -> Callable[[Any], Any]:  # noqa: ARG001 - every handler takes one
    """Compare two mathematical texts: a request is ``[gold, answer]``.

    Its answer is a bool, or None for a gold that is not mathematics as a whole.

    Math-Verify's own alarms are off: they only work in a main thread and fail silently elsewhere.
    """
    from recipec.runtime.reward import math_text  # noqa: PLC0415 - sympy takes a second, and only in the child

    warnings.simplefilter("ignore")
    golds: dict[str, math_text.Reading | None] = {}

    def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - text that no parser reads is not mathematics, whatever the parser raises
            return None

    def answer(request: Any) -> Any:
        right, text = request
        if right not in golds:
            golds[right] = attempt(math_text.read, right)
        gold = golds[right]
        if gold is None:
            return None
        reading = attempt(math_text.read_answer, text)
        return reading is not None and bool(attempt(math_text.equal, gold, reading))

    answer(["1", "$1$"])  # the grammar is built on first use, which must not count against the first answer
    return answer


def json_schema(argument: Any) -> Callable[[Any], Any]:  # noqa: ARG001 - every handler takes one
    """Check JSON: a request is ``[schema, text]``, both as text.

    Its answer is a bool, or the problem of a schema that is not valid, as text.
    """
    import json  # noqa: PLC0415

    from jsonschema import exceptions, validators  # noqa: PLC0415 - only this reward needs it
    from referencing import Registry, exceptions as references  # noqa: PLC0415

    known: dict[str, Any] = {}

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    def prepare(text: str) -> Any:
        """Return the validator of a schema, or what is wrong with it."""
        try:
            schema = json.loads(text)
            kind = validators.validator_for(schema, default=validators.Draft202012Validator)
            kind.check_schema(schema)
        except exceptions.SchemaError as error:
            return str(error.message)[:200]
        except (ValueError, TypeError, RecursionError) as error:
            return (str(error) or type(error).__name__)[:200]
        return kind(schema, registry=Registry())  # which fetches nothing

    def answer(request: Any) -> Any:
        schema, text = request
        if schema not in known:
            known[schema] = prepare(schema)
        if isinstance(known[schema], str):
            return known[schema]
        try:
            return bool(known[schema].is_valid(json.loads(text, parse_constant=refuse)))
        except references.Unresolvable as error:
            return f"it refers to {error.ref!r}, which it does not define"[:200]
        except (ValueError, RecursionError):
            return False

    answer(['{"type": "object"}', "{}"])  # the first check imports more, which may not happen later
    return answer
