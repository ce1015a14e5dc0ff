"""The papers' numbers through `recipec credit`: rows as a user writes them, in any order, with copies."""

import io
import json
import random
import sys
from pathlib import Path

import pytest

from recipec import cli
from recipec.cli.tables import credit_json
from recipec.compile import compile_recipe
from recipec.diagnostics.model import RecipeError
from recipec.runtime.objective.recorded_rollouts import credit

DATA = Path(__file__).parent / "data"
LOADED = {
    name: json.loads((DATA / f"{name}.json").read_text())
    for name in ("tree_credit", "step_credit", "token_credit", "recorded_steps")
}
TREES, STEPS = LOADED["tree_credit"]["cases"], LOADED["step_credit"]["cases"]
TOKENS = {case["id"]: case for case in LOADED["token_credit"]["cases"]}
RECORDED = {case["id"]: case for case in LOADED["recorded_steps"]["cases"]}
HEAD = """\
recipec: 1
name: recorded
stages:
  explore:
    kind: rl
    from: org/model
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-6}
    budget: {steps: 10, prompts_per_step: 8}
"""
TREE = f"""{HEAD}\
    data: {{path: tasks.jsonl}}
    environment: {{type: search_qa}}
    sampler: {{type: tree}}
    reward: {{right: {{type: answer_match}}}}
    advantage:
      across: {{type: group_relative, group: by_prompt_R, singleton: raw}}
      within: {{type: group_relative, group: by_tree_R, singleton: raw}}
"""
STEP = f"""{HEAD}\
    data: {{path: tasks.jsonl}}
    environment: {{type: search_qa}}
    sampler: {{type: chain, rows: step}}
    reward: {{task: {{type: environment, gamma: 0.95, invalid_action_penalty: 0.1}}}}
    grouping: {{type: anchor_state}}
    advantage:
      episode: {{type: group_relative, value: score_R, group: by_prompt_R, singleton: raw}}
      step: {{type: group_relative, value: return_R, group: by_anchor_R, singleton: zero}}
"""


def told(tmp_path, recipe, rows, *overrides):
    """Credit rows as the verb does."""
    file, path = tmp_path / "recipe.yaml", tmp_path / "rows.jsonl"
    file.write_text(recipe)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = compile_recipe(file, [f"stages.explore.{override}" for override in overrides])
    assert result.graph is not None, result.diagnostics
    return credit(result.graph, path)


def leaves(case):
    """One row a leaf."""
    columns = zip(case["by_prompt"], case["by_tree"], case["reward"], strict=True)
    return [{"prompt_id": f"p{p}", "tree_id": f"t{t}", "reward": reward} for p, t, reward in columns]


def steps(case):
    """One row a step, copies included, and the overrides of the case's settings."""
    found = RECORDED[case["id"]]
    rows = [dict(zip(LOADED["recorded_steps"]["columns"], row, strict=True)) for row in found["rows"]]
    scale = "std" if case["normalization"] == "mean_std_norm" else "none"
    overrides = [f"advantage.{level}.scale={scale}" for level in ("episode", "step")]
    overrides += [f"advantage.step.weight={case['step_weight']}", f"reward.task.gamma={found['gamma']}"]
    overrides.append(f"reward.task.invalid_action_penalty={found['invalid_action_penalty'] or 0.0}")
    if found["threshold"]:
        overrides += ["grouping.match=similarity", f"grouping.threshold={found['threshold']}"]
    return rows, overrides


