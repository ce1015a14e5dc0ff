"""What this version, the machine and its engines can do: RC501 to RC509, RC529, RC842."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipec.checks.devices import shape_of
from recipec.checks.queries import (
    at_field,
    at_part,
    at_path,
    display_name,
    field_span,
    is_given,
    longest_turn,
    parts_of,
    related_span,
    spec_of,
    turns,
)
from recipec.component import components_of
from recipec.diagnostics.model import Finding, check, dotted
from recipec.diagnostics.phrases import did_you_mean
from recipec.reading.field_descriptions import field_type, keys_of
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.policy import Policy
from recipec.spec.recipe import PAIRED_KINDS
from recipec.spec.rollout_engine import RolloutEngine
from recipec.spec.sampler import Sampler
from recipec.spec.train_engine import TrainEngine


def _services(reading: Reading) -> dict[str, Any]:
    machine = reading.resolved.data.get("machine")
    services = machine.get("services") if isinstance(machine, dict) else None
    return services if isinstance(services, dict) else {}


def _everything(reading: Reading) -> Iterator[Part]:
    seen: set[str] = set()
    trial_parts = [part for trial in reading.trials.values() for part in trial.parts]
    for part in (*reading.parts, *trial_parts, *reading.machine.values(), *reading.trackers):
        if part.given and dotted(part.path) not in seen:
            seen.add(dotted(part.path))
            yield part


@check("RC501", "not-in-this-version")
def not_in_this_version(reading: Reading) -> Iterator[Finding]:
    """A component is known, but this version cannot run it.

    What it checks: every component of a stage has an implementation; for engines see RC509.
    Why it matters: its parameters and its wiring are checked, but nothing would do the work.
    Example: a component that an installed package declares before it implements it.
    How to fix: use one of the components that this version has, or a later version.
    """
    for part in _everything(reading):
        if part.cls is None or part.cls.available() or part in reading.machine.values():
            continue
        peers = [name for name, cls in components_of(part.slot).items() if cls.available()]
        yield at_part(reading, part).finding(
            f"{display_name(part)} is not in this version" + (f" (`{part.name}`)" if part.level else ""),
            remedy=f"this version has {', '.join(f'`{name}`' for name in peers)}"
            if peers
            else "wait for a later version",
        )


@check("RC509", "engine-of-a-later-version", "warning")
def later_engine(reading: Reading) -> Iterator[Finding]:
    """An engine is known, but this version cannot run it.

    What it checks: the engines under `machine` have an implementation.
    Why it matters: the recipe can be checked and planned, but `run` refuses it with RC510. Results do not depend on the
    engine.
    Example: `machine: {rollout: {type: mine}}`, where a package declares the engine `mine` and has no class for it.
    How to fix: use the engine of this version, as in `--set machine.rollout.type=hf`.
    """
    for part in reading.machine.values():
        if part.given and part.cls is not None and not part.cls.available():
            here = ", ".join(f"`{name}`" for name, cls in components_of(part.slot).items() if cls.available())
            yield at_part(reading, part).finding(
                f"engine `{part.name}` is not in this version", remedy=f"this version has {here}"
            )


@check("RC502", "too-many-devices")
def too_many_devices(reading: Reading) -> Iterator[Finding]:
    """More devices are set than the training engine uses.

    What it checks: `machine.devices` against the number that the training engine supports. `local`, `fsdp` and
    `deepspeed` support any number; an engine of an installed package may support fewer.
    Why it matters: the other devices would be idle.
    Example: `machine: {devices: 8, train: {type: mine}}`, where the engine `mine` of a package uses one device.
    How to fix: set `devices` to that number, or use `local`, `fsdp` or `deepspeed`.
    """
    engine = reading.machine.get("train")
    machine = reading.resolved.data.get("machine")
    devices = machine.get("devices") if isinstance(machine, dict) else None
    if engine is None or engine.cls is None or not issubclass(engine.cls, TrainEngine):
        return
    most = engine.cls.max_devices
    if isinstance(devices, int) and most is not None and devices > most:
        yield at_path(reading, ("machine", "devices")).finding(
            f"{devices} devices are set, but the training engine `{engine.name}` uses "
            + ("one" if most == 1 else f"{most} at most"),
            *(related_span(reading, engine.path, "the engine", key=True) if engine.given else ()),
            remedy="" if most == 1 else f"set `devices: {most}`",
        )


@check("RC503", "unknown-service")
def unknown_service(reading: Reading) -> Iterator[Finding]:
    """A component uses a service that `machine.services` does not define.

    What it checks: every `service` of a component against the services of the machine.
    Why it matters: the service has no address.
    Example: `retriever: {type: http, service: wiki}` without `machine: {services: {wiki: {url: …}}}`.
    How to fix: define the service under `machine.services`.
    """
    names = _services(reading)
    for name, path in _calls(reading):
        if name not in names and not reading.fragment:
            yield at_path(reading, path).finding(
                f"there is no service `{name}`",
                remedy=did_you_mean(name, names) or f"add `machine: {{services: {{{name}: {{url: …}}}}}}`",
            )


def _calls(reading: Reading) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    for part in (*reading.parts, *(part for trial in reading.trials.values() for part in trial.parts)):
        for inside in ((), ("retriever",)):
            holder = getattr(part.spec, inside[0], None) if inside else part.spec
            service = getattr(holder, "service", None)
            if part.given and service is not None:
                yield service, (*part.path, *inside, "service")


@check("RC504", "unused-service", "warning")
def unused_service(reading: Reading) -> Iterator[Finding]:
    """A service is defined, but no component uses it.

    What it checks: every entry of `machine.services` is called by a component.
    Why it matters: the recipe looks as if the run depended on the service.
    Example: `services: {wiki18: {url: …}}` in a recipe without a retriever.
    How to fix: drop it.
    """
    called = {name for name, _ in _calls(reading)}
    asking = {"environment", "knowledge", "reward"}
    if reading.fragment or any(part.slot in asking and part.spec is None for part in reading.parts):
        return
    for name in _services(reading):
        if name not in called:
            path = ("machine", "services", name)
            yield at_path(reading, path, key=True).finding(f"no component uses the service `{name}`")


@check("RC505", "row-over-microbatch")
def row_over_microbatch(reading: Reading) -> Iterator[Finding]:
    """The longest row does not fit into one forward pass.

    What it checks: `microbatch_tokens` against the longest prompt and completion, twice in `dpo` and
    `rm`, where a pair stays together.
    Why it matters: a row is never split: the run would stop at the first one that is too long.
    Example: `microbatch_tokens: 512` with `data: {max_length: 1024}`.
    How to fix: raise `microbatch_tokens`, or shorten prompts and completions; shorten them where the model has fewer
    positions than a row has tokens.
    """
    for stage in reading.stages.values():
        row = _longest(reading, stage)
        longest = row * (2 if stage.kind in PAIRED_KINDS else 1)
        if stage.budget is None or stage.budget.most_tokens >= longest:
            continue
        what = "a pair" if stage.kind in PAIRED_KINDS else "a row"
        yield at_path(reading, (*stage.path, "budget", "microbatch_tokens")).finding(
            f"{what} of stage `{stage.name}` may be {longest} tokens, but a forward pass takes "
            f"{stage.budget.microbatch_tokens}",
            why=f"{what} is never split: the run would stop at the first one that is too long",
            remedy=_beyond_model(reading, stage, row)
            or f"set `microbatch_tokens` to {longest} or more, or shorten prompts and completions",
        )


def _beyond_model(reading: Reading, stage: StageReading, row: int) -> str:
    """Say what to shorten where a row is longer than the model's positions; empty where it fits or they are unknown."""
    shape = shape_of(reading, stage)
    if shape is None or not 0 < shape.positions < row:
        return ""
    lengths = ("max_length", "max_completion_length", "max_turn_length", "max_context_length")
    parts = [*stage.of("data"), *stage.of("sampler")]
    given = [f"`{part.slot}.{key}`" for part in parts for key in lengths if is_given(reading, (*part.path, key))]
    return (
        f"shorten {' or '.join(given)}: the model has {shape.positions} positions, fewer than a row of {row} tokens "
        "needs; `microbatch_tokens` must then be at least the longest row"
    )


