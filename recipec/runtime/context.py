"""What a running component may reach beside its columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from recipec.runtime.environment.protocol import Environment
    from recipec.runtime.images.image_store import ImageStore
    from recipec.runtime.knowledge.knowledge_graph import Knowledge
    from recipec.runtime.model.causal_lm import CausalLm


class StoppedBeforeFirstStep(Exception):  # noqa: N818 - no error: the user asked for it
    """The run was asked to stop before the stage's first step."""


def cache_folder() -> Path:
    """The user's cache folder, by the XDG rule."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recipec"


@dataclass(slots=True)
class StageContext:
    """Where a stage runs: built once a stage by the executor, shared by its components.

    Classes named by an ``impl`` are built as ``Class(spec, context)`` and called with their columns.
    """

    root: Path
    """Folder of the recipe; paths in specs are relative to it."""
    cache: Path
    """Folder for what is expensive to make and safe to delete."""
    seed: int
    stage: str
    temperature: float = 1.0
    """Divides the logits in every log-probability of the stage."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step: int = 0
    """Step of the stage that is running, from 0; set by the loop."""
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The user's own functions, where the command line allowed them."""
    use: Sequence[Path] = ()
    """The files that the command line allowed to run."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Folders of earlier artifacts: ``explore.rollouts`` to a path."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Where the services under ``machine.services`` answer: name to URL."""
    rollout: Any = None
    """Spec of the sampling engine."""
    policy: CausalLm | None = None
    """The policy of the stage, once it is loaded."""
    image_store: ImageStore | None = None
    """The pictures of the stage, once its policy has seen one."""
    environment: Environment | None = None
    """Who answers the policy, where the stage has an environment; built after the policy."""
    attempt: int = 0
    """Which sampling of the step is running, from 0; above 0 only where groups without a signal are sampled again."""
    predicted: Mapping[str, Any] | None = None
    """The attention that the compiler predicts to be fastest (``best``) and ``why``, where the recipe fixes that."""
    say: Callable[[str], None] = lambda _: None
    """Tell whoever watches the run a line."""
    errors: dict[int, str] = field(default_factory=dict)
    """Why episodes of the step failed, by episode; written by the sampler, cleared by the loop."""
    knowledge: Knowledge | None = None
    """The graph of facts, where the stage has one; built before the loop."""
    sampler: Any = None
    """Spec of the sampler that a preference asks, where the stage makes pairs of answers."""
    home: Path | None = None
    """Folder of the stage, for what must survive a kill before the first step; kept in memory alone if None."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the run was asked to stop; read between samplings that come before the first step."""
