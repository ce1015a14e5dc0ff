"""Whole runs of a policy that sees: what it learns from pictures, what is kept, what a broken data set ends in."""

import importlib.util
import io
import json
import zlib

import pytest
from PIL import Image
from support.small_recipes import SEEING, rows

EXPLORE = """\
  explore:
    kind: rl
    from: learn
    data: {path: a.jsonl}
    sampler: {num_generations: 3, max_completion_length: 3, group_filter: {max_tries: 2}}
    reward:
      low: {type: regex_format, pattern: "[ -N].*"}
      drift: {type: kl_penalty}
    advantage: {group: {type: group_relative}}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 2, prompts_per_step: 2, passes: 2}
"""
AFTER = """\
  imitate:
    kind: sft
    from: explore
    data: {type: rollouts, rollouts: explore.rollouts}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, rows_per_step: 2}
  align:
    kind: dpo
    from: imitate
    preference: {type: best_vs_worst, rollouts: explore.rollouts}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 2, pairs_per_step: 1}
evaluate:
  dev: {data: {path: a.jsonl}, sampler: {max_completion_length: 3}, reward: {r: {type: exact_match, answer: answer}}}
"""
COLOURS = {"r": (220, 30, 30), "b": (30, 30, 220), "g": (30, 220, 30), "w": (250, 250, 250)}
ROWS = rows(*({"prompt": "?", "completion": c, "answer": c, "images": [f"pictures/{c}.png"]} for c in COLOURS))


def painted(colour, size=(16, 16)):
    """Return the bytes of a picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def pictures(folder):
    """A folder with pictures and a data set that names them."""
    (folder.path / "pictures").mkdir()
    for name, colour in COLOURS.items():
        (folder.path / "pictures" / f"{name}.png").write_bytes(painted(colour))
    folder.write(a__jsonl=ROWS)
    return folder


def evaluated(folder, stage):
    """Return the last accuracy on held-out rows after a stage."""
    lines = (folder.path / "runs/small/stages" / stage / "metrics.jsonl").read_text().splitlines()
    return [row["eval/dev/accuracy"] for row in map(json.loads, lines) if "eval/dev/accuracy" in row][-1]


def test_a_policy_learns_what_is_on_the_pictures(pictures):
    """Of questions that differ in their pictures alone every answer is learnt; without the pictures one at most."""
    recipe = SEEING.replace("steps: 2, rows_per_step: 2", "steps: 40, rows_per_step: 4") + AFTER[AFTER.index("evalu") :]
    recipe = recipe.replace("sampler: {max", "sampler: {temperature: 0, max")
    assert pictures.run(recipe).code == 0
    assert evaluated(pictures, "learn") == 1.0
    blind = recipe.replace("{path: a.jsonl}", '{path: a.jsonl, columns: {images: ""}}')
    assert pictures.run(blind, "--replace").code == 0
    assert evaluated(pictures, "learn") <= 0.25


def test_pictures_flow_through_every_kind_of_stage(pictures):
    """Sampling, resampled groups, imitation and pairs see them; rows record them, and the report shows small copies."""
    ended = pictures.run(SEEING + EXPLORE + AFTER)
    assert ended.code == 0, ended.err
    home = pictures.path / "runs/small/stages"
    lines = (home / "explore/rollouts/step-000001.jsonl").read_text().splitlines()
    assert {row["images"][0]["path"] for row in map(json.loads, lines)} <= {f"pictures/{c}.png" for c in COLOURS}
    kept = {path.stem for path in (home / "explore/samples/images").iterdir()}
    assert {row["images"][0]["digest"] for row in map(json.loads, lines)} <= kept
    report = (pictures.path / "runs/small/report.html").read_text()
    assert '<img src="data:image/jpeg;base64,/9j/' in report
    assert 'alt="pictures/' in report


@pytest.fixture
def embedded(folder, monkeypatch):
    """A dataset of the hub in the local cache, with the images of its rows inside a parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder.path / "hub"))
    home = folder.path / "hub/datasets--org--pictures"
    (home / "snapshots/1a/data").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs/main").write_text("1a")
    made = [
        {"prompt": "?", "completion": c, "answer": c, "images": [{"bytes": painted(colour), "path": f"{c}.png"}],
         "preview": {"bytes": painted(colour), "path": None}}
        for c, colour in COLOURS.items()
    ]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(made), home / "snapshots/1a/data/train-00000-of-00001.parquet")
    return folder


