"""Knowledge graphs that a model extracts from documents; the extracted facts are kept with the stage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyoxigraph as ox

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.errors.data import missing_column
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import committed, hash_tree, read_manifest, verify_folder, write_atomic
from recipec.host.jsonl import read_lines, to_lines
from recipec.host.templates import Renderer
from recipec.package_files import named_file, shipped
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext, StoppedBeforeFirstStep
from recipec.runtime.data.encode import Encoder
from recipec.runtime.data.files import Row, read_rows
from recipec.runtime.data.templates import read_template
from recipec.runtime.knowledge.embedding_search import resembling
from recipec.runtime.knowledge.extraction_parser import Stated, read as read_answer, sentence_of
from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph
from recipec.runtime.knowledge.rdf_terms import Names
from recipec.runtime.knowledge.sparql_queries import Stored
from recipec.runtime.knowledge.store_cache import key_of, open_store
from recipec.runtime.knowledge.triple_files import stated
from recipec.runtime.knowledge.triples import reads
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import merged, origin_of
from recipec.runtime.protocols import Policy, RolloutEngine
from recipec.runtime.rollout.chain import sample
from recipec.runtime.rollout.engine import SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec import knowledge as specs, policy as policy_spec
from recipec.spec.attention import Dense
from recipec.spec.recipe import weights_kind
from recipec.spec.rollout_engine import Hf

FACTS = "facts.jsonl"
CHUNK = 32
"""Documents of a chunk, after which the facts are saved."""
_OWN = "extract.j2"


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and its place.

    Example: ``Document("Psoriasis itches.", "texts.jsonl", 3)``.
    """

    text: str
    file: str
    number: int


class Extract(KnowledgeGraph):
    """A knowledge graph extracted from documents; see :class:`recipec.spec.knowledge.Extract`."""

    def __init__(
        self, spec: specs.Extract, context: StageContext, *, policy: Policy, rollout_engine: RolloutEngine
    ) -> None:
        """Extract the facts, or read those that were extracted before.

        Raises:
            RecipeError: RC700 to RC705 of the documents, RC871 no fact is left; what loading the model
                raises.
            StoppedEarly: a stop was requested; facts extracted so far are kept.
        """
        read_facts = extracted(spec, context, policy, rollout_engine)
        facts = [fact for fact in read_facts if fact["confidence"] >= spec.min_confidence]
        shown = f"read from {spec.path}"
        if not facts:
            problem = (
                f"none of {len(read_facts)} has a confidence of {spec.min_confidence:g}"
                if read_facts
                else "no fact was read"
            )
            raise RecipeError(errors.no_facts(shown, problem))
        names = Names(spec.names)
        store = open_store(context.cache, key_of("extract", facts, spec.names), lambda: statements(facts, names))
        super().__init__(Stored(store, shown), reads(spec), resembling(spec, context), spec.min_similarity)


def statements(facts: Sequence[Mapping[str, Any]], names: Names) -> Iterator[ox.Quad]:
    """Yield facts as statements; their named graph is the sentence and its place."""
    named: set[ox.NamedNode] = set()
    for fact in facts:
        place = f"{fact['file']}:{fact['row']}: {fact['sentence']}"
        yield from stated((fact["subject"], fact["relation"], fact["object"]), place, names, named)


def extracted(
    spec: specs.Extract, context: StageContext, policy: Policy, engine: RolloutEngine
) -> list[dict[str, Any]]:
    """Return the facts of the documents with sentence and confidence, extracting them the first time."""
    texts = documents(spec, context.root)
    name = spec.prompt or _OWN
    path = named_file(context.root, spec.prompt) if spec.prompt else shipped("templates") / "prompts" / _OWN
    template = read_template(path, name).removesuffix("\n")
    params = spec.model_dump(mode="json", include=set(specs.EXTRACTION))
    key = key_of(
        "extracted", params, template, [[d.text, d.file, d.number] for d in texts], _model(spec, context), context.seed
    )
    home = (context.home or context.cache) / "extracted" / key
    ranks = context.ranks
    if ranks.on_leader(lambda: verify_folder(home) is None):
        parts = home.with_name(f"{key}-parts")
        rendered = _rendered(template, name, texts, own=spec.prompt is None)
        facts, left_out = _Reader(spec, context, parts, policy, engine).read(texts, rendered)
        about = {"artifact": "knowledge", "digest": key, "stage": context.stage, "left_out": dict(left_out)}
        with committed(home, about) as folder:
            (folder / FACTS).write_text(to_lines(facts), encoding="utf-8")
        counts = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(left_out.items()))
        context.say(
            f"{len(facts)} facts read from {len(texts)} documents" + (f"; left out: {counts}" if counts else "")
        )
    ranks.barrier()
    return read_lines(home / FACTS)


def documents(spec: specs.Extract, root: Path) -> list[Document]:
    """Read the documents.

    Raises:
        RecipeError: RC700 to RC704; RC705, a row has no text in the column.
    """
    rows = read_rows(named_file(root, spec.path), None, spec.path, spec.limit)
    return [Document(_text(row, spec.column), row.file, row.number) for row in rows]


def _text(row: Row, column: str) -> str:
    text = row.columns.get(column)
    if not isinstance(text, str) or not text.strip():
        raise RecipeError(missing_column(row.file, row.number, column, row.columns, "knowledge.column"))
    return text.encode("utf-8", "replace").decode()


