"""Live worlds in killable processes: whatever one of them does, only its own episode ends."""

import threading
import time

import pytest

from recipec.host import waits
from recipec.host.worker_pool import HandlerError, WorkerFailure
from recipec.runtime.environment.worker_main import checked
from recipec.runtime.environment.workers import StepRequest, StepResult, Workers


@pytest.fixture
def worlds():
    """Odd worlds with a short deadline, in two children."""
    made = Workers("tests.support.faulty_worker:serve", None, name="odd", timeout=2.0)
    yield made
    made.close()


def at(*actions, **more):
    """One episode of the task that counts from 0."""
    return StepRequest({}, 0, actions, **more)


MISCHIEF = {
    "loop": "timeout: no answer within 2 s",
    "exit": "crashed: ",
    "leave": "crashed: ",
    "raise": "ValueError (line ",
    "deep": "RecursionError",
    "nan": "its reward is nan",
    "huge": "its observation is longer than 65536 characters",
    "type": "it answered with int",
    "key": "unknown key 'done'",
    "flag": "its terminated is int, not bool",
    "state": "its state is not text",
    "actions": "its actions is str",
}


def test_mischief_ends_one_episode_each(worlds):
    """Hangs, crashes, exceptions and garbage are told as text; episodes between them go on, in the same children."""
    before = worlds.ask([at("add", lane=lane) for lane in range(2)])
    wanted = []
    for i, action in enumerate(MISCHIEF):
        wanted += [at("add", action, lane=i), at("add", "add", lane=i)]
    found = worlds.ask(wanted)

    assert [seen.observation for seen in before] == ["1", "1"]
    for seen, (action, text) in zip(found[::2], MISCHIEF.items(), strict=True):
        assert isinstance(seen, str), action
        assert text in seen, action
    again = StepResult("2", reward=0.5, actions=("add",), state={"at": [2]})
    assert found[1::2] == [again] * len(MISCHIEF)


def test_a_world_is_gone_on_from_any_past(worlds):
    """The same past may be stepped again and again, in any order and from any lane, with the same answers."""
    pasts = [("add",) * n for n in (1, 2, 2, 5, 1, 3)]
    found = worlds.ask([at(*past, lane=i) for i, past in enumerate(pasts)])
    assert [seen.observation for seen in found] == [str(len(past)) for past in pasts]


def test_a_live_world_is_advanced_in_place(worlds):
    """An episode that goes on is not begun anew: its slow beginning is paid once."""
    slow = {"slow": 1.2}
    (first,) = worlds.ask([StepRequest(slow, 0)])
    found = [worlds.ask([StepRequest(slow, 0, ("add",) * n)])[0] for n in (1, 2)]
    assert (first.goal, [seen.observation for seen in found]) == ("count", ["1", "2"])
    pool = worlds._pools[0]
    assert worlds._take(pool, StepRequest(slow, 0, ("add",) * 2), 2) == "missing"  # it stands at two actions, not one


def test_each_replayed_step_has_its_own_deadline(worlds):
    """A long past takes longer than one deadline, and is no timeout."""
    slow = {"slow": 1.5}
    (seen,) = worlds.ask([StepRequest(slow, 0, ("add",) * 9)])
    assert seen.observation == "9"


def test_a_past_that_does_not_come_back_is_an_error(worlds):
    """A world that draws by itself cannot be replayed, and says so instead of going on elsewhere."""
    (seen,) = worlds.ask([at("random")])
    (same,) = worlds.ask([at("random", "add", expected=seen.observation)])
    assert same.observation == str(int(seen.observation) + 1)
    (other,) = worlds.ask([at("random", "add", expected=seen.observation)])
    assert other == "replay: the same actions did not lead to the same observation"


def test_what_cannot_be_replayed_is_lost_with_its_process():
    """Without replay an episode lives in its process alone; episodes with their own label do not mix."""
    worlds = Workers("tests.support.faulty_worker:serve", None, name="odd", timeout=2.0, replayable=False, lanes=1)
    worlds.ask([at(label="a"), at(label="b")])
    assert worlds.ask([at("add", label="a")])[0].observation == "1"
    assert worlds.ask([at("exit", label="b")])[0].startswith("crashed")
    assert worlds.ask([at("add", "add", label="a")])[0].startswith("lost")
    worlds.close()


def test_old_worlds_are_forgotten_and_made_again(worlds):
    """More episodes than a child keeps are all answered."""
    for n in range(3):
        found = worlds.ask([StepRequest({"from": i}, 0, ("add",) * n) for i in range(12)])
        assert [seen.observation for seen in found] == [str(i + n) for i in range(12)]


def test_tasks_and_refusals(worlds):
    """A handler lists its tasks; a list that is none is lost; a refused argument is told apart."""
    assert worlds.tasks("train", 2, 5) == [{"from": 5}, {"from": 6}]
    assert isinstance(worlds.tasks("test", None, 0), WorkerFailure)
    refused = Workers("tests.support.faulty_worker:serve", "refuse", name="odd", timeout=2.0)
    with pytest.raises(HandlerError, match="no such world"):
        refused.ask([at()])
    refused.close()


def test_answers_are_put_in_order():
    """Numbers of numpy, tuples and missing keys come out as plain values; lists of actions are bounded."""
    import numpy as np

    said = checked({"observation": "x", "reward": np.float32(0.5), "state": {"a": np.arange(2)}, "actions": None})
    assert (said["reward"], said["state"], said["actions"], said["valid"]) == (0.5, {"a": [0, 1]}, [], True)
    for wrong in ({"observation": "x", "actions": ["a"] * 5000}, {"observation": "x", "reward": True}, {"reward": 1}):
        with pytest.raises(ValueError, match="its"):
            checked(wrong)
    assert checked("half \ud800")["observation"] == "half ?"
    with pytest.raises(ValueError, match="state"):
        checked({"observation": "x", "state": float("inf")})


def test_closing_ends_what_is_waited_for():
    """A thread that waits for a world of its lane does not hold up the end of the run until the deadline."""
    worlds = Workers("tests.support.faulty_worker:serve", None, name="odd", timeout=600.0)
    worlds.ask([at(), at(lane=1)])
    waiting = threading.Thread(target=worlds.ask, args=([at("loop"), at("loop", lane=1)],), daemon=True)
    waiting.start()
    while "`step` of environment `odd`" not in waits.waited_for():
        time.sleep(0.01)
    worlds.close()
    waiting.join(30)
    assert not waiting.is_alive()
