"""What a knowledge graph answers, wherever it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from recipec.runtime.protocols import Part

if TYPE_CHECKING:
    from recipec.runtime.knowledge.statements import Link, Triple


class Knowledge(Part, ABC):
    """A knowledge graph: entities with labels, facts between them, classes above classes; answers are ordered."""

    relations: frozenset[str]
    closed: frozenset[str]
    """Relations of which the graph lists every object."""
    functional: frozenset[str]
    """Relations that have one object at most."""

    @property
    @abstractmethod
    def description(self) -> str:
        """The graph and its size in words, for whoever watches the run."""

    @abstractmethod
    def label(self, entity: str) -> str:
        """Return an entity's preferred name."""

    @abstractmethod
    def link(self, text: str, top_k: int | None = None) -> list[Link]:
        """Return the entities that a text mentions, the surest first where ``top_k`` bounds them."""

    @abstractmethod
    def relation_links(self, text: str) -> list[Link]:
        """Return the relations that a text names."""

    @abstractmethod
    def neighborhood(
        self,
        entities: Iterable[str],
        hops: int,
        relations: Sequence[str] = (),
        direction: Literal["out", "in", "both"] = "out",
    ) -> list[Triple]:
        """Return the facts within ``hops`` steps of the entities, nearer ones first."""

    @abstractmethod
    def verbalize(self, triple: Triple) -> str:
        """Put a fact into words."""

    @abstractmethod
    def facts_about(self, entity: str) -> list[Triple]:
        """Return the facts that an entity is the subject of."""

    @abstractmethod
    def ancestors(self, entity: str) -> frozenset[str]:
        """Return an entity and every class above it."""

    @abstractmethod
    def disjoint(self, entity: str) -> frozenset[str]:
        """Return the classes that share nothing with a class."""

    @abstractmethod
    def relations_into(self, entity: str) -> frozenset[str]:
        """Return the relations that an entity, or a subclass of it, is the object of."""

    @abstractmethod
    def has_facts(self, entity: str) -> bool:
        """Whether facts other than its classes begin at an entity."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The relation that says what an entity is, where a text claims it."""

    @property
    @abstractmethod
    def kinds(self) -> frozenset[str]:
        """The relations that say what an entity is."""

    @abstractmethod
    def may_be_classes(self, entity: str, thing: str) -> bool:
        """Whether both may be classes, one above the other."""

    @abstractmethod
    def negative(self, relation: str) -> str | None:
        """Return the relation that denies another one."""

    @abstractmethod
    def positive(self, relation: str) -> str:
        """Return the relation that one denies, or the relation itself."""
