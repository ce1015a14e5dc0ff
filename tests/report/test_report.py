"""The page about a run: changes of metrics, groups of curves, samples to browse, and a page that compares runs."""

import json
import re

import pytest
from support.small_recipes import ROWS, SFT

from recipec.report import compare, intervals
from recipec.report.page import held_out, write
from recipec.report.results import EvaluationPoint, Results, results
from recipec.report.samples import browsable
from recipec.report.summary import curves, headline, metric_changes

HELD_OUT = "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [reward], reward: {right: {type: exact_match}}}}\n"


def lines(*rows):
    """Write JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def a_run(home, gain):
    """Write what a run leaves that the report reads."""
    samples = home / "stages/learn/samples"
    samples.mkdir(parents=True)
    metrics = [{"step": step, "eval/dev/accuracy": value} for step, value in ((0, 0.25), (4, 0.75))]
    (home / "stages/learn/metrics.jsonl").write_text(lines(*metrics))
    for step, right in ((0, 0), (4, gain)):
        rows = [{"prompt_id": i, "prompt": f"</script>{i}", "text": "a" * i, "reward": float(i < right),
                 "rewards": {"right": float(i < right)}, "columns": {"answer": "x"}} for i in range(8)]  # fmt: skip
        (samples / f"eval-dev-{step:06d}.jsonl").write_text(lines(*rows))


def test_metric_changes_have_an_interval_over_tasks(tmp_path):
    """The change is the table's, the interval pairs the answers to the same task."""
    a_run(tmp_path, 4)
    graph = {"evaluate": {"dev": {"correct_at": 1.0, "metrics": ["accuracy"]}}}
    (change,) = metric_changes(tmp_path, graph, results(tmp_path, ["learn"]))
    assert (change.before, change.after, change.tasks) == (0.25, 0.75, 8)
    assert (change.low, change.high) == intervals.change([1.0] * 4 + [0.0] * 4, rates=True)
    assert change.low < 0.5 < change.high


@pytest.mark.parametrize("right", range(9))
def test_intervals_of_rates_stay_within_rates(right):
    """Whatever the answers, an interval is within 0 and 1, or -1 and 1, contains the result, and has a width."""
    values = [1.0] * right + [0.0] * (8 - right)
    low, high = intervals.rate(values)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= right / 8 <= high + 1e-12
    for sign in (1, -1):
        low, high = intervals.change([sign * value for value in values], rates=True)
        assert -1 <= low < high <= 1
        assert low <= sign * right / 8 <= high


def test_wilson_and_paired_intervals_are_those_of_the_literature():
    """Wilson's interval of 15 of 20; Agresti and Min's of pairs, 6 better and 2 worse of 20."""
    assert intervals.rate([1.0] * 15 + [0.0] * 5) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    n, better, worse = 22, 6.5, 2.5
    middle, error = (better - worse) / n, ((better + worse) - (better - worse) ** 2 / n) ** 0.5 / n
    found = intervals.change([1.0] * 6 + [-1.0] * 2 + [0.0] * 12, rates=True)
    assert found == pytest.approx((middle - 1.96 * error, middle + 1.96 * error))


def test_every_sample_can_be_browsed(tmp_path):
    """Samples come with levels, the right answer and the change since the first evaluation; both ends fit first."""
    a_run(tmp_path, 2)
    found = browsable(tmp_path, ["learn"])
    assert [one["set"] for one in found] == ["dev, step 4"] * 8 + ["dev, step 0"] * 8
    first = found[0]
    assert (first["set"], first["reward"], first["change"], first["right"]) == ("dev, step 4", 1.0, 1.0, "x")
    assert first["since"] == "before training"
    assert "since" not in found[-1]
    assert first["levels"] == {"right": 1.0}
    big = [{"prompt_id": i, "prompt": "x" * 4000, "text": "y" * 4000, "reward": i / 999} for i in range(1000)]
    (tmp_path / "stages/learn/samples/step-000009.jsonl").write_text(lines(*big))
    found = [one for one in browsable(tmp_path, ["learn"]) if one["set"].startswith("training")]
    assert (found[0]["reward"], found[-1]["reward"]) == (1.0, 0.0)
    assert 50 < len(found) < 200


