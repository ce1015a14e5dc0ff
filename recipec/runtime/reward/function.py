"""Rewards from functions of the user's own files, with TRL's or verl's signature."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import Diagnostic, RecipeError, Span
from recipec.diagnostics.phrases import did_you_mean, listed
from recipec.reading.user_code import GIVEN, Signature
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Part
from recipec.runtime.user_code import TooLongError, blamed, calling, definition_of, shown_name, text_of
from recipec.spec import reward as specs

T = TypeVar("T")
_SHORT = 40
"""Characters of a returned value, or of an answer, that a message shows."""
_TRIED = 64
"""Rows that are given to a function alone, to find the one that it raises for."""
_PATIENCE = 5.0
"""Seconds after which no further row is tried."""
_OF_TRL = frozenset({"trainer_state", "log_extra", "log_metric", "environments", "trainer"})
"""Parameters of reward functions that are objects of TRL's trainer."""
_ANSWERS = ("answer", "ground_truth", "solution", "label", "target", "reference", "final_answer")
"""Columns that usually hold the right answer."""
Call = tuple[str, dict[str, Any]]
"""An answer, and the arguments for it alone."""


class Function(Part):
    """Call a function of the user's own file; see :class:`recipec.spec.reward.Function`.

    None says that the function does not apply to a row: NaN here, which adds nothing to the total.
    """

    def __init__(self, spec: specs.Function, context: StageContext) -> None:
        if spec.name not in context.functions:
            raise RecipeError(errors.unknown_function(spec.name, context.functions))
        self.spec = spec
        self.root = context.root
        self.function = context.functions[spec.name]
        self.file, _ = definition_of(self.function)
        self.chat = False
        """Whether completions are lists of messages, as those of chat prompts are."""
        self.signature = _signature(spec.name, self.function, self._shown())
        if self.signature.form is None:
            problem = "takes neither `completions` nor `solution_str`"
            raise RecipeError(errors.function_signature(spec.name, problem, spans=self.span()))

    def __call__(
        self,
        prompt_P: Sequence[Task],
        by_prompt_R: Tensor,
        text_R: Sequence[str],
        tokens_RT: Tensor,
        trained_RT: Tensor,
    ) -> dict[str, Tensor]:
        """Score a batch.

        Raises:
            RecipeError: RC746 the function raised, RC747 it returned no list of numbers or took too
                long, RC748 it asks for a column that the data does not have.
        """
        tasks = [prompt_P[p] for p in by_prompt_R.tolist()]
        self._check_columns({name for task in tasks for name in task.columns})
        if self.signature.form == "verl":
            calls = [(text, self._of_verl(task, text)) for task, text in zip(tasks, text_R, strict=True)]
            scores = [self._verl(row, calls) for row in range(len(calls))]
        else:
            ids = [tokens[mask].tolist() for tokens, mask in zip(tokens_RT, trained_RT, strict=True)]
            scores = self._trl(tasks, text_R, ids)
        return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

    def _trl(self, tasks: Sequence[Task], texts: Sequence[str], ids: list[list[int]]) -> list[float]:
        chats = [not isinstance(task.prompt, str) for task in tasks]
        self.chat = any(chats)
        arguments: dict[str, Any] = {name: _column(tasks, name) for name in self._wanted(tasks)}
        arguments |= {
            "prompts": [copy.deepcopy(t.prompt) for t in tasks],
            "completions": [
                [{"role": "assistant", "content": text}] if chat else text
                for text, chat in zip(texts, chats, strict=True)
            ],
            "completion_ids": ids,
        }

        def scores(returned: Any) -> list[float]:
            returned = returned.tolist() if hasattr(returned, "tolist") else returned
            if not isinstance(returned, list | tuple):
                remedy = f"return a list with one number for each completion, here {len(tasks)}"
                remedy = f"it ends without `return`: {remedy}" if returned is None else remedy
                raise RecipeError(
                    self._refused(f"returned {_kind(returned)}, a list is needed", _sync(returned) or remedy)
                )
            if len(returned) != len(tasks):
                remedy = "return one number for each completion, in their order; None where it does not apply"
                if isinstance(returned, tuple) and isinstance(returned[0] if returned else None, list):
                    remedy = "it is a tuple with a list in it: return that list alone"
                raise RecipeError(self._refused(f"returned {len(returned)} values for {len(tasks)} rows", remedy))
            return [self._number(row, value, texts[row]) for row, value in enumerate(returned)]

        arguments = {k: v for k, v in arguments.items() if self._takes(k)}
        alone = ((text, {k: v[row : row + 1] for k, v in arguments.items()}) for row, text in enumerate(texts))
        return self._call(arguments, scores, alone)

    def _of_verl(self, task: Task, text: str) -> dict[str, Any]:
        """Return the arguments of a function of verl's form for an answer."""
        columns = task.columns
        model = columns.get("reward_model")
        truth = model.get("ground_truth") if isinstance(model, Mapping) else None
        arguments = {
            **columns,
            "data_source": columns.get("data_source"),
            "solution_str": text,
            "ground_truth": columns.get("ground_truth", columns.get("answer")) if truth is None else truth,
            "extra_info": columns.get("extra_info", dict(columns)),
        }
        return {k: v for k, v in arguments.items() if self._takes(k)}

    def _verl(self, row: int, calls: Sequence[Call]) -> float:
        text, arguments = calls[row]

        def score(result: Any) -> float:
            if isinstance(result, Mapping):
                if "score" not in result:
                    remedy = 'return a number, or a mapping with the number under "score"'
                    raise RecipeError(self._refused(f"returned no `score` for row {row}", remedy))
                result = result["score"]
            return self._number(row, result, text)

        return self._call(arguments, score, calls, row)

    def _call(
        self, arguments: dict[str, Any], read: Callable[[Any], T], calls: Iterable[Call], row: int | None = None
    ) -> T:
        """Call the function with copies of its arguments, and ``read`` what it returns, which may be any object.

        ``calls`` are the answers of the batch with the arguments for each alone.
        """
        try:
            with calling(f"reward function `{self.spec.name}`", self.spec.timeout):
                return read(self.function(**copy.deepcopy(arguments)))
        except RecipeError:
            raise
        except TooLongError:
            problem = f"took longer than `timeout`, {self.spec.timeout:g} s"
            remedy = "let it end sooner, or raise the `timeout` of this level"
            raise RecipeError(self._refused(problem, remedy)) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is reported
            line = blamed(error, self.file)
            name, text = type(error).__name__, text_of(error)
            raising, always = self._raising(calls)
            answer = "" if always or raising is None else _short(raising)
            columns = [column for column in arguments if column not in GIVEN[self.signature.form or "trl"]]
            absent = [one for one in ("data_source",) if one in arguments and arguments[one] is None]
            place = self._shown(), line, row
            diagnostic = errors.function_raised(
                self.spec.name, name, text, *place, answer, self.chat, columns, always=always, absent=absent
            )
            raise RecipeError(diagnostic) from None

    def _raising(self, calls: Iterable[Call]) -> tuple[str | None, bool]:
        """Return the first answer for which the function raises when it is alone, and whether it does for all."""
        raising, tried, begun = [], 0, time.monotonic()
        for text, arguments in islice(calls, _TRIED):
            tried += 1
            try:
                with calling(f"reward function `{self.spec.name}`", _PATIENCE):
                    self.function(**copy.deepcopy(arguments))
            except TooLongError:
                break
            except (Exception, SystemExit):  # noqa: BLE001 - as above
                raising.append(text)
            if time.monotonic() - begun > _PATIENCE:
                break
        return raising[0] if raising else None, 1 < tried == len(raising)

    def _number(self, row: int, value: Any, text: str) -> float:
        if value is None:
            return math.nan
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()
        if not isinstance(value, int | float):
            raise RecipeError(
                self._refused(
                    f"returned {_kind(value)} for row {row}, the answer {_short(text)}",
                    _sync(value) or _number_of(value),
                )
            )
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            remedy = "return a finite number, such as 0.0, where there is nothing to divide by"
            raise RecipeError(self._refused(f"returned {number} for row {row}, the answer {_short(text)}", remedy))
        return number

    def _refused(self, problem: str, remedy: str = "") -> Diagnostic:
        return errors.function_result(self.spec.name, problem, self.span(), remedy)

    def _takes(self, name: str) -> bool:
        known = self.signature.extra and (self.signature.form == "trl" or name in GIVEN["verl"])
        return known or name in self.signature.required or name in self.signature.optional

    def _wanted(self, tasks: Sequence[Task]) -> list[str]:
        names = dict.fromkeys(name for task in tasks for name in task.columns)
        return [name for name in names if name not in {"prompt", "completion"} or not self.signature.extra]

    def _check_columns(self, have: set[str]) -> None:
        for name in self.signature.columns():
            if name not in have:
                problem = f"asks for the column `{name}`, which the data does not have"
                if name == "self":
                    remedy = "it is a method: write a function without `self`, at the top level of the file"
                    raise RecipeError(errors.function_signature(self.spec.name, problem, remedy, self.span()))
                remedy = _column_for(name, have)
                raise RecipeError(errors.function_signature(self.spec.name, problem, remedy, self.span()))
        truth = {"ground_truth", "answer", "reward_model"}
        if "ground_truth" in self.signature.required and not truth & have:
            problem = "asks for `ground_truth`, and the data has neither that column nor `answer` nor `reward_model`"
            raise RecipeError(errors.function_signature(self.spec.name, problem, spans=self.span()))

    def _shown(self) -> str:
        """Name the user's file as the user would."""
        return shown_name(Path(self.file), self.root)

    def span(self) -> tuple[Span, ...]:
        """Return the place of the function in the user's file."""
        line = self.signature.line
        return (Span(self._shown(), line, 1, line, 2),) if line else ()


