"""Facts in prompts, and claims held against them, with a real graph and a policy from scratch."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from support.images import ask, build, noise
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import build_part
from recipec.runtime.images.picture import Picture, places
from recipec.runtime.knowledge.consistency import judge, topic
from recipec.runtime.knowledge.triples import Triples
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.preference.fact_prompts import FactPromptBuilder
from recipec.runtime.preference.sample_answers import Answer, AnswerRequest, AnswerSampler
from recipec.runtime.rollout.chain import ChainSampler
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec import knowledge, policy, preference, reward, sampler
from recipec.spec.machine import Hf

FACTS = """\
psoriasis\thas symptom\tscaling
psoriasis\thas symptom\titching
psoriasis\tis treated with\tcalcipotriol
rosacea\thas symptom\tflushing
rosacea\tis treated with\tmetronidazole
calcipotriol\tis sold as\ta cream
"""
SCRATCH = policy.Scratch(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_positions=400)


@dataclass(frozen=True)
class Align:
    """The context of a stage that makes pairs of a graph of facts, and the parts that it makes them with."""

    context: StageContext
    policy: CausalLm
    knowledge: Triples
    sampler: ChainSampler

    @property
    def root(self):
        """The recipe's folder."""
        return self.context.root

    def build(self, spec):
        """Build the part of a spec."""
        parts = {"policy": self.policy, "knowledge": self.knowledge, "sampler": self.sampler}
        return build_part(spec, self.context, parts)

    def informer(self, **params):
        """Build what puts facts before questions that are answered in 8 tokens."""
        return FactPromptBuilder(preference.KgRag(**params), self.context, self.policy, self.knowledge, 8)

    def answers(self):
        """Build what samples answers."""
        return AnswerSampler(self.context, self.policy, self.sampler)


def sampler_of(context, policy, **params):
    """Build a sampler of two answers of at most eight tokens."""
    spec = sampler.Chain(num_generations=2, max_completion_length=8, **params)
    return ChainSampler(spec, context, policy=policy, rollout_engine=HfEngine(Hf(), context, policy=policy))


@pytest.fixture(scope="module")
def align(tmp_path_factory):
    """A stage with a graph of two diseases, a policy from scratch and a sampler."""
    root = tmp_path_factory.mktemp("facts")
    (root / "facts.tsv").write_text(FACTS)
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="align")
    new = dense_policy(policy.CausalLm(scratch=SCRATCH), context)
    graph = Triples(knowledge.Triples(path="facts.tsv", closed=("has symptom",)), context)
    return Align(context, new, graph, sampler_of(context, new))


def task(align, text, id_=0, **columns):
    """Encode a plain prompt."""
    return Task(id_, text, tuple(align.policy.encode(text)), columns)


def informed(align, text="What helps against psoriasis?", **params):
    """Put facts before one question."""
    informer = align.informer(**params)
    return informer, informer([task(align, text)])


def test_facts_stand_before_the_question(align):
    """The prompt has the facts around the entity of the question, in words; the task itself is as it was."""
    _, (told,) = informed(align)
    assert told.about == [triple.subject for triple in told.triples][:1]
    assert told.facts == ["psoriasis has symptom itching.", "psoriasis has symptom scaling.",
                          "psoriasis is treated with calcipotriol."]  # fmt: skip
    text = align.policy.decode(told.task.prompt_ids)
    assert text.index(told.facts[2]) < text.index("What helps against psoriasis?")
    assert told.own.prompt == "What helps against psoriasis?"


def test_further_hops_and_chosen_relations(align):
    """Facts about what was found come with a second hop; relations can be chosen."""
    _, (told,) = informed(align, hops=2)
    assert "calcipotriol is sold as a cream." in told.facts
    _, (told,) = informed(align, relations=("is treated with",))
    assert told.facts == ["psoriasis is treated with calcipotriol."]


@pytest.mark.parametrize("params", [{"max_facts": 1}, {"max_fact_tokens": 40}])
def test_facts_are_bounded(align, params):
    """No more facts than asked, in number and in tokens: a later one is left out, none is cut."""
    _, (told,) = informed(align, **params)
    assert told.facts == ["psoriasis has symptom itching."]
    assert len(told.triples) == 1


