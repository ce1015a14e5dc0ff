"""Where tasks and examples come from."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from recipec.component import Component, PathRef, Section, SignalRef, component, param


class Columns(Section):
    """Which column of the data means what; a name that is absent from the data is an error."""

    prompt: str = param("prompt", "Column with the prompt: text, or a list of chat messages.")
    completion: str = param("completion", "Column with the answer to learn (sft).")
    chosen: str = param("chosen", "Column with the preferred answer (dpo).")
    rejected: str = param("rejected", "Column with the other answer (dpo).")
    messages: str = param("messages", "Column with a whole conversation (sft).")
    answer: str = param("answer", "Column that rewards find as `answer`.")
    images: str = param(
        "images",
        "Column with the images of a row: a path below the folder of the data, or a list of them. `image` is found, "
        "too, and rows may lack it, unless a name is given; empty: rows are text alone.",
    )


class Data(Component):
    """Base class of data sources."""

    slot: ClassVar[str] = "data"

    max_length: int | None = param(None, "Longest prompt (rl) or example (sft, dpo).", unit="tokens", ge=1)
    overlong: Literal["error", "drop", "truncate"] = param(
        "error", "What happens to a row over max_length: stop, leave it out and count it, or cut (sft only)."
    )
    shuffle: bool = param(True, "Draw the rows in an order given by the recipe's seed, new in every epoch.")
    limit: int | None = param(None, "Use at most this many rows, the first ones.", unit="rows", ge=1)


class _Prompts(Data):
    """What a source that writes prompts can say."""

    system: str | None = param(None, "System message of prompts without one; before a plain text, as text.")
    chat: bool = param(False, "Put a text prompt into the chat template, as the user's message.")
    template: PathRef | None = param(None, "Jinja file that renders the prompt from the row's columns; sandboxed.")


@component(
    "data",
    provides=("prompt_P", "completion_P", "chosen_P", "rejected_P"),
    impl="recipec.runtime.data.sources:File",
    state=True,
    uses=("policy", "environment"),
)
class File(_Prompts):
    """Read rows from a JSONL or parquet file, a directory of them, or the hub.

    The formats are TRL's: ``prompt``; ``prompt`` + ``completion``; ``prompt`` + ``chosen`` + ``rejected``;
    ``messages``; each with ``images`` beside it.

    References:
        TRL, `Dataset formats <https://huggingface.co/docs/trl/dataset_formats>`_.
    """

    type: Literal["file"] = "file"
    path: PathRef | None = param(None, "File or directory, relative to the file that says it.")
    hub: str | None = param(None, "Dataset of the hub, as `org/name[@revision]`.")
    split: str | None = param(None, "Split of a hub dataset, or the file `SPLIT.jsonl|parquet` of a directory.")
    columns: Columns = param(Columns, "Names of the columns, where they are not ours.")

    @model_validator(mode="after")
    def _one_place(self) -> File:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        return self


@component(
    "data",
    provides=("prompt_P", "completion_P"),
    impl="recipec.runtime.data.sources:ReasoningGym",
    state=True,
    uses=("policy", "environment"),
)
class ReasoningGym(_Prompts):
    """Procedural tasks with real verifiers from the reasoning-gym package.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    type: Literal["reasoning_gym"] = "reasoning_gym"
    task: str = param(..., "Name of the task, such as `chain_sum`.")
    size: int = param(..., "How many tasks to generate.", unit="rows", ge=1)
    task_seed: int = param(0, "Seed of the generator; another one gives held-out tasks.")
    options: dict[str, Any] = param(dict, "The generator's own options, such as `max_digits`.")
    prompt_suffix: str = param("", "Text put after every question.")


@component(
    "data",
    requires=("rollouts",),
    provides=("prompt_P", "completion_P"),
    impl="recipec.runtime.data.rollout_tasks:Rollouts",
    state=True,
    uses=("policy",),
)
class Rollouts(Data):
    """The best rows of an earlier stage's rollouts, as examples to imitate (rejection sampling).

    References:
        Dong et al., `RAFT <https://arxiv.org/abs/2304.06767>`_, 2023.
    """

    type: Literal["rollouts"] = "rollouts"
    rollouts: SignalRef = param(..., "Artifact to read, as `STAGE.rollouts`.")
    min_reward: float | None = param(None, "Leave out rows with a smaller reward.", unit="reward units")
    per_prompt: int = param(
        1, "Keep at most this many of a prompt's best rows, or best episodes where a row is a step.", unit="rows", ge=1
    )


@component(
    "data",
    requires=("tasks",),
    provides=("prompt_P",),
    impl="recipec.runtime.data.episode_tasks:EnvironmentTasks",
    state=True,
    uses=("environment",),
)
class EnvironmentTasks(Data):
    """Tasks that the stage's environment brings itself.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021: its games are its tasks.
    """

    type: Literal["environment"] = "environment"
    split: str = param("train", "Which of the environment's tasks.")
    size: int | None = param(None, "How many; all that there are if absent.", unit="rows", ge=1)
    task_seed: int = param(0, "Seed of tasks that are made.", ge=0, lt=2**31)
