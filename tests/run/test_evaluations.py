"""Evaluations between stages, run whole: labels, votes, levels, margins, and the table over the stages."""

import io
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support.small_recipes import MODEL, SFT, Folder, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipec.report.results import EvaluationPoint, Results, results

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


class Heard:
    """What was written to the standard error of a run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stream = io.StringIO()
        patch.setattr(sys, "stderr", self.stream)

    def readouterr(self) -> tuple[str, str]:
        """As pytest's own."""
        return "", self.stream.getvalue()


@dataclass
class Ran:
    """A run and what it said."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Iterator[Ran]:
    """Run the recipe once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = Folder(tmp_path_factory.mktemp("evaluations"), patch, Heard(patch))
        ended = folder.run(RECIPE, a__jsonl=A, b__jsonl=B, c__jsonl=C)
        assert ended.code == 0, ended.err
        yield Ran(folder.path / "runs/small", ended.err)


def lines(ran: Ran, stage: str) -> list[dict[str, float]]:
    """Metrics of a stage."""
    return [json.loads(line) for line in (ran.folder / f"stages/{stage}/metrics.jsonl").read_text().splitlines()]


def test_numbers_are_those_of_the_samples(ran):
    """Accuracy, votes and F1 follow from the answers that were written down, by the words of their definitions."""
    found = lines(ran, "practise")[-1]
    path = ran.folder / "stages/practise/samples/eval-held_out-000002.jsonl"
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
        folder = ran.folder / f"stages/{stage}/policy"
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


def test_one_table_over_the_stages(ran):
    """Before training and after each stage, with the change to the row above: printed, in the report and as JSON."""
    made = json.loads((ran.folder / "results.json").read_text())
    assert [row["when"] for row in made["rows"]] == ["before training", "after learn", "after practise"]
    kept = [lines(ran, "learn")[0], lines(ran, "learn")[-1], lines(ran, "practise")[-1]]
    for row, said in zip(made["rows"], kept, strict=True):
        assert row["values"] == {key.removeprefix("eval/"): said[key] for key in said if key.startswith("eval/")}
    before, after = made["rows"][0]["values"], made["rows"][1]
    assert after["changes"] == {name: value - before[name] for name, value in after["values"].items()}
    assert after["changes"]["held_out/accuracy"] > 0
    assert made["rows"][0]["changes"] == {}
    table = results(ran.folder, ("learn", "practise"))
    assert table is not None
    assert json.loads(table.to_json()) == made
    assert table.text() in ran.said
    report = (ran.folder / "report.html").read_text()
    page = report[report.index("Held-out results") : report.index("Every moment")]
    report = re.sub(r' title="[^"]*"|<wbr>', "", report)  # meanings of the columns, and where a name may break
    assert [report.count(f"<th>{column}</th>") for column in made["columns"]] == [2] * len(made["columns"])
    assert f'<small class="more">{after["changes"]["held_out/accuracy"]:+.2f} (' in page  # with its interval
    assert "learn, step 60" not in page
    assert "learn, step 60" in report


def test_a_wide_table_is_cut_between_columns():
    """In a terminal no line is much longer than 100 characters; every block begins with the moments."""
    columns = tuple(f"evaluation/metric_{i}" for i in range(12))
    moment = EvaluationPoint("a", 0, "before training", dict.fromkeys(columns, 0.5), {})
    blocks = Results(columns, (moment,)).text().split("\n\n")
    assert len(blocks) > 1
    assert all(len(line) <= 100 for block in blocks for line in block.splitlines())
    assert all(block.splitlines()[1].startswith("before training  0.500") for block in blocks)
    assert " ".join(block.splitlines()[0] for block in blocks).split() == list(columns)


def test_unfinished_stages_count_with_their_last_moment(tmp_path):
    """A stage without a policy is shown at the step it was at; changes skip rows that lack the metric."""
    home = tmp_path / "stages/learn"
    home.mkdir(parents=True)
    said = [{"step": 0, "eval/a/x": 0.5, "eval/b/y": 1.0}, {"step": 1}, {"step": 2, "eval/a/x": 0.25, "eval/b/y": None}]
    (home / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    table = results(tmp_path, ("learn", "never_begun"))
    assert table is not None
    assert [moment.when for moment in table.points] == ["before training", "learn, step 2"]
    assert table.cells(table.points[1]) == [("0.250", "-0.250"), ("", "")]
    assert results(tmp_path, ("never_begun",)) is None


FACTS = "psoriasis\thas symptom\tscaling\nrosacea\thas symptom\tflushing\n"
CONSISTENT = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{steps: 60, rows_per_step: 2}}
  explore:
    kind: rl
    from: learn
    data: {{path: a.jsonl}}
    knowledge: {{type: triples, path: facts.tsv, closed: [has symptom]}}
    sampler: {{num_generations: 2, max_completion_length: 16}}
    reward: {{facts: {{type: kg_consistency, topic: disease, weight: 3.0}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-4}}
    budget: {{steps: 1, prompts_per_step: 2}}
evaluate:
  dev:
    data: {{path: a.jsonl}}
    sampler: {{max_completion_length: 16}}
    metrics: [consistency, reward, reward.facts]
"""


def test_consistency_is_held_against_the_graph_of_another_stage(folder):
    """The first stage has no graph; its answers are held against that of the stage that has one, before the weight."""
    asked = [{"prompt": "psoriasis? ", "completion": "scaling", "disease": "psoriasis"},
             {"prompt": "rosacea? ", "completion": "flushing", "disease": "rosacea"}]  # fmt: skip
    ended = folder.run(CONSISTENT, a__jsonl=rows(*asked), facts__tsv=FACTS)
    assert ended.code == 0, ended.err
    found = [
        json.loads(line) for line in (folder.path / "runs/small/stages/learn/metrics.jsonl").read_text().splitlines()
    ]
    assert found[0]["eval/dev/consistency"] == 0, "nothing sensible is claimed before training"
    last = found[-1]
    assert last["eval/dev/claims/supported"] == 1
    assert last["eval/dev/claims/contradicted"] == 0
    assert last["eval/dev/consistency"] == last["eval/dev/reward.facts"] == 1
    assert last["eval/dev/reward"] == 3


def test_an_evaluation_with_a_graph_of_its_own(folder):
    """A recipe of sft stages alone measures how many claims of the answers the graph supports."""
    recipe = SFT.replace("steps: 2,", "steps: 60,").replace("1.0e-3", "2.0e-2") + (
        "evaluate:\n"
        "  facts:\n"
        "    data: {path: a.jsonl}\n"
        "    knowledge: {type: triples, path: facts.tsv, closed: [eats]}\n"
        "    reward: {facts: {type: kg_consistency, topic: animal, silent: 0.0}}\n"
        "    sampler: {max_completion_length: 16}\n"
        "    metrics: [consistency]\n"
    )
    eaten = {"cat": "fish", "cow": "hay"}
    made = ({"prompt": f"{a}?", "animal": a, "completion": f"It eats {food}."} for a, food in eaten.items())
    ended = folder.run(recipe, a__jsonl=rows(*made), facts__tsv="cat\teats\tfish\ncow\teats\thay\n")
    assert ended.code == 0, ended.err
    table = results(folder.path / "runs/small", ("learn",))
    assert table is not None
    assert [moment.values["facts/consistency"] for moment in table.points] == [0.0, 1.0]
