# The public names, each with its module: for editors and type checkers, and for `__getattr__` of the package.

from types import ModuleType
from typing import Any

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
    TokenBaseline as TokenBaseline,
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

__version__: str

class Verb(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