def test_facts_leave_room_for_the_answer(align):
    """Where prompt, facts and answer would pass the model's positions, facts are left out until they fit."""
    question = "Why is psoriasis so common? " + "x" * 160
    _, (whole,) = informed(align, "psoriasis?", template=None)
    _, (told,) = informed(align, question)
    assert len(told.facts) < len(whole.facts)
    assert len(told.task.prompt_ids) + 8 <= 400
    longer = [told for more in range(0, 32, 4) for told in informed(align, question + "x" * more)[1]]
    assert len(longer) > 4
    assert all(len(told.task.prompt_ids) + 8 <= 400 for told in longer)
    informer, none = informed(align, question, min_triples=3)
    assert not none
    assert informer.left_out == {"few_triples": 1}


def test_a_question_about_nothing_known(align):
    """A question in which no entity stands makes no pair and is counted."""
    informer, none = informed(align, "What time is it?")
    assert not none
    assert informer.left_out == {"unlinked": 1}


def test_a_label_that_spells_a_control_token_stays_letters(align, tmp_path):
    """Retrieved text is text: an end-of-text token in a label is spelled out, in plain prompts and in messages."""
    end = align.policy.tokenizer.eos_token
    (tmp_path / "facts.tsv").write_text(f"psoriasis\thas symptom\ta{end}b\n")
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="align")
    own = replace(align, context=context, knowledge=Triples(knowledge.Triples(path="facts.tsv"), context))
    _, (told,) = informed(own, "psoriasis?")
    assert end in told.facts[0]
    assert align.policy.eos_id not in told.task.prompt_ids


def test_messages_keep_all_but_the_question(align):
    """In a conversation the user's last text gives way to facts and question; system, earlier turns and images stay."""
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is it psoriasis?"}]},
    ]
    template = "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    template += "{% for p in m.content %}{{ p.text if p.type == 'text' else '#' }}{% endfor %}{% endif %};{% endfor %}"
    align.policy.tokenizer.chat_template = template
    informer = align.informer(max_facts=1)
    (told,) = informer([Task(0, said, tuple(align.policy.render(said)), {})])
    text = align.policy.decode(told.task.prompt_ids)
    assert text.startswith("system: Be brief.;user: Hello.;assistant: Hello.;user: #These facts")
    assert text.endswith("Is it psoriasis?;")
    assert told.own.prompt is said
    assert said[3]["content"][1]["text"] == "Is it psoriasis?"


def test_messages_keep_their_pictures(align, tmp_path):
    """A conversation about a picture is encoded with it, facts and all."""
    seeing = build(tmp_path)
    shown, said = (seeing.picture(noise(0), "a.png"),), ask(1, "Is it psoriasis?")
    asked = Task(0, said, tuple(seeing.render(said, images=shown)), images=shown)
    (told,) = replace(align, context=seeing.context, policy=seeing).informer(max_facts=1)([asked])
    assert told.task.images == shown
    assert len(places(told.task.prompt_ids, shown)) == 1
    assert "psoriasis has symptom itching." in seeing.decode(told.task.prompt_ids)


def test_a_template_must_show_facts_and_question(align):
    """A template of the user's that leaves either out is refused before anything is sampled."""
    (align.root / "t.j2").write_text("{{ question }}")
    with pytest.raises(RecipeError) as refused:
        informed(align, template="t.j2")
    assert refused.value.diagnostics[0].code == "RC887"
    (align.root / "t.j2").write_text("{{ question }} {{ facts | join('|') }} {{ entities[0] }}")
    _, (told,) = informed(align, template="t.j2", max_facts=1)
    assert told.task.prompt == "What helps against psoriasis? psoriasis has symptom itching. psoriasis"


def test_claims_are_judged_and_scored(align):
    """Supported, contradicted and unknown claims have the values of the parameters; they add or are averaged."""
    text = "It has scaling. It has flushing. It is treated with metronidazole."
    judged = judge(align.knowledge, text, ["psoriasis"])
    assert [claim["verdict"] for claim in judged.claims] == ["supported", "contradicted", "unknown"]
    assert judged.claims[0]["triples"] == [["psoriasis", "has symptom", "scaling", "facts.tsv:1"]]
    assert judged.score(preference.KgRank(supported=2.0, contradicted=-3.0, unknown=-0.5)) == -1.5
    assert judged.score(preference.KgRank(contradicted=-3.0, average="mean")) == pytest.approx(-2 / 3)


