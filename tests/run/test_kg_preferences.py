"""Stages that make their pairs by a graph of facts: what is trained, what is kept, what is refused."""

import json

import pytest
from PIL import Image
from support.small_recipes import MODEL, rows

from recipec.runtime.preference.sample_answers import AnswerSampler

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FACTS = "".join(f"d{i}\thas sign\t{letter}\n" for i in range(2) for letter in LETTERS[i::2])
ROWS = rows(*({"prompt": f"Signs of d{i % 2}?", "disease": f"d{i % 2}", "completion": "a, c, e"} for i in range(12)))
RANK = f"""\
recipec: 1
name: small
stages:
  align:
    kind: dpo
{MODEL}\
    data: {{path: a.jsonl}}
    knowledge: {{type: triples, path: facts.tsv, closed: [has sign]}}
    sampler: {{num_generations: 6, max_completion_length: 24}}
    preference: {{type: kg_rank, topic: disease}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{epochs: 2, pairs_per_step: 3}}
"""
SEEING = """\
    from: scratch
    policy:
      type: vision_lm
      scratch: {architecture: qwen2_vl, hidden_size: 32, layers: 1, heads: 2, intermediate_size: 32, max_positions: 256,
                image_size: 16, patch_size: 4, vision_layers: 1}
"""
RAG = RANK.replace("{type: kg_rank, topic: disease}", "{type: kg_rag, topic: disease, max_facts: 2, template: t.j2}")
RL = (
    RANK.replace("kind: dpo", "kind: rl")
    .replace("align:", "explore:")
    .replace(
        "    preference: {type: kg_rank, topic: disease}\n",
        "    reward: {facts: {type: kg_consistency, topic: disease}}\n"
        "    advantage: {group: {type: group_relative}}\n    loss: {type: clipped}\n",
    )
    .replace("{epochs: 2, pairs_per_step: 3}", "{steps: 2, prompts_per_step: 4}")
)
FILES = {"a__jsonl": ROWS, "facts__tsv": FACTS, "t__j2": "{% for f in facts %}{{ f }}{% endfor %}{{ question }}"}


def pairs(folder, stage="align"):
    """Return the pairs of a stage and what was left out."""
    home = folder.path / "runs" / "small" / "stages" / stage / "pairs"
    found = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    return found, json.loads((home / "summary.json").read_text())


def test_answers_are_ranked_by_their_claims(folder):
    """Of each prompt the answer with the highest score is chosen, with the claims, verdicts and facts that say so."""
    ended = folder.run(RANK, **FILES)
    assert ended.code == 0, ended.err
    found, summary = pairs(folder)
    assert summary["pairs"] == len(found) > 3
    for pair in found:
        evidence = pair["evidence"]
        assert evidence["chosen"]["score"] == max(evidence["scores"]) > evidence["rejected"]["score"]
        assert evidence["rejected"]["score"] == min(evidence["scores"])
        for side in ("chosen", "rejected"):
            judged = evidence[side]
            assert judged["score"] == judged["supported"] - judged["contradicted"]
            for claim in judged["claims"]:
                letter = claim["says"].removesuffix(".").split()[-1]
                right = letter in LETTERS[int(evidence["about"][0][1:]) :: 2]
                assert claim["verdict"] == ("supported" if right else "contradicted")
                assert claim["triples"]
    assert len(found) + sum(summary["left_out"].values()) == 12


def test_facts_are_in_the_prompt_of_the_chosen_answer_alone(folder):
    """What is trained is both answers under the question without the facts; the facts are evidence."""
    ended = folder.run(RAG, **FILES)
    assert ended.code == 0, ended.err
    found, _ = pairs(folder)
    for pair in found:
        assert "has sign" not in json.dumps(pair["prompt"])
        assert pair["evidence"]["facts"] == [
            f"{pair['evidence']['about'][0]} has sign {x}." for x in LETTERS[pair["prompt_id"] % 2 :: 2][:2]
        ]
        assert len(pair["evidence"]["triples"]) == 2
        assert (pair["chosen_seed"][3], pair["rejected_seed"][3]) == ("told", "answer")


def test_the_report_shows_pairs_with_their_evidence(folder):
    """The page has the counts and some pairs with facts and verdicts; what a graph or a policy wrote is escaped."""
    assert folder.run(RAG, **{**FILES, "facts__tsv": FACTS + "d0\thas sign\t<b>\n"}).code == 0
    page = (folder.path / "runs" / "small" / "report.html").read_text()
    found, _ = pairs(folder)
    assert f"{len(found)} pairs." in page
    assert "kg_rag, margin" in page
    assert "<b>" not in page
    assert "<li>d0 has sign &lt;b&gt;.</li>" in page


@pytest.mark.parametrize(
    "preference", ["{type: kg_rank, topic: disease}", "{type: kg_rag, topic: disease, max_facts: 1}"]
)
def test_pairs_of_a_policy_that_sees(folder, preference):
    """Both answers are given to the same picture, with facts and without, and trained under it."""
    (folder.path / "seen").mkdir()
    for i, colour in enumerate([(220, 30, 30), (30, 30, 220)]):
        Image.new("RGB", (16, 16), colour).save(folder.path / "seen" / f"d{i}.png")
    asked = rows(
        *({"prompt": "?", "disease": f"d{i % 2}", "images": [f"seen/d{i % 2}.png"]} for i in range(8)),
    )
    recipe = RANK.replace(MODEL, SEEING).replace("{type: kg_rank, topic: disease}", preference)
    ended = folder.run(recipe, facts__tsv=FACTS, a__jsonl=asked)
    assert ended.code == 0, ended.err
    found, _ = pairs(folder)
    assert found
    for pair in found:
        assert pair["images"] == [f"seen/{pair['evidence']['about'][0]}.png"]
        assert len(pair["prompt_ids"]) > 1  # the picture's ids, then the question


