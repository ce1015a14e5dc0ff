"""Household games: made offline, won by a scripted expert, played through the environment."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.household_expert import walkthrough

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.host.worker_pool import WorkerPool
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.alfworld import game_maker as maker
from recipec.runtime.environment.alfworld.games import Alfworld
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.spec import environment as specs


@pytest.fixture(scope="module")
def environment(kept_context, kept_policy):
    """Made games, in one process."""
    made = Alfworld(specs.Alfworld(), kept_context, policy=kept_policy)
    yield made
    made.close()


def turn(text: str) -> Turn:
    """What a policy writes, without its ids."""
    return Turn((7, 8, 9), f"<think>so</think><action>{text}</action>")


def begin(environment: Alfworld, name: str) -> EpisodeState:
    """The beginning of one game."""
    (position,) = environment.start([Task(0, "", (), {"game": name})])
    return position


def test_games_are_functions_of_their_names() -> None:
    """The same name makes the same game; another seed another one; kinds of tasks take turns."""
    names = maker.names("train", 12, 5)
    assert [name.rpartition("/")[2] for name in names] == [*maker.GOALS] * 2
    assert maker.make(names[0]) == maker.make(names[0])
    assert maker.make(names[0])["pddl_problem"] != maker.make(maker.names("train", 1, 6)[0])["pddl_problem"]


def test_held_out_floor_plans_are_disjoint() -> None:
    """No floor plan of `valid_unseen` occurs in the other splits."""
    floors = {split: {maker.make(n)["floor"] for n in maker.names(split, 120, 0)} for split in maker.SIZES}
    assert not floors["valid_unseen"] & (floors["train"] | floors["valid_seen"])
    assert len(floors["valid_unseen"]) > 10


def test_an_episode_is_won_by_the_expert(environment: Alfworld) -> None:
    """The walkthrough ends the episode with 10; what is shown names the task, its state is what is observed."""
    name = "valid_unseen/0/0/pick_and_place_simple"
    position = begin(environment, name)
    plan = walkthrough(name)

    assert position.state == position.observation
    assert position.notes.goal.startswith("put ")
    for number, command in enumerate(plan, 1):
        assert command in position.notes.shown.actions
        (position,) = environment.step([position], [turn(command)])
        assert position.reward == (10.0 if number == len(plan) else 0.0)
    assert position.ended
    assert not position.truncated
    assert position.error is None


def test_a_position_can_be_left_more_than_once(environment: Alfworld) -> None:
    """Two different turns from one position, and the first again, answer as if each were the only one."""
    position = begin(environment, "train/0/1/look_at_obj_in_light")
    one, other = position.notes.shown.actions[:2]
    first, second, again = environment.step([position] * 3, [turn(one), turn(other), turn(one)])

    assert first.observation == again.observation != second.observation
    assert first.context_ids == again.context_ids


def test_what_is_not_possible_changes_nothing(environment: Alfworld) -> None:
    """A command that the game does not list is answered, and the actions stay as they were."""
    position = begin(environment, "train/0/1/look_at_obj_in_light")
    (after,) = environment.step([position], [turn("fly to the moon")])

    assert after.observation == "Nothing happens."
    assert after.notes.shown.actions == position.notes.shown.actions
    assert after.error is None


def test_a_lost_process_costs_nothing(environment: Alfworld) -> None:
    """After its process is gone an episode goes on as before, by replay."""
    name = "train/0/0/pick_and_place_simple"
    plan = walkthrough(name)
    position = begin(environment, name)
    (position,) = environment.step([position], [turn(plan[0])])
    (before,) = environment.step([position], [turn(plan[1])])
    for pool in environment.games._pools:
        pool.close()
    (after,) = environment.step([position], [turn(plan[1])])

    assert after == before


def test_tasks_name_games(environment: Alfworld) -> None:
    """Tasks are names and kinds; a split that does not exist is refused, and so is a game."""
    assert environment.tasks("valid_seen", 2, 9) == [
        {"game": "valid_seen/9/0/pick_and_place_simple", "kind": "pick_and_place_simple"},
        {"game": "valid_seen/9/1/look_at_obj_in_light", "kind": "look_at_obj_in_light"},
    ]
    assert len(environment.tasks("valid_unseen", None, 0)) == 134
    with pytest.raises(RecipeError) as refused:
        environment.tasks("test", 1, 0)
    assert refused.value.diagnostics[0].code == "RC811"
    for columns in ({}, {"game": "train/0/0/juggle"}, {"game": 3}):
        with pytest.raises(RecipeError) as refused:
            environment.start([Task(0, "", (), columns)])
        assert refused.value.diagnostics[0].code == "RC822"


def test_the_users_games(tmp_path: Path, kept_context: StageContext, kept_policy: Any) -> None:
    """Games of a folder are found below their split, at any depth; without any the folder is refused."""
    spec = specs.Alfworld(games=str(tmp_path), goals=("pick_heat_then_place_in_recep",))
    with pytest.raises(RecipeError) as refused:
        Alfworld(spec, kept_context, policy=kept_policy)
    assert refused.value.diagnostics[0].code == "RC811"

    for goal in ("pick_heat_then_place_in_recep", "pick_cool_then_place_in_recep"):
        folder = tmp_path / "train" / f"{goal}-Mug-None-Desk-308" / "trial_1"
        folder.mkdir(parents=True)
        (folder / "game.tw-pddl").write_text(json.dumps(maker.make(f"train/0/0/{goal}")), encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        Alfworld.preflight(spec, PreflightRequest(tmp_path, splits=("train", "valid_seen")))
    assert refused.value.diagnostics[0].code == "RC811"
    environment = Alfworld(spec, kept_context, policy=kept_policy)
    try:
        (task,) = environment.tasks("train", None, 0)
        position = begin(environment, task["game"])
        assert position.error is None
        assert "pick_heat" in task["game"]
        with pytest.raises(RecipeError) as refused:
            environment.tasks("valid_seen", None, 0)
        assert refused.value.diagnostics[0].code == "RC811"
        with pytest.raises(RecipeError) as refused:
            begin(environment, "../../etc/passwd")
        assert refused.value.diagnostics[0].code == "RC822"
    finally:
        environment.close()


def test_what_is_forgotten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A game that may remember only a few moves, or has lost the library to another one, tells the same."""
    from recipec.runtime.environment.alfworld import worker as world

    name = "train/0/0/pick_and_place_simple"
    data, plan = maker.make(name), tuple(walkthrough(name))
    shared = world.library()
    game = world.Game.of(data, shared)
    told = [game.at(plan[:n]) for n in range(len(plan) + 1)]
    assert told[-1]["won"]

    monkeypatch.setattr(world, "_MOVES", 1)
    again = world.Game.of(data, shared)
    for n in (*range(len(plan) + 1), *reversed(range(len(plan) + 1))):
        assert again.at(plan[:n]) == told[n]
        again.reached = None


