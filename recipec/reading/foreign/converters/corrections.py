"""Corrections of the mismatch of sampling and training, and clip ranges by the loss that has them."""

from __future__ import annotations

from typing import Any

from recipec.reading.foreign.converters.plain import positive, same, truth
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    converter,
    items_of,
    number,
    number_or_zero,
    on,
)
from recipec.reading.foreign.tables import Row

_HOW = "loss.sampler_correction"
_LEVELS = {
    "token": "token",
    "token_k1": "token",
    "sequence": "sequence",
    "seq_sum_k1": "sequence",
    "product": "sequence",
    "geometric": "geometric",
    "seq_mean_k1": "geometric",
}
"""Levels at which a ratio is bounded; other divergences than its logarithm are not offered."""
_ADDED = "loss.sampler_rejection.level"
"""A filter of rows or tokens next to weights."""
_UNBOUNDED = 1e6
"""A weight that no token has."""
_UNCLIPPED = {"sapo", "gpg", "kl_cov", "rollout_correction", "bypass_mode"}


def _bounds(value: Any) -> list[int | float]:
    """Return an upper bound, or a lower and an upper one that are written as ``0.5_2.0``."""
    return [number(part) for part in str(value).strip("'\"").split("_")] if isinstance(value, str) else [number(value)]


@converter
def importance(value: Any, row: Row, file: File, threshold: str, bypass: str) -> Values:
    """The level of importance weights, which are cut, or dropped where there are two bounds."""
    if on(file.get(bypass)):
        raise Needless(f"`{bypass}`: the ratio itself is to the probabilities of the sampler")
    how = "mask" if len(_bounds(file.get(threshold) or 2.0)) == 2 else "truncate"
    return {_HOW: how, **({} if _level(value) == "token" else {row.to: _level(value)})}


def _level(value: Any) -> str:
    if not on(value):
        raise Needless("it is off")
    level = _LEVELS.get(str(value).strip("'\""))
    if level is None:
        raise Refused(f"`{value}` is not offered: a ratio is bounded of each token, of a row, or in its geometric mean")
    return level


@converter
def importance_bounds(value: Any, row: Row, file: File, switch: str, bypass: str) -> Values:
    """The bounds of importance weights."""
    if not on(file.get(switch)) or on(file.get(bypass)):
        raise Needless(f"`{switch}` is off" if not on(file.get(switch)) else f"`{bypass}` is on")
    *floor, cap = _bounds(value)
    return {row.to: cap, **({f"{_HOW}_floor": floor[0]} if floor else {})}


@converter
def normalised(value: Any, row: Row, file: File, switch: str, bypass: str) -> Values:
    """Whether importance weights are divided by their mean."""
    if not on(file.get(switch)) or on(file.get(bypass)):
        raise Needless(f"`{switch}` is off" if not on(file.get(switch)) else f"`{bypass}` is on")
    return {row.to: truth(value)}


@converter
def rejection(value: Any, row: Row, file: File, other: str, bypass: str = "") -> Values:
    """The level at which rows or tokens are left out."""
    if not on(value):
        raise Needless("it is off")
    if bypass and on(file.get(bypass)):
        raise Refused(f"under `{bypass}` the filter compares the newest policy, which is not offered")
    return {_ADDED: _level(value)} if on(file.get(other)) else {_HOW: "reject", row.to: _level(value)}


@converter
def rejection_bounds(
    value: Any, row: Row, file: File, switch: str, other: str, lower: str = "", bypass: str = ""
) -> Values:
    """The bounds outside of which rows or tokens are left out; the lower one is 1 / upper unless it is given."""
    rejection(file.get(switch), row, file, other, bypass)
    *floor, cap = _bounds(value)
    least = file.get(lower) if lower else None
    lowest = floor[0] if floor else number(least) if least is not None else float(f"{1 / cap:.6g}")
    if on(file.get(other)):
        return {"loss.sampler_rejection.cap": cap, "loss.sampler_rejection.floor": lowest}
    return {row.to: cap, f"{_HOW}_floor": lowest}


@converter
def rejection_when(value: Any, row: Row, file: File, switch: str, expected: str, other: str) -> Values:
    """A bound of rows that has an effect with one filter alone."""
    if str(file.get(switch)) != expected:
        raise Needless(f"`{switch}` is not `{expected}`")
    rejection(expected, row, file, other)
    side = row.to.rpartition("_")[2]
    return {f"loss.sampler_rejection.{side}" if on(file.get(other)) else row.to: same(value)}


