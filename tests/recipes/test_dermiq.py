"""The DermIQ pipelines: the published one says its sources and is planned, the small one learns what it says."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.compile import compile_recipe
from recipec.run.run_plan import plan_run

RECIPES = Path(__file__).parents[2] / "recipes"
PUBLISHED = RECIPES / "dermiq" / "dermiq_vlm.yaml"
STAGES = ("warm", "recognise", "converse", "align")


def test_the_published_pipeline_is_planned_without_its_data(tmp_path):
    """Every stage has a plan that knows its model; the data are not there and are said to be unknown."""
    plan = plan_run(compile_recipe(PUBLISHED), tmp_path / "out")
    assert [stage.name for stage in plan.stages] == ["recognise", "converse", "align"]
    assert not (PUBLISHED.parent / "data" / "recognise.jsonl").exists()
    for stage in plan.stages:
        assert sum(held.bytes for held in stage.memory) > 0


def test_the_published_pipeline_says_where_values_come_from():
    """Every value of its stages has paper, code or ours beside it."""
    body = PUBLISHED.read_text().partition("stages:\n")[2].partition("evaluate:\n")[0]
    plain = r"(kind|type|columns|answer|allow|template|chat): |from: (recognise|converse)$"
    for line in map(str.strip, body.splitlines()):
        if re.match(r"\w+: *[^#\s]", line) and not re.match(plain, line):
            assert re.search(r"# (paper|code|co-author's app|ours|signed advantage)\b", line), line


def test_the_prompt_asks_for_what_the_reward_reads():
    """The template names the eight diseases, the three sections and both tags; the script, the same diseases."""
    text = (RECIPES.parent / "templates" / "prompts" / "dermiq.j2").read_text()
    spec = importlib.util.spec_from_file_location("dermiq_rows", PUBLISHED.parent / "data" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for word in (*script.DISEASES, "<thinking>", "</thinking>", "<answer>", "</answer>"):
        assert word in text
    for section in ("Color and Pigmentation", "Texture and Surface Characteristics", "Shape and Border"):
        assert f"{section}:" in text


def test_a_folder_of_pictures_becomes_rows(tmp_path):
    """Two runs of the script draw the same; no picture is both trained on and tested on; a missing folder is told."""
    script = PUBLISHED.parent / "data" / "make.py"
    spec = importlib.util.spec_from_file_location("dermiq_rows", script)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for disease in made.DISEASES:
        folder = tmp_path / "from" / disease.replace(" ", "_").title()
        folder.mkdir(parents=True)
        for i in range(5):
            (folder / f"{i}.jpg").write_bytes(f"{disease} {i}".encode())
    for home in ("one", "other"):
        made.main(tmp_path / "from", 3, 1, tmp_path / home)
    for name in ("recognise", "held_out", "align"):
        assert (tmp_path / "one" / f"{name}.jsonl").read_text() == (tmp_path / "other" / f"{name}.jsonl").read_text()
    rows = {
        n: [*map(json.loads, (tmp_path / "one" / f"{n}.jsonl").read_text().splitlines())]
        for n in ("recognise", "held_out")
    }
    seen = {n: {(tmp_path / "one" / row["image"]).read_bytes() for row in found} for n, found in rows.items()}
    assert len(seen["recognise"]) == 24
    assert len(seen["held_out"]) == 8
    assert not seen["recognise"] & seen["held_out"]
    (tmp_path / "from" / "Rosacea").rename(tmp_path / "from" / "other")
    with pytest.raises(SystemExit, match="rosacea"):
        made.main(tmp_path / "from", 3, 1, tmp_path / "one")


def test_questions_about_real_diseases_tell_no_facts():
    """A question of kg_dpo.yaml is a sentence around the name of its disease; none is both practised and held out."""
    files = {name: (RECIPES / "smollm2" / "data" / f"{name}.jsonl").read_text() for name in ("skin", "skin_held_out")}
    rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}
    for row in (*rows["skin"], *rows["skin_held_out"]):
        assert row["prompt"][0]["content"] == f"Name the skin findings of {row['disease']}, as a list."
    assert not {r["disease"] for r in rows["skin"]} & {r["disease"] for r in rows["skin_held_out"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_small_pipeline_learns(tmp_path):
    """Practice raises diagnoses clearly above the warm start, preferences make talk truer; seen were 0.21 and 0.15."""
    pytest.importorskip("PIL")
    pytest.importorskip("pyoxigraph")
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "recipec",
        "run",
        str(RECIPES / "tiny" / "dermiq.yaml"),
        "--out",
        str(out),
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for stage in STAGES:
        rows = map(json.loads, (out / "stages" / stage / "metrics.jsonl").read_text().splitlines())
        found[stage] = [row for row in rows if "eval/diagnosis/accuracy" in row][-1]
    right = {stage: row["eval/diagnosis/accuracy"] for stage, row in found.items()}
    true = {stage: row["eval/conversation/consistency"] for stage, row in found.items()}
    assert right["recognise"] - right["warm"] >= 0.1
    assert true["align"] - true["converse"] >= 0.05
