"""Environments for multi-turn rollouts; without one, an episode is a single completion."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from recipec.component import Component, PathRef, Section, component, param, when

_WORLD = ("state_key", "admissible_actions", "rewards", "tasks")


class Environment(Component):
    """Base class of environments."""

    slot: ClassVar[str] = "environment"
    preflight: ClassVar[str] = "recipec.runtime.environment.preflight:check"
    asks_tasks: ClassVar[bool] = False
    """Whether it asks each task for its own verifier."""
    only_own_tasks: ClassVar[bool] = False
    """Whether its tasks can be no rows of a file: they name its own games."""

    max_turns: int = param(50, "Maximum number of turns of an episode.", unit="turns", ge=1)
    timeout: float = param(
        30.0, "Maximum time for one environment step; beyond it the episode ends with an error.", unit="seconds", gt=0
    )

    def most_turns(self) -> int:
        """Return the most turns of an episode.

        >>> SearchQa(max_turns=3).most_turns(), Webshop(max_turns=3).most_turns()
        (4, 3)
        """
        return self.max_turns

    def longest_observation(self) -> int | None:
        """Return the most tokens of the environment's answer to a turn; ``None`` where nothing bounds it.

        >>> SearchQa().longest_observation(), ToolUse(functions=("add",), max_calls=2).longest_observation()
        (500, 1024)
        """
        return None

    def window(self) -> int | None:
        """Return how many earlier turns a turn's prompt shows; ``None`` where each turn continues the last one.

        >>> Webshop(history=2).window(), Webshop(history="append_only").window()
        (2, None)
        """
        return None

    def prompt_template(self) -> str | None:
        """Return the user's file that renders prompts of turns, if one is given."""
        return None

    def ignores_template(self) -> bool:
        """Whether a template is given by which no prompt is rendered."""
        return False


class Rendered(Environment):
    """Parameters of environments that render observations into prompts."""

    history: int | Literal["append_only"] = param(
        2,
        "Number of earlier observations and actions in the prompt of each turn, which is rendered for each turn;"
        " `append_only` continues the conversation instead, so that turns share their prefix.",
        unit="turns",
    )
    template: PathRef | None = param(
        None, "Jinja file that renders the prompt of each turn, in place of the built-in one."
    )
    chat: bool = param(
        True, "Apply the chat template to the prompt of each turn, as the user's message, if the tokenizer has one."
    )

    def window(self) -> int | None:
        """Return `history`, where it is a number."""
        return self.history if isinstance(self.history, int) else None

    def prompt_template(self) -> str | None:
        """Return `template`."""
        return self.template

    @model_validator(mode="after")
    def _some_history(self) -> Self:
        if isinstance(self.history, int) and self.history < 0:
            raise ValueError("`history` must be 0 or more turns, or `append_only`")
        return self


