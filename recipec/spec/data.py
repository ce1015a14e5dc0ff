"""Training data: prompts, examples and preference pairs."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from recipec.component import Component, PathRef, Section, SignalRef, TemplateRef, component, param


class Columns(Section):
    """Column names of the data; a name that the data do not have is an error."""

    prompt: str = param("prompt", "Column with the prompt: text, or a list of chat messages.")
    completion: str = param("completion", "Column with the target completion (sft).")
    chosen: str = param("chosen", "Column with the preferred answer (dpo, rm).")
    rejected: str = param("rejected", "Column with the rejected answer (dpo, rm).")
    messages: str = param(
        "messages",
        "Column with a whole conversation, as chat messages; ShareGPT's `from` and `value` are read too (sft).",
    )
    label: str = param(
        "label", "Column that says whether the completion is good: true or false, or 1 or 0, for loss `kto` (sft)."
    )
    margin: str = param(
        "margin", "Column with the margin by which the chosen answer is better, for `bradley_terry` (rm)."
    )
    text: str = param("text", "Column with plain text, all of which is trained, if there is no answer (sft).")
    answer: str = param("answer", "Column with the correct answer; rewards refer to it as `answer`.")
    images: str = param(
        "images",
        "Column with the images of an example: one or a list, each a path relative to the folder of the data, or in a "
        "parquet file the image itself. By default, a column `image` is accepted, too, and examples may have no "
        "images. Empty: text only.",
    )
    system: str = param(
        "system", "Column with the system message of a prompt that has none; it replaces `data.system`. Empty: none."
    )
    tools: str = param(
        "tools", "Column with the tools that the chat template shows: a list, or its JSON text. Empty: none."
    )
    chat_template_kwargs: str = param(
        "chat_template_kwargs",
        "Column with further variables of the chat template: an object, or its JSON text. Empty: none.",
    )


class Data(Component):
    """Base class of data sources."""

    slot: ClassVar[str] = "data"
    without_images: ClassVar[str] = ""
    """Why its rows can have no images; empty where they may have some."""
    without_verifiers: ClassVar[str] = ""
    """What its tasks are, where none of them can judge an answer; empty where they may."""
    image_digests: ClassVar[str] = ""
    """Function ``(spec, root)`` that returns hashes of the images that its rows name, by what they are called."""

    max_length: int | None = param(
        None, "Maximum length of a prompt (rl) or of an example (sft, dpo, rm).", unit="tokens", ge=1
    )
    overlong: Literal["error", "drop", "truncate"] = param(
        "error", "Action for data longer than `max_length`: stop with an error, drop and count, or truncate."
    )
    truncation_side: Literal["left", "right"] = param(
        "right", "What `overlong: truncate` cuts off: the beginning (`left`) or the end (`right`)."
    )
    packing: bool = param(
        False,
        "Count steps in blocks of at most `max_length` tokens, filled with whole examples (sft), as other tools do "
        "that pack. Examples stay separate rows.",
    )
    shuffle: bool = param(True, "Shuffle the data in every epoch; the order depends on the recipe's `seed`.")
    limit: int | None = param(None, "Maximum number of examples to use, from the start of the data.", unit="rows", ge=1)

    def first(self, count: int) -> Self:
        """Return the same data, of which only the first ``count`` rows are read."""
        return self.model_copy(update={"limit": min(count, self.limit or count)})

    def environment_split(self) -> str | None:
        """Return which of the environment's own tasks are drawn; ``None`` where tasks come from elsewhere."""
        return None

    def rows(self) -> int | None:
        """Return how many rows there are, where the spec itself says it."""
        return None

    def all_trained(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths of the parameters that train all tokens of examples."""
        return ()


class _Prompts(Data):
    """Parameters of data sources that render prompts."""

    system: str | None = param(None, "System message for prompts without one; put before a plain-text prompt as text.")
    chat: bool = param(False, "Apply the chat template to a text prompt, as the user's message.")
    template: TemplateRef | None = param(
        None, "Jinja template, or a file with one, that renders the prompt from the columns of an example; sandboxed."
    )


@component(
    "data",
    provides=("prompt_P", "completion_P", "chosen_P", "rejected_P"),
    impl="recipec.runtime.data.sources:File",
    state=True,
    uses=("policy", "environment"),
)
class File(_Prompts):
    """Load a JSONL or Parquet file, a directory of them, or a dataset of the Hugging Face Hub.

    The formats are those of TRL: ``prompt``; ``prompt`` + ``completion``; ``prompt`` + ``chosen`` + ``rejected``;
    ``messages``; each with an optional column ``images``.

    References:
        TRL, `Dataset formats <https://huggingface.co/docs/trl/dataset_formats>`_.
    """

    preflight: ClassVar[str] = "recipec.runtime.data.image_preflight:check"
    image_digests: ClassVar[str] = "recipec.runtime.data.image_preflight:digests"
    without_verifiers: ClassVar[str] = "rows of a `file`"

    type: Literal["file"] = "file"
    path: PathRef | None = param(None, "File or directory, relative to the YAML file that names it.")
    hub: str | None = param(None, "Dataset of the Hugging Face Hub, as `org/name[@revision]`.")
    config: str | None = param(None, "Configuration of a Hub dataset: the sub-folder with its files, such as `main`.")
    split: str | None = param(
        None,
        "Split of a Hub dataset, or the file `SPLIT.jsonl|parquet` of a directory; `SPLIT[:1000]` and `SPLIT[80%:]` "
        "are parts of it.",
    )
    val_share: float | None = param(
        None, "Fraction of the rows that is held out, drawn at random with `val_seed`; `part` says which are used.",
        unit="share", gt=0, lt=1,
    )  # fmt: skip
    val_rows: int | None = param(None, "Number of rows that is held out, in place of `val_share`.", unit="rows", ge=1)
    val_seed: int = param(42, "Seed of the held-out rows, which depend on nothing else.", ge=0)
    part: Literal["train", "val"] = param("train", "Use the rows that are not held out, or those that are.")
    train_on: Literal["answers", "all"] = param(
        "answers", "Tokens that are trained (sft): those of answers, or all tokens of prompt and conversation."
    )
    chat_template_kwargs: dict[str, Any] = param(
        dict, "Further variables of the chat template for all rows, such as `enable_thinking`; a row may replace them."
    )
    columns: Columns = param(Columns, "Column names, where they differ from the defaults.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        if self.config is not None and self.hub is None:
            raise ValueError("`config` is a part of a `hub` dataset: give the folder itself as `path`")
        if self.val_share is not None and self.val_rows is not None:
            raise ValueError("give one of `val_share` and `val_rows`")
        if self.part == "val" and self.val_share is None and self.val_rows is None:
            raise ValueError("`part: val` needs `val_share` or `val_rows`, the rows that are held out")
        return self

    def all_trained(self) -> tuple[tuple[str, ...], ...]:
        """Return `train_on`, if it is `all`."""
        return (("train_on",),) if self.train_on == "all" else ()


class MixedFile(File):
    """One source of a mixture: a file, a directory or a dataset of the Hub."""

    weight: float = param(
        1.0, "Rows in an epoch, relative to those of the source: 0.5 takes half of them, 2 takes each twice.", gt=0
    )


@component(
    "data",
    provides=("prompt_P", "completion_P", "chosen_P", "rejected_P"),
    impl="recipec.runtime.data.mixture:Mixture",
    state=True,
    uses=("policy", "environment"),
)
class Mix(Data):
    """Several sources in one stage, shuffled together.

    Each source has columns, template and lengths of its own. Rows get a column `data_source` with the name of their
    source, unless they have one, which rewards can read. A weight that is not whole takes a part of the rows at random,
    the same in every epoch. `limit` bounds the rows of all sources, one source after the other; that of a source bounds
    its own.

    References:
        verl, ``data.train_files``: a list of files, and ``data_source`` of each row.
        LLaMA-Factory, ``dataset`` and ``interleave_probs``; Axolotl, ``datasets``.
    """

    preflight: ClassVar[str] = "recipec.runtime.data.mixture:check"
    image_digests: ClassVar[str] = "recipec.runtime.data.mixture:digests"
    without_verifiers: ClassVar[str] = "rows of files"

    type: Literal["mix"] = "mix"
    sources: dict[str, MixedFile] = param(..., "Sources by name.", min_length=1)

    def first(self, count: int) -> Self:
        """Return the same data, of which only the first ``count`` rows of each source are read."""
        return self.model_copy(update={"sources": {name: part.first(count) for name, part in self.sources.items()}})

    def all_trained(self) -> tuple[tuple[str, ...], ...]:
        """Return `train_on` of the sources where it is `all`."""
        return tuple(("sources", name, *path) for name, part in self.sources.items() for path in part.all_trained())


@component(
    "data",
    provides=("prompt_P", "completion_P"),
    impl="recipec.runtime.data.reasoning_gym_tasks:ReasoningGym",
    state=True,
    uses=("policy", "environment"),
)
class ReasoningGym(_Prompts):
    """Procedurally generated tasks with verifiers, from the reasoning-gym package.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    packages: ClassVar[Mapping[str, str]] = {"reasoning-gym": "reasoning_gym"}
    extra: ClassVar[str] = "envs"
    without_images: ClassVar[str] = "its tasks are text"

    type: Literal["reasoning_gym"] = "reasoning_gym"
    task: str = param(..., "Name of the reasoning-gym task, such as `chain_sum`.")
    size: int = param(..., "Number of tasks to generate.", unit="tasks", ge=1)
    task_seed: int = param(0, "Seed of the task generator; use another seed for held-out tasks.")
    options: dict[str, Any] = param(dict, "Options of the task generator, such as `max_digits`.")
    prompt_suffix: str = param("", "Text appended to every question.")

    @model_validator(mode="after")
    def _of_generators(self) -> Self:
        every_options = [self.options]
        if self.task == "composite":
            parts = self.options.get("datasets")
            if not (isinstance(parts, list) and parts and all(map(_is_part, parts))):
                raise ValueError(
                    "`composite` mixes tasks: give `options: {datasets: [{name: chain_sum, weight: 1, config: {}}]}`, "
                    "each with a name, a weight above 0 and options of its own"
                )
            every_options += [part["config"] for part in parts]
        if any(key in options for options in every_options for key in ("size", "seed")):
            raise ValueError("`size` and `seed` are not options of a task: use `size` and `task_seed` of the data")
        return self

    def first(self, count: int) -> Self:
        """Return the same data with ``count`` tasks at most."""
        return self.model_copy(update={"size": min(count, self.size)})

    def rows(self) -> int:
        """Return `size`."""
        return self.size


def _is_part(part: Any) -> bool:
    """Whether this is a mapping that reasoning-gym's ``DatasetSpec`` takes."""
    return (
        isinstance(part, dict)
        and part.keys() == {"name", "weight", "config"}
        and isinstance(part["name"], str)
        and isinstance(part["weight"], int | float)
        and part["weight"] > 0
        and isinstance(part["config"], dict)
    )


@component(
    "data",
    requires=("rollouts",),
    provides=("prompt_P", "completion_P"),
    impl="recipec.runtime.data.rollout_tasks:Rollouts",
    state=True,
    uses=("policy",),
)
class Rollouts(Data):
    """Rejection sampling: the best rollouts of an earlier stage as training examples.

    References:
        Dong et al., `RAFT <https://arxiv.org/abs/2304.06767>`_, 2023.
    """

    type: Literal["rollouts"] = "rollouts"
    rollouts: SignalRef = param(..., "Rollouts to read, as `STAGE.rollouts`.")
    min_reward: float | None = param(None, "Minimum reward; rows below it are dropped.", unit="reward units")
    per_prompt: int = param(
        1, "Maximum number of rows per prompt, best first; of episodes if each row is a single step.", unit="rows", ge=1
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
    """Tasks that come with the stage's environment.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021; the tasks are its games.
    """

    without_images: ClassVar[str] = "an environment's own tasks are text"
    without_verifiers: ClassVar[str] = "an environment's own tasks"

    type: Literal["environment"] = "environment"
    split: str = param("train", "Split of the environment's tasks.")
    size: int | None = param(None, "Number of tasks; all if omitted.", unit="tasks", ge=1)
    task_seed: int = param(0, "Seed of generated tasks.", ge=0, lt=2**31)

    def environment_split(self) -> str:
        """Return `split`."""
        return self.split

    def rows(self) -> int | None:
        """Return `size`."""
        return self.size