def _rendered(template: str, name: str, texts: Sequence[Document], *, own: bool) -> list[str]:
    renderer = Renderer(template, name, own=own)
    try:
        return renderer.rows([{"document": d.text} for d in texts], lambda i: f"{texts[i].file}:{texts[i].number}")
    finally:
        renderer.close()


def _model(spec: specs.Extract, context: StageContext) -> str:
    """Identify the weights of the model; for those of the stage itself its name is enough."""
    if spec.model is None:
        return context.stage
    if weights_kind(spec.model) == "stage":
        return str((read_manifest(context.artifacts[f"{spec.model}.policy"]) or {}).get("digest"))
    return hash_tree(context.root / spec.model) if weights_kind(spec.model) == "directory" else spec.model


class _Reader:
    """Extracts facts with a model, chunk by chunk."""

    def __init__(
        self, spec: specs.Extract, context: StageContext, parts: Path, policy: Policy, engine: RolloutEngine
    ) -> None:
        self.spec, self.context, self.parts = spec, context, parts
        self.policy, self.engine = policy, engine
        self.left_out: Counter[str] = Counter()

    def read(self, texts: Sequence[Document], prompts: Sequence[str]) -> tuple[list[dict[str, Any]], Counter[str]]:
        reading: tuple[Policy, RolloutEngine] | None = None
        collected: list[dict[str, Any]] = []
        for start in range(0, len(texts), CHUNK):
            kept = self.parts / f"{start:08d}.json"
            part = self.context.ranks.on_leader(partial(_kept, kept))
            if part is None:
                if self.context.stopped():
                    raise StoppedBeforeFirstStep
                reading = reading or self._reading()
                part = self._chunk(*reading, texts[start : start + CHUNK], prompts[start : start + CHUNK], start)
                write_atomic(kept, json.dumps(part))
            facts, left_out = part
            collected += facts
            self.left_out.update(left_out)
        return _once(collected, self.left_out), self.left_out

    def _reading(self) -> tuple[Policy, RolloutEngine]:
        """Return the extracting model and its rollout engine."""
        if self.spec.model is None:
            return self.policy, self.engine
        origin = merged(origin_of(self.spec.model, self.context), self.context)
        policy = CausalLm(policy_spec.CausalLm(), self.context, origin)
        policy.set_attention(DenseAttention(Dense(), self.context))
        return policy, HfEngine(Hf(), self.context, policy=policy)

    def _chunk(
        self,
        policy: Policy,
        engine: RolloutEngine,
        texts: Sequence[Document],
        prompts: Sequence[str],
        start: int,
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        policy.eval()
        encoder = Encoder(policy, chat=self.spec.chat and bool(policy.tokenizer.chat_template))
        room = policy.max_positions - self.spec.max_completion_length
        left_out: Counter[str] = Counter()
        tasks, documents = [], []
        for place, (document, prompt) in enumerate(zip(texts, prompts, strict=True), start):
            task = encoder.task(Row(place, document.file, document.number, {}), prompt)
            if len(task.prompt_ids) > room:
                left_out["too_long_documents"] += 1
                continue
            tasks.append(task)
            documents.append(document)
        sampling = SamplingParams(self.spec.max_completion_length, self.spec.temperature, self.spec.top_p)
        key = (self.context.seed, self.context.stage, "extract")
        groups = sample(engine, tasks, sampling, self.spec.samples, key) if tasks else []
        facts: list[dict[str, Any]] = []
        for document, group in zip(documents, groups, strict=True):
            statements = [list(read_answer(c.ids, c.logprob, policy.decode, lower=self.spec.lower)) for c in group]
            facts += self._facts(document, statements, left_out)
        return facts, left_out

    def _facts(
        self, document: Document, statements: Sequence[Sequence[Stated]], left_out: Counter[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the facts of a document that a sentence states, each once, with their confidence."""
        agreed: dict[tuple[str, ...], list[Stated]] = {}
        for sampled in statements:
            for fact in {one.folded: one for one in reversed(sampled)}.values():
                agreed.setdefault(fact.folded, []).append(fact)
        if not agreed:
            left_out["documents_without_facts"] += 1
        for same in agreed.values():
            sentence = sentence_of(document.text, same[0])
            if not sentence:
                left_out["facts_that_no_sentence_names"] += 1
                continue
            share = len(same) / len(statements)
            sure = share if self.spec.confidence == "consistency" else max(fact.probability for fact in same)
            yield {
                **{part: getattr(same[0], part) for part in ("subject", "relation", "object")},
                "confidence": sure,
                "sentence": sentence,
                "file": document.file,
                "row": document.number,
            }


def _kept(path: Path) -> Any:
    """Read what was extracted of some documents before the run was killed, if it was."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _once(facts: Sequence[dict[str, Any]], left_out: Counter[str]) -> list[dict[str, Any]]:
    """Keep the most confident of equal facts."""
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    for fact in facts:
        same = (fact["subject"], fact["relation"], fact["object"])
        if same in best:
            left_out["repeated_facts"] += 1
        if same not in best or fact["confidence"] > best[same]["confidence"]:
            best[same] = fact
    return list(best.values())
