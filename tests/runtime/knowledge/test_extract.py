"""Facts read by a model: its lines, their confidence and sentence, and that it reads once."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from support.knowledge_graphs import setting_in
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext, StoppedBeforeFirstStep
from recipec.runtime.knowledge import extract
from recipec.runtime.knowledge.claims import claims
from recipec.runtime.knowledge.extraction_parser import facts, read, sentence_of
from recipec.runtime.knowledge.verification import check
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec.knowledge import Extract
from recipec.spec.machine import Hf
from recipec.spec.policy import CausalLm as Spec

TEXTS = {"p": "It is known. psoriasis gives scaling.", "e": "eczema gives itching."}
SAYS = {"p": "psoriasis, gives, scaling\nok\nx, y, z", "e": "1. Eczema, gives, itching"}
TEMPLATE = "{{ document[0] }}:"


@pytest.fixture(scope="module")
def reader():
    """A model of a few thousand weights that has learnt what to write of the two documents."""
    shape = {"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64}
    spec = Spec.model_validate({"scratch": {**shape, "max_positions": 64}})
    policy = dense_policy(spec, setting_in(Path()))
    rows = [
        (policy.encode(f"{TEXTS[key][0]}:"), [*policy.encode(f" {said}"), policy.eos_id]) for key, said in SAYS.items()
    ]
    step = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = 0.0
        for prompt, answer in rows:
            ids = torch.tensor([[*prompt, *answer]])
            logits = policy.model(ids).logits[0, len(prompt) - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
        step.zero_grad()
        loss.backward()
        step.step()
    return policy.eval() or policy


@dataclass(frozen=True)
class Reading:
    """The context of a stage that reads, and the model that does."""

    context: StageContext
    policy: CausalLm

    @property
    def parts(self):
        """What a graph of read facts is built of."""
        return {"policy": self.policy, "rollout_engine": HfEngine(Hf(), self.context, policy=self.policy)}

    def graph(self, **params):
        """Open the graph of what is read."""
        return extract.Extract(Extract(**(PARAMS | params)), self.context, **self.parts)

    def facts(self, **params):
        """Return the facts that are read."""
        return extract.extracted(Extract(**(PARAMS | params)), self.context, *self.parts.values())


def ready(folder, policy):
    """Write documents and a template; return a stage there."""
    rows = [{"text": text} for text in TEXTS.values()]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.j2").write_text(TEMPLATE)
    context = setting_in(folder, home=folder / "stage")
    policy.context = context
    return Reading(context, policy)


PARAMS = {"path": "texts.jsonl", "prompt": "t.j2", "chat": False, "max_completion_length": 40, "temperature": 0.0}


def test_a_model_reads_documents(tmp_path, reader):
    """Its facts are a graph: lower case, each with its sentence; what no sentence names is counted and left out."""
    told = []
    stage = ready(tmp_path, reader)
    graph = replace(stage, context=replace(stage.context, say=told.append)).graph()

    (scaling,) = graph.facts_about("psoriasis")
    assert scaling.fact == ("psoriasis", "gives", "scaling")
    assert scaling.source == "texts.jsonl:1: psoriasis gives scaling."
    assert [t.object for t in graph.facts_about("eczema")] == ["itching"]
    assert told == ["2 facts read from 2 documents; left out: 1 facts that no sentence names"]
    assert check(graph, claims(graph, "Psoriasis gives scaling.")[0]).verdict == "supported"


def test_it_reads_once(tmp_path, reader, monkeypatch):
    """A run that continues reads what was kept; a bound on the confidence reads nothing anew."""
    stage = ready(tmp_path, reader)
    first = stage.facts()
    monkeypatch.setattr(extract, "sample", lambda *_: pytest.fail("it reads again"))

    assert stage.facts(min_confidence=0.5) == first
    with pytest.raises(RecipeError) as caught:
        stage.graph(min_confidence=1.0)
    assert caught.value.diagnostics[0].code == "RC871"


def test_a_kill_costs_some_documents(tmp_path, reader, monkeypatch):
    """What was read before a stop is kept: the rest is read later, and the facts are the same."""
    stage = ready(tmp_path, reader)
    whole = replace(stage, context=replace(stage.context, home=tmp_path / "other")).facts()
    monkeypatch.setattr(extract, "CHUNK", 1)
    asked = []
    stopping = replace(stage.context, stopped=lambda: bool(asked) or bool(asked.append(1)))
    with pytest.raises(StoppedBeforeFirstStep):
        replace(stage, context=stopping).facts()
    real, read_again = extract.sample, []
    monkeypatch.setattr(extract, "sample", lambda *args: read_again.append(1) or real(*args))

    assert stage.facts() == whole
    assert len(read_again) == 1


def test_confidence(tmp_path, reader):
    """Samples that agree are sure; the probability of a fact's tokens is near 1 for what was learnt."""
    stage = ready(tmp_path, reader)
    sure = stage.facts()
    agreed = stage.facts(temperature=1.0, samples=4, confidence="consistency")

    assert all(0.8 < fact["confidence"] <= 1 for fact in sure)
    best = {fact["subject"]: fact["confidence"] for fact in agreed}
    assert best["psoriasis"] in {0.25, 0.5, 0.75, 1.0}


def test_lines_are_parted():
    """A fact's probability is the mean over the tokens of its own line."""
    ids = [list(b"a, b, c\nd, e, f")[i] for i in range(15)]
    logprob = [0.0] * 8 + [-0.6931472] * 7
    found = list(read(ids, logprob, lambda part: bytes(part).decode(), lower=True))

    assert [fact.probability for fact in found] == [pytest.approx(1.0), pytest.approx(0.5)]


@pytest.mark.parametrize(
    "line",
    ["a, b", "a, b, c, d", ", b, c", "a, !!, c", f"{'a' * 101}, b, c", "Entity1, Relation, Entity2", "", "{" * 5000],
)
def test_other_lines_are_passed_over(line):
    """What is no fact is no error either: a model writes what it likes."""
    assert list(facts(f"{line}\nskin, has, scales", lower=False)) == [(1, ("skin", "has", "scales"))]


def test_a_fact_keeps_its_sentence():
    """The sentence with most of its words; none where no entity is named."""
    fact = next(read(list(b"rash, of, eczema"), [0.0] * 16, lambda part: bytes(part).decode(), lower=True))

    assert sentence_of("Rash occurs. The rash of eczema itches. Eczema is old.", fact) == "The rash of eczema itches."
    assert sentence_of("Nothing of it.", fact) == ""


def test_documents_without_text(tmp_path):
    """A row without the column is refused with its line."""
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"output": "b"}\n')
    with pytest.raises(RecipeError) as caught:
        extract.documents(Extract(path="texts.jsonl"), tmp_path)
    (found,) = caught.value.diagnostics
    assert (found.code, found.spans[0].line) == ("RC705", 2)
