"""Evaluations between stages, run whole: labels, votes, levels, margins, and the table over the stages."""

import json
import math

import pytest
import torch
from small import MODEL, Folder, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

LABELS = ("red", "blue")
RECIPE = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{steps: 120, rows_per_step: 4}}
  practise:
    kind: rl
    from: learn
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 3, max_completion_length: 16, temperature: 0.5}}
    reward: {{label: {{type: exact_match, tag: a, labels: [red, blue]}}}}
    advantage: {{sign: {{type: signed, threshold: 0.5}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, prompts_per_step: 2}}
evaluate:
  held_out:
    data: {{path: b.jsonl}}
    sampler: {{num_generations: 3, temperature: 1.0, max_completion_length: 16}}
    reward:
      label: {{type: exact_match, tag: a, labels: [red, blue]}}
      shape: {{type: sections, reasoning: t, answer: a, weight: 0.0}}
    metrics: [accuracy, majority, macro_f1, majority_macro_f1, reward.shape, reward]
    every: 60
  pairs: {{data: {{path: c.jsonl}}, metrics: [margin]}}
"""
WRITTEN = {"red": "<a>red</a>", "blue": "<a>Blue.</a>"}
A = rows(*({"prompt": f"{c}{i}", "completion": WRITTEN[c], "answer": c} for c in LABELS for i in range(2)))
B = rows(*({"prompt": f"{c}{i}", "answer": [c]} for c in LABELS for i in (3, 4)))
C = rows(
    *({"prompt": f"{c}9", "chosen": f"<a>{c}</a>", "rejected": f"<b>{d}#"} for c, d in (LABELS, LABELS[::-1])),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Folder:
    """Run the recipe once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = Folder(tmp_path_factory.mktemp("evaluations"), patch, Silent())
        ended = folder.run(RECIPE, "--quiet", a__jsonl=A, b__jsonl=B, c__jsonl=C)
        assert ended.code == 0, ended.err
        yield folder


class Silent:
    """Output that nobody reads."""

    def readouterr(self) -> tuple[str, str]:
        """Nothing."""
        return "", ""


def lines(folder: Folder, stage: str) -> list[dict[str, float]]:
    """Metrics of a stage."""
    return [
        json.loads(line) for line in (folder.path / f"runs/small/stages/{stage}/metrics.jsonl").read_text().splitlines()
    ]


def test_numbers_are_those_of_the_samples(ran):
    """Accuracy, votes and F1 follow from the answers that were written down, by the words of their definitions."""
    found = lines(ran, "practise")[-1]
    path = ran.path / "runs/small/stages/practise/samples/eval-held_out-000002.jsonl"
    drawn = [json.loads(line) for line in path.read_text().splitlines()]
    read = [
        text.rpartition("<a>")[2].partition("</a>")[0] if "</a>" in text else "" for text in (r["text"] for r in drawn)
    ]
    answers = [word if (word := text.strip(" .").lower()) in LABELS else None for text in read]
    truth = [row["columns"]["answer"][0] for row in drawn]
    assert len(drawn) == 12
    assert found["eval/held_out/accuracy"] == pytest.approx(sum(map(str.__eq__, truth, map(str, answers))) / 12)
    votes = []
    for task in range(4):
        given = [a for a in answers[3 * task : 3 * task + 3] if a]
        votes.append(max(dict.fromkeys(given), key=given.count) if given else None)
    kinds = truth[::3]
    assert found["eval/held_out/majority"] == sum(v == t for v, t in zip(votes, kinds, strict=True)) / 4
    for name, (right, said) in {"macro_f1": (truth, answers), "majority_macro_f1": (kinds, votes)}.items():
        each = []
        for label in LABELS:
            hit = sum(r == s == label for r, s in zip(right, said, strict=True))
            each.append(2 * hit / (right.count(label) + said.count(label)))
        assert found[f"eval/held_out/{name}"] == pytest.approx(sum(each) / 2), name
    shapes = [row["rewards"]["shape"] for row in drawn]
    assert set(shapes) == {0.0}, "its weight is 0, so it is in no reward"
    assert found["eval/held_out/reward.shape"] == -0.5, "a level is measured before its weight: nothing has a <t>"
    assert found["eval/held_out/accuracy"] > 0, "the model did not learn to answer: these equalities say little"


def test_margin_is_that_of_the_saved_policy(ran):
    """Sums of log-probabilities of chosen answers minus those of rejected ones, at temperature 1 after any stage."""
    for stage in ("learn", "practise"):
        folder = ran.path / f"runs/small/stages/{stage}/policy"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        differences = []
        for pair in map(json.loads, C.splitlines()):
            start, sums = len(tokenizer(pair["prompt"]).input_ids), []
            for answer in ("chosen", "rejected"):
                ids = torch.tensor([[*tokenizer(pair["prompt"] + pair[answer]).input_ids, tokenizer.eos_token_id]])
                with torch.no_grad():
                    spread = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
                sums.append(float(spread.gather(-1, ids[0, 1:, None])[start - 1 :].sum()))
            differences.append(sums[0] - sums[1])
        found = lines(ran, stage)[-1]
        assert found["eval/pairs/margin"] == pytest.approx(sum(differences) / 2, rel=1e-4)
        assert found["eval/pairs/margin_share"] == sum(d > 0 for d in differences) / 2
        assert not math.isclose(differences[0], differences[1])