def test_images_inside_parquet_files_of_the_hub_are_as_files(embedded, pictures):
    """They train the same weights as image files of the same bytes; rollouts name and later stages read them."""
    stages, trained = SEEING + EXPLORE + AFTER[: AFTER.index("  align:")], []
    for recipe in (SEEING, stages.replace("{path: a.jsonl}", "{hub: org/pictures}")):
        ended = embedded.run(recipe, "--replace")
        assert ended.code == 0, ended.err
        final = embedded.path / "runs/small/stages/learn/policy/model.safetensors"
        trained.append(final.read_bytes())
    assert trained[0] == trained[1]
    lines = (embedded.path / "runs/small/stages/explore/rollouts/step-000001.jsonl").read_text().splitlines()
    kept = embedded.path / "cache/recipec/images" / json.loads(lines[0])["images"][0]["path"].removeprefix("embedded:")
    assert len(list(kept.parent.iterdir())) == len(COLOURS)  # a preview that nobody reads is not kept
    kept.write_bytes(b"x" * kept.stat().st_size)
    ended = embedded.call("run", "r.yaml", "--set", "seed=3", "--replace")
    assert (ended.code, ended.first) == (1, "RC862")
    assert "its copy was changed" in ended.err


def test_names_of_pictures_are_escaped_in_the_report(pictures):
    """A file name from the data is text on the page, whatever it spells."""
    name = 'x" onerror="alert(1)<b>.png'
    (pictures.path / name).write_bytes(painted((1, 2, 3)))
    recipe = SEEING + EXPLORE
    assert (
        pictures.run(recipe, a__jsonl=rows(*({"prompt": "?", "completion": "r", "image": name} for _ in "ab"))).code
        == 0
    )
    report = (pictures.path / "runs/small/report.html").read_text()
    assert "<b>.png" not in report
    assert 'x" onerror' not in report


def test_editing_a_picture_runs_its_stage_again(pictures):
    """A finished stage is skipped while its pictures stay as they are, under whatever changes beside them."""
    assert pictures.run(SEEING).code == 0
    (pictures.path / "pictures/unused.png").write_bytes(b"x")
    assert "learn: finished before, skipped" in pictures.call("run", "r.yaml").err
    (pictures.path / "pictures/r.png").write_bytes(painted((200, 200, 30)))
    assert pictures.call("run", "r.yaml").first == "RC760"
    ended = pictures.call("run", "r.yaml", "--replace")
    assert ended.code == 0
    assert "skipped" not in ended.err
    assert "learn: finished before, skipped" in pictures.call("run", "r.yaml").err