def _longest(reading: Reading, stage: StageReading) -> int:
    """Longest row that the recipe itself asks for: the default of a sampler does not mean that rows get that long.

    Nor do turns: no episode has only turns of the largest length. The context of an episode counts.
    """
    data, spec = spec_of(stage, "data"), spec_of(stage, "sampler")
    prompt = (data.max_length if data is not None else None) or 0
    sampler = next(iter(stage.of("sampler")), None)
    if sampler is None or stage.kind != "rl":
        return prompt
    limit = spec.max_context_length if spec is not None and stage.of("environment") else None
    bounded = any(is_given(reading, (*sampler.path, key)) for key in ("max_completion_length", "max_turn_length"))
    longest = prompt + ((longest_turn(stage) or 0) if bounded else 0)
    several = stage.of("environment") and spec is not None and spec.rows == "trajectory" and turns(stage) != 1
    return (limit if several else min(longest, limit)) if limit else longest


@check("RC506", "group-over-engine", "warning")
def group_over_engine(reading: Reading) -> Iterator[Finding]:
    """A group of completions does not fit into the rollout engine at once.

    What it checks: `num_generations` against the number of sequences that the rollout engine decodes together, such as
    `max_rows` of `hf`.
    Why it matters: the group is decoded in parts, and its prompt is computed once for each part.
    Example: `rollout: {type: hf, max_rows: 8}` with `num_generations: 16`.
    How to fix: set `max_rows` to at least the size of a group.
    """
    engine = reading.machine.get("rollout")
    if engine is None or not isinstance(engine.spec, RolloutEngine) or not engine.spec.rows_param:
        return
    most, bound = engine.spec.rows_together(), engine.spec.rows_param
    wanted = [(part, spec.branches()[0]) for _, part, spec in parts_of(reading, Sampler)]
    for part, count in wanted:
        if count > most:
            yield Finding(
                f"a group has {count} completions, but the engine decodes {most} rows at once",
                (
                    *(
                        field_span(reading, engine, bound)
                        if engine.given
                        else field_span(reading, part, "num_generations")
                    ),
                    *(related_span(reading, (*part.path, "num_generations"), "the group") if engine.given else ()),
                ),
                help=f"set `machine: {{rollout: {{{bound}: {count}}}}}`",
                path=f"machine.rollout.{bound}" if engine.given else dotted((*part.path, "num_generations")),
            )
            return