@pytest.mark.slow
def test_the_expert_wins_nearly_every_game() -> None:
    """Of 60 made games, seen and unseen, at least 95 % are won by their walkthrough."""
    pool = WorkerPool("recipec.runtime.environment.alfworld.worker:serve", {})
    names = [*maker.names("train", 30, 1), *maker.names("valid_unseen", 30, 1)]
    asked = [{"task": {"game": name}, "actions": walkthrough(name)} for name in names]
    try:
        won = [bool(isinstance(told, dict) and told["terminated"]) for told in pool.ask(asked, 60.0)]
    finally:
        pool.close()

    assert sum(won) >= 0.95 * len(won)


@pytest.mark.slow
def test_games_go_as_in_the_package_own_engine() -> None:
    """Random play brings what TextWorld's own environment brings, but for the order in which things are listed."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    pool = WorkerPool("recipec.runtime.environment.alfworld.worker:serve", {})
    rng = random.Random(0)  # noqa: S311
    for name in maker.names("train", 6, 2):
        data = maker.make(name)
        own = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)), shuffle=False)
        own.load(data)
        state, taken = own.reset(), []
        for _ in range(12):
            (told,) = pool.ask([{"task": {"game": name}, "actions": taken}], 60.0)
            assert _words(told["observation"]) == _words(state.feedback)
            assert told["actions"] == [command for command in state.admissible_commands if command != "help"]
            assert told["terminated"] == state["won"]
            taken.append(rng.choice([*told["actions"], "nonsense"]))
            state, _, _ = own.step(taken[-1])
    pool.close()


def _words(text: str) -> list[str]:
    return sorted(text.replace(",", " ").replace(".", " ").replace(" and ", " ").split())
