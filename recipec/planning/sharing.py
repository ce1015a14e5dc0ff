r"""What computing each unique token once saves, phase by phase, and which attention is worth it.

The ideal speed-up of a phase is its operations row by row divided by those over unique tokens: matrices by tokens,
attention by pairs, the head by rows of logits, as in :mod:`recipec.planning.cost`.  With a share g of a step spent on
generation, which sharing here does not touch, the step gains

.. math:: 1 / (g + (1 - g) / s)

References:
    Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recipec.graph import Graph, StageGraph
from recipec.lowering.optimise import drops_out
from recipec.planning.cost import Phase, backward, operations
from recipec.planning.sharing_forecast import SharingForecast, counted, forecast, hands_over
from recipec.planning.stage_workload import StageWorkload
from recipec.planning.step_sizes import Lengths
from recipec.planning.token_runs import Counts, total
from recipec.spec.attention import WORTH, Attention, Auto, Packed, SharedPrefix, Trie

FORMS = {"prefixes": Trie.type_name, "prompts": SharedPrefix.type_name}
"""What rows of a forward pass may share, and the attention that shares it."""
SHOWN = 8
"""Updates that the text tells of."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What sharing saves in one phase: how many times fewer operations; ``backward`` where there is one.

    Example: ``Saving("update", 2.99, 3.05, 2.97)``.
    """

    phase: str
    ideal: float
    forward: float
    backward: float | None = None
    tokens: int = 0
    """Tokens computed in one pass over a step's rows."""


@dataclass(frozen=True, slots=True)
class Form:
    """One attention type: unique tokens of a step, and what they save."""

    attention: str
    unique: int
    token_ratio: float
    ideal: float | None
    """Of all phases together; None where the model's sizes are not known."""
    phases: tuple[Saving, ...] = ()


@dataclass(frozen=True, slots=True)
class Sharing:
    """What rows of a step share."""

    tokens: int
    """Tokens of the rows."""
    forms: tuple[Form, ...]
    asked: str
    """The attention that the recipe names."""
    runs: str
    """The one that computes it: with `auto` the best one, if the model certifies, else `packed`, else `dense`."""
    best: str
    """The one that is predicted to be fastest."""
    reason: str
    """Why it is."""
    fixed: bool = True
    """Whether `auto` goes by this prediction; else the first rows of a run decide."""
    generation: float | None = None
    """Share of a step that generation takes."""
    generation_of: str = "operations"
    step: float | None = None
    """How many times faster a whole step is with the best one, at its ideal."""
    unshuffled: float | None = None
    """Ideal of the update if groups stayed together, where the recipe shuffles rows over several updates."""
    assumes: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The reason and the attention it speaks for."""
        return f"{self.reason}: {self.best}"


@dataclass(frozen=True, slots=True)
class Update:
    """What one minibatch of recorded rows shares."""

    step: int
    update: int
    rows: int
    tokens: int
    unique: int
    token_ratio: float
    ideal: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What recorded rows share, cut into updates and forward passes as the recipe's budget does."""

    rows: int
    steps: int
    sharing: Sharing
    padding: float
    """Tokens of rows padded as `dense` does, over their own."""
    passes: int
    """Forward passes of the prefix trees over whole steps, under `microbatch_tokens`."""
    lost: int
    """Shared tokens that an update computes again where prefix trees are cut into passes."""
    updates: tuple[Update, ...]


def passes(work: StageWorkload) -> Iterator[tuple[str, float, bool]]:
    """Yield the phases that go over a step's rows, how often, and whether they have a backward."""
    slots = {node.slot for node in work.stage.nodes()}
    cached = (work.stage.settings["reference"] or {}).get("mode") == "cached"
    if "reference" in slots and not cached:
        yield "reference", 1.0, False
    if work.stage.node("old") is not None:
        yield "old", 1.0, False
    yield "update", float(work.passes), True


def form(attention: str, dense: Counts, per_step: Counts, per_update: Counts, work: StageWorkload | None) -> Form:
    """Compare rows with unique tokens: over a step in passes without a gradient, over minibatches in updates."""
    savings, spent, least = [], 0.0, 0.0
    for name, often, trained in passes(work) if work else ():
        assert work is not None
        unique = per_update if trained else per_step
        ahead, ahead_least = operations(work.shape, dense), operations(work.shape, unique)
        back, back_least = (backward(work, dense), backward(work, unique)) if trained else (0.0, 0.0)
        saving = (ahead + back) / (ahead_least + back_least)
        apart = back / back_least if trained else None
        savings.append(Saving(name, saving, ahead / ahead_least, apart, round(unique.tokens)))
        spent, least = spent + often * (ahead + back), least + often * (ahead_least + back_least)
    return Form(
        attention=attention,
        unique=round(per_update.tokens),
        token_ratio=dense.tokens / max(1.0, per_update.tokens),
        ideal=spent / least if least else None,
        phases=tuple(savings),
    )


