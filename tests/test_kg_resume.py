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


@pytest.fixture(params=RECIPES)
def home(request, tmp_path, monkeypatch):
    """Return a folder with a recipe whose stage samples in several chunks."""
    monkeypatch.setattr(answering, "ROWS", 24)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "r.yaml").write_text(RECIPES[request.param])
    (tmp_path / "a.jsonl").write_text(ROWS)
    (tmp_path / "facts.tsv").write_text(FACTS)
    (tmp_path / "t.j2").write_text("{% for f in facts %}{{ f }}{% endfor %}{{ question }}")
    assert run(tmp_path / "whole") == 0, said(tmp_path / "whole")
    return tmp_path


def test_kills_change_no_bit(home):
    """Kills amid sampling, the commit of the pairs and the updates leave the same pairs, metrics and weights."""
    expected, events = left(home / "whole"), int((home / "events").read_text())
    assert not (home / "whole" / "stages" / "align" / "answers").exists()
    out, kills = home / "killed", 0
    while (code := run(out, max(45, events // 5))) == -signal.SIGKILL and kills < 30:
        kills += 1
    assert code == 0, said(out)
    assert kills > 2
    assert left(out) == expected


def test_pairs_are_read_and_not_made_again(home, monkeypatch):
    """Once the pairs are there, a continued run asks the policy, which has moved, for nothing."""
    events = int((home / "events").read_text())
    out = home / "killed"
    assert run(out, int(0.7 * events)) == -signal.SIGKILL
    assert list((out / "stages" / "align" / "checkpoints").glob("step-*"))

    def refuse(self, asks):
        raise AssertionError(asks)

    monkeypatch.setattr(Answering, "__call__", refuse)
    assert run(out) == 0, said(out)
    assert left(out) == left(home / "whole")


def test_what_was_answered_is_kept(home, monkeypatch):
    """A run that is stopped while it samples ends with exit 75; the next one samples the other chunks alone."""
    out, chunks, sampled = home / "stopped", home / "stopped" / "stages" / "align" / "answers", Answering._sampled

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
    assert left(out) == left(home / "whole")


def test_another_recipe_makes_its_own_pairs(home):
    """Answers and pairs of a recipe that has changed are set aside, not taken for those of the new one."""
    out = home / "whole"
    (home / "a.jsonl").write_text(ROWS + rows({"prompt": "Signs of d1?", "disease": "d1"}))
    assert run(out, 0, signal.SIGKILL, "--replace") == 0, said(out)
    stage = out / "stages" / "align"
    assert len(list(stage.glob("pairs@*"))) == 1
    assert (stage / "pairs" / "pairs.jsonl").read_text() != next(stage.glob("pairs@*/pairs.jsonl")).read_text()
