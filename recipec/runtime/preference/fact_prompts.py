"""Prompts with facts of a knowledge graph, encoded as text without control tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import preference as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.templates import Renderer, template_columns
from recipec.package_files import named_file, shipped
from recipec.runtime.batch import Message, Task, question
from recipec.runtime.context import StageContext
from recipec.runtime.data.templates import read_template
from recipec.runtime.knowledge.consistency import topic
from recipec.runtime.knowledge.statements import Triple
from recipec.runtime.protocols import Policy
from recipec.spec import preference as specs

if TYPE_CHECKING:
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph

_OWN = "kg_rag.j2"


@dataclass(frozen=True, slots=True)
class PromptWithFacts:
    """A task, and the same task with facts before its question.

    Example: ``PromptWithFacts(task, informed, ["psoriasis"], [triple], ["psoriasis has symptom itching."])``.
    """

    own: Task
    task: Task
    about: list[str]
    """Entities that were looked up."""
    triples: list[Triple]
    facts: list[str]
    """The triples in the words and the order of the prompt."""


class FactPromptBuilder:
    """Adds facts about the entities of a question to its prompt, as many as fit.

    ``left_out`` counts tasks with too few facts.

    Example: ``FactPromptBuilder(spec, context, longest=64)(tasks)``.
    """

    def __init__(
        self, spec: specs.KgRag, context: StageContext, policy: Policy, knowledge: KnowledgeGraph, longest: int
    ) -> None:
        """Read the template; ``longest`` is the longest answer, in tokens.

        Raises:
            RecipeError: RC700 or RC712, the template cannot be read; RC887, it leaves out the facts or the question.
        """
        self.spec, self.context, self.longest = spec, context, longest
        self.policy = policy
        self.knowledge = knowledge
        self.left_out: Counter[str] = Counter()
        self.name = spec.template or _OWN
        own = shipped("templates") / "prompts" / _OWN
        self.text = read_template(own if spec.template is None else named_file(context.root, spec.template), self.name)

    def __call__(self, tasks: Sequence[Task]) -> list[PromptWithFacts]:
        """Return the tasks that have enough facts, with these facts.

        Raises:
            RecipeError: RC741 a task has no topic, RC713 the template failed.
        """
        self.left_out = Counter()
        renderer = Renderer(self.text, self.name, own=self.spec.template is None)
        missing = {"question", "facts"} - template_columns(self.text)
        if missing:
            raise RecipeError(errors.facts_not_shown(self.name, min(missing)))
        try:
            return [fact_prompt for task in tasks if (fact_prompt := self._fact_prompt(task, renderer)) is not None]
        finally:
            renderer.close()

    def _fact_prompt(self, task: Task, renderer: Renderer) -> PromptWithFacts | None:
        about = topic(self.knowledge, task, self.spec.topic, self.spec.top_k)
        if not about:
            self.left_out["unlinked"] += 1
            return None
        around = self.knowledge.neighborhood(about, self.spec.hops, self.spec.relations, self.spec.direction)
        triples = around[: self.spec.max_facts]
        facts = list(self._bounded(triples))
        room = self.policy.max_positions - self.longest

        def length(count: int) -> int:
            return len(self._informed(task, about, facts[:count], renderer).prompt_ids)

        least, most = self.spec.min_triples, len(facts)
        if most >= least and length(most) > room:  # the length grows with the number of facts: bisect
            most = least - 1 + bisect_right(range(least, most), room, key=length)
        if most < least:
            self.left_out["few_triples"] += 1
            return None
        informed = self._informed(task, about, facts[:most], renderer)
        return PromptWithFacts(task, informed, about, triples[:most], facts[:most])

    def _bounded(self, triples: Sequence[Triple]) -> Iterator[str]:
        """Yield one line for each fact, up to the most characters."""
        room = self.spec.max_fact_tokens
        for triple in triples:
            fact = " ".join(self.knowledge.verbalize(triple).split())
            room -= len(self.policy.encode(fact))
            if room < 0:
                return
            yield fact

    def _informed(self, task: Task, about: Sequence[str], facts: Sequence[str], renderer: Renderer) -> Task:
        labels = [" ".join(self.knowledge.label(entity).split()) for entity in about]
        values = {"question": question(task), "facts": list(facts), "entities": labels}
        (text,) = renderer.rows([values], lambda _: f"task {task.id}")
        text = text.strip("\n")
        if isinstance(task.prompt, str):
            return replace(task, prompt=text, prompt_ids=(*self._opening(task, task.prompt), *self.policy.encode(text)))
        prompt = _asking(task.prompt, text)
        more = {"images": task.images} if task.images else {}
        ids = self.policy.render(prompt, generation=True, variables=task.variables, **more)
        return replace(task, prompt=prompt, prompt_ids=tuple(ids))

    def _opening(self, task: Task, prompt: str) -> tuple[int, ...]:
        """Return the ids that the tokenizer puts before a plain prompt."""
        own = tuple(self.policy.encode(prompt))
        count = len(task.prompt_ids) - len(own)
        return task.prompt_ids[:count] if task.prompt_ids[max(0, count) :] == own else ()


def _asking(messages: Sequence[Message], text: str) -> list[Message]:
    """Replace the text of the last user message by ``text``; its images stay."""
    questions = [i for i, message in enumerate(messages) if message["role"] == "user"]
    place = questions[-1] if questions else len(messages) - 1
    copies = [dict(message) for message in messages]
    copies[place]["content"] = _said(copies[place]["content"], text)
    return list(copies)


def _said(content: Any, text: str) -> Any:
    """Replace the first text of a content by ``text``, which contains the other texts as part of the question."""
    if isinstance(content, str):
        return text
    texts = [i for i, part in enumerate(content) if part.get("type") == "text"]
    parts: list[Mapping[str, Any]] = [part for i, part in enumerate(content) if i not in texts[1:]]
    question = {"type": "text", "text": text}
    return [question if i == texts[0] else part for i, part in enumerate(parts)] if texts else [*parts, question]