def test_turns_of_an_episode_are_one_sample(tmp_path):
    """Rows of steps are joined in order, their rewards summed; a row of a whole episode shows its transcript."""
    (tmp_path / "stages/play/samples").mkdir(parents=True)
    rows = [{"prompt_id": 1, "episode_id": 7, "episode_step": i, "prompt": f"p{i}", "text": f"t{i}", "reward": 0.5}
            for i in range(3)]  # fmt: skip
    (tmp_path / "stages/play/samples/step-000001.jsonl").write_text(lines(*rows))
    (one,) = browsable(tmp_path, ["play"])
    assert [turn["text"] for turn in one["turns"]] == ["t0", "t1", "t2"]
    assert one["reward"] == 1.5
    whole = {**rows[0], "transcript": "t0, an observation, t1"}
    (tmp_path / "stages/play/samples/step-000002.jsonl").write_text(lines(whole))
    one, _ = browsable(tmp_path, ["play"])
    assert [turn["text"] for turn in one["turns"]] == ["t0, an observation, t1"]


def test_curves_are_grouped_and_flat_ones_are_listed():
    """Groups come in a fixed order; a metric that never changes has no curve."""
    rows = [{"step": i, "reward": i / 9, "loss": 1.0, "seconds/step": float(i)} for i in range(1, 4)]
    found = {group["name"]: group for group in curves(rows)}
    assert list(found) == ["Reward", "Policy", "Speed"]
    assert [one["text"] for one in found["Policy"]["flat"]] == ["loss 1"]
    assert found["Reward"]["charts"][0]["title"] == "reward"


def test_the_page_and_the_comparison(folder):
    """One file without sources from elsewhere, with the override that was run; two runs differ in exactly that key."""
    for rate in ("1.0e-3", "2.0e-3"):
        set_ = ("--set", f"stages.learn.optimizer.learning_rate={rate}", "--out", f"runs/{rate}")
        assert folder.run(SFT.replace("stages:", HELD_OUT + "stages:"), *set_, a__jsonl=ROWS).code == 0
    page = (folder.path / "runs/2.0e-3/report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<script") == 3
    assert "script-src &#39;sha256-" not in page
    assert "0.002" in page
    assert "held_out/reward: " in page
    assert "Device: cpu." in page
    found = folder.call("report", "runs/1.0e-3", "runs/2.0e-3")
    assert found.code == 0, found.err
    compared = (folder.path / "comparison.html").read_text()
    differing = compared[compared.index("Settings that differ") : compared.index("<h2>learn")]
    assert re.findall(r"<td>([^<]*)</td>", differing) == ["stages.learn.optimizer.learning_rate", "0.001", "0.002"]
    assert compared.count('<polyline class="r1"') > 0
    assert compared.index("Settings that differ") < compared.index("Held-out results")
    assert re.findall(r'<a href="([^"]*)"', compared) == ["runs/1.0e-3/report.html", "runs/2.0e-3/report.html"]
    found = folder.call("report", "runs", "--to", "runs/swept.html")
    assert found.out.split() == ["runs/1.0e-3/report.html", "runs/2.0e-3/report.html", "runs/swept.html"]
    assert 'href="2.0e-3/report.html"' in (folder.path / "runs/swept.html").read_text()


