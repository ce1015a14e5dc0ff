"""Trees from the command line: searched dialogues, filtered groups, and kills that change no bit."""

import json
import signal

import pytest
from support.small_recipes import rows
from test_resume import left, run, said

RECIPE = """\
recipec: 1
name: small
stages:
  explore:
    kind: rl
    from: scratch
    policy:
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 512}
    data: {path: a.jsonl}
    environment: {type: search_qa, max_turns: 2, max_observation_length: 20}
    sampler:
      type: tree
      trees: 2
      expansions: 2
      keep: 2
      expansion: EXPANSION
      max_turn_length: 8
      group_filter: {max_tries: 3}
    reward:
      early: {type: regex_format, pattern: "[ -2].*"}
    advantage:
      across: {type: group_relative, group: by_prompt_R, singleton: raw}
      within: {type: group_relative, group: by_tree_R, singleton: raw}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 3, prompts_per_step: 2, save_every: 1}
"""


def furnish(folder, expansion="random"):
    """Write the recipe and its questions."""
    folder.mkdir(exist_ok=True)
    (folder / "r.yaml").write_text(RECIPE.replace("EXPANSION", expansion))
    (folder / "a.jsonl").write_text(rows(*({"prompt": f"who {i}?", "answer": "x"} for i in range(6))))
    return folder


def metrics(out):
    """The numbers of each step."""
    return [json.loads(line) for line in (out / "stages/explore/metrics.jsonl").read_text().splitlines()]


def test_killed_runs_of_trees_end_alike(tmp_path):
    """A run of filtered trees that is killed again and again ends with the bits of one that is not."""
    home = furnish(tmp_path / "home")
    assert run(home / "whole") == 0, said(home / "whole")
    found = metrics(home / "whole")
    assert any(step["groups/filtered"] for step in found)
    assert all(step["tree/leaves"] == 3 and step["tokens/prefix_sharing"] >= 1 for step in found)
    for strike in (35, 30, 25):  # of some 80 events, a third in the first step
        assert run(home / "killed", strike) == -signal.SIGKILL
    assert run(home / "killed") == 0, said(home / "killed")
    assert left(home / "killed") == left(home / "whole")


@pytest.mark.parametrize("expansion", ["entropy", "value_gap"])
def test_policies_of_expansion_run(tmp_path, expansion):
    """Each policy of expansion trains from the command line."""
    home = furnish(tmp_path / "home", expansion)
    assert run(home / "out") == 0, said(home / "out")
    assert len(metrics(home / "out")) == 3