@pytest.mark.parametrize(
    ("columns", "about"),
    [({"disease": "rosacea"}, ["rosacea"]), ({"disease": ["rosacea", "psoriasis"]}, ["rosacea", "psoriasis"])],
)
def test_a_column_names_the_topic(align, columns, about):
    """What a question is about stands in a column where one is named, as a text or several."""
    assert topic(align.knowledge, task(align, "Symptoms?", **columns), "disease", 1) == about


@pytest.mark.parametrize("columns", [{}, {"disease": None}, {"disease": " "}, {"disease": 3}, {"disease": []}])
def test_a_row_without_its_topic_is_refused(align, columns):
    """A missing or empty topic is a coded error that names the row's task and what it has."""
    with pytest.raises(RecipeError) as refused:
        topic(align.knowledge, task(align, "Symptoms?", **columns), "disease", 1)
    assert refused.value.diagnostics[0].code == "RC741"


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ({}, [1.0, -1.0, 0.0, 0.0]),
        ({"average": "sum"}, [2.0, -1.0, 0.0, 0.0]),
        ({"average": "sum", "cap": 1.5, "silent": -2.0}, [1.5, -1.0, 0.0, -2.0]),
        ({"cap": 1.5, "contradicted": -3.0}, [1.0, -1.5, 0.0, 0.0]),
        ({"unknown": -0.5}, [1.0, -1.0, -0.5, 0.0]),
    ],
)
def test_the_reward_is_the_score_of_the_claims(align, params, values):
    """Rows are rewarded by their claims about the prompt's topic; a cap bounds them, silence has a value of its own."""
    rewarded = align.build(reward.KgConsistency(topic="disease", **params))
    texts = ["Scaling and itching.", "Flushing.", "It is treated with metronidazole.", "Hm."]
    found = rewarded([task(align, "Symptoms?", disease="psoriasis")], torch.zeros(4, dtype=torch.int64), texts)
    assert found["reward_R"].tolist() == values
    assert found["metric/claims/supported"] == 0.5


def test_rows_are_judged_by_their_own_prompt(align):
    """The same words are right about one disease and wrong about another."""
    rewarded = align.build(reward.KgConsistency(topic="disease"))
    tasks = [task(align, "Symptoms?", disease=disease) for disease in ("rosacea", "psoriasis")]
    found = rewarded(tasks, torch.tensor([1, 0, 0]), ["Flushing.", "Flushing.", "Itching."])
    assert found["reward_R"].tolist() == [-1.0, 1.0, -1.0]


def test_the_reward_needs_facts(align):
    """Without a graph the reward is refused, not 0."""
    with pytest.raises(RecipeError) as refused:
        replace(align, knowledge=None).build(reward.KgConsistency())
    assert refused.value.diagnostics[0].code == "RC888"


def answered(maker, said):
    """Let each prompt be answered by the texts that ``said`` gives for its way."""

    def answers(asks):
        return [
            [Answer((n, *map(ord, text)), text, True, (ask.way, n)) for n, text in enumerate(said[ask.way])]
            for ask in asks
        ]

    maker.answering = answers
    return maker


def test_a_question_may_be_about_several(align):
    """As many entities of it as are asked for are its topic, and the facts before it are about them all."""
    asked = task(align, "Is it psoriasis or rosacea?")
    topics = [topic(align.knowledge, asked, None, most) for most in (1, 2)]
    assert topics == [["psoriasis"], ["psoriasis", "rosacea"]]
    _, (told,) = informed(align, asked.prompt, top_k=2)
    assert {triple.subject for triple in told.triples} == {"psoriasis", "rosacea"}