def _column_for(name: str, have: Collection[str]) -> str:
    """Say what to do about a parameter that is not a column of the data.

    >>> _column_for("trainer_state", ["answer"])
    'TRL passes it, and nothing here does: write `trainer_state=None`'
    >>> _column_for("ground_truth", ["answer", "prompt"])
    'is it `answer`? the data has `answer`, `prompt`'
    """
    if name in _OF_TRL:
        return f"TRL passes it, and nothing here does: write `{name}=None`"
    close = did_you_mean(name, have)
    answers = [one for one in _ANSWERS if one in have] if name in _ANSWERS and not close else []
    return f"{f'is it `{answers[0]}`?' if answers else close} the data has {listed(sorted(have))}".strip()


def _short(text: str) -> str:
    """Quote the beginning of an answer."""
    return repr(text if len(text) <= _SHORT else f"{text[:_SHORT]}…")


def _column(tasks: Sequence[Task], name: str) -> list[Any]:
    return [task.columns.get(name) for task in tasks]


def _kind(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine (async functions are not called)"
    shown = f" ({value!r})" if isinstance(value, str | int | float) and len(repr(value)) <= _SHORT else ""
    return f"a value of type {type(value).__name__}{shown}"


def _sync(value: Any) -> str:
    return "write `def` in place of `async def`" if inspect.iscoroutine(value) else ""


def _number_of(value: Any) -> str:
    """Say how a value becomes a number, where it is clear."""
    if isinstance(value, str):
        return "return a number: `float(…)` makes one of a text"
    if isinstance(value, list) and len(value) == 1:
        return "return a list of numbers, not of lists: `scores.ravel().tolist()` flattens an array"
    if isinstance(value, Mapping) and "score" in value:
        return 'return the numbers: `[one["score"] for one in …]`; only `compute_score`, with one row, may return this'
    if isinstance(value, list | tuple | Mapping):
        return "return one number for each completion; levels of a reward are functions of their own"
    return ""


def _signature(name: str, function: Callable[..., Any], file: str) -> Signature:
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    return Signature(
        name,
        file,
        definition_of(function)[1],
        tuple(p.name for p in named if p.default is p.empty),
        tuple(p.name for p in named if p.default is not p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )
