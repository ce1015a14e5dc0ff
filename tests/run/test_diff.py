"""`recipec diff` says of each difference whether results depend on it."""

import json

import pytest
from support.small_recipes import RL, ROWS, SFT

REWARDS = "def score(completions, answer, **columns):\n    return [0.0 for _ in completions]\n"
USE = ("--use", "rewards.py")


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        ("learning_rate: 1.0e-3", "learning_rate: 2.0e-3", "stages.learn.optimizer.learning_rate", "results"),
        ("name: small", "name: small\nseed: 1", "seed", "results"),
        ("a.jsonl", "b.jsonl", "stages.learn.data.path", "results"),
        ("metrics: [loss]", "metrics: [margin]", "evaluate.held_out.metrics", "evaluation"),
        ("name: small", "name: small\nmachine: {threads: 2}", "machine.threads", "speed"),
        ("steps: 2", "steps: 2, microbatch_tokens: 99", "stages.learn.budget.microbatch_tokens", "speed"),
        ("steps: 2", "steps: 2, save_every: 1", "stages.learn.budget.save_every", "nothing"),
        ("name: small", "name: small\ntrackers: {mine: {type: trackio}}", "trackers.mine.type", "nothing"),
        ("name: small", "name: other", "name", "nothing"),
        ("steps: 2", "steps: 2, passes: 1", "stages.learn.budget.passes", "nothing"),
        (
            "name: small",
            "name: small\nmachine: {services: {x: {url: http://b}}}",
            "machine.services.x.url",
            "service",
        ),
    ],
)
def test_the_effect_of_a_key(folder, old, new, key, effect):
    """Exit 1 for another result or another evaluation, else 0; a default that is written out changes nothing."""
    text = SFT + "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [loss]}}\n"
    folder.write(a__yaml=text, b__yaml=text.replace(old, new), a__jsonl=ROWS, b__jsonl=ROWS)
    ended = folder.call("diff", "a.yaml", "b.yaml", "--format", "json")
    found = json.loads(ended.out)
    assert {one["key"]: one["effect"] for one in found["differences"]}[key] == effect
    assert ended.code == (1 if effect in {"results", "evaluation"} else 0)
    assert found["same"] == (ended.code == 0)
    assert found["stages"] == (["learn"] if effect == "results" else [])
    assert folder.call("diff", "a.yaml", "a.yaml").code == 0


def test_code_and_data_of_a_run(folder):
    """A run is compared with the recipe as it is now: rows, functions that a stage calls, and other edits."""
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=REWARDS).code == 0
    same = folder.call("diff", "runs/small", "r.yaml")
    assert (same.code, same.out) == (0, "runs/small -> r.yaml: same results\n")
    folder.write(rewards__py=f"# a comment\n{REWARDS}")
    idle = folder.call("diff", "runs/small", "r.yaml")
    assert idle.code == 0
    assert "rewards.py  2 lines -> 3 lines" in idle.out
    folder.write(rewards__py=REWARDS.replace("0.0", "1.0"), a__jsonl=ROWS + ROWS)
    changed = folder.call("diff", "runs/small", "r.yaml", "--format", "json")
    assert changed.code == 1
    assert {one["key"] for one in json.loads(changed.out)["differences"]} == {"a.jsonl", "score"}
    assert json.loads(changed.out)["stages"] == ["explore"]


def test_a_run_of_a_version_without_a_key(folder):
    """A key that came later and is unset is no difference."""
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=REWARDS).code == 0
    graph = folder.path / "runs/small/graph.json"
    text, later = graph.read_text(), "sampler_rejection"
    assert f'"{later}": null' in text
    older = json.loads(text, object_hook=lambda found: {k: v for k, v in found.items() if k != later})
    graph.write_text(json.dumps(older))
    same = folder.call("diff", "runs/small", "r.yaml")
    assert (same.code, same.out) == (0, "runs/small -> r.yaml: same results\n")


def test_versions_of_packages(folder):
    """Another version may change results by rounding only; that alone is no difference."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    about = folder.path / "runs/small/run.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "versions": {"torch": "1.0"}}))
    ended = folder.call("diff", "runs/small", "r.yaml")
    assert ended.code == 0
    assert "torch" in ended.out.partition("rounding:")[2]


def test_what_is_no_run(folder):
    """A directory without a run is RC772."""
    folder.write(r__yaml=SFT, a__jsonl=ROWS)
    (folder.path / "empty").mkdir()
    assert folder.call("diff", "empty", "r.yaml").first == "RC772"
