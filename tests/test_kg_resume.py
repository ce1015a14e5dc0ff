"""A run that makes pairs and is killed ends with the bits of one that was not, and samples nothing twice."""

import signal

import pytest
from small import rows
from test_kg_preferences import FACTS, RAG, RANK, ROWS
from test_resume import left, run, said

import recipec.runtime.knowledge.triples  # noqa: F401 - children are forked: what they need is imported once, here
from recipec.runtime import answering
from recipec.runtime.answering import Answering

RECIPES = {name: text.replace("epochs: 2", "epochs: 2, save_every: 1") for name, text in (("rank", RANK), ("rag", RAG))}


def furnish(folder, recipe):
    """Write a recipe whose stage samples in several chunks, and its files."""
    (folder / "r.yaml").write_text(recipe)
    (folder / "a.jsonl").write_text(ROWS)
    (folder / "facts.tsv").write_text(FACTS)
    (folder / "t.j2").write_text("{% for f in facts %}{{ f }}{% endfor %}{{ question }}")
    return folder


@pytest.fixture(autouse=True, scope="module")
def chunks(tmp_path_factory):
    """Sample few prompts at a time, and keep what is cached to this file's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "ROWS", 24)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=RECIPES)
def whole(request, tmp_path_factory, chunks):
    """Return a recipe, what an uninterrupted run of it leaves, and the number of its events."""
    recipe = RECIPES[request.param]
    home = furnish(tmp_path_factory.mktemp("whole"), recipe)
    assert run(home / "whole") == 0, said(home / "whole")
    assert not (home / "whole" / "stages" / "align" / "answers").exists()
    return recipe, left(home / "whole"), int((home / "events").read_text())


def test_kills_change_no_bit(whole, tmp_path):
    """Kills amid sampling, the commit of the pairs and the updates leave the same pairs, metrics and weights."""
    recipe, expected, events = whole
    out, kills = furnish(tmp_path, recipe) / "killed", 0
    while (code := run(out, max(45, events // 5))) == -signal.SIGKILL and kills < 30:
        kills += 1
    assert code == 0, said(out)
    assert kills > 2
    assert left(out) == expected


def test_pairs_are_read_and_not_made_again(whole, tmp_path, monkeypatch):
    """Once the pairs are there, a continued run asks the policy, which has moved, for nothing."""
    recipe, expected, events = whole
    out = furnish(tmp_path, recipe) / "killed"
    assert run(out, int(0.7 * events)) == -signal.SIGKILL
    assert list((out / "stages" / "align" / "checkpoints").glob("step-*"))

    def refuse(self, asks):
        raise AssertionError(asks)

    monkeypatch.setattr(Answering, "__call__", refuse)
    assert run(out) == 0, said(out)
    assert left(out) == expected


def test_what_was_answered_is_kept(whole, tmp_path, monkeypatch):
    """A run that is stopped while it samples ends with exit 75; the next one samples the other chunks alone."""
    recipe, expected, _ = whole
    out, sampled = furnish(tmp_path, recipe) / "stopped", Answering._sampled
    chunks = out / "stages" / "align" / "answers"

    def stop(self, asks):
        if len(list(chunks.glob("chunk-*"))) == 1:
            self.setting.stopped = lambda: True
        return sampled(self, asks)

    monkeypatch.setattr(Answering, "_sampled", stop)
    assert run(out) == 75, said(out)
    assert sorted(path.name for path in chunks.iterdir()) == ["chunk-000000.json", "chunk-000001.json"]

    def none_twice(self, asks):
        assert asks[0].task.id > 0
        return sampled(self, asks)

    monkeypatch.setattr(Answering, "_sampled", none_twice)
    assert run(out) == 0, said(out)
    assert left(out) == expected


def test_other_data_makes_other_pairs(tmp_path):
    """Pairs of data that have changed are set aside, not taken for those of the new ones."""
    out = furnish(tmp_path, RECIPES["rank"]) / "run"
    assert run(out) == 0, said(out)
    (tmp_path / "a.jsonl").write_text(ROWS + rows({"prompt": "Signs of d1?", "disease": "d1"}))
    assert run(out, 0, signal.SIGKILL, "--replace") == 0, said(out)
    stage = out / "stages" / "align"
    assert len(list(stage.glob("pairs@*"))) == 1
    assert (stage / "pairs" / "pairs.jsonl").read_text() != next(stage.glob("pairs@*/pairs.jsonl")).read_text()