def predict(graph: Graph, stage: StageGraph, size: Lengths, work: StageWorkload | None) -> Sharing | str | None:
    """Predict what a stage's rows share; a text says why that cannot be known, None that there is nothing."""
    forecasted = forecast(graph, stage, size)
    if not isinstance(forecasted, SharingForecast):
        return forecasted
    dense = total(s.dense() for s in forecasted.forms["prefixes"]).scaled(forecasted.units)
    forms, together, handed = [], None, hands_over(graph, stage)
    for shared, name in attentions(stage).items():
        per_step, unshuffled, per_update = counted(stage, forecasted, forecasted.forms[shared], handed=handed)
        forms.append(form(name, dense, per_step, per_update, work))
        if shared == "prefixes" and unshuffled != per_update:
            together = _update(form(name, dense, per_step, unshuffled, work))
    chosen = choose(stage, forms)
    # what is not counted can only speak for sharing
    fixed = forms[0].ideal is not None and (chosen[2] == forms[0].attention or not forecasted.assumes)
    fixed = fixed and stage.params("data").get("max_length") is not None
    return Sharing(
        round(dense.tokens), tuple(forms), *chosen, fixed or not _may_share(stage), unshuffled=together,
        assumes=forecasted.assumes,
    )  # fmt: skip


def _update(form: Form) -> float:
    return next((saving.ideal for saving in form.phases if saving.phase == "update"), form.token_ratio)


def choose(stage: StageGraph, forms: Sequence[Form]) -> tuple[str, str, str, str]:
    """Return the attention of the recipe, the one that runs, the one predicted to be fastest, and why."""
    spec, shared = stage.required(Attention), forms[0]
    gain = shared.token_ratio if shared.ideal is None else shared.ideal
    best, why = Packed.type_name if gain < WORTH else shared.attention, f"ideal {gain:.2f}x"
    if not _may_share(stage):
        best, why = Packed.type_name, "with dropout rows cannot share a computation"
    return spec.type_name, best if isinstance(spec, Auto) else spec.type_name, best, why


def attentions(stage: StageGraph) -> dict[str, str]:
    """Return what rows may share, prefixes first, and the attention that shares it: the recipe's own where it does."""
    spec = stage.required(Attention)
    return {**FORMS, spec.shares: spec.type_name} if spec.shares else FORMS


def _may_share(stage: StageGraph) -> bool:
    return not drops_out(stage)


def with_generation(sharing: Sharing, phases: Sequence[Phase]) -> Sharing:
    """Add the share of generation to what sharing saves: by time where it is known, else by operations."""
    timed = bool(phases) and all(phase.seconds is not None for phase in phases)
    spent = {phase.name: phase.seconds if timed else phase.flops for phase in phases}
    sampled, total_spent = spent.get("sample"), sum(value or 0.0 for value in spent.values())
    best = next((one for one in sharing.forms if one.attention == sharing.best), None)
    if any(value is None for value in spent.values()) or not total_spent:
        return sharing
    share = (sampled or 0.0) / total_spent
    gain = best.ideal if best is not None and best.ideal else 1.0
    return replace(
        sharing, generation=share, generation_of="time" if timed else "operations",
        step=1 / (share + (1 - share) / gain),
    )  # fmt: skip


def merged(sharing: Sharing | None, phases: Sequence[Phase], work: StageWorkload) -> tuple[Phase, ...]:
    """Count in each phase the unique tokens alone, where the attention that runs shares prefixes."""
    form = next((one for one in sharing.forms if one.attention == sharing.runs), None) if sharing else None
    savings = {saving.phase: saving for saving in form.phases} if form else {}
    return tuple(_merged(phase, savings[phase.name], work) if phase.name in savings else phase for phase in phases)


