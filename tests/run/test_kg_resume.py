"""A run that makes pairs and is killed ends with the bits of one that was not, and samples nothing twice."""

import dataclasses
import multiprocessing
import os
import signal
from functools import partial

import pytest
from support.small_recipes import rows
from test_kg_preferences import FACTS, RAG, RANK, ROWS
from test_resume import lead, left, said

from recipec.runtime.preference import sample_answers
from recipec.runtime.preference.sample_answers import AnswerSampler

RECIPES = {name: text.replace("epochs: 2", "epochs: 2, save_every: 1") for name, text in (("rank", RANK), ("rag", RAG))}

# a fork of this process would lack the threads of a store that an earlier test opened; what children need is
# imported once, by the process that forks them
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "recipec.cli",
        "recipec.report.page",
        "recipec.runtime.stage.build_stage",
        "recipec.runtime.knowledge.triples",
        "tensorboard.summary",
        "transformers.models.llama.modeling_llama",
    ]
)


def run(out, strike=0, *more, change=None):
    """Run the recipe in a child, after a change to it; return its exit code, or less than 0 where a signal ended it."""
    child = SERVER.Process(target=work, args=(out, strike, change, os.environ["XDG_CACHE_HOME"], more))
    child.start()
    child.join()
    return child.exitcode


def work(out, strike, change, cache, more):
    """Run the recipe in this process, sampling few prompts at a time."""
    os.environ["XDG_CACHE_HOME"] = cache
    sample_answers.ROWS = 24
    if change:
        change()
    lead(out, strike, signal.SIGKILL, *more)


def refuse():
    """Let nothing be asked."""

    def refused(self, asks):
        raise AssertionError(asks)

    AnswerSampler.__call__ = refused


def stop(chunks):
    """Stop after the first chunk."""
    sampled = AnswerSampler._sampled

    def stopping(self, asks):
        if len(list(chunks.glob("chunk-*"))) == 1:
            self.context = dataclasses.replace(self.context, stopped=lambda: True)
        return sampled(self, asks)

    AnswerSampler._sampled = stopping


def none_twice():
    """Let the first task not be asked again."""
    sampled = AnswerSampler._sampled

    def once(self, asks):
        assert asks[0].task.id > 0
        return sampled(self, asks)

    AnswerSampler._sampled = once


def furnish(folder, recipe):
    """Write a recipe whose stage samples in several chunks, and its files."""
    (folder / "r.yaml").write_text(recipe)
    (folder / "a.jsonl").write_text(ROWS)
    (folder / "facts.tsv").write_text(FACTS)
    (folder / "t.j2").write_text("{% for f in facts %}{{ f }}{% endfor %}{{ question }}")
    return folder


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Keep what is cached to this file's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=RECIPES)
def whole(request, tmp_path_factory, cache):
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


def test_pairs_are_read_and_not_made_again(whole, tmp_path):
    """Once the pairs are there, a continued run asks the policy, which has moved, for nothing."""
    recipe, expected, events = whole
    out = furnish(tmp_path, recipe) / "killed"
    assert run(out, int(0.7 * events)) == -signal.SIGKILL
    assert list((out / "stages" / "align" / "checkpoints").glob("step-*"))
    assert run(out, change=refuse) == 0, said(out)
    assert left(out) == expected


def test_what_was_answered_is_kept(whole, tmp_path):
    """A run that is stopped while it samples ends with exit 75; the next one samples the other chunks alone."""
    recipe, expected, _ = whole
    out = furnish(tmp_path, recipe) / "stopped"
    chunks = out / "stages" / "align" / "answers"
    assert run(out, change=partial(stop, chunks)) == 75, said(out)
    assert sorted(path.name for path in chunks.iterdir()) == ["chunk-000000.json", "chunk-000001.json"]
    assert run(out, change=none_twice) == 0, said(out)
    assert left(out) == expected


def test_other_data_makes_other_pairs(tmp_path):
    """Pairs of data that have changed are set aside, not taken for those of the new ones."""
    out = furnish(tmp_path, RECIPES["rank"]) / "run"
    assert run(out) == 0, said(out)
    (tmp_path / "a.jsonl").write_text(ROWS + rows({"prompt": "Signs of d1?", "disease": "d1"}))
    assert run(out, 0, "--replace") == 0, said(out)
    stage = out / "stages" / "align"
    assert len(list(stage.glob("pairs@*"))) == 1
    assert (stage / "pairs" / "pairs.jsonl").read_text() != next(stage.glob("pairs@*/pairs.jsonl")).read_text()