def test_filters_can_be_loosened_for_nothing(folder, monkeypatch):
    """Filters that leave nothing refuse the stage with the counts; loosened, they take the answers that are there."""
    ended = folder.run(RANK.replace("topic: disease", "topic: disease, margin: 1000.0"), **FILES)
    assert (ended.code, ended.first) == (1, "RC885")
    assert "below margin" in ended.err
    assert "r.yaml:13:17" in ended.err
    stage = folder.path / "runs" / "small" / "stages" / "align"
    assert not (stage / "policy").exists()
    assert not (stage / "pairs").exists()

    def refuse(self, asks):
        raise AssertionError(asks)

    monkeypatch.setattr(AnswerSampler, "_sampled", refuse)
    ended = folder.run(RANK, "--replace", **FILES)
    assert ended.code == 0, ended.err
    assert not (stage / "answers").exists()


@pytest.mark.parametrize("harm", ["[]", "", '{"mark": 3}', None])
def test_broken_answers_are_asked_again(folder, harm):
    """A file of kept answers that says something else is no reason to stop."""
    assert folder.run(RANK.replace("topic: disease", "topic: disease, margin: 1000.0"), **FILES).first == "RC885"
    (kept,) = (folder.path / "runs/small/stages/align/answers").iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"answers": ["x"]}) if harm is None else harm)
    ended = folder.run(RANK, "--replace", **FILES)
    assert ended.code == 0, ended.err


def test_many_facts_and_little_room(folder):
    """As many facts as fit are taken of thousands, without trying every number of them."""
    recipe = RAG.replace("max_facts: 2", "max_facts: 10000, max_fact_tokens: 100000")
    many = "".join(f"d{i % 2}\thas sign\ts{i}\n" for i in range(6000))
    ended = folder.run(recipe, **{**FILES, "facts__tsv": many, "a__jsonl": ROWS.splitlines()[0] + "\n"})
    assert ended.code == 0, ended.err
    found = pairs(folder)[0][0]["evidence"]["facts"]
    question, fact, answer, room = len("Signs of d0?"), len("d0 has sign s0."), 24, 64
    assert len(found) == (room - answer - question) // fact


def test_a_stage_that_asks_for_pairs_nobody_makes(folder):
    """Data without pairs and no preference: the first row's missing column is named, and what would make pairs."""
    recipe = RANK.replace("    preference: {type: kg_rank, topic: disease}\n", "")
    recipe = recipe.replace("    knowledge: {type: triples, path: facts.tsv, closed: [has sign]}\n", "")
    recipe = recipe.replace("    sampler: {num_generations: 6, max_completion_length: 24}\n", "")
    ended = folder.run(recipe, **FILES)
    assert (ended.code, ended.first) == (1, "RC705")
    assert "a.jsonl" in ended.err
    assert "`preference`" in ended.err


@pytest.mark.parametrize(
    ("recipe", "files", "code"),
    [
        (RANK.replace("topic: disease", "topic: illness"), {}, "RC741"),
        (RAG.replace("topic: disease", "topic: illness"), {}, "RC741"),
        (RANK.replace("topic: disease", "topic: disease, label: illness, min_claims: 0"), {}, "RC741"),
        (RAG, {"t__j2": "{{ facts }}"}, "RC887"),
        (RAG, {"t__j2": "{{ facts"}, "RC712"),
        (RAG, {"t__j2": "{{ facts }}{{ question }}{{ nope }}"}, "RC711"),
        (RAG.replace("t.j2", "nowhere.j2"), {}, "RC700"),
        (RAG, {"a__jsonl": rows({"prompt": "Why?", "disease": "the moon"})}, "RC885"),
        (RAG.replace("max_facts: 2", "min_triples: 5"), {}, "RC885"),
    ],
)
def test_what_makes_no_pairs_is_refused_before_training(folder, recipe, files, code):
    """Each mistake is a code with exit 1, and nothing of the stage is there."""
    ended = folder.run(recipe, **{**FILES, **files})
    assert (ended.code, ended.first) == (1, code), ended.err
    assert "r.yaml:" in ended.err or "t.j2:" in ended.err
    assert str(folder.path) not in ended.err
    assert not (folder.path / "runs" / "small" / "stages" / "align" / "pairs").exists()


def test_facts_are_a_reward_of_an_rl_stage_and_of_evaluations(folder):
    """Rows are rewarded by their claims, and held-out answers are averaged over the same graph."""
    recipe = RL + (
        "evaluate:\n  dev:\n    data: {path: a.jsonl, limit: 4}\n    sampler: {max_completion_length: 8}\n"
        "    reward: {facts: {type: kg_consistency, topic: disease}}\n    metrics: [consistency]\n"
    )
    ended = folder.run(recipe, **FILES)
    assert ended.code == 0, ended.err
    home = folder.path / "runs" / "small" / "stages" / "explore"
    sampled = [
        json.loads(line) for path in sorted(home.glob("samples/step-*")) for line in path.read_text().splitlines()
    ]
    assert {row["rewards"]["facts"] for row in sampled} >= {-1.0, 0.0, 1.0}
    steps = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
    assert any("claims/supported" in step for step in steps)
    assert "eval/dev/consistency" in steps[-1]
