"""Environments of gymnasium: the package's own, in text, found again by seed and actions."""

import gymnasium
import pytest
from pydantic import ValidationError

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.gymnasium import Gymnasium
from recipec.spec import environment as specs

TAXI = next(name for name in gymnasium.registry if name.startswith("Taxi-"))


@pytest.fixture
def play(text_context, text_policy):
    """Make environments that are closed at the end."""
    made = []

    def make(**params):
        spec = specs.Gymnasium(**({"replayable": True} | params))
        made.append(Gymnasium(spec, text_context, policy=text_policy))
        return made[-1]

    yield make
    for environment in made:
        environment.close()


def turns(*actions):
    """One turn for each action."""
    return [Turn((5,), f"<think>a</think><action>{action}</action>") for action in actions]


def begun(environment, count=1):
    """The first positions of the environment's own tasks."""
    return environment.start([Task(i, "", (1,), c) for i, c in enumerate(environment.tasks("train", count, 0))])


def test_frozen_lake_is_won_by_name_and_by_number(play):
    """Walking round the holes earns 1; names and numbers both choose, whatever their case."""
    way = play(
        id="FrozenLake-v1", options={"is_slippery": False}, actions=("left", "down", "right", "up"), max_turns=20
    )
    (position,) = begun(way)
    assert (position.observation, position.state) == ("0", 0)
    assert position.notes.shown.actions == ("left", "down", "right", "up")
    for action in ("down", "1", "Right", "2", "DOWN", "right"):
        assert not position.ended
        (position,) = way.step([position], turns(action))
    assert (position.reward, position.ended, position.truncated, position.state) == (1.0, True, False, 15)


def test_a_name_goes_before_a_number(play):
    """An action may be called as another one's number."""
    way = play(id="FrozenLake-v1", options={"is_slippery": False}, actions=("3", "2", "1", "0"))
    (position,) = begun(way)
    (after,) = way.step([position], turns("2"))
    assert after.state == 4  # the second action is down


@pytest.mark.parametrize("names", [("a", "A "), ("a", " ")])
def test_names_of_actions_are_told_apart(names):
    """Two actions of one name, and a name of nothing, are refused when the recipe is read."""
    with pytest.raises(ValidationError, match=r"two actions|cannot be empty"):
        specs.Gymnasium(id="FrozenLake-v1", actions=names)


def test_an_unknown_action_changes_nothing(play):
    """It is told so, and the state stays."""
    lake = play(id="FrozenLake-v1")
    (start,) = begun(lake)
    (told,) = lake.step([start], turns("fly"))
    assert (told.valid, told.state, told.turns) == (False, start.state, 1)
    assert told.observation.startswith("`fly` is no action here.")


@pytest.mark.parametrize(
    ("name", "action", "state"),
    [(TAXI, "0", int), ("Blackjack-v1", "1", list), ("CliffWalking-v1", "0", int), ("CartPole-v1", "1", list)],
)
def test_episodes_come_back(play, name, action, state):
    """From the same past the same action brings the same, in another process too; states are plain values."""
    one, other = play(id=name), play(id=name)
    (start,), (also,) = begun(one), begun(other)
    assert isinstance(start.state, state)
    assert start.observation == also.observation
    first = one.step([start, start], turns(action, action))
    (second,) = other.step([also], turns(action))
    assert first[0] == first[1]
    assert (second.observation, second.reward, second.state) == (
        first[0].observation, first[0].reward, first[0].state
    )  # fmt: skip


def test_masked_actions_are_not_offered(play):
    """An environment that says which actions do something lists only those."""
    (start,) = begun(play(id=TAXI))
    assert set(start.notes.shown.actions) < {"0", "1", "2", "3", "4", "5"}


def test_slippery_ground_branches(play):
    """Chance belongs to the seed: a tree's branches from one position see the same ground."""
    lake = play(id="FrozenLake-v1")
    (position,) = begun(lake)
    for _ in range(3):
        found = lake.step([position] * 3, turns("1", "2", "1"))
        assert found[0] == found[2]
        if found[0].ended:
            break
        position = found[0]


def test_tasks_are_seeds_of_their_split(play):
    """Splits share no seed, and a longer list begins like a shorter one."""
    lake = play(id="FrozenLake-v1")
    train, test = lake.tasks("train", 50, 0), lake.tasks("test", 50, 0)
    assert train[:5] == lake.tasks("train", 5, 0)
    assert not {task["seed"] for task in train} & {task["seed"] for task in test}


@pytest.mark.parametrize(
    ("params", "code", "word"),
    [
        ({"id": "FrozenLake-v9"}, "RC812", "FrozenLake-v1"),
        ({"id": "os:path"}, "RC812", "own"),
        ({"id": "GymV26Environment-v0"}, "RC812", ""),
        ({"id": "FrozenLake-v1", "options": {"map_name": "9x9"}}, "RC810", "9x9"),
        ({"id": "FrozenLake-v1", "actions": ("left",)}, "RC810", "4 actions"),
        ({"id": "Pendulum-v1"}, "RC810", "Discrete"),
    ],
)
def test_what_cannot_be_built_is_refused(play, tmp_path, params, code, word):
    """Names outside the package's registry, wrong options, and actions that are no choice."""
    with pytest.raises(RecipeError) as caught:
        play(**params)
    found = caught.value.diagnostics[0]
    with pytest.raises(RecipeError) as early:
        Gymnasium.preflight(specs.Gymnasium(**params), PreflightRequest(tmp_path))
    assert early.value.diagnostics == (found,)
    assert found.code == code
    assert word in found.message + found.help
