"""The signals of a stage: what provides each one and what needs it, the compiler's own nodes included."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from recipec.component import components_of
from recipec.reading.partial import Part, StageReading
from recipec.signals import broadcasts, split_axes
from recipec.spec.recipe import SLOT, SLOTS, Kind

_ROWS = ("tokens_RT", "attend_RT", "trained_RT")
_IMAGES = ("pixels_I", "image_row_I")
_COLLATED = (*_ROWS, "turn_RT", "prompt_id_R")


class Producer(NamedTuple):
    """One thing that runs: a part, or one of the compiler's own nodes (then without ``part``)."""

    part: Part | None
    needs: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataflow:
    """A stage as producers, in reading order."""

    steps: tuple[Producer, ...]

    @property
    def gives(self) -> tuple[str, ...]:
        """Every signal that something in the stage provides."""
        return tuple(dict.fromkeys(signal for step in self.steps for signal in step.gives))

    @property
    def sources(self) -> Iterator[tuple[Part, tuple[str, ...]]]:
        """Readable parts, with what they give; a part that could not be read competes with no other."""
        for step in self.steps:
            if step.part is not None and step.part.spec is not None and step.part.slot != "policy":
                yield step.part, tuple(signal for signal in step.gives if not signal.startswith("level:"))

    def used(self, part: Part) -> bool:
        """Whether something else in the row asks for what a part gives, and gets it from there."""
        wanted = {need for step in self.steps if step.part is not part for need in step.needs}
        rivals = {
            signal
            for step in self.steps
            for signal in step.gives
            if part.slot == "data" and step.part is not None and step.part.slot == "preference"
        }
        if part.slot == "sampler":
            makers = [step for step in self.steps if step.part is not None and step.part.slot == "preference"]
            return any("sampling" in step.needs for step in makers)
        return any(signal in wanted and signal not in rivals for signal in part.could_provide())

    def refs(self, part: Part) -> set[str]:
        """Parameters of a part that name a signal which needs the part itself."""
        if part.spec is None:
            return set()
        own = next(step for step in self.steps if step.part is part)
        return {str(n.param) for n in part.spec.requires() if n.param and self._way(n.signal, own) is not None}

    def cycles(self) -> Iterator[tuple[Part, tuple[str, ...]]]:
        """Yield a part of each cycle, with the signals along it."""
        seen: set[int] = set()
        for step in self.steps:
            if step.part is None or id(step) in seen:
                continue
            for need in step.needs:
                way = self._way(need, step)
                if way is not None:
                    seen |= {id(at) for at in way}
                    signals = [signal for at in way for signal in at.gives[-1:] if not signal.startswith("level:")]
                    yield step.part, tuple(dict.fromkeys((need, *signals)))
                    break

    def _way(self, signal: str, goal: Producer) -> list[Producer] | None:
        """Find the steps from whoever gives a signal back to ``goal``."""
        stack: list[tuple[str, tuple[Producer, ...]]] = [(signal, ())]
        seen: set[str] = set()
        while stack:
            at, path = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            for step in self.steps:
                if at in step.gives:
                    if step is goal:
                        return [*path, step]
                    stack += [(need, (*path, step)) for need in step.needs]
        return None


def provided(signal: str, gives: Collection[str]) -> bool:
    """Whether a signal is given, itself or by repeating one along further axes.

    >>> provided("advantage_RT", {"advantage_R"}), provided("by_tree_R", {"by_prompt_R"})
    (True, False)
    """
    return signal in gives or any(broadcasts(have, signal) for have in gives)


def possible_providers(signal: str, kind: Kind | None) -> list[tuple[str, str]]:
    """Slots and components that could provide a signal in a stage of this kind."""
    slots = [slot for slot in SLOTS if kind is None or slot.in_kind(kind) != "no"]
    if kind == "rm":  # its policy scores rows and predicts no token
        slots.remove(SLOT["policy"])
    return [(s.name, name) for s in slots for name, cls in components_of(s.name).items() if signal in cls.declares()]