@pytest.mark.parametrize(
    ("params", "left_out"),
    [
        ({"margin": 3.0, "min_claims": 3}, {}),
        ({"margin": 3.5}, {"below_margin": 1}),
        ({"min_claims": 4}, {"few_claims": 1}),
        ({"contradicted": 2.0, "average": "mean"}, {}),
    ],
)
def test_the_best_answer_is_chosen_over_the_worst(align, params, left_out):
    """By the score of their claims; a margin and a number of claims that are just reached are enough."""
    said = {"answer": ["Hm.", "Flushing.", "Scaling and itching.", "Itching."]}
    maker = answered(align.build(preference.KgRank(topic="disease", **params)), said)
    asked = task(align, "Symptoms?", disease="psoriasis")
    if left_out:
        with pytest.raises(RecipeError):
            maker([asked])
        assert {reason: count for reason, count in maker.left_out.items() if count} == left_out
        return
    made = maker([asked])
    (pair,) = maker.pairs
    if "margin" in params:
        assert (pair.chosen.text, pair.rejected.text, pair.margin) == ("Scaling and itching.", "Flushing.", 3.0)
    else:
        assert (pair.chosen.text, pair.rejected.text, pair.margin) == ("Flushing.", "Hm.", 2.0)
    assert made["prompt_P"] == [asked]


def test_an_answer_with_facts_is_chosen_over_one_without(align):
    """Whatever they say, unless a margin asks for more; both are trained under the question alone."""
    asked = [task(align, f"Symptoms of {name}?", i) for i, name in enumerate(("psoriasis", "rosacea"))]
    said = {"told": ["Flushing.", "Itching."], "answer": ["Itching.", "Flushing."]}
    maker = answered(align.build(preference.KgRag()), said)
    assert maker(asked)["prompt_P"] == asked * 2
    assert all((pair.chosen.seed[0], pair.rejected.seed[0]) == ("told", "answer") for pair in maker.pairs)
    assert sorted(pair.margin for pair in maker.pairs) == [-2.0, -2.0, 2.0, 2.0]
    maker = answered(align.build(preference.KgRag(margin=2.0)), said)
    assert maker(asked)["prompt_P"] == asked
    assert [pair.chosen.text for pair in maker.pairs] == ["Itching.", "Flushing."]
    assert maker.left_out["below_margin"] == 2


def test_answers_are_kept_for_what_they_depend_on(align, tmp_path, monkeypatch):
    """Asked the same by the same weights, what was kept is read; another picture, parameter or weight is asked anew."""
    context = replace(align.context, home=tmp_path)
    fresh = dense_policy(policy.CausalLm(scratch=SCRATCH), context)
    own = replace(align, context=context, policy=fresh, sampler=sampler_of(context, fresh))
    sampled = []

    def sample(answering, asks):
        sampled.append(len(asks))
        return [[Answer((5,), "x", True, (0, ask.way, n)) for n in range(answering.samples)] for ask in asks]

    monkeypatch.setattr(AnswerSampler, "_sampled", sample)
    plain = task(align, "Symptoms?")
    one, other = (replace(plain, images=(Picture(digest, "a.png", {}, (7,)),)) for digest in ("1f", "2e"))
    for asked, times in ((plain, 1), (plain, 1), (one, 2), (one, 2), (other, 3)):
        first = own.answers()([AnswerRequest("answer", asked)])
        assert len(sampled) == times
        assert own.answers()([AnswerRequest("answer", asked)]) == first
    own = replace(own, sampler=sampler_of(context, fresh, temperature=0.5))
    own.answers()([AnswerRequest("answer", other)])
    assert len(sampled) == 4
    with torch.no_grad():
        next(iter(own.policy.model.parameters())).add_(1)
    own.answers()([AnswerRequest("answer", other)])
    assert len(sampled) == 5


def test_nothing_left_is_refused_with_the_counts(align):
    """A policy whose answers claim nothing gives no pair: the refusal says of what there was too little."""
    ranked = align.build(preference.KgRank(topic="disease"))
    with pytest.raises(RecipeError) as refused:
        ranked([task(align, "Symptoms?", i, disease="psoriasis") for i in range(3)])
    found = refused.value.diagnostics[0]
    assert found.code == "RC885"
    assert "3 few claims" in found.message
    assert "min_claims" in found.help


def test_scores_are_finite(align):
    """A text without a claim scores 0 and no division by nothing."""
    assert judge(align.knowledge, "", []).score(preference.KgRank(average="mean")) == 0
    assert math.isfinite(judge(align.knowledge, "psoriasis", ["psoriasis"]).score(preference.KgRank()))
