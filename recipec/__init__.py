"""A declarative compiler of LLM post-training recipes.

Everything a recipe can say has a class of the same name here: ``recipec.Recipe``, ``recipec.Stage``,
``recipec.Chain``, ``recipec.GroupRelative``.  Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for editors and type checkers; a test keeps the two lists alike
    from recipec.api import Run as Run
    from recipec.api import check as check
    from recipec.api import compile as compile  # noqa: A004 - the verb of the command line
    from recipec.api import evaluate as evaluate
    from recipec.api import load_run as load_run
    from recipec.api import plan as plan
    from recipec.api import run as run
    from recipec.api import sweep as sweep
    from recipec.diagnostics.model import Diagnostic as Diagnostic
    from recipec.diagnostics.model import RecipeError as RecipeError
    from recipec.runtime.attention.sequence_logprobs import sequence_logprobs as sequence_logprobs
    from recipec.spec.advantage import (
        BatchStandardised as BatchStandardised,
    )
    from recipec.spec.advantage import (
        Gae as Gae,
    )
    from recipec.spec.advantage import (
        GroupRelative as GroupRelative,
    )
    from recipec.spec.advantage import (
        HistoryGroups as HistoryGroups,
    )
    from recipec.spec.advantage import (
        LeafMean as LeafMean,
    )
    from recipec.spec.advantage import (
        PrefixValue as PrefixValue,
    )
    from recipec.spec.advantage import (
        Reinforce as Reinforce,
    )
    from recipec.spec.advantage import (
        Rloo as Rloo,
    )
    from recipec.spec.advantage import (
        Signed as Signed,
    )
    from recipec.spec.advantage import (
        StateAction as StateAction,
    )
    from recipec.spec.attention import (
        Auto as Auto,
    )
    from recipec.spec.attention import (
        Dense as Dense,
    )
    from recipec.spec.attention import (
        Packed as Packed,
    )
    from recipec.spec.attention import (
        SharedPrefix as SharedPrefix,
    )
    from recipec.spec.attention import (
        Trie as Trie,
    )
    from recipec.spec.critic import ValueModel as ValueModel
    from recipec.spec.data import Columns as Columns
    from recipec.spec.data import EnvironmentTasks as EnvironmentTasks
    from recipec.spec.data import File as File
    from recipec.spec.data import Mix as Mix
    from recipec.spec.data import MixedFile as MixedFile
    from recipec.spec.data import ReasoningGym as ReasoningGym
    from recipec.spec.data import Rollouts as Rollouts
    from recipec.spec.environment import Alfworld as Alfworld
    from recipec.spec.environment import Gymnasium as Gymnasium
    from recipec.spec.environment import Own as Own
    from recipec.spec.environment import ReasoningGymEpisodes as ReasoningGymEpisodes
    from recipec.spec.environment import Retriever as Retriever
    from recipec.spec.environment import SearchQa as SearchQa
    from recipec.spec.environment import Textworld as Textworld
    from recipec.spec.environment import ToolUse as ToolUse
    from recipec.spec.environment import Webshop as Webshop
    from recipec.spec.grouping import AnchorState as AnchorState
    from recipec.spec.knowledge import Diseases as Diseases
    from recipec.spec.knowledge import Extract as Extract
    from recipec.spec.knowledge import Hpo as Hpo
    from recipec.spec.knowledge import Sparql as Sparql
    from recipec.spec.knowledge import Triples as Triples
    from recipec.spec.loss import BradleyTerry as BradleyTerry
    from recipec.spec.loss import Cispo as Cispo
    from recipec.spec.loss import Clipped as Clipped
    from recipec.spec.loss import Cpo as Cpo
    from recipec.spec.loss import Dpo as Dpo
    from recipec.spec.loss import Gmpo as Gmpo
    from recipec.spec.loss import Kto as Kto
    from recipec.spec.loss import Nll as Nll
    from recipec.spec.loss import Orpo as Orpo
    from recipec.spec.loss import Sapo as Sapo
    from recipec.spec.loss import Simpo as Simpo
    from recipec.spec.machine import Machine as Machine
    from recipec.spec.machine import Service as Service
    from recipec.spec.optimizer import Adafactor as Adafactor
    from recipec.spec.optimizer import Adamw as Adamw
    from recipec.spec.optimizer import Muon as Muon
    from recipec.spec.policy import CausalLm as CausalLm
    from recipec.spec.policy import Images as Images
    from recipec.spec.policy import Lora as Lora
    from recipec.spec.policy import Scratch as Scratch
    from recipec.spec.policy import VisionLm as VisionLm
    from recipec.spec.policy import VisionScratch as VisionScratch
    from recipec.spec.preference import BestVsWorst as BestVsWorst
    from recipec.spec.preference import KgRag as KgRag
    from recipec.spec.preference import KgRank as KgRank
    from recipec.spec.recipe import (
        Budget as Budget,
    )
    from recipec.spec.recipe import (
        Evaluation as Evaluation,
    )
    from recipec.spec.recipe import (
        Recipe as Recipe,
    )
    from recipec.spec.recipe import (
        Sampling as Sampling,
    )
    from recipec.spec.recipe import (
        Stage as Stage,
    )
    from recipec.spec.reference import Frozen as Frozen
    from recipec.spec.reference import Lagged as Lagged
    from recipec.spec.reward import (
        AnswerMatch as AnswerMatch,
    )
    from recipec.spec.reward import (
        CodeExecution as CodeExecution,
    )
    from recipec.spec.reward import (
        Environment as Environment,
    )
    from recipec.spec.reward import (
        ExactMatch as ExactMatch,
    )
    from recipec.spec.reward import (
        Function as Function,
    )
    from recipec.spec.reward import (
        Ifeval as Ifeval,
    )
    from recipec.spec.reward import (
        Iou as Iou,
    )
    from recipec.spec.reward import (
        JsonSchema as JsonSchema,
    )
    from recipec.spec.reward import (
        Judge as Judge,
    )
    from recipec.spec.reward import (
        KgConsistency as KgConsistency,
    )
    from recipec.spec.reward import (
        KlPenalty as KlPenalty,
    )
    from recipec.spec.reward import (
        Length as Length,
    )
    from recipec.spec.reward import (
        MathVerify as MathVerify,
    )
    from recipec.spec.reward import (
        Model as Model,
    )
    from recipec.spec.reward import (
        MultipleChoice as MultipleChoice,
    )
    from recipec.spec.reward import (
        RegexFormat as RegexFormat,
    )
    from recipec.spec.reward import (
        Repetition as Repetition,
    )
    from recipec.spec.reward import (
        Sections as Sections,
    )
    from recipec.spec.reward import (
        TagCount as TagCount,
    )
    from recipec.spec.reward import (
        Verifier as Verifier,
    )
    from recipec.spec.rollout_engine import Hf as Hf
    from recipec.spec.rollout_engine import Vllm as Vllm
    from recipec.spec.sampler import Chain as Chain
    from recipec.spec.sampler import GroupFilter as GroupFilter
    from recipec.spec.sampler import Interrupt as Interrupt
    from recipec.spec.sampler import Retire as Retire
    from recipec.spec.sampler import Tree as Tree
    from recipec.spec.tracker import Mlflow as Mlflow
    from recipec.spec.tracker import Trackio as Trackio
    from recipec.spec.tracker import Wandb as Wandb
    from recipec.spec.train_engine import Deepspeed as Deepspeed
    from recipec.spec.train_engine import Fsdp as Fsdp
    from recipec.spec.train_engine import Local as Local
    from recipec.yaml_io import from_yaml as from_yaml
    from recipec.yaml_io import load as load
    from recipec.yaml_io import to_yaml as to_yaml

_HOMES = {
    "recipec.api": ("Run", "check", "compile", "evaluate", "load_run", "plan", "run", "sweep"),
    "recipec.yaml_io": ("from_yaml", "load", "to_yaml"),
    "recipec.diagnostics.model": ("Diagnostic", "RecipeError"),
    "recipec.runtime.attention.sequence_logprobs": ("sequence_logprobs",),
    "recipec.spec.recipe": ("Budget", "Evaluation", "Recipe", "Sampling", "Stage"),
    "recipec.spec.advantage": (
        "BatchStandardised", "Gae", "GroupRelative", "HistoryGroups", "LeafMean", "PrefixValue", "Reinforce",
        "Rloo", "Signed", "StateAction",
    ),
    "recipec.spec.attention": ("Auto", "Dense", "Packed", "SharedPrefix", "Trie"),
    "recipec.spec.critic": ("ValueModel",),
    "recipec.spec.data": ("Columns", "EnvironmentTasks", "File", "Mix", "MixedFile", "ReasoningGym", "Rollouts"),
    "recipec.spec.environment": (
        "Alfworld", "Gymnasium", "Own", "ReasoningGymEpisodes", "Retriever", "SearchQa", "Textworld", "ToolUse",
        "Webshop",
    ),
    "recipec.spec.grouping": ("AnchorState",),
    "recipec.spec.knowledge": ("Diseases", "Extract", "Hpo", "Sparql", "Triples"),
    "recipec.spec.loss": ("BradleyTerry", "Cispo", "Clipped", "Cpo", "Dpo", "Gmpo", "Kto", "Nll", "Orpo", "Sapo",
                          "Simpo"),
    "recipec.spec.machine": ("Machine", "Service"),
    "recipec.spec.optimizer": ("Adafactor", "Adamw", "Muon"),
    "recipec.spec.policy": ("CausalLm", "Images", "Lora", "Scratch", "VisionLm", "VisionScratch"),
    "recipec.spec.preference": ("BestVsWorst", "KgRag", "KgRank"),
    "recipec.spec.reference": ("Frozen", "Lagged"),
    "recipec.spec.reward": (
        "AnswerMatch", "CodeExecution", "Environment", "ExactMatch", "Function", "Ifeval", "Iou", "JsonSchema", "Judge",
        "KgConsistency", "KlPenalty", "Length", "MathVerify", "Model",
        "MultipleChoice", "RegexFormat", "Repetition", "Sections", "TagCount", "Verifier",
    ),
    "recipec.spec.rollout_engine": ("Hf", "Vllm"),
    "recipec.spec.sampler": ("Chain", "GroupFilter", "Interrupt", "Retire", "Tree"),
    "recipec.spec.tracker": ("Mlflow", "Trackio", "Wandb"),
    "recipec.spec.train_engine": ("Deepspeed", "Fsdp", "Local"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of the table's names


class Verb(ModuleType):
    """A module with the name of a function of :mod:`recipec.api`, which it calls.

    ``recipec.run`` and ``recipec.compile`` are the functions, whatever modules below them were imported before.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        function = getattr(importlib.import_module("recipec.api"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name == "__version__":
        return version("recipec")
    if name not in _HOME:
        raise AttributeError(f"module 'recipec' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    if _HOME[name].startswith("recipec.spec."):
        found.model_rebuild()  # fields and signature of a model that is built on first use
    return found


def __dir__() -> list[str]:
    """List all public names."""
    return [*globals(), *_HOME]