class Retriever(Section):
    """Document retrieval of a search environment."""

    type: Literal["sqlite", "http"] = param(
        "sqlite", "`sqlite` searches a local corpus, `http` queries a retrieval service."
    )
    corpus: PathRef | None = param(
        None, "JSONL file of documents with `title` and `text` (sqlite); the built-in corpus of countries if omitted."
    )
    service: str | None = param(None, "Name of the service under `machine.services` (http).")
    top_k: int = param(3, "Number of documents returned per query.", unit="documents", ge=1)
    timeout: float = param(10.0, "Maximum time for one query (http).", unit="seconds", gt=0)
    retries: int = param(3, "Number of retries after a failed query, with increasing delays (http).", ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.type == "http" and (self.service is None or self.corpus is not None):
            raise ValueError("`http` needs `service`, a name under machine.services, and takes no `corpus`")
        if self.type == "sqlite" and self.service is not None:
            raise ValueError("`sqlite` searches a local `corpus` and takes no `service`")
        unread = {"timeout": 10.0, "retries": 3}
        if self.type == "sqlite" and any(getattr(self, name) != usual for name, usual in unread.items()):
            raise ValueError("`timeout` and `retries` apply to `http` only; a local corpus is searched without retries")
        return self


@component(
    "environment",
    provides=("branchable", "state_key", "rewards"),
    impl="recipec.runtime.environment.search_qa:SearchQa",
    uses=("policy",),
)
class SearchQa(Environment):
    """Question answering with a search tool, as in Search-R1 and Tree-GRPO: think, search, read, answer.

    Differs from the authors' code in three points, deliberately: token ids are kept exactly as sampled, up to the token
    that completes a tag (the authors cut the text and tokenize it again); an episode that would exceed the sampler's
    `max_context_length` ends (the authors continue with its last tokens); truncated documents keep the closing tag of
    their block, and tags of the dialogue that occur inside documents are removed.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025.
        Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025.
    """

    type: Literal["search_qa"] = "search_qa"
    max_turns: int = param(3, "Maximum number of turns in which the policy may search.", unit="turns", ge=1)
    retriever: Retriever = param(Retriever, "Document retrieval.")
    max_observation_length: int = param(
        500, "Maximum length of the search results of a turn; longer ones are truncated.", unit="tokens", ge=1
    )
    force_final_answer: bool = param(
        True, "After the last search turn, let the policy answer once more without searching."
    )
    answer_stops: bool = param(
        True,
        "End a turn at `</answer>`, too. If false, as published, generation may continue after it, and the text up to"
        " the first `</search>` is kept; of an answer and a search, the first one in the text counts.",
    )
    history: int | Literal["append_only"] = param(
        "append_only",
        "`append_only` appends documents to the conversation (Search-R1, Tree-GRPO);"
        " with a number, each turn has its own prompt with that many earlier turns (GiGPO).",
        unit="turns",
    )
    template: PathRef | None = param(None, "Jinja file that renders the prompt of each turn, if `history` is a number.")
    answer: str = param("answer", "Column with the correct answer: text, or a list of accepted answers.")

    def most_turns(self) -> int:
        """Return the turns with a search, and the last one without."""
        return self.max_turns + self.force_final_answer

    def longest_observation(self) -> int:
        """Return the bound of search results."""
        return self.max_observation_length

    def window(self) -> int | None:
        """Return `history`, where it is a number."""
        return self.history if isinstance(self.history, int) else None

    def prompt_template(self) -> str | None:
        """Return `template`."""
        return self.template

    def ignores_template(self) -> bool:
        """Whether there is a template, and the dialogue goes on from the task's own prompt."""
        return self.template is not None and self.window() is None


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.alfworld.games:Alfworld",
    uses=("policy",),
)
class Alfworld(Rendered):
    """Household tasks in text (ALFWorld), run by the TextWorld engine.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021.
    """

    packages: ClassVar[Mapping[str, str]] = {"alfworld": "alfworld"}
    extra: ClassVar[str] = "envs"

    only_own_tasks: ClassVar[bool] = True

    type: Literal["alfworld"] = "alfworld"
    games: PathRef | None = param(
        None,
        "Folder of `.tw-pddl` games with one subfolder per split;"
        " if omitted, games are generated from the floor plans of the package.",
    )
    goals: tuple[
        Literal[
            "pick_and_place_simple",
            "look_at_obj_in_light",
            "pick_clean_then_place_in_recep",
            "pick_heat_then_place_in_recep",
            "pick_cool_then_place_in_recep",
            "pick_two_obj_and_place",
        ],
        ...,
    ] = param((), "Task types; all six if empty.")


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.textworld.games:Textworld",
    uses=("policy",),
)
class Textworld(Rendered):
    """Text adventures generated by the TextWorld package.

    References:
        Côté et al., `TextWorld <https://arxiv.org/abs/1806.11532>`_, 2018.
    """

    packages: ClassVar[Mapping[str, str]] = {"textworld": "textworld"}
    extra: ClassVar[str] = "envs"

    only_own_tasks: ClassVar[bool] = True

    type: Literal["textworld"] = "textworld"
    rooms: int = param(3, "Number of rooms of a game.", unit="rooms", ge=1, le=100)
    objects: int = param(5, "Number of objects of a game.", unit="objects", ge=1, le=200)
    quest_length: int = param(3, "Number of commands in the shortest solution.", unit="turns", ge=1, le=50)


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.webshop.shop:Webshop",
    uses=("policy",),
)
class Webshop(Rendered):
    """Online shopping (WebShop): find and buy a product that matches an instruction.

    References:
        Yao et al., `WebShop <https://arxiv.org/abs/2207.01206>`_, 2022.
    """

    only_own_tasks: ClassVar[bool] = True

    type: Literal["webshop"] = "webshop"
    max_turns: int = param(15, "Maximum number of turns of an episode.", unit="turns", ge=1)
    catalogue: PathRef | None = param(None, "JSON file of products; the small built-in catalogue if omitted.")
    instructions: PathRef | None = param(None, "JSON file of instructions, if the catalogue contains none.")


