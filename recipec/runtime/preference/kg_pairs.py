"""Preference pairs judged by a knowledge graph: ``kg_rag`` and ``kg_rank``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import preference as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.knowledge.consistency import Judged, judge, topic, written
from recipec.runtime.preference import pair_files
from recipec.runtime.preference.fact_prompts import FactPromptBuilder
from recipec.runtime.preference.pair_files import Pair
from recipec.runtime.preference.sample_answers import Answer, AnswerRequest, AnswerSampler
from recipec.runtime.protocols import Policy, Preference
from recipec.runtime.rollout.chain import ChainSampler
from recipec.spec import preference as specs

if TYPE_CHECKING:
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph


class KnowledgePairs(Preference, ABC):
    """The common part of both: sample, judge, filter, write and read pairs."""

    def __init__(
        self,
        spec: specs.KgRag | specs.KgRank,
        context: StageContext,
        *,
        policy: Policy,
        knowledge: KnowledgeGraph,
        sampler: ChainSampler,
    ) -> None:
        """Sample answers of ``policy`` with the parameters of ``sampler``, and judge them by ``knowledge``."""
        self._common = spec
        self.context = context
        self.knowledge = knowledge
        self.answering = AnswerSampler(context, policy, sampler)
        self.pairs: list[Pair] = []
        self.left_out: dict[str, int] = {}
        """Number of prompts or pairs that were left out, by reason."""

    def __call__(self, prompt_P: Sequence[Task]) -> dict[str, Any]:
        """Build the pairs, with exactly the sampled ids.

        Raises:
            RecipeError: RC885 no pair is left, RC741 a row has no topic; and what sampling raises.
        """
        self._counts: Counter[str] = Counter()
        pairs = list(self._made(prompt_P))
        self.pairs = pair_files.widest(pairs, self._common.max_pairs)
        self._counts["over_max_pairs"] += len(pairs) - len(self.pairs)
        self.left_out = dict(self._counts)
        if not self.pairs:
            raise RecipeError(
                errors.no_pairs_left(self.context.stage, self._common.type_name, len(prompt_P), self.left_out)
            )
        out = errors.counted(self.left_out)
        self.context.say(f"{len(self.pairs)} pairs of {len(prompt_P)} prompts" + (f"; left out: {out}" if out else ""))
        return pair_files.columns(self.pairs)

    @abstractmethod
    def _made(self, tasks: Sequence[Task]) -> Iterator[Pair]:
        """Yield the pairs that pass the filters, and count the others."""

    def read(self, folder: Path, prompt_P: Sequence[Task]) -> dict[str, Any]:
        """Read pairs that were built before."""
        self.pairs, self.left_out = pair_files.read_pairs(folder, prompt_P)
        self.discard_partial()
        return pair_files.columns(self.pairs)

    def discard_partial(self) -> None:
        """Remove the intermediate answers, after the pairs are committed."""
        self.answering.discard_partial()

    def write(self, folder: Path) -> None:
        """Write the pairs with their evidence, and the number of pairs left out."""
        pair_files.write_pairs(folder, self.pairs, self.left_out)

    def _judged(self, answers: Sequence[Answer], about: Sequence[str]) -> list[Judged]:
        return [judge(self.knowledge, answer.text, about) for answer in answers]

    def _passes(self, task: Task, one: Answer, other: Answer) -> bool:
        reason = pair_files.reason_against(task, one, other, self._common)
        if reason is not None:
            self._counts[reason] += 1
        return reason is None

    def _pair(self, task: Task, chosen: _Scored, rejected: _Scored, about: Sequence[str], more: Any) -> Pair:
        margin = chosen.score - rejected.score
        evidence = {
            "rule": self._common.type_name,
            "about": list(about),
            "margin": margin,
            "chosen": {"score": chosen.score, **chosen.judged.evidence()},
            "rejected": {"score": rejected.score, **rejected.judged.evidence()},
            **more,
        }
        return Pair(task, chosen.answer, rejected.answer, margin, evidence)


@dataclass(frozen=True, slots=True)
class _Scored:
    answer: Answer
    judged: Judged
    score: float


class KgRank(KnowledgePairs):
    """Pair the answer of the highest score with that of the lowest; see :class:`recipec.spec.preference.KgRank`."""

    def __init__(self, spec: specs.KgRank, context: StageContext, **parts: Any) -> None:
        """Take the parameters; ``parts`` are those of :class:`KnowledgePairs`."""
        super().__init__(spec, context, **parts)
        self.spec = spec

    def _made(self, tasks: Sequence[Task]) -> Iterator[Pair]:
        about = [topic(self.knowledge, task, self.spec.topic, self.spec.top_k) for task in tasks]
        answers = self.answering([AnswerRequest("answer", task) for task in tasks])
        for task, group, entities in zip(tasks, answers, about, strict=True):
            judged = self._judged(group, entities)
            scored = [_Scored(a, j, j.score(self.spec)) for a, j in zip(group, judged, strict=True)]
            best, worst = max(scored, key=lambda one: one.score), min(scored, key=lambda one: one.score)
            if best.judged.known + worst.judged.known < self.spec.min_claims:
                self._counts["few_claims"] += 1
            elif best.score == worst.score:
                self._counts["tied"] += 1
            elif best.score - worst.score < self.spec.margin:
                self._counts["below_margin"] += 1
            elif self._passes(task, best.answer, worst.answer):
                yield self._pair(task, best, worst, entities, {"scores": [one.score for one in scored]})


class KgRag(KnowledgePairs):
    """Pair an answer written with facts with one written without; see :class:`recipec.spec.preference.KgRag`."""

    def __init__(self, spec: specs.KgRag, context: StageContext, **parts: Any) -> None:
        """Take the parameters and the template; ``parts`` are those of :class:`KnowledgePairs`.

        Raises:
            RecipeError: RC712 the template is not valid, RC887 it leaves out the facts or the question.
        """
        super().__init__(spec, context, **parts)
        self.spec = spec
        longest = self.answering.sampling.max_length
        self.informer = FactPromptBuilder(spec, context, parts["policy"], self.knowledge, longest)

    def _made(self, tasks: Sequence[Task]) -> Iterator[Pair]:
        informed = self.informer(tasks)
        self._counts.update(self.informer.left_out)
        asks = [ask for one in informed for ask in (AnswerRequest("told", one.task), AnswerRequest("answer", one.own))]
        answers = self.answering(asks)
        for i, one in enumerate(informed):
            more = {"triples": [written(triple) for triple in one.triples], "facts": one.facts}
            for with_facts, without in zip(answers[2 * i], answers[2 * i + 1], strict=True):
                if not self._passes(one.own, with_facts, without):
                    continue
                pair = [(a, self._judged([a], one.about)[0]) for a in (with_facts, without)]
                chosen, rejected = (_Scored(a, j, j.score(self.spec)) for a, j in pair)
                if self.spec.margin is not None and chosen.score - rejected.score < self.spec.margin:
                    self._counts["below_margin"] += 1
                else:
                    yield self._pair(one.own, chosen, rejected, one.about, more)
