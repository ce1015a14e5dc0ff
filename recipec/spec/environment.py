"""Who answers the policy; absent, an episode is one completion."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from recipec.component import Component, PathRef, Section, component, param, when

_WORLD = ("state_key", "admissible_actions", "rewards", "tasks")


class Environment(Component):
    """Base class of environments."""

    slot: ClassVar[str] = "environment"

    max_turns: int = param(50, "Turns of an episode.", unit="turns", ge=1)
    timeout: float = param(
        30.0, "Time for one answer of the environment; past it the episode ends in error.", unit="seconds", gt=0
    )


class _Shown(Environment):
    """What an environment can say whose states are shown to the policy in a prompt."""

    history: int | Literal["append_only"] = param(
        2,
        "Earlier observations and actions shown in each turn's prompt, which is written anew;"
        " `append_only`: each turn continues the conversation, so that turns share their prefix.",
        unit="turns",
    )
    template: PathRef | None = param(None, "Jinja file that renders each turn's prompt, in place of the shipped one.")
    chat: bool = param(
        True, "Put each turn's prompt into the chat template, as the user's message, where the tokenizer has one."
    )

    @model_validator(mode="after")
    def _some_history(self) -> _Shown:
        if isinstance(self.history, int) and self.history < 0:
            raise ValueError("`history` is 0 or more turns, or `append_only`")
        return self


class Retriever(Section):
    """Where documents come from."""

    type: Literal["sqlite", "http"] = param("sqlite", "`sqlite`: a corpus searched here; `http`: a retrieval service.")
    corpus: PathRef | None = param(
        None, "JSONL file of documents with `title` and `text` (sqlite); the shipped corpus of countries if absent."
    )
    service: str | None = param(None, "Name of the service under machine.services (http).")
    top_k: int = param(3, "Documents returned to a query.", unit="documents", ge=1)
    timeout: float = param(10.0, "Time for one query (http).", unit="seconds", gt=0)
    retries: int = param(3, "Further attempts after a failed query, each waiting longer (http).", ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> Retriever:
        if self.type == "http" and (self.service is None or self.corpus is not None):
            raise ValueError("`http` takes `service`, a name under machine.services, and no `corpus`")
        if self.type == "sqlite" and self.service is not None:
            raise ValueError("`sqlite` searches a `corpus` here and takes no `service`")
        unread = {"timeout": 10.0, "retries": 3}
        if self.type == "sqlite" and any(getattr(self, name) != usual for name, usual in unread.items()):
            raise ValueError("`timeout` and `retries` are of `http`: a corpus searched here is never asked twice")
        return self


@component(
    "environment",
    provides=("branchable", "state_key", "rewards"),
    impl="recipec.runtime.environment.search_qa:SearchQa",
    uses=("policy",),
)
class SearchQa(Environment):
    """The search dialogue of Search-R1 and Tree-GRPO: think, search, read, answer.

    Three things depart from the authors' code, on purpose: ids stay exactly as they were sampled, up to the token that
    completes a tag (the authors cut text and encode it anew); an episode that would pass the sampler's
    `max_context_length` ends (the authors go on with its last tokens); documents that are cut keep the closing tag of
    their block, and lose tags of the dialogue that they spell.

    References:
        Jin et al., `Search-R1 <https://arxiv.org/abs/2503.09516>`_, 2025.
        Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025.
    """

    type: Literal["search_qa"] = "search_qa"
    max_turns: int = param(3, "Turns in which the policy may search.", unit="turns", ge=1)
    retriever: Retriever = param(Retriever, "Where documents come from.")
    max_observation_length: int = param(500, "Longest answer of the retriever; more is cut.", unit="tokens", ge=1)
    force_final_answer: bool = param(True, "After the last turn, let the policy answer once more, without search.")
    answer_stops: bool = param(
        True,
        "A turn ends at `</answer>` too; false, as published: it may go on and keeps what stands up to the first"
        " `</search>`; of an answer and a search the one that stands first is what it does.",
    )
    history: int | Literal["append_only"] = param(
        "append_only",
        "`append_only`: documents are appended to the dialogue (Search-R1, Tree-GRPO);"
        " a number: each turn is a prompt of its own with that many earlier turns (GiGPO).",
        unit="turns",
    )
    template: PathRef | None = param(None, "Jinja file that renders each turn's prompt, with a number for `history`.")
    answer: str = param("answer", "Column with the right answer: text, or a list of right answers.")


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.alfworld.games:Alfworld",
    uses=("policy",),
)
class Alfworld(_Shown):
    """Household games in text, played by the TextWorld engine.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021.
    """

    type: Literal["alfworld"] = "alfworld"
    games: PathRef | None = param(
        None, "Folder of `.tw-pddl` games, one folder a split; absent: games are made from the package's floor plans."
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
    ] = param((), "Kinds of tasks; all six if empty.")


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.textworld.games:Textworld",
    uses=("policy",),
)
class Textworld(_Shown):
    """Text adventures that the TextWorld package generates.

    References:
        Côté et al., `TextWorld <https://arxiv.org/abs/1806.11532>`_, 2018.
    """

    type: Literal["textworld"] = "textworld"
    rooms: int = param(3, "Rooms of a game.", unit="rooms", ge=1, le=100)
    objects: int = param(5, "Objects in it.", unit="objects", ge=1, le=200)
    quest_length: int = param(3, "Commands that the shortest solution takes.", unit="turns", ge=1, le=50)


@component(
    "environment",
    provides=("branchable", *_WORLD),
    impl="recipec.runtime.environment.webshop.shop:Webshop",
    uses=("policy",),
)
class Webshop(_Shown):
    """Find and buy a product that fits an instruction.

    References:
        Yao et al., `WebShop <https://arxiv.org/abs/2207.01206>`_, 2022.
    """

    type: Literal["webshop"] = "webshop"
    max_turns: int = param(15, "Turns of an episode.", unit="turns", ge=1)
    catalogue: PathRef | None = param(None, "JSON file of products; the small shipped catalogue if absent.")
    instructions: PathRef | None = param(None, "JSON file of instructions, where the catalogue has none of its own.")


@component(
    "environment",
    provides=(*_WORLD, when("replayable", "branchable")),
    impl="recipec.runtime.environment.gymnasium:Gymnasium",
    uses=("policy",),
)
class Gymnasium(_Shown):
    """An environment of the gymnasium registry, with text observations.

    References:
        Towers et al., `Gymnasium <https://arxiv.org/abs/2407.17032>`_, 2024.
    """

    type: Literal["gymnasium"] = "gymnasium"
    id: str = param(..., "Name in gymnasium's registry, such as `FrozenLake-v1`.")
    options: dict[str, Any] = param(dict, "Arguments of the environment.")
    actions: tuple[str, ...] = param((), "Names of its actions, in order; their numbers if empty.")
    replayable: bool = param(
        False, "Same seed and actions give the same episode, so that it can be gone on from any step."
    )

    @field_validator("actions")
    @classmethod
    def _told_apart(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        names = [name.strip().casefold() for name in actions]
        if "" in names:
            raise ValueError("a name of an action may not be empty")
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ValueError(f"two actions are called `{twice}`; case does not count")
        return actions


@component(
    "environment",
    provides=("branchable", "state_key", "rewards"),
    impl="recipec.runtime.environment.reasoning_gym:ReasoningGymEpisodes",
    uses=("policy",),
)
class ReasoningGymEpisodes(_Shown):
    """Tasks of reasoning-gym as episodes: a wrong answer is told so, and may be tried again.

    References:
        Stojanovski et al., `Reasoning Gym <https://arxiv.org/abs/2505.24760>`_, 2025.
    """

    type: Literal["reasoning_gym"] = "reasoning_gym"
    max_turns: int = param(3, "Answers of an episode.", unit="turns", ge=1)
    history: int | Literal["append_only"] = param(
        "append_only",
        "`append_only`: tries follow each other in one conversation; a number: earlier tries shown.",
        unit="turns",
    )


@component(
    "environment",
    provides=(*_WORLD, when("replayable", "branchable")),
    impl="recipec.runtime.environment.user_env:UserEnvironment",
    uses=("policy",),
)
class Own(_Shown):
    """A class of the user's own file, named under the recipe's `use`; it runs in a process that may be killed.

    ``reset(task, seed)`` and ``step(action)`` return text, or a mapping with ``observation`` and, as needed,
    ``reward``, ``terminated``, ``truncated``, ``actions``, ``state``, ``valid``.

    References:
        Towers et al., `Gymnasium <https://arxiv.org/abs/2407.17032>`_, 2024, whose two verbs these are.
    """

    type: Literal["own"] = "own"
    name: str = param(..., "Name of the class.")
    options: dict[str, Any] = param(dict, "Arguments of the class.")
    replayable: bool = param(
        False, "Same task, seed and actions give the same episode, so that it can be gone on from any step."
    )