@component(
    "environment",
    provides=(*_WORLD, when("replayable", "branchable")),
    impl="recipec.runtime.environment.gymnasium:Gymnasium",
    uses=("policy",),
)
class Gymnasium(Rendered):
    """An environment of the Gymnasium registry with text observations.

    References:
        Towers et al., `Gymnasium <https://arxiv.org/abs/2407.17032>`_, 2024.
    """

    packages: ClassVar[Mapping[str, str]] = {"gymnasium": "gymnasium"}
    extra: ClassVar[str] = "envs"

    type: Literal["gymnasium"] = "gymnasium"
    id: str = param(..., "Id in the Gymnasium registry, such as `FrozenLake-v1`.")
    options: dict[str, Any] = param(dict, "Keyword arguments of the environment.")
    actions: tuple[str, ...] = param((), "Names of the actions, in the order of their numbers; the numbers if empty.")
    replayable: bool = param(
        False, "Same seed and actions always give the same episode, so that it can be continued from any step."
    )

    @field_validator("actions")
    @classmethod
    def _told_apart(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        names = [name.strip().casefold() for name in actions]
        if "" in names:
            raise ValueError("the name of an action cannot be empty")
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ValueError(f"two actions have the name `{twice}`; case is ignored")
        return actions


@component(
    "environment",
    provides=("branchable", "state_key", "rewards"),
    impl="recipec.runtime.environment.reasoning_gym:ReasoningGymEpisodes",
    uses=("policy",),
)
class ReasoningGymEpisodes(Rendered):
    """Multi-turn reasoning-gym tasks: after a wrong answer, the policy may try again.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    packages: ClassVar[Mapping[str, str]] = {"reasoning-gym": "reasoning_gym"}
    extra: ClassVar[str] = "envs"
    asks_tasks: ClassVar[bool] = True

    type: Literal["reasoning_gym"] = "reasoning_gym"
    max_turns: int = param(3, "Maximum number of attempts of an episode.", unit="turns", ge=1)
    history: int | Literal["append_only"] = param(
        "append_only",
        "`append_only` continues the conversation; with a number, each prompt shows that many earlier attempts.",
        unit="turns",
    )


@component(
    "environment",
    provides=(*_WORLD, when("replayable", "branchable")),
    impl="recipec.runtime.environment.user_env:UserEnvironment",
    uses=("policy",),
)
class Own(Rendered):
    """A user-defined environment class from a file listed under `use`; it runs in a separate process.

    ``reset(task, seed)`` and ``step(action)`` return text, or a mapping with ``observation`` and, as needed,
    ``reward``, ``terminated``, ``truncated``, ``actions``, ``state``, ``valid``.

    References:
        Towers et al., `Gymnasium <https://arxiv.org/abs/2407.17032>`_, 2024: the interface is theirs.
    """

    user_code: ClassVar[Literal["", "function", "class", "tool"]] = "class"

    type: Literal["own"] = "own"
    name: str = param(..., "Name of the class.")
    options: dict[str, Any] = param(dict, "Keyword arguments of the class.")
    replayable: bool = param(
        False, "Same task, seed and actions always give the same episode, so that it can be continued from any step."
    )

    def user_names(self) -> tuple[str, ...]:
        """Return the name of the class."""
        return (self.name,)


@component(
    "environment",
    provides=("branchable", "state_key"),
    impl="recipec.runtime.environment.tools.tool_use:ToolUse",
    uses=("policy",),
)
class ToolUse(Environment):
    """Functions of the user as tools of the chat template, called over several turns.

    The template shows name, docstring and parameters of each function (`tools`), and their results as messages of the
    role `tool`. A turn that calls no function is the answer and ends the episode. Only tokens of the policy are
    trained, and what it wrote stays as it was sampled. Functions run in child processes with a deadline, without
    sockets and without writing files; a failed call is an answer that the policy reads.

    References:
        Hugging Face, `Tool use <https://huggingface.co/docs/transformers/chat_extras>`_: templates and schemas.
        TRL, ``GRPOTrainer(tools=…)``; verl, ``multi_turn.tool_config_path``.
    """

    user_code: ClassVar[Literal["", "function", "class", "tool"]] = "tool"

    type: Literal["tool_use"] = "tool_use"
    functions: tuple[str, ...] = param(
        ..., "Names of the functions, which are at the top level of files listed under `use`.", min_length=1
    )
    form: Literal["hermes", "llama", "mistral"] | None = param(
        None,
        "Form of calls: `<tool_call>` with JSON (Hermes, Qwen), JSON alone (Llama 3), or `[TOOL_CALLS]` (Mistral); that"
        " of the chat template if omitted.",
    )
    max_turns: int = param(5, "Maximum number of turns of an episode; the last one makes no calls.", unit="turns", ge=1)
    max_calls: int = param(4, "Maximum number of calls that are made in one turn.", unit="calls", ge=1)
    max_observation_length: int = param(
        512, "Maximum length of the result of a call; longer ones are truncated.", unit="tokens", ge=1
    )

    def longest_observation(self) -> int:
        """Return the bound of all results of a turn."""
        return self.max_calls * self.max_observation_length

    def user_names(self) -> tuple[str, ...]:
        """Return `functions`."""
        return self.functions
