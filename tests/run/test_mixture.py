"""Several sources in one stage, from the recipe's text to a policy."""

import json

from support.small_recipes import SFT, rows

MIXED = """{type: mix, sources: {sums: {path: data/a.jsonl, weight: 2}, words: {path: data/b.jsonl, max_length: 6,
           overlong: drop}}}"""


def test_a_stage_over_two_files(folder):
    """Paths are those of the file that names them; lengths, missing files and unknown keys are each source's own."""
    (folder.path / "data").mkdir()
    (folder.path / "data/a.jsonl").write_text(rows({"prompt": "1+1=", "completion": "2"}))
    (folder.path / "data/b.jsonl").write_text(rows(*({"prompt": "a" * i, "completion": "b"} for i in (1, 9))))
    recipe = (
        SFT.replace("{path: a.jsonl}", MIXED)
        .replace("steps: 2", "epochs: 1")
        .replace("rows_per_step: 2", "rows_per_step: 1")
    )
    ended = folder.run(recipe)
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/learn/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 3
    ended = folder.run(recipe.replace("type: mix,", "type: mix, limit: 2,"), "--out", "bounded")  # of 3 rows
    assert ended.code == 0, ended.err
    lines = (folder.path / "bounded/stages/learn/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 2
    ended = folder.run(recipe.replace("data/b.jsonl", "data/c.jsonl"), "--out", "other")
    assert ended.code == 1
    assert "data/c.jsonl" in ended.err
    ended = folder.run(recipe.replace("weight: 2", "wieght: 2"))
    assert (ended.code, ended.first) == (1, "RC130")
