"""What the rollout engine of a recipe cannot draw: RC842, RC844; see ``devices`` for policies that it cannot read."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import adapter_of, dotted, related_span, span_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.partial import Reading
from recipec.spec.rollout_engine import RolloutEngine


@check("RC844", "adapter-with-servers")
def adapter_with_servers(reading: Reading) -> Iterator[Finding]:
    """A policy with an adapter is sampled from by rollout servers.

    What it checks: `policy.lora` with `machine.rollout.servers`.
    Why it matters: servers are handed whole weights; adapters are handed over within one process only.
    Example: `policy: {lora: {r: 8}}` with `machine: {rollout: {type: vllm, servers: 2}}`.
    How to fix: leave `servers` out.
    """
    engine = reading.machine.get("rollout")
    if engine is None or not isinstance(engine.spec, RolloutEngine) or not engine.spec.apart():
        return
    for stage in reading.stages.values():
        if adapter_of(stage) is not None:
            path = (*stage.of("policy")[0].path, "lora")
            yield Finding(
                f"stage `{stage.name}` trains an adapter, and the rollout engine runs in servers",
                (*span_of(reading, path, key=True), *related_span(reading, (*engine.path, "servers"), "the servers")),
                path=dotted(path),
            )


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
        found = getattr(spec, "temperature", 0.0)
        if 0.0 < found < least:
            yield Finding(
                f"the temperature is {found:g}, but the engine `{engine.name}` samples at {least:g} or more",
                (*span_of(reading, path), *related_span(reading, engine.path, "the engine", key=True)),
                help=f"set `temperature: 0`, or {least:g} or more",
                path=dotted(path),
            )
