"""The reference of a dpo stage is the policy as it entered, its log-probabilities computed once."""

import json

import pytest
from support.small_recipes import MODEL, rows

from recipec.runtime.objective.cached_reference import CachedReference

TWO = f"""\
recipec: 1
name: small
stages:
  learn:
    kind: sft
{MODEL.rstrip()}
      lora: LORA
    attention: {{type: packed}}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 5.0e-2}}
    budget: {{steps: 20, rows_per_step: 4}}
  align:
    kind: dpo
    from: learn
    attention: {{type: packed}}
    data: {{path: pairs.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{epochs: 3, pairs_per_step: 2}}
"""
FULL = TWO.replace("      lora: LORA\n", "")
LORA = TWO.replace("LORA", "{r: 4, targets: all_linear}")
CONTINUED = LORA.replace("    from: learn\n", "    from: learn\n    adapter: continue\n")
MERGED = LORA.replace("    from: learn\n", "    from: learn\n    adapter: merge\n")
FRESH = TWO.replace("      lora: LORA\n", "").replace(
    "    from: learn\n", "    from: learn\n    policy: {type: causal_lm, lora: {r: 4, targets: all_linear}}\n"
)
ROWS = rows(*({"prompt": f"p{i}", "completion": "abc"} for i in range(4)))
PAIRS = rows(*({"prompt": f"p{i}", "chosen": "abc", "rejected": "xyz"} for i in range(4)))


@pytest.mark.parametrize(
    ("recipe", "mode"),
    [(FULL, "weights_copy"), (CONTINUED, "adapter_copy"), (MERGED, "adapter_off"), (FRESH, "adapter_off")],
    ids=["weights", "continued adapter", "merged adapter", "fresh adapter"],
)
def test_the_reference_is_what_entered(folder, monkeypatch, recipe, mode):
    """At the first update policy and reference agree, however the parent was trained; each row is scored once."""
    begin, scored = CachedReference.__init__, []

    def counting(self, score):
        def counted(tokens_RT, *columns):
            scored.append(len(tokens_RT))
            return score(tokens_RT, *columns)

        begin(self, counted)

    monkeypatch.setattr(CachedReference, "__init__", counting)
    ended = folder.run(recipe, a__jsonl=ROWS, pairs__jsonl=PAIRS)
    assert ended.code == 0, ended.err
    run = folder.path / "runs" / "small"
    align = json.loads((run / "graph.json").read_text())["stages"][1]
    assert (align["settings"]["reference"]["mode"], align["settings"]["reference"]["instead_of"]) == ("cached", mode)
    steps = [json.loads(line) for line in (run / "stages" / "align" / "metrics.jsonl").read_text().splitlines()]
    steps = [step for step in steps if "rewards/margins" in step]
    assert len(steps) == 6
    for name in ("rewards/chosen", "rewards/rejected"):
        assert steps[0][name] == pytest.approx(0, abs=1e-5)
        assert abs(steps[-1][name]) > 1e-4
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert sum(scored) == 8  # two rows of each of four pairs, in the first of three epochs
    assert steps[0]["logps/chosen"] > steps[0]["logps/rejected"] + 0.5  # learnt in the stage before, not by the base