@converter
def clip_of_loss(value: Any, row: Row, file: File, side: str, mode: str, lower: str = "") -> Values:
    """A clip range: of the ratio, or of the weights of CISPO."""
    loss = str(file.get(mode) or "")
    if lower and file.get(lower) is not None:
        raise Needless(f"`{lower}` decides")
    if loss in _UNCLIPPED:
        raise Needless(f"`{loss}` does not clip")
    if loss != "cispo":
        return {row.to: same(value)}
    low, high = (
        {"loss.ratio_min": max(0.0, round(1 - number(value), 12))},
        {"loss.ratio_max": round(1 + number(value), 12)},
    )
    return {"low": low, "high": high}.get(side, {**low, **high})


@converter
def evaluated(value: Any, row: Row, file: File, files: str, switch: str) -> Values:
    """A sampling parameter of an evaluation, unless it is greedy."""
    if not on(file.get(files)):
        raise Needless(f"`{files}` is off")
    if file.get(switch) is not None and not on(file.get(switch)):
        raise Needless(f"`{switch}` is off: the evaluation is greedy")
    return {row.to: same(value)}


@converter
def evaluated_positive(value: Any, row: Row, file: File, files: str, switch: str) -> Values:
    """As ``evaluated``, off at 0 and -1."""
    positive(value)
    return evaluated(value, row, file, files, switch)


@converter
def manager(value: Any, row: Row, file: File) -> Values:
    """What calls the reward function: the usual ones give every row its own score."""
    if str(value) in {"naive", "dapo", "prime", "batch"} or not value:
        raise Needless("rows are scored one by one, and long ones are penalised by a level of their own")
    raise Refused(row.note)


@converter
def refuse_unless(value: Any, row: Row, file: File, *usual: str) -> Values:
    """What cannot be written, unless it has a usual value or is empty."""
    if not on(value) or number_or_zero(value) < 0 or all(str(item) in usual for item in items_of(value)):
        raise Needless("it is off" if not on(value) else "it is what happens here, too")
    raise Refused(row.note)


@converter
def tis(value: Any, row: Row, file: File, how: str = "truncate") -> Values:
    """A cap of importance weights, which switches their truncation or their mask on."""
    return {row.to: positive(value), _HOW: how}


@converter
def threshold(value: Any, row: Row, file: File, kind: str, filtered: str) -> Values:
    """One bound, or a lower and an upper one: of weights, or of a filter, next to which weights have none."""
    items = value.split() if isinstance(value, str) else items_of(value)
    if str(file.get(kind)) == filtered:
        low, high = map(number, items)
        return {"loss.sampler_rejection.floor": low, "loss.sampler_rejection.cap": high, row.to: _UNBOUNDED}
    found: Values = {row.to: number(items[-1])}
    return found if len(items) == 1 else {"loss.sampler_correction_floor": number(items[0]), **found}


@converter
def weights_between(value: Any, row: Row, file: File, lower: str, upper: str, sequence: str) -> Values:
    """The bounds of importance weights, each with a name of its own; 0 sets none."""
    floor, cap = number_or_zero(file.get(lower)), number_or_zero(file.get(upper))
    if not floor and not cap:
        raise Needless("weights have no bounds")
    level = {f"{_HOW}_level": "geometric"} if on(file.get(sequence)) else {}
    low = {f"{_HOW}_floor": floor} if floor else {}
    return {_HOW: "clip" if floor else "truncate", row.to: cap or _UNBOUNDED, **low, **level}


@converter
def kept_between(value: Any, row: Row, file: File, lower: str, upper: str, sequence: str, divergence: str) -> Values:
    """The bounds of ratios outside of which tokens or rows are left out, each with a name of its own; 0 sets none."""
    floor, cap = number_or_zero(file.get(lower)), number_or_zero(file.get(upper))
    if not floor and not cap:
        raise Needless("nothing is left out")
    if on(file.get(divergence)):
        raise Refused(f"`{divergence}`: rows are left out by their ratios, not by the total variation")
    level = "geometric" if on(file.get(sequence)) else "token"
    return {_ADDED: level, row.to: cap or _UNBOUNDED, "loss.sampler_rejection.floor": floor}