def close(expected):
    """Compare within 1e-6."""
    return pytest.approx(expected, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("case", TREES, ids=lambda case: case["id"])
def test_trees(case, tmp_path):
    """Levels by prompt and by tree, their sum and their sequence, in any order of rows."""
    order = list(range(len(case["reward"])))
    random.Random(7).shuffle(order)  # noqa: S311 - an order, no secret
    rows, expected = leaves(case), case["expected"]
    for places in (sorted(order), order):
        found = told(tmp_path, TREE, [rows[i] for i in places])
        assert [row["advantage"] for row in found] == close([expected["combined"][i] for i in places])
        assert [row["levels"]["across"] for row in found] == close([expected["inter"][i] for i in places])
        assert [row["levels"]["within"] for row in found] == close([expected["intra"][i] for i in places])
        found = told(tmp_path, TREE, [rows[i] for i in places], "advantage.combine=sequential")
        assert [row["advantage"] for row in found] == close([expected["sequential"][i] for i in places])


def test_tokens(tmp_path):
    """Statistics over all response tokens of a group; a row's credit is then the mean of its tokens'."""
    for case in TREES:
        if case["id"] in TOKENS:
            expected = TOKENS[case["id"]]
            lengths = zip(leaves(case), expected["response_len"], strict=True)
            rows = [{**row, "response_len": length} for row, length in lengths]
            for row, tokens in zip(
                told(tmp_path, TREE, rows, "advantage.combine=per_token"), expected["per_token"], strict=True
            ):
                assert row["advantage_T"] == close(tokens)
                assert row["advantage"] == pytest.approx(sum(row["advantage_T"]) / len(tokens))


@pytest.mark.parametrize("case", STEPS, ids=lambda case: case["id"])
def test_steps(case, tmp_path):
    """Scores, returns and anchor groups from raw rewards, with copies and penalties, and what they make together."""
    rows, overrides = steps(case)
    found = told(tmp_path, STEP, rows, *overrides)
    assert [row["groups"]["by_anchor_R"] for row in found] == RECORDED[case["id"]]["by_anchor"]
    assert [row["levels"]["episode"] for row in found] == close(case["expected"]["episode"])
    assert [row["levels"]["step"] for row in found] == close(
        [case["step_weight"] * value for value in case["expected"]["step"]]
    )
    assert [row["advantage"] for row in found] == close(case["expected"]["joint"])
    if RECORDED[case["id"]]["threshold"] is None:  # similarity depends on the order of rows
        order = list(range(len(rows)))
        random.Random(7).shuffle(order)  # noqa: S311 - an order, no secret
        shuffled = told(tmp_path, STEP, [rows[i] for i in order], *overrides)
        assert [row["advantage"] for row in shuffled] == close([case["expected"]["joint"][i] for i in order])


def test_the_rows_come_back(tmp_path):
    """Every column is kept, in the order of the file, and what was found out stands behind it."""
    rows = [{"reward": i % 2, "prompt_id": 1, "tree_id": "a", "mine": {"x": [i]}} for i in range(4)]
    found = told(tmp_path, TREE, rows)
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    assert [list(row)[-3:] for row in found] == [["advantage", "levels", "groups"]] * 4
    assert found[0]["groups"] == {"by_prompt_R": 0, "by_tree_R": 0}


def test_rows_of_a_run_are_credited_step_by_step(tmp_path):
    """What a run kept: `step` is the training step, and groups never reach across it; null is in no baseline."""
    rows = [
        {"step": s, "prompt_id": 1, "tree_id": 0, "episode": e, "episode_step": 0, "reward": r, "advantage": 9.0}
        for s, e, r in [(0, 0, 0.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.0), (1, 2, None)]
    ]
    found = told(tmp_path, TREE, rows, "advantage.within=null", "advantage.across.scale=none")
    assert [row["advantage"] for row in found] == [-0.5, 0.5, 0.0, 0.0, 0.0]
    assert [row["groups"]["by_prompt_R"] for row in found] == [0, 0, 1, 1, 1]


BAD = [
    ("{", "RC797"),
    ("[1]", "RC797"),
    ('{"prompt_id": 1}', "RC797"),
    ('{"reward": NaN}', "RC797"),
    ('{"reward": 1e999}', "RC797"),
    ('{"reward": true}', "RC797"),
    ('{"reward": 1, "prompt_id": [1]}', "RC797"),
    ('{"reward": 1, "step": -1}', "RC797"),
    ('{"reward": 1, "action_valid": "yes"}', "RC797"),
    ('{"reward": 1, "mine": [-1e999]}', "RC797"),
    ('{"reward": 1e31}', "RC797"),
    (f'{{"reward": {"9" * 5000}}}', "RC797"),
    ('{"reward": 1, "reward": 2}', "RC797"),
    ('{"reward": 1, "mine": {"a": 1, "a": 1}}', "RC797"),
    ('{"reward": 1} x', "RC797"),
    ('{"reward": 1, "mine": "\udcff"}', "RC797"),
    ("[" * 100000, "RC797"),
    ("", "RC797"),
    ('{"reward": 1}', "RC799"),
    ('{"reward": 1, "prompt_id": 1, "episode_id": 1, "step": 0, "action_valid": true}', "RC799"),
    ('{"reward": 1, "prompt_id": 1, "episode_id": 1, "step": 0, "state": "a"}', "RC799"),
    ('{"reward": 1, "prompt_id": 1, "episode_id": 1, "state": "a", "action_valid": true}', "RC799"),
]


@pytest.mark.parametrize(("line", "code"), BAD)
def test_bad_rows(line, code, tmp_path, monkeypatch, capsys):
    """A line that is no row, or lacks what the recipe asks for, is refused with its place and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(STEP)
    Path("rows.jsonl").write_text(line + "\n", errors="surrogateescape")
    monkeypatch.setattr(sys, "argv", ["recipec", "credit", "recipe.yaml", "rows.jsonl", "--format", "json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert f"error[{code}]" in printed.err
    assert "rows.jsonl:1" in printed.err
    assert printed.out == ""


def test_states_that_cannot_be_compared(tmp_path):
    """A state that is no text under similarity, or nested without end, is refused at its line; not in a failed row."""
    row = {"prompt_id": 1, "episode_id": 1, "reward": 0, "action_valid": True}
    endless: dict[str, object] = {}
    for _ in range(700):
        endless = {"in": endless}
    alike = ["grouping.match=similarity", "grouping.threshold=0.9"]
    for state, code, overrides in ((["a"], "RC796", alike), (endless, "RC796", [])):
        rows = [{**row, "step": 0, "state": "a"}, {**row, "step": 1, "state": state}]
        with pytest.raises(RecipeError) as refused:
            told(tmp_path, STEP, rows, *overrides)
        [problem] = refused.value.diagnostics
        assert (problem.code, problem.spans[0].line) == (code, 2)
        failed = [rows[0], {**rows[1], "episode_id": 2, "reward": None}]
        assert [row["groups"]["by_anchor_R"] for row in told(tmp_path, STEP, failed, *overrides)] == [0, 1]


def test_numbers_come_back_as_they_were(tmp_path):
    """Large whole numbers, smallest floats and half characters of the user's own columns survive."""
    text = '{"reward": 1, "prompt_id": 1, "tree_id": 1, "n": 12345678901234567890123, "f": 5e-324, "t": "\\ud800"}'
    [made] = told(tmp_path, TREE, [json.loads(text)])
    assert next(credit_json([made])).startswith(text[:-1])


def test_copies_must_agree(tmp_path, capsys, monkeypatch):
    """A step that is there twice with different rewards is refused, at the second place."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(STEP)
    row = {"prompt_id": 1, "episode_id": 1, "step": 0, "state": "a", "action_valid": True}
    text = "".join(json.dumps({**row, "reward": reward}) + "\n" for reward in (0, 1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    monkeypatch.setattr(sys, "argv", ["recipec", "credit", "recipe.yaml", "-"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "line 2: it repeats the episode and the step of line 1" in capsys.readouterr().err


def test_the_verb(tmp_path, monkeypatch, capsys):
    """A table for people, JSON lines for machines; a stage that is not there is refused."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(TREE)
    Path("rows").mkdir()
    Path("rows/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in leaves(TREES[0])))
    outs = []
    for more in ([], ["--format", "json"], ["--stage", "nope"]):
        monkeypatch.setattr(sys, "argv", ["recipec", "credit", "recipe.yaml", "rows", *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        outs.append((ended.value.code, capsys.readouterr()))
    assert [code for code, _ in outs] == [0, 0, 1]
    assert outs[0][1].out.splitlines()[0].split()[-3:] == ["across", "within", "advantage"]
    assert len([json.loads(line) for line in outs[1][1].out.splitlines()]) == len(TREES[0]["reward"])
    assert "RC798" in outs[2][1].err
