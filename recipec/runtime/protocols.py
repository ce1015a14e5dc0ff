"""Interfaces of the parts of a stage: the training loop calls only what is listed here.

A new engine implements one, named by its spec's ``impl``; trackers and knowledge graphs have theirs in their folders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from recipec.graph import Node
    from recipec.host.preflight import PreflightRequest
    from recipec.runtime.attention.prefix_tree import TokensShared
    from recipec.runtime.batch import Batch, Message, Task
    from recipec.runtime.context import StageContext
    from recipec.runtime.environment.episode_state import EpisodeState, Turn
    from recipec.runtime.graph_runner import GraphRunner
    from recipec.runtime.images.picture import Picture
    from recipec.runtime.model.logprob_head import TargetHiddenStates
    from recipec.runtime.model.weight_layout import WeightLayout
    from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
    from recipec.spec.recipe import Kind

Sharing = Literal["", "prefixes", "prompts"]
"""What samples of one micro-batch share: nothing, any common prefix, or the prompt of their group."""


class Part:
    """A part of a running stage: it may have a state in checkpoints, follow updates, and hold resources."""

    def state(self) -> dict[str, Any]:
        """Tensors (or functions that gather them), numbers and text of a checkpoint; empty where nothing changes."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""

    def after_update(self, updates: int) -> None:
        """The optimizer has taken ``updates`` updates since the stage began."""

    def close(self) -> None:
        """Release processes, files and memory."""


