"""Generated text adventures: made once, won by their walkthrough, played through the environment."""

import json

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.textworld import game_maker as maker
from recipec.runtime.environment.textworld.games import Textworld
from recipec.spec import environment as specs


@pytest.fixture(scope="module")
def environment(kept_context, kept_policy):
    """Small games."""
    made = Textworld(specs.Textworld(rooms=2, objects=2, quest_length=2), kept_context, policy=kept_policy)
    yield made
    made.close()


@pytest.fixture(scope="module")
def task(environment):
    """One game of the held-out split, made for these tests."""
    (columns,) = environment.tasks("test", 1, 0)
    return Task(0, "", (), columns)


def turn(text):
    """What a policy writes, without its ids."""
    return Turn((7, 8, 9), f"<think>so</think><action>{text}</action>")


def plan(environment, task):
    """Commands that win a game."""
    file = maker.place(environment.context.cache, environment.size, task.columns["game"])
    return json.loads(file.with_suffix(".json").read_text())["metadata"]["walkthrough"]


def test_an_episode_is_won_by_its_walkthrough(environment, task):
    """The commands of the walkthrough are offered, and the last one ends the episode with all of the reward."""
    (position,) = environment.start([task])
    total = 0.0
    assert position.notes.goal
    for command in plan(environment, task):
        assert not position.ended
        assert command in position.notes.shown.actions
        (position,) = environment.step([position], [turn(command)])
        total += position.reward
    assert position.ended
    assert position.error is None
    assert total == 1.0


def test_the_state_is_what_one_sees_and_holds(environment, task):
    """Looking does not change the state, whatever is said; taking something does.  The screen's edge is not shown."""
    (start,) = environment.start([task])
    (looked,) = environment.step([start], [turn("look")])
    (odd,) = environment.step([start], [turn("juggle")])
    moved = [a for a in start.notes.shown.actions if a.split()[0] in {"go", "take", "drop", "open"}]
    (after,) = environment.step([start], [turn(moved[0])])
    assert start.state == looked.state == odd.state != after.state
    assert "=-0/" not in looked.observation
    assert odd.error is None


def test_positions_are_values(environment, task):
    """Turns from one position do not see each other, and a lost process costs nothing."""
    (start,) = environment.start([task])
    (first,) = environment.step([start], [turn(plan(environment, task)[0])])
    before = environment.step([start, first, start], [turn("inventory"), turn("look"), turn("look")])
    for pool in environment.games._pools:
        pool.close()
    assert environment.step([start, first, start], [turn("inventory"), turn("look"), turn("look")]) == before


def test_games_are_made_once(environment, task, monkeypatch):
    """A game that the cache holds is not made again; splits and seeds are other games."""
    monkeypatch.setattr(maker, "_start", None)
    assert environment.tasks("test", 1, 0) == [task.columns]
    names = {"test/0/0", "train/0/0", "test/1/0"}
    assert len({maker.place(environment.context.cache, environment.size, name) for name in names}) == 3
    assert len({next(maker._seeds({"name": name})) for name in names}) == 3


def test_bad_splits_games_and_wishes_are_refused(environment):
    """A split or a game that does not exist, and games that cannot be, each have their code."""
    with pytest.raises(RecipeError) as refused:
        environment.tasks("dev", 1, 0)
    assert refused.value.diagnostics[0].code == "RC811"
    for columns in ({}, {"game": "../x"}, {"game": "train/0/../../x"}, {"game": 7}):
        with pytest.raises(RecipeError) as refused:
            environment.start([Task(0, "", (), columns)])
        assert refused.value.diagnostics[0].code == "RC822"


@pytest.mark.slow
def test_games_come_out_alike(environment, task, tmp_path):
    """The same name makes the same game, byte for byte in its description."""
    maker.provide(tmp_path, environment.size, [task.columns["game"]])
    made = maker.place(tmp_path, environment.size, task.columns["game"])
    kept = maker.place(environment.context.cache, environment.size, task.columns["game"])
    one, other = (json.loads(file.with_suffix(".json").read_text()) for file in (made, kept))
    for game in (one, other):
        game["metadata"].pop("uuid", None)
    assert one == other


def test_games_that_cannot_be(environment, monkeypatch):
    """When the generator finds no game, it says so."""
    monkeypatch.setattr(environment, "size", maker.GameSize(rooms=0, objects=1, quest_length=1))
    with pytest.raises(RecipeError) as refused:
        environment.tasks("train", 1, 0)
    assert refused.value.diagnostics[0].code == "RC823"
    assert "20 attempts" in refused.value.diagnostics[0].message


def test_an_unknown_split_is_found_before_a_model_is_loaded(tmp_path):
    """What the recipe asks for is looked at without making a game."""
    Textworld.preflight(specs.Textworld(), PreflightRequest(tmp_path, splits=("train", "test")))
    with pytest.raises(RecipeError) as refused:
        Textworld.preflight(specs.Textworld(), PreflightRequest(tmp_path, splits=("dev",)))
    assert refused.value.diagnostics[0].code == "RC811"
