"""Margins of held-out pairs: with images, and without touching what trains."""

import json
import math

import pytest
from PIL import Image
from support.policies import dense_policy
from support.small_recipes import MODEL, SEEING, rows

from recipec.runtime.attention.auto import AutoAttention
from recipec.runtime.batch import Example
from recipec.runtime.context import StageContext
from recipec.runtime.evaluation.given_answers import margin
from recipec.spec import policy as specs

LEARN = SEEING.replace("steps: 2, rows_per_step: 2", "steps: 24, rows_per_step: 4")
HELD_OUT = """\
evaluate:
  seen: {data: {path: c.jsonl}, metrics: [margin]}
  unseen: {data: {path: d.jsonl}, metrics: [margin]}
  label:
    data: {path: a.jsonl}
    sampler: {max_completion_length: 2}
    reward: {r: {type: exact_match, labels: [r, b]}}
    metrics: [accuracy, macro_f1]
"""
COLOURS = {"r": (220, 30, 30), "b": (30, 30, 220)}
OTHER = {"r": "b", "b": "r"}


def last(folder, stage: str) -> dict[str, float]:
    """Metrics at the end of a stage."""
    return json.loads((folder.path / f"runs/small/stages/{stage}/metrics.jsonl").read_text().splitlines()[-1])


def test_pairs_show_their_images(folder):
    """A model that learnt to name colours prefers the name of the one it is shown, and not that of another picture."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (16, 16), colour).save(folder.path / f"{name}.png")
    shown = [{"prompt": "?", "completion": c, "answer": c, "images": [f"{c}.png"]} for c in COLOURS]
    seen = [{"prompt": "?", "chosen": c, "rejected": OTHER[c], "images": [f"{c}.png"]} for c in COLOURS]
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in seen]
    ended = folder.run(LEARN + HELD_OUT, a__jsonl=rows(*shown), c__jsonl=rows(*seen), d__jsonl=rows(*swapped))
    assert ended.code == 0, ended.err
    found = last(folder, "learn")
    assert found["eval/seen/margin"] > 0.5
    assert found["eval/seen/margin_share"] == 1
    assert found["eval/unseen/margin"] == pytest.approx(-found["eval/seen/margin"], rel=1e-5)
    assert found["eval/label/accuracy"] == found["eval/label/macro_f1"] == 1


def test_stages_compare_whatever_they_sample_at(tmp_path):
    """Margins are at temperature 1, which the stage's own is again afterwards; a tie is no preference."""
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")
    spec = specs.CausalLm(scratch=specs.Scratch(hidden_size=16, layers=1, heads=2, intermediate_size=32))
    policy = dense_policy(spec, context)

    def row(*ids):
        return Example(0, (4, *ids), (False, *(True for _ in ids)))

    pairs = {"chosen_P": [row(5, 6), row(7)], "rejected_P": [row(8), row(7)]}
    found = []
    for temperature in (1.0, 0.5):
        policy.temperature = temperature
        found.append(margin(policy, pairs))
        assert policy.temperature == temperature
    assert found[0] == found[1]
    assert found[0]["margin"] < 0  # the chosen answer is longer, and nothing is learnt yet
    assert found[0]["margin_share"] == 0


def test_attention_is_not_chosen_by_held_out_pairs(folder, monkeypatch):
    """The rows of an evaluation are none that `attention: auto` looks at, and training is the same with and without."""
    recipe = f"""\
recipec: 1
name: small
stages:
  align:
    kind: dpo
{MODEL}\
    data: {{path: c.jsonl}}
    attention: {{type: auto}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, pairs_per_step: 2}}
"""
    pairs = rows(*({"prompt": f"p{i}", "chosen": "a" * i, "rejected": "bc"} for i in range(1, 5)))
    long = rows({"prompt": "x" * 30, "chosen": "yyy", "rejected": "zzz"})
    widths: list[int] = []
    original = AutoAttention.choose

    def choose(attention, tokens_RT, *rest):
        widths.append(tokens_RT.shape[1])
        original(attention, tokens_RT, *rest)

    monkeypatch.setattr(AutoAttention, "choose", choose)
    plain = folder.run(recipe, c__jsonl=pairs)
    assert plain.code == 0, plain.err
    before = last(folder, "align")
    more = "evaluate: {held_out: {data: {path: d.jsonl}, metrics: [margin]}}\n"
    ended = folder.run(recipe + more, "--out", "runs/more", d__jsonl=long)
    assert ended.code == 0, ended.err
    assert widths
    assert max(widths) < 30
    found = json.loads((folder.path / "runs/more/stages/align/metrics.jsonl").read_text().splitlines()[-1])
    assert math.isfinite(found["eval/held_out/margin"])
    assert found["loss"] == before["loss"]
