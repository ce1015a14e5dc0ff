"""All checks by family, and the warnings that a stage allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from types import ModuleType

from recipec.checks import (
    advantage,
    advantage_levels,
    allow,
    attention,
    budgets,
    critic,
    devices,
    distillation,
    episodes,
    evaluation,
    images,
    knowledge,
    loss,
    machine,
    optimizer,
    places,
    preference,
    prompts,
    reward_models,
    reward_normalisation,
    sampling,
    signal_references,
    signed_advantage,
    stages,
    staleness,
    trust,
    user_code,
    wiring,
)
from recipec.diagnostics.model import Diagnostic, checks_of, dotted
from recipec.reading.field_descriptions import keys_of
from recipec.reading.partial import Reading
from recipec.spec.recipe import Evaluation, Stage

Family = tuple[ModuleType, ...]
"""Modules of checks; every function with ``@check`` in them is run."""

WIRING: Family = (signal_references, wiring, images)
STAGES: Family = (
    stages,
    reward_models,
    critic,
    distillation,
    budgets,
    evaluation,
    knowledge,
    allow,
    preference,
)
NUMERICS: Family = (
    advantage,
    signed_advantage,
    advantage_levels,
    reward_normalisation,
    episodes,
    prompts,
    sampling,
    loss,
    optimizer,
)
MACHINE: Family = (machine, devices, staleness, attention)
TRUST: Family = (trust, places, user_code)


def planned(reading: Reading) -> Family:
    """Return the checks by the plan, which is made of a whole recipe that names an accelerator."""
    if reading.recipe is None or reading.recipe.machine.accelerator is None:
        return ()
    from recipec.checks import memory  # noqa: PLC0415 - importing what plans takes longer than most checks

    return (memory,)


def found_by(modules: Iterable[ModuleType], reading: Reading) -> Iterator[Diagnostic]:
    """Run every check of some modules."""
    return (diagnostic for module in modules for one in checks_of(module) for diagnostic in one(reading))


def check_all(reading: Reading) -> list[Diagnostic]:
    """Run every check over what could be read; a fragment is only checked against itself.

    Warnings that a stage allows are left out, and entries of `allow` without effect are reported.
    If the text could not be read to its end, nothing is reported that the rest could change;
    nothing is reported of a value with a reference that cannot be resolved.
    """
    resolved = reading.resolved
    families = (WIRING, STAGES, NUMERICS, MACHINE, TRUST) if resolved.complete else (NUMERICS, TRUST)
    unknown = {dotted(path) for path in resolved.unknown}
    found = [d for d in found_by(chain(*families), reading) if d.path not in unknown]
    if resolved.complete and not any(d.is_error for d in (*resolved.diagnostics, *reading.diagnostics, *found)):
        found += found_by(planned(reading), reading)
    used: set[tuple[str, str]] = set()
    kept = []
    found = [diagnostic for diagnostic in found if not follows(reading, diagnostic)]
    for diagnostic in found:
        stage = allowing(reading, diagnostic)
        if stage is None:
            kept.append(diagnostic)
        else:
            used.add((stage, diagnostic.code))
    if (
        resolved.complete
        and not reading.fragment
        and not any(diagnostic.is_error for diagnostic in reading.diagnostics)
    ):
        kept += allow.unused_allow(reading, used)
    return kept


FOLLOWING: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("RC303", "RC304", "RC305"), ("policy", "adapter", "from")),
    "RC325": ("reward", "kind", "environment"),
    "RC330": ("reward", "environment", "use"),
    "RC331": ("reward", "environment", "use"),
}
"""Codes of what is missing, or has no effect, and the keys of a stage or an evaluation that it depends on."""


def follows(reading: Reading, diagnostic: Diagnostic) -> bool:
    """Whether a diagnostic may only follow from a key that could not be read, which has its own.

    Such keys are those of ``FOLLOWING`` and unknown ones, in any stage or evaluation.
    """
    keys = FOLLOWING.get(diagnostic.code)
    if keys is None:
        return False
    wrong = [one for one in (*reading.resolved.diagnostics, *reading.diagnostics) if one.is_error]
    known = {*keys_of(Stage), *keys_of(Evaluation)}
    named = [key for one in wrong for key in one.path.split(".")[2:3] if one.path.startswith(("stages.", "evaluate."))]
    return any(key in keys or key not in known for key in named)


def allowing(reading: Reading, diagnostic: Diagnostic) -> str | None:
    """Return the stage that allows a warning of its own; None if it is not allowed."""
    if diagnostic.is_error:
        return None
    for stage in reading.stages.values():
        inside = ".".join(str(step) for step in stage.path)
        if stage.allow.get(diagnostic.code) and (not inside or f"{diagnostic.path}.".startswith(f"{inside}.")):
            return stage.name
    return None
