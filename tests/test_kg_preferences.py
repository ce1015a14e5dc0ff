"""Stages that make their pairs by a graph of facts: what is trained, what is kept, what is refused."""

import json

from small import MODEL, rows

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
RAG = RANK.replace("{type: kg_rank, topic: disease}", "{type: kg_rag, topic: disease, max_facts: 2, template: t.j2}")
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
        assert pair["chosen_seed"] != pair["rejected_seed"]


def test_the_report_shows_pairs_with_their_evidence(folder):
    """The page has the counts and some pairs with facts and verdicts; what a graph or a policy wrote is escaped."""
    assert folder.run(RAG, **{**FILES, "facts__tsv": FACTS + "d0\thas sign\t<b>\n"}).code == 0
    page = (folder.path / "runs" / "small" / "report.html").read_text()
    found, _ = pairs(folder)
    assert f"{len(found)} pairs." in page
    assert "kg_rag, margin" in page
    assert "<b>" not in page
    assert "<li>d0 has sign &lt;b&gt;.</li>" in page