def _merged(phase: Phase, saving: Saving, work: StageWorkload) -> Phase:
    if phase.tokens is None or phase.flops is None:
        return phase
    often = work.passes if phase.name == "update" else 1
    tokens = saving.tokens * often
    passes_merged, passes_dense = -(-tokens // work.microbatch), -(-phase.tokens // work.microbatch)
    assumed = f"{tokens:,} of {phase.tokens:,} tokens of rows are unique"
    return replace(
        phase, tokens=tokens, flops=phase.flops / saving.ideal,
        bytes=None if phase.bytes is None else phase.bytes * passes_merged / max(1, passes_dense),
        assumes=f"{phase.assumes}; {assumed}" if phase.assumes else assumed,
    )  # fmt: skip


def measure_sharing(
    stage: StageGraph, steps: Sequence[Mapping[str, Any]], work: StageWorkload | None, *, handed: bool = False
) -> Measured:
    """Tell what recorded rows share, from the counts of :func:`recipec.runtime.training.measured_sharing.counted`.

    With ``handed``, micro-batches hand shared prefixes over.
    """
    updates = [(step["step"], number, one) for step in steps for number, one in enumerate(step["updates"])]
    dense = total(Counts(*step["dense"]) for step in steps)
    forms, together = [], None
    for shared, name in attentions(stage).items():
        per_step = total(Counts(*step[shared]) for step in steps)
        per_update = total(Counts(*one[shared]) for _, _, one in updates)
        # passes without a gradient see every row of a step, updates those that the remainder leaves
        share = sum(one["dense"][0] for _, _, one in updates) / max(1.0, dense.tokens)
        forms.append(form(name, dense, per_step, per_update.scaled(1 / share) if share else per_step, work))
        if shared == "prefixes" and any(step["kept"] for step in steps):
            unshuffled = total(Counts(*step["kept"]) for step in steps)
            together = _update(form(name, dense, per_step, unshuffled, work))
    sharing = Sharing(round(dense.tokens), tuple(forms), *choose(stage, forms), unshuffled=together)
    return Measured(
        rows=sum(step["rows"] for step in steps),
        steps=len(steps),
        sharing=sharing,
        padding=sum(step["padded"] for step in steps) / max(1.0, dense.tokens),
        passes=sum(step["passes"] for step in steps),
        lost=0 if handed else sum(step["lost"] for step in steps),
        updates=tuple(_measured(*one, work) for one in updates),
    )


def _measured(step: int, number: int, one: Mapping[str, Any], work: StageWorkload | None) -> Update:
    dense, shared = Counts(*one["dense"]), Counts(*one["prefixes"])
    ideal = _update(form("", dense, shared, shared, work)) if work else None
    ratio = dense.tokens / max(1, shared.tokens)
    return Update(step, number, one["rows"], one["dense"][0], one["prefixes"][0], ratio, ideal)


def describe_measured(measured: Measured) -> Iterator[str]:
    """Write what recorded rows share, for people: the whole, and the first updates."""
    rows = f"{measured.rows:,} rows of {measured.steps:,} steps"
    yield f"  measured          {rows}; padded to one width they have {measured.padding:.2f}x the tokens"
    yield from describe_sharing(measured.sharing, "of them")
    if measured.lost:
        each = f"{measured.passes:,} forward passes over whole steps"
        yield f"    cut             {each} compute {measured.lost:,} shared tokens again"
    for one in measured.updates[:SHOWN]:
        ideal = "" if one.ideal is None else f", ideal {one.ideal:.2f}x"
        which = f"step {one.step}, update {one.update + 1}"
        sizes = f"{one.rows:,} rows, {one.tokens:,} tokens, {one.unique:,} unique: {one.token_ratio:.2f}x"
        yield f"    {which:<24}{sizes}{ideal}"
    if len(measured.updates) > SHOWN:
        yield f"    and {len(measured.updates) - SHOWN:,} more updates (`--format json` has all)"


def describe_sharing(sharing: Sharing, each: str = "of rows a step") -> Iterator[str]:
    """Write what sharing saves, for people."""
    best = next((one for one in sharing.forms if one.attention == sharing.best), sharing.forms[0])
    ratio = f"{sharing.tokens:,} tokens {each}, {best.unique:,} of them unique: {best.token_ratio:.2f}x"
    yield f"  sharing           {ratio}"
    for one in sharing.forms:
        if one.ideal is not None and one.attention in {sharing.best, sharing.asked}:
            yield from (f"    {saving.phase:<16}{_times(saving, one.attention)}" for saving in one.phases)
    if sharing.unshuffled is not None:
        shared = _update(sharing.forms[0])
        loss = f"drawn from all rows of a step, minibatches share {shared:.2f}x"
        kept = f"{_kept(shared, sharing.unshuffled):.0%} of what sharing saves is kept"
        yield f"    shuffle_rows    {loss}; {sharing.unshuffled:.2f}x if groups stayed together: {kept}"
    if (
        sharing.generation is not None
        and sharing.step is not None
        and sharing.best in {one.attention for one in sharing.forms}
    ):
        share = f"{sharing.generation:.0%} of its {sharing.generation_of} is generation"
        yield f"    a step          ideal {sharing.step:.2f}x: {share}"
    yield f"    attention       {_attention(sharing)}"
    yield from (f"    assuming        {assumed}" for assumed in sharing.assumes)


def _kept(ideal: float, together: float) -> float:
    """Return the share of saved operations that is left.

    >>> round(_kept(1.25, 5.0), 2)
    0.25
    """
    return max(0.0, 1 - 1 / ideal) / (1 - 1 / together) if together > 1 else 1.0


def _attention(sharing: Sharing) -> str:
    if sharing.asked == Auto.type_name:
        return sharing.why if sharing.fixed else f"{sharing.why}, or what the first rows say"
    return f"`{sharing.asked}`, as written; {sharing.why}"


def _times(saving: Saving, attention: str) -> str:
    parts = f": forward {saving.forward:.2f}x, backward {saving.backward:.2f}x" if saving.backward else ""
    return f"ideal {saving.ideal:.2f}x with `{attention}`{parts}"