def test_a_row_without_a_reward_is_shown(tmp_path):
    """An answer that could not be scored has no number, and the page is written all the same."""
    a_run(tmp_path, 2)
    (tmp_path / "run.json").write_text(json.dumps({"name": "r", "seed": 0, "versions": {}}))
    graph = {"stages": [{"name": "learn", "kind": "rl"}], "machine": {"device": "cpu"}, "evaluate": {}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    rows = [{"prompt_id": 0, "prompt": "p", "text": "t", "reward": None, "error": "late"}]
    (tmp_path / "stages/learn/samples/step-000007.jsonl").write_text(lines(*rows))
    page = write(tmp_path).read_text()
    assert 'step 7, <span class="reward">no reward</span>, late' in page
    assert ">None<" not in page


def test_samples_of_several_steps(tmp_path):
    """First, last and three steps between are kept; training has no change; changes are those since the run began."""
    for stage in ("learn", "prefer"):
        samples = tmp_path / "stages" / stage / "samples"
        samples.mkdir(parents=True)
        for step in range(1, 42):
            row = {"prompt_id": step, "prompt": "p", "text": "t", "reward": 0.5}
            (samples / f"step-{step:06d}.jsonl").write_text(lines(row))
    for stage, step, reward in (("learn", 0, 0.25), ("learn", 41, 0.5), ("prefer", 41, 1.0)):
        row = {"prompt_id": 3, "prompt": "p", "text": "t", "reward": reward}
        (tmp_path / "stages" / stage / "samples" / f"eval-dev-{step:06d}.jsonl").write_text(lines(row))
    found = browsable(tmp_path, ["learn", "prefer"])
    trained = [one for one in found if one["stage"] == "learn" and not one["evaluation"]]
    assert sorted(one["step"] for one in trained) == [1, 11, 21, 31, 41]
    assert not any("since" in one for one in trained)
    held_out = [(one["stage"], one["step"], one.get("change")) for one in found if one["evaluation"] == "dev"]
    assert held_out == [("prefer", 41, 0.75), ("learn", 41, 0.25), ("learn", 0, None)]


def test_the_same_tasks_are_kept_at_every_moment(tmp_path):
    """Where samples have to be left out, those of the same tasks are kept at each moment: they can be followed."""
    samples = tmp_path / "stages/learn/samples"
    samples.mkdir(parents=True)
    for step, sign in ((0, 1), (9, -1)):
        rows = [{"prompt_id": i, "prompt": "x" * 4000, "text": "", "reward": sign * i * 7 % 1000} for i in range(1000)]
        (samples / f"eval-dev-{step:06d}.jsonl").write_text(lines(*rows))
    found = browsable(tmp_path, ["learn"])
    last, first = ({one["task"] for one in found if one["step"] == step} for step in (9, 0))
    assert 100 < len(last) < 500
    assert len(last & first) >= len(last) - 2


def test_a_page_that_shows_no_change_says_why():
    """Without held-out results, or with those of one moment, the headline says so and names what training shows."""
    rows = [{"step": i, "reward": i / 100} for i in range(1, 60)]
    stage = {"name": "learn", "groups": curves(rows)}
    none = headline([], None, [stage])
    assert none[0].startswith("Nothing was evaluated on held-out data")
    assert none[1] == "learn, on its training data: reward 0.01 → 0.59"
    assert "held-out data so far:" in headline([], None, [stage], planned=True)[0]
    once = Results(("dev/accuracy",), (EvaluationPoint("learn", 0, "before training", {"dev/accuracy": 0.5}, {}),))
    assert "only before training so far" in headline([], once, [])[0]


@pytest.mark.parametrize(
    ("finished", "live", "says"),
    [
        pytest.param(True, False, None, id="finished"),
        pytest.param(False, False, "learn ended after step 4", id="interrupted"),
        pytest.param(False, True, "in progress", id="running"),
    ],
)
def test_the_page_says_how_a_run_stands(tmp_path, finished, live, says):
    """A run that ended early says after which step; one in progress says so instead, a finished one neither."""
    a_run(tmp_path, 2)
    (tmp_path / "run.json").write_text(json.dumps({"name": "r", "seed": 0, "versions": {}}))
    graph = {"stages": [{"name": "learn", "kind": "rl"}], "machine": {"device": "cpu"}, "evaluate": {}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    if finished:
        (tmp_path / "stages/learn/policy").mkdir()
    page = write(tmp_path, live=live).read_text()
    said = [words for words in ("learn ended after step 4", "in progress") if words in page]
    assert said == ([says] if says else [])


def test_a_long_run_has_a_small_page(tmp_path):
    """2,000 steps with 512 samples each and 40 noisy metrics give a page of less than 2 MB."""
    a_run(tmp_path, 2)
    (tmp_path / "run.json").write_text(json.dumps({"name": "r", "seed": 0, "versions": {}}))
    graph = {"stages": [{"name": "learn", "kind": "rl"}], "machine": {"device": "cpu"}, "evaluate": {}}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    metrics = [
        {"step": s, **{f"rewards/r{i}/mean": s * (i + 7919) % 1009 / 1009 for i in range(40)}} for s in range(2001)
    ]
    (tmp_path / "stages/learn/metrics.jsonl").write_text(lines(*metrics))
    rows = [{"prompt_id": i, "prompt": "é" * 900, "text": "<" * 900, "reward": i / 511} for i in range(512)]
    for step in (1, 1000, 2000):
        (tmp_path / f"stages/learn/samples/step-{step:06d}.jsonl").write_text(lines(*rows))
    assert write(tmp_path).stat().st_size < 2_000_000


def test_runs_are_compared_over_the_same_tasks(tmp_path):
    """The difference to the first run pairs tasks, and its interval says where it may be none; other data has none."""
    for name, right, size in (("a", 2, 8), ("b", 8, 8), ("c", 3, 8), ("d", 8, 9)):
        home = tmp_path / name
        a_run(home, right)
        (home / "run.json").write_text(json.dumps({"name": name, "seed": 0, "versions": {}}))
        metrics = {"step": 4, "eval/dev/accuracy": right / 8, "seconds/step": 30.0, "num_tokens": 12345}
        (home / "stages/learn/metrics.jsonl").write_text(lines(metrics))
        graph = {"stages": [{"name": "learn"}], "evaluate": {"dev": {"data": {"size": size}}}}
        (home / "graph.json").write_text(json.dumps(graph))
    page = compare.write([tmp_path / name for name in "abcd"], tmp_path / "all.html").read_text()
    cells = re.findall(r'<td data-value="([\d.]+)">(.*?)</td>', page)
    texts = [re.sub("<[^>]*>", "", text) for _, text in cells]
    low, high = intervals.change([0.0] * 2 + [1.0] * 6, rates=True)
    assert texts[0] == "0.25 (0.07 to 0.59)"
    assert texts[1].endswith(f"+0.75 ({low:+.2f} to {high:+.2f})")
    assert "may be equal" in texts[2]
    assert texts[3].strip().endswith(")")
    assert "+" not in texts[3]
    assert '<td class="number" data-value="12345">12.3k</td>' in page


def test_each_change_of_held_out_results_has_its_interval(tmp_path):
    """After a stage, the paired interval stands after the change; one with 0 in it, or of a count, has no colour."""
    a_run(tmp_path, 8)
    metrics = [
        {"step": step, "eval/dev/accuracy": value, "eval/dev/errors": value} for step, value in ((0, 0.0), (4, 1.0))
    ]
    (tmp_path / "stages/learn/metrics.jsonl").write_text(lines(*metrics))
    table = results(tmp_path, ["learn"])
    accuracy, errors = held_out(table, tmp_path, {})["rows"][1]["numbers"]
    low, high = intervals.change([1.0] * 8, rates=True)
    assert accuracy == {"value": "1.000", "change": f"+1.00 ({low:+.2f} to {high:+.2f})", "kind": "more"}
    assert errors == {"value": "1.000", "change": "+1.000", "kind": ""}
    a_file = tmp_path / "stages/learn/samples/eval-dev-000004.jsonl"
    a_file.write_text(lines(*({"prompt_id": i, "reward": float(i < 1)} for i in range(8))))
    assert held_out(table, tmp_path, {})["rows"][1]["numbers"][0]["kind"] == ""


def test_a_headline_says_that_an_earlier_stage_was_better(tmp_path):
    """Where the last result is lower than one between, beyond its interval, the headline names that moment."""
    a_run(tmp_path, 8)
    home = tmp_path / "stages/learn"
    values = ((0, 0.0), (4, 1.0), (8, 0.25))
    (home / "metrics.jsonl").write_text(lines(*({"step": step, "eval/dev/accuracy": v} for step, v in values)))
    rows = [{"prompt_id": i, "reward": float(i < 2)} for i in range(8)]
    (home / "samples/eval-dev-000008.jsonl").write_text(lines(*rows))
    (change,) = metric_changes(tmp_path, {}, results(tmp_path, ["learn"], every=True))
    assert change.text().endswith("; it was higher before: 1.00 (learn, step 4)")
    (change,) = metric_changes(tmp_path, {}, results(tmp_path, ["learn"]))
    assert "higher" not in change.text()
