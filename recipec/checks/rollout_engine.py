"""What the rollout engine of a recipe cannot draw: RC842; see ``devices`` for policies that it cannot read."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import at_path, related_span
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading
from recipec.spec.rollout_engine import RolloutEngine


@check("RC842", "temperature-below-engine")
def temperature_below_engine(reading: Reading) -> Iterator[Finding]:
    """A sampling temperature is above 0, but below the smallest that the rollout engine takes.

    What it checks: `temperature` of samplers and evaluations; the smallest of vLLM is 0.01.
    Why it matters: the engine would silently sample at another temperature than the log-probabilities are of.
    Example: `sampler: {temperature: 0.001}` with `machine: {rollout: {type: vllm}}`.
    How to fix: set `temperature: 0` for the likeliest tokens, or a higher one.
    """
    engine = reading.machine.get("rollout")
    if engine is None or not isinstance(engine.spec, RolloutEngine):
        return
    least = engine.spec.min_temperature
    places: list[tuple[tuple[str | int, ...], object]] = []
    places += [((*part.path, "temperature"), part.spec) for s in reading.stages.values() for part in s.of("sampler")]
    places += [(("evaluate", name, "sampler", "temperature"), e.sampler) for name, e in reading.evaluate.items()]
    for path, spec in places:
        temperature = getattr(spec, "temperature", 0.0)
        if 0.0 < temperature < least:
            yield at_path(reading, path).finding(
                f"the temperature is {temperature:g}, but the engine `{engine.name}` samples at {least:g} or more",
                *related_span(reading, engine.path, "the engine", key=True),
                remedy=f"set `temperature: 0`, or {least:g} or more",
            )