@check("RC507", "quantized-without-adapter")
def quantized_without_adapter(reading: Reading) -> Iterator[Finding]:
    """Quantized weights are trained without an adapter.

    What it checks: `quantization` comes with `lora`.
    Why it matters: four-bit weights have no gradient, so that there is nothing to train.
    Example: `policy: {type: vision_lm, quantization: nf4}`.
    How to fix: add `lora: {r: 8}`, or drop `quantization`.
    References: Dettmers et al., QLoRA, https://arxiv.org/abs/2305.14314, 2023.
    """
    for part in _everything(reading):
        if isinstance(part.spec, Policy) and part.spec.quantized() and part.spec.adapter() is None:
            yield Finding(
                f"{display_name(part)} has quantized weights, but no adapter",
                field_span(reading, part, "quantization"),
                path=dotted((*part.path, "lora")),
            )


@check("RC508", "answers-over-positions")
def answers_over_positions(reading: Reading) -> Iterator[Finding]:
    """An evaluation samples more tokens than the model has positions.

    What it checks: `max_completion_length` of an evaluation against `policy.scratch.max_positions`.
    Why it matters: the prompt and the answer together need at most as many positions as the model has.
    Example: `sampler: {max_completion_length: 512}` with `max_positions: 256`.
    How to fix: shorten the answers, or raise `policy.scratch.max_positions`.
    """
    policies = [policy for stage in reading.stages.values() if (policy := spec_of(stage, "policy")) is not None]
    sizes = [model.max_positions for policy in policies if (model := policy.new_model()) is not None]
    for name, evaluation in reading.evaluate.items():
        longest = evaluation.sampler.max_completion_length
        if longest is not None and sizes and longest >= min(sizes):
            path = ("evaluate", name, "sampler", "max_completion_length")
            yield at_path(reading, path).finding(
                f"evaluation `{name}` samples up to {longest} tokens, but the model has {min(sizes)} positions"
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
        temperature = getattr(spec, "temperature", 0.0)
        if 0.0 < temperature < least:
            yield at_path(reading, path).finding(
                f"the temperature is {temperature:g}, but the engine `{engine.name}` samples at {least:g} or more",
                *related_span(reading, engine.path, "the engine", key=True),
                remedy=f"set `temperature: 0`, or {least:g} or more",
            )


@check("RC529", "hours-of-waiting", "warning")
def hours_of_waiting(reading: Reading) -> Iterator[Finding]:
    """A time limit of a component is more than an hour.

    What it checks: parameters in seconds, such as `timeout` of a reward or an environment, are 3600 or less.
    Why it matters: the limit is in seconds, and other tools count milliseconds: one answer that hangs would hold up the
    run for that long.
    Example: `reward: {tests: {type: code_execution, timeout: 10000}}`.
    How to fix: write the time in seconds.
    """
    for part in _everything(reading):
        for key in keys_of(part.cls) if part.cls is not None and part.spec is not None else ():
            value = getattr(part.spec, key, None)
            if not isinstance(value, int | float) or value <= _HOUR or part.cls is None:
                continue
            kind = field_type(part.cls, (key,))
            if kind is None or kind.unit != "seconds":
                continue
            yield at_field(reading, part, key).finding(
                f"`{key}` of {display_name(part)} is {value:g} seconds, which is {value / _HOUR:.3g} hours",
                remedy=f"write the time in seconds: {value:g} milliseconds are `{key}: {value / 1000:g}`",
            )


_HOUR = 3600
"""Seconds."""