class Attention(Part, ABC):
    """How the samples of one micro-batch share a forward pass; log-probabilities do not depend on it."""

    padded: bool = True
    """Whether a micro-batch costs its longest sample times its number of samples."""
    sharing: Sharing = ""
    shared: TokensShared | None = None
    """Counts of the passes so far, where prefixes are shared."""
    hands_over: bool = False
    """Whether a pass can take keys and values of a prefix from an earlier pass."""

    def __init__(self, spec: Any, context: StageContext) -> None:
        """``spec`` is one of :mod:`recipec.spec.attention`."""
        self.spec, self.context = spec, context

    def unbound_copy(self) -> Self:
        """Return an unbound one of the same kind, for a second model."""
        return type(self)(self.spec, self.context)

    def bind(self, policy: Policy) -> None:
        """Prepare a policy's model.

        Raises:
            RecipeError: the model cannot be computed so.
        """

    def choose(self, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor, limit: int | None = None) -> None:
        """Look at the first samples, where the kind of attention depends on them; ``limit`` is in tokens a pass."""

    @abstractmethod
    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position, each computed once where sequences share a prefix."""


class Policy(Part, ABC):
    """A model, its tokenizer, and log-probabilities of tokens under it."""

    model: Any
    """The Hugging Face model."""
    spec: Any
    """The component of the recipe, one of :mod:`recipec.spec.policy`."""
    tokenizer: Any
    temperature: float
    """Divides the logits of every log-probability."""
    device: torch.device
    attention: Attention
    context: StageContext
    layout: WeightLayout
    """Where the weights are; a train engine that shards them sets its own."""
    calls: int = 0
    """Number of the next training pass, from which its dropout masks are drawn."""
    adapter_is_new: bool
    """Whether the adapter was created in this stage, so that disabling it gives the policy as it entered the stage."""
    is_reward_model: bool = False  # of reward models, which write nothing
    peft_model: Any = None
    """The peft model around ``model``, where an adapter is trained, else None."""
    image_encoder: Any = None
    """The policy itself where it is a :class:`recipec.runtime.vision.vision_lm.VisionLm`, else None."""
    image_store: Any = None
    """The :class:`recipec.runtime.images.image_store.ImageStore` of a vision-language model, else None."""

    @property
    @abstractmethod
    def eos_id(self) -> int:
        """Token that ends a text."""

    @property
    @abstractmethod
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Rows of the output embedding."""

    @property
    @abstractmethod
    def max_positions(self) -> int:
        """Longest sequence in tokens."""

    @abstractmethod
    def encode(self, text: str, after: Sequence[int] = ()) -> list[int]:
        """Encode text that follows ids; where it spells a control token, that is letters only."""

    @abstractmethod
    def render(
        self,
        messages: Sequence[Message],
        *,
        generation: bool = True,
        variables: Mapping[str, Any] | None = None,
        images: Sequence[Picture] = (),
    ) -> list[int]:
        """Encode messages by the chat template; with ``generation``, the beginning of an answer follows."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids, control tokens included."""

    def set_attention(self, attention: Attention) -> None:
        """Let ``attention`` arrange the samples of every later forward pass."""

    @abstractmethod
    def logprobs(
        self,
        tokens_RT: Tensor,
        attend_RT: Tensor,
        trained_RT: Tensor,
        pixels_I: Sequence[Picture] = (),
        image_row_I: Tensor | None = None,
        *,
        entropy: bool = True,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """Return ``logprob_RT`` and ``entropy_RT``, or else ``collision_RT``: float32, zero where not trained."""

    @abstractmethod
    def sequence_scores(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> Tensor:
        """Return each row's log-probability of its trained tokens, or a reward model's score, in float64."""

    @abstractmethod
    def hidden_states(self, **inputs: Any) -> Tensor:
        """Run the decoder without its head."""

    @abstractmethod
    def position_ids(self, tokens_RT: Tensor) -> Tensor | None:
        """Return positions [3, R, T] of a vision-language model; None where a token's position is its index."""

    def train(self) -> None:
        """Switch dropout on."""

    def eval(self) -> None:
        """Switch dropout off."""

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""

    @abstractmethod
    def module_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Parameters of the groups that ``optimizer.freeze`` may name."""

    @abstractmethod
    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """Parameters that are trained, by name."""

    @abstractmethod
    def disable_adapter(self) -> AbstractContextManager[None]:
        """Compute with the weights under the adapter."""

    @abstractmethod
    def clone(self) -> Policy:
        """Return this policy with weights of its own, to sample from while others are in shards."""

    @abstractmethod
    def with_parameters(self, copies: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Compute with ``copies`` in place of the parameters of those names."""

    def check_saveable(self) -> None:
        """Write everything but the weights into a temporary folder; RC738 if a library refuses to."""

    def save_text(self, folder: Path) -> None:
        """Write what turns text and images into tokens."""

    def save(self, folder: Path, whole: Mapping[str, Tensor] | None = None) -> None:
        """Write all that ``from_pretrained`` loads; ``whole`` are the weights by name, where the model has shards."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash every weight, in hexadecimal."""


class RolloutEngine(Part, ABC):
    """Samples completions from the policy; there is one for each stage, built with it and closed with it.

    A completion depends on the weights, the prompt and its key alone: neither on other requests nor on their order.
    """

    shares_weights: bool
    """Whether it reads the policy's own tensors, so that an update is seen without ``update_weights``."""
    version: int = 0
    """Number of steps after which the weights that it samples from were taken; set by whoever hands them over."""

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: SamplingParams) -> list[list[Completion]]:
        """Sample the completions of each request, in order.

        Raises:
            RecipeError: RC783 a prompt leaves no room to write in, RC784 logits are not numbers.
        """

    def update_weights(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        """Take over the policy's weights, as ``TrainEngine.weights`` yields them; called where none are shared.

        It is called when the stage is built, after a checkpoint was restored, and after the updates of each step.
        """

    def clear_cache(self) -> None:
        """Drop every cache that came with a completion; requests that still name one are computed again."""

    def sleep(self) -> None:
        """Release memory for training; sampling goes on after the next ``update_weights``."""


class TrainEngine(Part, ABC):
    """Takes updates: backward, gradient reduction, clipping, the optimizer's step, gathering of state and saving."""

    updates: int
    """Updates taken since the stage began."""

    def begin(self, updates: int) -> None:
        """Take over the policy's parameters, for ``updates`` updates in all; RC773 if nothing is left to train."""

    def set_pace(self, pace: float) -> None:
        """Let each update of this step count as ``pace`` updates of the schedule."""

    @abstractmethod
    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, *, tokens: int, step: int
    ) -> dict[str, float]:
        """Walk the nodes of one update over a minibatch, in micro-batches of ``tokens`` tokens; return its metrics.

        Raises RC763 for a loss or gradient that is not finite, RC769 when memory runs out.
        """

    @abstractmethod
    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight of the policy whole, detached, under the names of ``policy.model.state_dict()``.

        A weight that several layers share comes under each of its names.  It may be called before ``begin``.  Where the
        weights are sharded, every rank iterates over it at the same moment.
        """

    def save(self, folder: Path) -> None:
        """Write the policy, its weights gathered."""


class Reference(Part, ABC):
    """A reference scores sequences; ``scorer`` is the model that computes it."""

    scorer: Policy

    @abstractmethod
    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> dict[str, Tensor]:
        """Return ``ref_logprob_RT``."""


class Critic(Part, ABC):
    """Estimates the reward to come at each token, and learns it next to the policy."""

    spec: Any
    """The :class:`recipec.spec.critic.Critic`."""
    model: Policy
    engine: TrainEngine

    @abstractmethod
    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:
        """Return ``value_RT``."""

    @abstractmethod
    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, *, tokens: int, step: int
    ) -> dict[str, float]:
        """Take one update by the critic's own nodes; return its metrics."""


class TaskSource(Part, ABC):
    """Tasks, examples or pairs, drawn a step at a time in an order of its own in every epoch."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows of an epoch."""

    @abstractmethod
    def draw(self, count: int) -> dict[str, list[Any]]:
        """Return the next rows of the epoch by signal, fewer at its end; the next call begins another."""

    @abstractmethod
    def slices(self, count: int) -> Iterator[dict[str, list[Any]]]:
        """Yield every row once, in the order of the data, ``count`` at a time."""

    @abstractmethod
    def retire(self, prompts: Collection[int]) -> int:
        """Leave prompts, named by the ids of their tasks, out of later epochs; return how many are by now."""


class DataSource(TaskSource):
    """A component of ``data``: its rows are read and encoded before anything is drawn."""

    @abstractmethod
    def prepare(self, kind: Kind, signals: Collection[str] | None = None) -> None:
        """Read and encode the rows for a stage of ``kind``, which provides ``signals``.

        Raises:
            RecipeError: RC700 to RC718, RC878, naming file and row.
        """

    @property
    @abstractmethod
    def tasks(self) -> list[Task]:
        """Every task, in the order of the data."""


class Preference(Part, ABC):
    """Makes preference pairs before the first step of a stage, and keeps them as an artifact."""

    @abstractmethod
    def __call__(self, *_: Any, **columns: Any) -> dict[str, Any]:
        """Make the pairs; return their columns."""

    def read(self, folder: Path, *_: Any, **columns: Any) -> dict[str, Any]:  # noqa: ARG002 - for those that sample answers
        """Take the pairs of an interrupted run; pairs that follow from recorded samples alone are made again."""
        return self(**columns)

    def write(self, folder: Path) -> None:
        """Write the pairs with their evidence."""

    def discard_partial(self) -> None:
        """Remove what was kept in case of a kill: the pairs are committed."""


class Environment(Part, ABC):
    """Answers the policy, many episodes at once; one instance serves a stage and its evaluations.

    A crash, a hang or garbage of one episode ends that one with ``error``; the others go on.
    """

    stops: tuple[str, ...] = ()
    """A turn ends with the token that completes one of these texts."""
    reads_variables: bool = False
    """Whether episodes begin with the task's own prompt, rendered with its variables of the chat template."""

    @staticmethod
    def preflight(spec: Any, request: PreflightRequest) -> None:
        """Raise ``RecipeError`` for files, packages or splits that are missing, before a model is loaded."""

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:  # noqa: ARG002
        """List the environment's own tasks, as columns; empty where its spec does not provide ``tasks``."""
        return []

    @abstractmethod
    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task; a task may occur several times, and its episodes begin alike."""

    @abstractmethod
    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Answer one turn taken from each position.  The same position may occur several times."""
