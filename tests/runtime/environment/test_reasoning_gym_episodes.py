"""Tasks of reasoning-gym as episodes: tries, scores, branches, prompts."""

import math

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.data.reasoning_gym_tasks import ReasoningGym
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.reasoning_gym import WRONG, ReasoningGymEpisodes
from recipec.spec import data as data_specs, environment as specs


def task(number, right, prompt="2+2="):
    """A task whose verifier gives half for an answer that is near, and hangs at one."""
    scores = {right: 1.0, "near": 0.5, "hang": math.nan}
    ids = (7, 8)
    return Task(number, prompt, ids, {}, lambda text: scores.get(text, 0.0))


def turn(text):
    """A turn."""
    return Turn((5, 6), text)


def made(context, policy, **params):
    """The environment."""
    return ReasoningGymEpisodes(specs.ReasoningGymEpisodes(**params), context, policy=policy)


def test_a_wrong_answer_may_be_tried_again(text_context, text_policy):
    """It is told so and earns nothing; the right one ends the episode and earns the score; branches do not mix."""
    environment = made(text_context, text_policy)
    (start,) = environment.start([task(0, "4")])
    assert (start.context_ids, start.state) == ((7, 8), [])
    wrong, right = environment.step([start] * 2, [turn("5"), turn("I say <answer>4</answer>.")])
    assert (right.ended, right.truncated, right.reward) == (True, False, 1.0)
    assert (wrong.ended, wrong.reward, wrong.observation, wrong.state) == (False, 0.0, WRONG, ["5"])
    assert wrong.context_ids[:4] == (7, 8, 5, 6)
    assert WRONG in text_policy.decode(wrong.context_ids[4:])
    (after,) = environment.step([wrong], [turn("4")])
    assert (after.ended, after.reward, after.turns) == (True, 1.0, 2)
    environment.close()


def test_the_last_answer_counts(text_context, text_policy):
    """Half a point for a try earns nothing unless it was the last one."""
    environment = made(text_context, text_policy, max_turns=2)
    (position,) = environment.start([task(0, "4")])
    (position,) = environment.step([position], [turn("near")])
    assert (position.ended, position.reward) == (False, 0.0)
    near, none = environment.step([position] * 2, [turn("near"), turn("")])
    assert (near.ended, near.truncated, near.reward) == (True, True, 0.5)
    assert (none.valid, none.reward) == (False, 0.0)
    environment.close()


def test_a_verifier_that_hangs_ends_the_episode(text_context, text_policy):
    """It is an error of ours that depended on a clock; the others go on."""
    environment = made(text_context, text_policy)
    positions = environment.start([task(0, "4"), task(1, "9")])
    late, other = environment.step(positions, [turn("hang"), turn("9")])
    assert late.error.startswith("timeout")
    assert (late.ended, other.error, other.reward) == (True, None, 1.0)
    environment.close()


def test_a_conversation_goes_on_through_the_chat_template(text_context, text_policy):
    """A prompt of messages is answered with the template's own pieces."""
    policy = text_policy
    prompt = [{"role": "user", "content": "2+2="}]
    ids = tuple(policy.render(prompt, generation=True))
    environment = made(text_context, text_policy)
    (position,) = environment.start([Task(0, prompt, ids, {}, lambda _: 0.0)])
    text = "5"
    (after,) = environment.step([position], [Turn(tuple(policy.encode(text)), text)])
    whole = [*prompt, {"role": "assistant", "content": text}, {"role": "user", "content": WRONG}]
    assert list(after.context_ids) == list(policy.render(whole, generation=True))
    environment.close()


def test_windows_list_the_wrong_answers(text_context, text_policy):
    """With a number each turn is a prompt of its own."""
    environment = made(text_context, text_policy, history=1)
    (position,) = environment.start([task(0, "4")])
    for text in ("5", "6"):
        (position,) = environment.step([position], [turn(text)])
    text = text_policy.decode(position.context_ids)
    assert "2+2=" in text
    assert "[Try 2] 6" in text
    assert "[Try 1]" not in text
    environment.close()


def test_tasks_without_a_verifier_are_refused(text_context, text_policy):
    """RC740 for a file's rows; RC811 for tasks of its own, which it has not."""
    environment = made(text_context, text_policy)
    with pytest.raises(RecipeError) as caught:
        environment.start([Task(0, "p", (1,))])
    assert caught.value.diagnostics[0].code == "RC740"
    with pytest.raises(RecipeError) as caught:
        environment.tasks("train", None, 0)
    assert caught.value.diagnostics[0].code == "RC811"
    environment.close()


def test_real_tasks_are_scored_by_their_own_verifier(text_context, text_policy):
    """An answer of the package is right, another is not."""
    data = ReasoningGym(data_specs.ReasoningGym(task="chain_sum", size=2), text_context, policy=text_policy)
    data.prepare("rl")
    environment = made(text_context, text_policy)
    positions = environment.start(data.tasks)
    answers = [str(one.columns["answer"]) for one in data.tasks]
    found = environment.step([*positions, positions[0]], [*(turn(a) for a in answers), turn("no number")])
    assert [(p.ended, p.reward) for p in found] == [(True, 1.0), (True, 1.0), (False, 0.0)]
    environment.close()
    data.close()
