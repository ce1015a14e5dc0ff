"""Checkpoints of a small stage: what is committed, what is set aside, and what is reported of it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from support.running_stages import running
from support.small_recipes import RL, SFT

from recipec.diagnostics.model import RecipeError
from recipec.host.checksums import write_with_sum
from recipec.runtime.stage import loop, resume


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close what stages hold at the end of a test."""
    with ExitStack() as stack:
        yield stack
    torch.use_deterministic_algorithms(mode=False)


def finished(folder, recipe, closing, *overrides, **options):
    """Run a stage to its end; return it."""
    stage = running(folder, recipe, closing, *overrides, **options)
    assert loop.run_loop(stage)
    return stage


def again(folder, recipe, closing, *overrides, **options):
    """Build the same stage anew, and continue from what is there; return it, whether it did, and what it reports."""
    warned = []
    stage = running(folder, recipe, closing, *overrides, warn=warned.append, **options)
    stage.train_engine.begin(2)
    return stage, resume.restore(stage), warned


def latest(stage):
    """Return the folders of a stage's checkpoints, the last one first."""
    return stage.folder.checkpoints(stage.graph.name)


def test_a_checkpoint_is_written_once(tmp_path, closing) -> None:
    """One that is there is left as it is; a damaged one is written anew. Its manifest states the step."""
    stage = finished(tmp_path, SFT, closing)
    state = latest(stage)[0] / "state.json"
    assert json.loads((state.parent / "MANIFEST.json").read_text())["step"] == 2
    before = state.stat().st_ino
    resume.save(stage)
    assert state.stat().st_ino == before
    whole = state.read_text()
    state.write_text("{}")
    resume.save(stage)
    assert state.read_text() == whole


def test_a_damaged_checkpoint_is_set_aside(tmp_path, closing) -> None:
    """The one before it is continued from, and RC765 names the damaged one, which no longer counts."""
    stage = finished(tmp_path, SFT, closing)
    last, first = latest(stage)
    (last / "state.json").write_text("{}")
    stage, continued, warned = again(tmp_path, SFT, closing)
    assert (continued, stage.step, latest(stage)) == (True, 1, [first])
    assert [found.code for found in warned] == ["RC765"]
    assert str(last) in warned[0].message


def test_damaged_rows_take_their_checkpoint_with_them(tmp_path, closing) -> None:
    """A checkpoint after rows that are not those it was made with is set aside, and the rows are."""
    stage = finished(tmp_path, RL, closing)
    rows = stage.folder.stage("explore") / "samples/step-000002.jsonl"
    rows.write_text(rows.read_text().replace('"step": 2', '"step":  2', 1))
    last, first = latest(stage)
    stage, continued, warned = again(tmp_path, RL, closing)
    assert (continued, stage.step, latest(stage)) == (True, 1, [first])
    assert [found.code for found in warned] == ["RC765"]
    assert str(rows) in warned[0].message
    assert not rows.exists()
    assert not last.exists()


def test_metrics_that_are_others_are_reported(tmp_path, closing) -> None:
    """The stage continues; a warning names the file of metrics, which is not what was written."""
    stage = finished(tmp_path, SFT, closing)
    path = stage.metrics_writer.path
    path.write_text(path.read_text().replace('"step": 1', '"step": 7', 1))
    stage, continued, warned = again(tmp_path, SFT, closing)
    assert (continued, stage.step) == (True, 2)
    assert [str(path) in found.message for found in warned] == [True]


def _conditions(stage, **others):
    """Change what the last checkpoint says that it was made under."""
    folder = latest(stage)[0]
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["conditions"] |= others
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def test_other_conditions_are_refused(tmp_path, closing) -> None:
    """RC764 names the folder, what is other, what it was and what it is; with `--replace` the stage begins anew."""
    stage = finished(tmp_path, SFT, closing)
    now = resume.conditions_of(stage)["attention"]
    assert json.loads(now)["type"] == "auto"
    _conditions(stage, attention="another")
    with pytest.raises(RecipeError) as refused:
        again(tmp_path, SFT, closing)
    (found,) = refused.value.diagnostics
    assert found.code == "RC764"
    for words in (str(stage.folder.stage("learn")), "attention another", now):
        assert words in found.message
    assert not resume.restore(replace(stage, replace=True))
    assert latest(stage) == []


def test_another_number_of_processes_is_reported(tmp_path, closing) -> None:
    """A stage continues under it; RC788 says what it was and what it is."""
    stage = finished(tmp_path, SFT, closing)
    now = resume.conditions_of(stage)["ranks"]
    assert json.loads(now) == {"processes": 1}
    _conditions(stage, ranks="two")
    stage, continued, warned = again(tmp_path, SFT, closing)
    assert (continued, stage.step) == (True, 2)
    assert [found.code for found in warned] == ["RC788"]
    for words in ("ranks two", now):
        assert words in warned[0].message


def test_as_many_checkpoints_are_kept_as_the_budget_states(tmp_path, closing) -> None:
    """Of `keep: 3` the last three; one more, as a kill may leave it, is removed when the stage continues."""
    budget = ("stages.learn.budget.steps=4", "stages.learn.budget.keep=3")
    kept = latest(finished(tmp_path, SFT, closing, *budget))
    assert [folder.name for folder in kept] == ["step-000004", "step-000003", "step-000002"]
    shutil.copytree(kept[0], kept[0].parent / "step-000001")
    stage, continued, _ = again(tmp_path, SFT, closing, *budget)
    assert (continued, latest(stage)) == (True, kept)


def test_metrics_before_any_checkpoint_are_removed(tmp_path, closing) -> None:
    """A stage without a checkpoint begins with the first step, and its file of metrics with nothing."""
    stage = running(tmp_path, SFT, closing)
    stage.metrics_writer.path.parent.mkdir(parents=True, exist_ok=True)
    stage.metrics_writer.path.write_text('{"step": 1}\n')
    stage, continued, _ = again(tmp_path, SFT, closing)
    assert (continued, stage.step) == (False, 0)
    assert stage.metrics_writer.path.read_text() == ""


def test_hashes_of_rows_go_on_into_later_checkpoints(tmp_path, closing) -> None:
    """A stage that continues knows the rows of all its steps."""
    stage = finished(tmp_path, RL, closing)
    hashes = dict(stage.counters.samples)
    assert len(hashes) == 2
    stage, _, _ = again(tmp_path, RL, closing)
    assert stage.counters.samples == hashes


def test_a_checkpoint_without_hashes_of_rows(tmp_path, closing, monkeypatch) -> None:
    """One of a version that kept none is continued from."""
    finished(tmp_path, RL, closing)
    load = resume.load_state
    monkeypatch.setattr(resume, "load_state", lambda folder: {k: v for k, v in load(folder).items() if k != "samples"})
    stage, continued, _ = again(tmp_path, RL, closing)
    assert (continued, stage.step, dict(stage.counters.samples)) == (True, 2, {})


def test_samples_of_evaluations_that_are_others_are_reported(tmp_path, closing) -> None:
    """The stage continues; a warning names each file up to its step. Later ones are written again."""
    stage = finished(tmp_path, RL, closing)
    paths = [stage.folder.stage("explore") / "samples" / f"dev-{step:06d}.jsonl" for step in (1, 2, 3)]
    for path in paths:
        write_with_sum(path, b"{}\n")
        path.write_bytes(b"[]\n")
    write_with_sum(paths[0].parent / "notes.txt", b"a")
    (paths[0].parent / "notes.txt").write_bytes(b"b")
    stage, continued, warned = again(tmp_path, RL, closing)
    assert (continued, stage.step) == (True, 2)
    assert [found.code for found in warned] == ["RC879", "RC879"]
    for path, found in zip(paths, warned, strict=False):
        assert str(path) in found.message
        assert resume.DIFFERS in found.message


def test_a_state_that_cannot_be_read_is_refused(tmp_path, closing, monkeypatch) -> None:
    """RC789 names the checkpoint, which is whole and not a state."""
    stage = finished(tmp_path, SFT, closing)

    def load(folder):
        raise ValueError("it is a picture")

    monkeypatch.setattr(resume, "load_state", load)
    with pytest.raises(RecipeError) as refused:
        again(tmp_path, SFT, closing)
    (found,) = refused.value.diagnostics
    assert found.code == "RC789"
    assert str(latest(stage)[0]) in found.message
    assert "it is a picture" in found.message