NOISE = painted((1, 2, 3))
_HEAD = b"IHDR" + b"\0\0\xff\xff" * 2 + NOISE[24:29]
HUGE = NOISE[:12] + _HEAD + zlib.crc32(_HEAD).to_bytes(4, "big") + NOISE[33:]
BAD = [
    ("no column", {"images": ...}, {}, "RC860"),
    ("nearly its name", {"images": ..., "imagse": "pictures/r.png"}, {}, "RC860"),
    ("no images in any row", {"images": []}, {}, "RC860"),
    ("missing file", {"images": ["pictures/x.png"]}, {}, "RC862"),
    ("a folder", {"images": ["pictures"]}, {}, "RC862"),
    ("parent folder", {"images": ["../a.png"]}, {}, "RC862"),
    ("absolute", {"images": ["/etc/passwd"]}, {}, "RC862"),
    ("address", {"images": ["http://localhost/a.png"]}, {}, "RC862"),
    ("inline data", {"images": ["data:image/png;base64,iVBORw0KGgo="]}, {}, "RC862"),
    ("link", {"images": ["pictures/link.png"]}, {}, "RC862"),
    ("empty file", {"images": ["b.png"]}, {"b__png": b""}, "RC862"),
    ("text file", {"images": ["b.png"]}, {"b__png": b"hello"}, "RC862"),
    ("cut file", {"images": ["b.png"]}, {"b__png": NOISE[:-30]}, "RC862"),
    ("huge", {"images": ["b.png"]}, {"b__png": HUGE}, "RC862"),
    ("longer than the model takes", {"images": ["b.png"]}, {"b__png": painted((1, 2, 3), (900, 1))}, "RC855"),
    ("a number", {"images": 7}, {}, "RC867"),
    ("a null", {"images": [None]}, {}, "RC867"),
    ("embedded", {"images": [{"bytes": "iVBO", "path": None}]}, {}, "RC867"),
    ("too few", {"prompt": [{"role": "user", "content": [{"type": "image"}] * 2}]}, {}, "RC866"),
    ("too many", {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "images": ["pictures/r.png"] * 2}, {},
     "RC866"),
    ("nobody asks", {"prompt": [{"role": "system", "content": "x"}]}, {}, "RC866"),
    ("a video", {"prompt": [{"role": "user", "content": [{"type": "video"}]}]}, {}, "RC868"),
    ("an answer with a picture",
     {"prompt": [{"role": "user", "content": "x"}],
      "completion": [{"role": "assistant", "content": [{"type": "image"}]}]}, {}, "RC868"),
    ("more tokens than fit", {"images": ["pictures/r.png"] * 12}, {}, "RC708"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "files", "wanted"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_broken_data_set_ends_in_one_code(pictures, change, files, wanted):
    """Whatever is wrong with the images of a data set is one diagnostic with file and row, before any training."""
    (pictures.path / "pictures/link.png").symlink_to(pictures.path / "pictures/r.png")
    row = {"prompt": "?", "completion": "r", "images": ["pictures/r.png"]} | change
    row = {key: value for key, value in row.items() if value is not ...}
    ended = pictures.run(SEEING, a__jsonl=rows(row), **files)
    assert ended.code == 1
    assert ended.first == wanted
    assert ended.err.count("error[") == 1
    assert "a.jsonl" in ended.err
    assert not (pictures.path / "runs/small/stages/learn/checkpoints").exists()


def test_images_and_a_policy_that_reads_text_alone(pictures):
    """A recipe that shows pictures to a text policy is refused when it is read, or by the first row that has one."""
    text = SEEING.replace("vision_lm", "causal_lm").replace("qwen2_vl", "qwen2")
    text = text.replace(",\n                image_size: 16, patch_size: 4, vision_layers: 1", "")
    ended = pictures.run(text)
    assert (ended.code, ended.first) == (1, "RC861")
    assert "a.jsonl:1:1" in ended.err
    assert pictures.run(text.replace("{path: a.jsonl}", "{path: a.jsonl, columns: {images: photo}}")).first == "RC216"
    assert (
        pictures.run(text.replace("{path: a.jsonl}", '{path: a.jsonl, columns: {images: ""}}'), "--replace").code == 0
    )


def test_an_evaluation_with_broken_pictures_is_refused_before_training(pictures):
    """Held-out rows are read before the first step, so a picture that is missing there costs no training."""
    held = rows({"prompt": "?", "answer": "r", "images": ["gone.png"]})
    recipe = SEEING + AFTER[AFTER.index("evaluate") :].replace("a.jsonl", "h.jsonl")
    ended = pictures.run(recipe, h__jsonl=held)
    assert (ended.code, ended.first) == (1, "RC862")
    assert "h.jsonl:1:1" in ended.err


def test_a_missing_picture_of_a_later_stage_costs_no_training(pictures):
    """Every image that a stage or an evaluation will read is looked for before the first stage."""
    again = rows({"prompt": "?", "completion": "r", "images": ["pictures/gone.png"]})
    more = EXPLORE[EXPLORE.index("  explore") :].replace("a.jsonl", "b.jsonl")
    ended = pictures.run(SEEING + more + AFTER[AFTER.index("evaluate") :].replace("a.jsonl", "b.jsonl"), b__jsonl=again)
    assert (ended.code, ended.first) == (1, "RC862")
    assert ended.err.count("error[") == 1
    assert not (pictures.path / "runs/small/stages").exists()


@pytest.mark.parametrize(
    ("width", "height", "mode", "kind"),
    [(1, 1, "RGB", "PNG"), (120, 1, "L", "PNG"), (9, 7, "P", "PNG"), (9, 7, "I;16", "PNG"), (9, 7, "CMYK", "JPEG")],
)
def test_odd_pictures_are_seen(pictures, width, height, mode, kind):
    """One pixel, a line, a palette, sixteen bits, four inks: all of them train."""
    Image.new(mode, (width, height)).save(pictures.path / "pictures/odd.png", kind)
    row = {"prompt": "?", "completion": "r", "images": ["pictures/odd.png"]}
    ended = pictures.run(SEEING.replace("steps: 2", "steps: 1"), a__jsonl=rows(row, row))
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("names", ["[visoin]", "[vision, projector, decoder, embeddings]", "['']"])
def test_freezing_what_is_not_there_or_everything(pictures, names):
    """A part that the model does not have, and no part left to train, are told where the recipe says them."""
    ended = pictures.run(SEEING.replace("learning_rate: 1.0e-2", f"learning_rate: 1.0e-2, freeze: {names}"))
    assert (ended.code, ended.first) == (1, "RC773")
    assert "r.yaml:12:" in ended.err


def test_what_an_evaluation_lacks_is_told_at_the_evaluation(pictures):
    """A column that only the evaluation asks for is told at the evaluation, not at the stage that it ends."""
    ended = pictures.run(SEEING + AFTER[AFTER.index("evaluate") :].replace("answer: answer", "answer: label"))
    assert (ended.code, ended.first) == (1, "RC741")
    assert "r.yaml:15:8" in ended.err


def test_without_pillow_a_run_is_refused_before_it_begins(pictures, monkeypatch):
    """A policy that sees needs a package, and the code says which extra has it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else find(name))
    ended = pictures.run(SEEING)
    assert (ended.code, ended.first) == (1, "RC716")
    assert "recipec[vision]" in ended.err
