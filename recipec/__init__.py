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
    from recipec.api import (
        Run as Run,
        check as check,
        compile as compile,  # noqa: A004 - the verb of the command line
        evaluate as evaluate,
        load_run as load_run,
        plan as plan,
        run as run,
        sweep as sweep,
    )
    from recipec.diagnostics.model import Diagnostic as Diagnostic, RecipeError as RecipeError
    from recipec.runtime.attention.sequence_logprobs import sequence_logprobs as sequence_logprobs
    from recipec.spec.advantage import (
        BatchStandardised as BatchStandardised,
        Gae as Gae,
        GroupRelative as GroupRelative,
        HistoryGroups as HistoryGroups,
        LeafMean as LeafMean,
        PrefixValue as PrefixValue,
        Reinforce as Reinforce,
        Remax as Remax,
        ReverseKl as ReverseKl,
        Rloo as Rloo,
        Signed as Signed,
        StateAction as StateAction,
    )
    from recipec.spec.attention import (
        Auto as Auto,
        Dense as Dense,
        Packed as Packed,
        SharedPrefix as SharedPrefix,
        Trie as Trie,
    )
    from recipec.spec.critic import ValueModel as ValueModel
    from recipec.spec.data import (
        Columns as Columns,
        EnvironmentTasks as EnvironmentTasks,
        File as File,
        Mix as Mix,
        MixedFile as MixedFile,
        ReasoningGym as ReasoningGym,
        Rollouts as Rollouts,
    )
    from recipec.spec.environment import (
        Alfworld as Alfworld,
        Gymnasium as Gymnasium,
        Own as Own,
        ReasoningGymEpisodes as ReasoningGymEpisodes,
        Retriever as Retriever,
        SearchQa as SearchQa,
        Textworld as Textworld,
        ToolUse as ToolUse,
        Webshop as Webshop,
    )
    from recipec.spec.grouping import AnchorState as AnchorState
    from recipec.spec.knowledge import (
        Diseases as Diseases,
        Extract as Extract,
        Hpo as Hpo,
        Sparql as Sparql,
        Triples as Triples,
    )
    from recipec.spec.loss import (
        BradleyTerry as BradleyTerry,
        Cispo as Cispo,
        ClipCov as ClipCov,
        Clipped as Clipped,
        Cpo as Cpo,
        Dpo as Dpo,
        Gkd as Gkd,
        Gmpo as Gmpo,
        KlCov as KlCov,
        Kto as Kto,
        Nll as Nll,
        Orpo as Orpo,
        Sapo as Sapo,
        Simpo as Simpo,
    )
    from recipec.spec.machine import Machine as Machine, Service as Service
    from recipec.spec.optimizer import Adafactor as Adafactor, Adamw as Adamw, Muon as Muon
    from recipec.spec.policy import (
        CausalLm as CausalLm,
        Images as Images,
        Lora as Lora,
        Scratch as Scratch,
        VisionLm as VisionLm,
        VisionScratch as VisionScratch,
    )
    from recipec.spec.preference import BestVsWorst as BestVsWorst, KgRag as KgRag, KgRank as KgRank
    from recipec.spec.recipe import (
        Budget as Budget,
        Evaluation as Evaluation,
        Recipe as Recipe,
        Sampling as Sampling,
        Stage as Stage,
    )
    from recipec.spec.reference import Frozen as Frozen, Lagged as Lagged
    from recipec.spec.reward import (
        AnswerMatch as AnswerMatch,
        CodeExecution as CodeExecution,
        Environment as Environment,
        ExactMatch as ExactMatch,
        Function as Function,
        Ifeval as Ifeval,
        Iou as Iou,
        JsonSchema as JsonSchema,
        Judge as Judge,
        KgConsistency as KgConsistency,
        KlPenalty as KlPenalty,
        Length as Length,
        MathVerify as MathVerify,
        Model as Model,
        MultipleChoice as MultipleChoice,
        RegexFormat as RegexFormat,
        Repetition as Repetition,
        Sections as Sections,
        TagCount as TagCount,
        Verifier as Verifier,
    )
    from recipec.spec.rollout_engine import Hf as Hf, Vllm as Vllm
    from recipec.spec.sampler import (
        Chain as Chain,
        GroupFilter as GroupFilter,
        Interrupt as Interrupt,
        Retire as Retire,
        Tree as Tree,
    )
    from recipec.spec.tracker import Mlflow as Mlflow, Trackio as Trackio, Wandb as Wandb
    from recipec.spec.train_engine import Deepspeed as Deepspeed, Fsdp as Fsdp, Local as Local
    from recipec.yaml_io import from_yaml as from_yaml, load as load, to_yaml as to_yaml

_HOMES = {
    "recipec.api": ("Run", "check", "compile", "evaluate", "load_run", "plan", "run", "sweep"),
    "recipec.yaml_io": ("from_yaml", "load", "to_yaml"),
    "recipec.diagnostics.model": ("Diagnostic", "RecipeError"),
    "recipec.runtime.attention.sequence_logprobs": ("sequence_logprobs",),
    "recipec.spec.recipe": ("Budget", "Evaluation", "Recipe", "Sampling", "Stage"),
    "recipec.spec.advantage": (
        "BatchStandardised", "Gae", "GroupRelative", "HistoryGroups", "LeafMean", "PrefixValue", "Reinforce",
        "Remax", "ReverseKl", "Rloo", "Signed", "StateAction",
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
    "recipec.spec.loss": ("BradleyTerry", "Cispo", "ClipCov", "Clipped", "Cpo", "Dpo", "Gkd", "Gmpo", "KlCov", "Kto",
                          "Nll", "Orpo", "Sapo", "Simpo"),
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
    value = getattr(importlib.import_module(_HOME[name]), name)
    if _HOME[name].startswith("recipec.spec."):
        value.model_rebuild()  # fields and signature of a model that is built on first use
    return value


def __dir__() -> list[str]:
    """List all public names."""
    return [*globals(), *_HOME]
