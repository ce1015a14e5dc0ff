"""A plan as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recipec.planning.cost import amount
from recipec.planning.hours import Schedule, clock
from recipec.planning.memory import Holding, peak
from recipec.planning.plan import LeftOut, Plan, StagePlan
from recipec.planning.sharing import describe_measured, describe_sharing

_PARTS = {"update": "in an update", "step": "at the optimizer's step", "sample": "while sampling"}
"""Parts of a step that hold memory of their own."""


def render_plan(plan: Plan) -> str:
    """Write a plan for people."""
    lines = [f"plan of {plan.name}"]
    for stage in plan.stages:
        verb = {"run": "runs", "continue": "continues", "skip": "is skipped"}[stage.action]
        lines += ["", f"stage {stage.name} ({stage.kind}, from: {stage.origin}) {verb}: {stage.reason}"]
        lines.append(f"  model     {stage.model}")
        lines.append(f"  steps     {'unknown' if stage.steps is None else f'{stage.steps:,}'}")
        if stage.facts:
            lines.append(f"  knowledge {stage.facts}")
        if stage.pace:
            lines.append(f"  time      {clock(stage.seconds) if stage.seconds else 'unknown'} on {stage.pace}")
        lines += [f"  chosen    {one.key}: {one.value}, {one.reason}" for one in stage.chosen]
        lines += [f"  assuming  {line}" for line in stage.assumes]
        lines += _table(stage)
        lines += describe_sharing(stage.sharing) if stage.sharing else ()
        lines += describe_measured(stage.measured) if stage.measured else ()
        lines += [line for removal in stage.removed for line in _left_out(removal)]
        lines += [f"  unknown   {what}" for what in stage.unknown]
    return "\n".join(lines) + "\n"


def _left_out(removal: LeftOut) -> Iterator[str]:
    yield f"  skipped   {removal.what}: {removal.why}"
    counted = f" ({amount(removal.flops, 'FLOP')} per step)" if removal.flops else ""
    yield f"            saves {removal.saves}{counted}"


def _table(stage: StagePlan) -> Iterator[str]:
    if stage.phases:
        yield f"  {'per step, at most':<18}{'tokens':>12}{'operations':>14}{'read':>12}{_time('time', stage)}"
    for phase in stage.phases:
        tokens = "unknown" if phase.tokens is None else f"{phase.tokens:,}"
        cells = f"{tokens:>12}{amount(phase.flops, 'FLOP'):>14}{amount(phase.bytes, 'B'):>12}"
        waits = f"; devices wait {phase.idle:.0%} of it" if phase.idle else ""
        note = f"{phase.assumes}{waits}".removeprefix("; ")
        yield f"    {phase.name:<16}{cells}{_time(phase.seconds, stage)}   {note}".rstrip()
    if stage.exchanges:
        total = sum(one.seconds or 0.0 for one in stage.exchanges)
        yield f"  {'exchanges':<18}{'':>26}{'received':>12}{_time(total, stage)}"
    for one in stage.exchanges:
        yield f"    {one.name:<16}{'':>26}{amount(one.bytes, 'B'):>12}{_time(one.seconds, stage)}   {one.assumes}"
    if stage.schedule is not None:
        yield f"  schedule  {_scheduled(stage.schedule)}"
    yield from _held("on each device" if stage.devices > 1 else "in memory", stage.memory, *_fit(stage))
    yield from _held("on each server", stage.server)
    yield from _held("in host memory", stage.host)
    yield from _held("on disk", stage.disk)


def _scheduled(schedule: Schedule) -> str:
    """Say how long a step lasts and who waits, and what sampling ahead would change."""
    servers, devices = (f"{share:.0%}" for share in schedule.waits)
    order = f"sampled {schedule.ahead} ahead" if schedule.ahead else "servers and training take turns"
    other = Schedule(schedule.sampling, schedule.rest, 0 if schedule.ahead else 1)
    instead = f"{clock(other.step)} {'in turns' if schedule.ahead else 'with `sampler.max_staleness: 1`'}"
    return f"{clock(schedule.step)} a step, {order}: servers wait {servers}, training waits {devices}; {instead}"


def _time(seconds: float | str | None, stage: StagePlan) -> str:
    """Write a cell of the column of times, where there is one."""
    if not stage.pace:
        return ""
    return f"{seconds if isinstance(seconds, str) else 'unknown' if seconds is None else clock(seconds):>10}"


def _fit(stage: StagePlan) -> tuple[float, str]:
    """Return the most bytes that a device holds at once, and what that means where its memory is known."""
    most, when = peak(stage.memory)
    apart = any(one.when != "always" for one in stage.memory) and any(one.when == "sample" for one in stage.memory)
    note = f" {_PARTS[when]}" if apart and when in _PARTS else ""
    if stage.room:
        note += f", of {amount(stage.room, 'B')}" + (": does not fit" if most > stage.room else "")
    return most, note


def _held(title: str, holdings: Sequence[Holding], most: float | None = None, note: str = "") -> Iterator[str]:
    if holdings:
        total = sum(one.bytes or 0 for one in holdings) if most is None else most
        more = " plus unknown parts" if any(one.bytes is None for one in holdings) else ""
        yield f"  {title:<18}{amount(total, 'B'):>12}{more}{note}"
    for one in holdings:
        when = f"{_PARTS[one.when]}; " if one.when in _PARTS else ""
        yield f"    {one.name:<16}{amount(one.bytes, 'B'):>12}   {when}{one.assumes}".rstrip()
