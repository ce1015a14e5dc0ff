"""Episodes over worlds in other processes: turns, notices, limits, errors, trees."""

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.spec import environment as specs


class Odd(WorkerEnv):
    """The odd worlds of these tests, with the parameters of any shown environment."""

    handler = "tests.support.faulty_worker:serve"


@pytest.fixture
def odd(text_context, text_policy):
    """Make environments that are closed at the end."""
    made = []

    def make(**params):
        spec = specs.Own(name="Odd", timeout=2.0, replayable=True, **params)
        made.append(Odd(spec, text_context, policy=text_policy))
        return made[-1]

    yield make
    for environment in made:
        environment.close()


def turn(environment, action, *, think=True):
    """A turn that takes an action."""
    text = f"{'<think>a</think>' if think else ''}<action>{action}</action>"
    return Turn(tuple(environment.layout.policy.encode(text)), text)


TASKS = [Task(0, "", (1,), {"from": 0}), Task(1, "", (1,), {"from": 10})]


def test_turns_change_positions_and_not_the_past(odd):
    """A turn brings observation, reward, state key, call and the next prompt; the position before stays as it was."""
    environment = odd()
    start = environment.start([*TASKS, TASKS[0]])
    assert [p.observation for p in start] == ["0", "10", "0"]
    assert start[0].state == "0"
    assert "0" in environment.layout.policy.decode(start[0].context_ids)
    once = environment.step(start[:2], [turn(environment, "add")] * 2)
    assert [(p.observation, p.reward, p.state, p.calls, p.turns) for p in once] == [
        ("1", 0.5, {"at": [1]}, 1, 1),
        ("11", 0.5, {"at": [11]}, 1, 1),
    ]
    assert once[0].kept == len(turn(environment, "add").ids)
    assert "[Step 1] Action: add" in environment.layout.policy.decode(once[0].context_ids)
    again = environment.step([once[0], start[0], once[0], start[0]], [turn(environment, "add")] * 4)
    assert [p.observation for p in again] == ["2", "1", "2", "1"]
    assert again[1] == once[0]


def test_a_turn_without_an_action_is_told_so(odd):
    """It uses the turn up and leaves the world, its state and what it shows; an action without thinking counts."""
    environment = odd()
    (start,) = environment.start(TASKS[:1])
    (told,) = environment.step([start], [Turn((5, 6), "add")])
    assert (told.valid, told.turns, told.calls, told.state, told.reward) == (False, 1, 0, start.state, 0.0)
    assert "No action was found" in told.observation
    assert "No action was found" in environment.layout.policy.decode(told.context_ids)
    (after,) = environment.step([told], [turn(environment, "add", think=False)])
    assert (after.valid, after.observation) == (False, "1")


def test_ends_and_limits(odd):
    """A world that is over ends the episode; the last turn truncates it, an action or not."""
    environment = odd(max_turns=2)
    (start,) = environment.start(TASKS[:1])
    (over,) = environment.step([start], [turn(environment, "end")])
    assert (over.ended, over.truncated, over.reward) == (True, False, 1.0)
    (once,) = environment.step([start], [turn(environment, "add")])
    assert not once.ended
    cut = environment.step([once] * 3, [turn(environment, "add"), Turn((5,), "x"), turn(environment, "end")])
    assert [(p.ended, p.truncated) for p in cut] == [(True, True), (True, True), (True, False)]
    assert cut[0].context_ids[: len(once.context_ids)] == once.context_ids


def test_errors_are_the_episodes_own(odd):
    """What a world does wrong is the error of its position, timeouts told by their beginning; others go on."""
    environment = odd()
    start = environment.start([*TASKS, Task(2, "", (1,), {"slow": "x"})])
    assert [p.error is None for p in start] == [True, True, False]
    assert start[2].ended
    actions = ["loop", "add", "exit", "nan"]
    found = environment.step([start[0]] * 4, [turn(environment, action) for action in actions])
    assert [(p.error or "").partition(":")[0] for p in found] == ["timeout", "", "crashed", "garbage"]
    assert [p.ended for p in found] == [True, False, True, True]
    assert found[1].observation == "1"


def test_appended_turns_keep_their_ids(odd):
    """With `append_only` the next context begins with the one before and the turn's ids."""
    environment = odd(history="append_only")
    (position,) = environment.start(TASKS[:1])
    for action in ("add", "add", "nothing like it"):
        taken = turn(environment, action)
        (after,) = environment.step([position], [taken])
        assert after.context_ids[: len(position.context_ids) + after.kept] == (*position.context_ids, *taken.ids)
        position = after
    assert position.observation == "3"


def test_a_template_that_rewrites_is_an_error_of_the_episode(odd, text_policy):
    """The episode ends with the reason; it is no fault of the policy."""
    text_policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}\n{% endfor %}assistant: "
    )
    environment = odd(history="append_only")
    (start,) = environment.start(TASKS[:1])
    (after,) = environment.step([start], [turn(environment, "add")])
    assert (after.ended, after.error) == (True, "the chat template rewrites earlier turns")


def test_tasks_are_listed_or_refused(odd):
    """A split without tasks is RC811."""
    environment = odd()
    assert environment.tasks("train", 2, 4) == [{"from": 4}, {"from": 5}]
    with pytest.raises(RecipeError) as caught:
        environment.tasks("test", None, 0)
    assert caught.value.diagnostics[0].code == "RC811"


def test_two_runs_bring_the_same(odd):
    """Seeds come from the recipe's and the task's; nothing of an earlier episode shows."""
    one, other = odd(), odd()
    other.start(TASKS[::-1])
    seeds = [[p.notes.seed for p in environment.start(TASKS)] for environment in (one, other)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2
