"""Pairs from rollouts: the best against the worst, as sampled, with what was left out counted."""

import json
from dataclasses import replace

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.preference.best_vs_worst import BestVsWorst
from recipec.spec import preference as specs


def made(context, policy, rewards, **params):
    """``rewards``: by prompt, the rewards of its rows; the row's id says where it stands."""
    folder = context.root / "rollouts"
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps({
            "step": 0, "prompt_id": p, "prompt": f"p{p}", "prompt_ids": [p], "ids": [10 * p + i], "text": f"{p}.{i}",
            "reward": reward, "columns": {},
        })
        for p, row in rewards.items() for i, reward in enumerate(row)
    ]  # fmt: skip
    (folder / "step-000000.jsonl").write_text("\n".join(lines))
    context = replace(context, artifacts={"explore.rollouts": folder})
    return BestVsWorst(specs.BestVsWorst(rollouts="explore.rollouts", **params), context, policy=policy)


def ids(examples):
    """Return the ids of examples."""
    return [example.ids for example in examples]


def test_best_is_paired_with_worst(text_context, text_policy):
    """Of each prompt the best and the worst row make a pair, the last sampled among equals; widest margin first."""
    found = made(text_context, text_policy, {1: [0.5, 1.0, 1.0, 0.0, 0.0], 2: [2.0, 0.0]})()
    assert [t.id for t in found["prompt_P"]] == [2, 1]
    assert ids(found["chosen_P"]) == [(2, 20), (1, 12)]
    assert ids(found["rejected_P"]) == [(2, 21), (1, 14)]
    assert found["chosen_P"][0].trained == (False, True)


def test_what_is_left_out_is_counted(text_context, text_policy):
    """Ties, single rows, small margins, failed rows and pairs over the limit are counted by reason."""
    rewards = {1: [1.0, 1.0], 2: [1.0, None], 3: [1.0, 0.9], 4: [1.0, 0.0], 5: [1.0, 0.2]}
    preference = made(text_context, text_policy, rewards, margin=0.5, max_pairs=1)
    assert [t.id for t in preference()["prompt_P"]] == [4]
    assert preference.left_out == {"no_reward": 1, "single": 1, "tied": 1, "below_margin": 1, "over_max_pairs": 1}


def test_rows_that_answer_other_words_are_no_pair(text_context, text_policy):
    """Rows of one task whose prompts differ, as those of an episode's turns do, are not held against each other."""
    preference = made(text_context, text_policy, {1: [1.0, 0.0, 0.5]})
    (path,) = preference.context.artifacts["explore.rollouts"].iterdir()
    first, second, third = map(json.loads, path.read_text().splitlines())
    second["prompt_ids"] = [1, 9]
    path.write_text("\n".join(map(json.dumps, (first, second, third))))
    assert ids(preference()["rejected_P"]) == [(1, *third["ids"])]
    assert preference.left_out["single"] == 1


def test_no_pair_is_refused(text_context, text_policy):
    """When nothing is left the stage does not start, and says what was left out."""
    with pytest.raises(RecipeError) as caught:
        made(text_context, text_policy, {1: [1.0, 1.0]})()
    found = caught.value.diagnostics[0]
    assert found.code == "RC718"
    assert "1 tied" in found.message


def test_pairs_are_written_with_their_evidence(text_context, text_policy, tmp_path):
    """The artifact holds both answers as sampled, their rewards, the rule and where they came from."""
    preference = made(text_context, text_policy, {1: [0.0, 1.0]})
    preference()
    preference.write(tmp_path / "pairs")
    (line,) = (tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()
    pair = json.loads(line)
    assert (pair["chosen"], pair["chosen_ids"], pair["rejected"]) == ("1.1", [11], "1.0")
    assert pair["evidence"]["rule"] == "best_vs_worst"
    assert pair["evidence"]["chosen"] == {
        "reward": 1.0, "step": 0, "file": "explore.rollouts/step-000000.jsonl", "row": 2,
    }  # fmt: skip
    assert json.loads((tmp_path / "pairs" / "summary.json").read_text())["pairs"] == 1