def dataflow(stage: StageReading) -> Dataflow:
    """Describe a stage as producers.

    A slot that the kind must have and that is missing provides what it could hold: RC136 reports that it is missing.
    """
    assert stage.kind is not None
    steps = [_step(part, stage.kind) for part in stage.parts]
    absent = [slot.name for slot in SLOTS if slot.in_kind(stage.kind) == "yes" and not stage.of(slot.name)]
    stand_ins = [Part((), name, "", "", None, None) for name in absent]
    steps += [Producer(None, (), part.could_provide()) for part in stand_ins]
    provided = {signal for step in steps for signal in step.gives}
    provided |= {signal for part in stage.parts for signal in part.could_provide()}
    steps += _compiled(stage, provided)
    return Dataflow(tuple(steps))


def _step(part: Part, kind: Kind) -> Producer:
    needs = tuple(need.signal for need in part.spec.requires()) if part.spec is not None else ()
    # the policy of an rm stage has a scalar head in place of the one that predicts tokens
    gives = () if part.slot == "policy" and kind == "rm" else part.could_provide()
    if SLOT[part.slot].levels:
        own = {"reward": "reward_R", "advantage": "advantage_R"}[part.slot]
        gives = (*(signal for signal in gives if split_axes(signal)[0] != split_axes(own)[0]), f"level:{part.slot}")
    return Producer(part, needs, gives)


def _compiled(stage: StageReading, provided: Collection[str]) -> Iterator[Producer]:
    """Yield the nodes that the compiler adds to a row."""
    policy = next((_step(part, stage.kind or "rl").needs for part in stage.of("policy")), _ROWS)
    yield from _scored(stage, policy)
    if set(_IMAGES) & set(policy):
        shown = {"rl": ("prompt_P", "by_prompt_R"), "sft": ("completion_P",)}
        yield Producer(None, shown.get(stage.kind or "rl", ("chosen_P", "rejected_P")), _IMAGES)
    if stage.kind == "rl":
        yield Producer(None, ("error_R", "level:reward"), ("reward_R", "failed_R"))
        yield Producer(None, ("level:advantage",), ("advantage_R",))
        yield Producer(None, ("advantage_R", "trained_RT"), ("advantage_RT",))
        yield Producer(None, ("trained_RT", "failed_R"), ("weight_RT",))
        yield Producer(None, ("sampler_logprob_RT", "weight_RT"), ("correction_mean_R",))
        yield Producer(None, ("advantage_RT", "weight_RT", "tokens_RT"), ("selected_RT",))
        if "score_R" not in provided:
            yield Producer(None, ("reward_R", "episode_id_R", "step_R"), ("score_R",))
    elif stage.kind == "sft" and any(part.spec is not None and part.spec.needs("desirable_R") for part in stage.parts):
        yield Producer(None, ("completion_P",), (*_COLLATED, "by_pair_R", "desirable_R", "mismatched_R"))
        yield Producer(None, ("old_logprob_RT", "ref_logprob_RT", "trained_RT", "mismatched_R"), ("baseline_R",))
        yield Producer(None, ("mismatched_R",), ("weight_R",))
    elif stage.kind == "sft":
        yield Producer(None, ("completion_P",), _COLLATED)
        yield Producer(None, ("trained_RT",), ("weight_RT",))
    else:
        yield Producer(None, ("chosen_P", "rejected_P"), (*_COLLATED, "by_pair_R", "chosen_R"))
        yield Producer(None, ("by_pair_R",), ("weight_R",))
        if stage.kind == "rm":
            yield Producer(None, ("chosen_P",), ("margin_R",))
        elif any(part.spec is not None and part.spec.needs("weight_R") for part in stage.of("loss")):
            yield Producer(None, ("trained_RT", "chosen_R"), ("weight_RT",))


def _scored(stage: StageReading, policy: tuple[str, ...]) -> Iterator[Producer]:
    """Yield the passes of models over the rows; ``policy`` is what that of the policy needs."""
    if stage.kind == "rm":
        yield Producer(None, policy, ("model_score_R",))
        return
    yield Producer(None, policy, ("old_logprob_RT", "old_collision_RT"))
    if not stage.of("policy"):
        yield Producer(None, _ROWS, ("logprob_RT", "entropy_RT"))
    if any(part.spec is not None and part.spec.needs("divergence_RT") for part in stage.of("loss")):
        yield Producer(None, (*policy, "teacher"), ("divergence_RT",))
    if not stage.of("reference"):
        yield Producer(None, _ROWS, ("ref_logprob_RT",))
