"""Episodes grown turn by turn, and the chain sampler that lays them out."""

from dataclasses import replace

import pytest
import torch
from support.counting_game import grown, make_game, tasks

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Batch
from recipec.runtime.rollout.engine import SamplingParams
from recipec.signals import SIGNALS
from recipec.spec.sampler import Chain as Spec


def columns(found):
    """What a call gives, without its statistics."""
    return Batch({name: value for name, value in found.items() if not name.startswith("metric/")})


@pytest.mark.parametrize(("rows", "window"), [("trajectory", False), ("step", False), ("step", True)])
def test_gives_what_it_declares(rows, window):
    """The columns are those that the spec provides, in the table's dtypes, whatever a row is."""
    spec = Spec(num_generations=3, max_completion_length=10, rows=rows)
    batch = columns(make_game(window=window).sampler(spec)(tasks()))
    assert set(batch) == {name for name in spec.provides() if SIGNALS[name].kind == "column"}
    batch.check()
    assert batch.num_rows == (9 if rows == "trajectory" else 3 * (3 + 4 + 3))
    for name, column in batch.items():
        if isinstance(column, torch.Tensor):
            assert str(column.dtype) == f"torch.{SIGNALS[name].dtype}"
            assert not column.is_inference()


def test_trajectory_holds_every_turn_and_answer():
    """A row is prompt, turn, answer, turn, ..., ending with the last turn; only the turns are trained, and numbered."""
    leaves = grown(game := make_game())
    spec = Spec(num_generations=2, max_completion_length=12)
    for leaf in leaves:
        assert [node.depth for node in leaf.path()] == list(range(1, len(leaf.path()) + 1))
    batch = columns(game.sampler(spec)(tasks()))
    encode = game.policy.tokenizer
    for row in range(batch.num_rows):
        length = int(batch["attend_RT"][row].sum())
        ids, turn = batch["tokens_RT"][row, :length], batch["turn_RT"][row, :length]
        prompt = tasks()[batch["by_prompt_R"][row]].prompt_ids
        rebuilt, total, rewards, said = [*prompt], 0, 0.0, ""
        for number in range(1, int(turn.max()) + 1):
            wrote = ids[turn == number].tolist()
            total += sum(wrote)
            rewards += total % 7
            answer = f" so: {total} "
            said += encode.decode(wrote, skip_special_tokens=True) + answer
            rebuilt += [*wrote, *encode(answer)["input_ids"]]
        assert rebuilt[:length] == ids.tolist()
        assert int(turn[-1]) == int(turn.max())  # the last answer is not part of the row
        assert batch["env_reward_R"][row] == rewards
        assert batch["transcript_R"][row] == said.removesuffix(answer)
        assert torch.equal(batch["trained_RT"][row, :length], turn > 0)
        assert torch.equal(batch["sampler_logprob_RT"][row] != 0, batch["trained_RT"][row])


@pytest.mark.parametrize("window", [False, True])
def test_step_rows_are_turns(window):
    """A step row is the turn's own history and the turn; states are those before it, rewards its own."""
    game = make_game(window=window)
    leaves = grown(game, key=(5, "explore", 0))
    spec = Spec(num_generations=2, max_completion_length=12, rows="step")
    batch = columns(game.sampler(spec)(tasks()))
    turns = [(number, leaf, turn) for number, leaf in enumerate(leaves) for turn in leaf.path()]
    assert batch["episode_id_R"].tolist() == batch["by_episode_R"].tolist() == [number for number, _, _ in turns]
    assert batch["step_R"].tolist() == [turn.depth - 1 for _, _, turn in turns]
    assert batch["state_R"] == [turn.parent.position.state for _, _, turn in turns]
    assert batch["env_reward_R"].tolist() == [turn.position.reward for _, _, turn in turns]
    assert batch["action_valid_R"].tolist() == [turn.position.valid for _, _, turn in turns]
    for row, (_, _, turn) in enumerate(turns):
        length, history = int(batch["attend_RT"][row].sum()), turn.parent.position.context_ids
        assert tuple(batch["tokens_RT"][row, :length].tolist()) == history + turn.ids
        assert tuple(batch["tokens_RT"][row][batch["trained_RT"][row]].tolist()) == turn.ids
        assert batch["text_R"][row] == turn.text
        before = turn.path()[:-1]
        assert batch["transcript_R"][row] == "".join(n.text + n.position.observation for n in before) + turn.text


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "window"])
@pytest.mark.parametrize(("rows", "window"), [("trajectory", False), ("step", False), ("step", True)])
def test_logprobs_are_the_trainers(kind, rows, window):
    """Log-probabilities drawn turn by turn are those of one forward pass over the finished row."""
    game = make_game(kind, window=window, kept=9)
    spec = Spec(num_generations=2, max_completion_length=12, temperature=0.8, rows=rows)
    batch = columns(game.sampler(spec)(tasks()))
    for row in range(batch.num_rows):
        length = int(batch["attend_RT"][row].sum())
        ids, trained = batch["tokens_RT"][row, :length], batch["trained_RT"][row, :length]
        with torch.no_grad():
            logits = game.policy.model(ids[None]).logits[0, :-1].float() / 0.8
        peer = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0][trained[1:]]
        assert batch["sampler_logprob_RT"][row, :length][trained] == pytest.approx(peer, abs=1e-4)


def test_finished_episodes_leave_the_batch():
    """The environment is asked only for episodes that go on, all of them at once."""
    game = make_game()
    grown(game)
    assert game.environment.steps == [6, 6, 6, 2]


def test_turns_end_at_the_environments_stops():
    """A stop text of the environment ends a turn as one of the recipe does."""
    game = make_game()
    game.environment.stops = tuple("abcdefgh")
    whole = [turn for leaf in grown(game, samples=8, sampling=SamplingParams(12, stop=("i",))) for turn in leaf.path()]
    stopped = [turn for turn in whole if set(turn.text) & set("abcdefghi")]
    assert stopped
    assert all(not set(turn.text[:-1]) & set("abcdefghi") for turn in whole)


def test_what_is_cut_off_is_not_trained():
    """Ids, log-probabilities and text of a turn reach as far as the environment kept."""
    game = make_game(kept=2)
    nodes = [turn for leaf in grown(game) for turn in leaf.path()]
    assert {len(turn.ids) for turn in nodes} <= {1, 2}
    for turn in nodes:
        assert len(turn.ids) == len(turn.logprob)
        assert turn.text == game.policy.tokenizer.decode(turn.ids, skip_special_tokens=True)


def test_full_context_truncates():
    """An episode without room for another turn ends as truncated, and no row is longer than the limit."""
    leaves = grown(game := make_game(), max_context_length=40)
    ends = [leaf.position for leaf in leaves]
    assert any(position.truncated for position in ends)
    assert all(position.ended and position.error is None for position in ends)
    assert all(len(t.parent.position.context_ids) + len(t.ids) <= 40 for leaf in leaves for t in leaf.path())
    found = game.sampler(Spec(num_generations=2, max_completion_length=12, max_context_length=40))(tasks())
    assert found["attend_RT"].sum(1).max() <= 40
    assert 0 < found["metric/completions/clipped_ratio"] <= 1
    assert not found["error_R"].any()


def test_prompt_without_room_is_an_error():
    """An episode that cannot begin is a row of its prompt, in error, with nothing trained."""
    game = make_game()
    leaves = grown(game, samples=1, max_context_length=10)
    assert [leaf.position.error is None for leaf in leaves] == [True, True, False]
    assert "10 tokens" in leaves[2].position.error
    with pytest.raises(RecipeError, match="1 of 3 rollouts") as refused:
        game.sampler(Spec(num_generations=1, max_completion_length=8, max_context_length=10))(tasks())
    assert refused.value.diagnostics[0].code == "RC785"


@pytest.mark.parametrize("rows", ["trajectory", "step"])
def test_errors_are_marked_and_counted(rows):
    """All rows of an episode in error say so; a fifth of the batch is still trained, more stops the run."""
    game = make_game(errors=[(11, 2)])
    game.policy.stop_ids = frozenset()
    spec = Spec(num_generations=2, max_completion_length=4, rows=rows)
    five = tasks(5)
    found = game.sampler(spec)(five)
    wrong = found["prompt_id_R"] == 11
    assert torch.equal(found["error_R"], wrong)
    assert found["error_text_R"] == ["the world broke" if bad else "" for bad in wrong.tolist()]
    assert found["metric/episodes/errors"] == 2.0
    assert wrong.sum() == (2 if rows == "trajectory" else 4)
    with pytest.raises(RecipeError, match="2 of 8 rollouts ended in an error: the world broke"):
        game.sampler(spec)(five[:4])


def test_errors_are_counted_over_the_tries_of_a_step():
    """A try of one prompt whose world breaks does not stop the run by itself; a step of such tries does."""
    game = make_game(errors=[(11, 2)])
    game.policy.stop_ids = frozenset()
    chain = game.sampler(Spec(num_generations=2, max_completion_length=4, rows="step"))
    ten = [task for task in tasks(11) if task.id != 11]
    broken = [task for task in tasks(2) if task.id == 11]
    for _ in range(2):  # the next step counts anew
        chain(ten, attempt=0)
        assert bool(chain(broken, attempt=1)["error_R"].all())
    chain(broken, attempt=2)
    with pytest.raises(RecipeError, match="6 of 26 rollouts ended in an error: the world broke"):
        chain(broken, attempt=3)


def test_broken_prefix_is_an_error_of_trajectories_only():
    """A history that does not go on from the turn before ends the row there and marks it; step rows do not mind."""
    game = make_game(broken=[(11, 2)])
    five = tasks(5)
    found = game.sampler(Spec(num_generations=1, max_completion_length=4))(five)
    assert found["error_R"].tolist() == [False, True, False, False, False]
    assert found["metric/episodes/errors"] == 1.0
    assert found["turn_RT"].amax(1).tolist() == [3, 2, 3, 4, 3]
    steps = game.sampler(Spec(num_generations=1, max_completion_length=4, rows="step"))(five)
    assert not steps["error_R"].any()
    assert steps["step_R"].max() == 3


def test_draws_have_keys_of_their_own():
    """An episode is the same alone and in a batch; steps, attempts and samples draw other ones."""
    spec = Spec(num_generations=2, max_completion_length=10)
    game = make_game()
    chain = game.sampler(spec)
    first = chain(tasks())["text_R"]
    assert chain(tasks()[1:2])["text_R"] == first[2:4]
    assert chain(tasks())["text_R"] == first
    assert len(set(first)) == len(first)
    second = chain(tasks(), attempt=1)["text_R"]
    third = chain(tasks(), step=1)["text_R"]
    assert len({*first, *second, *third}) == 3 * len(first)


def test_attempts_without_an_environment():
    """A second sampling of a step draws other completions; the first is as ever."""
    chain = replace(make_game(), environment=None).sampler(Spec(num_generations=2, max_completion_length=10))
    first = chain(tasks())["text_R"]
    assert not set(chain(tasks(), attempt=1)["text_R"]) & set(first)


def test_state_goes_on():
    """A sampler that loads another's state counts on, with episode ids that were not used before."""
    spec, game = Spec(num_generations=2, max_completion_length=4, rows="step"), make_game()
    whole, second = game.sampler(spec), game.sampler(spec)
    before = whole(tasks())
    second.load(whole.state())
    expected, found = whole(tasks()), second(tasks())
    assert torch.equal(expected["episode_id_R"], found["episode_id_R"])
    assert not set(before["episode_id_R"].tolist()) & set(found["episode_id_R"].tolist())
    assert expected["metric/num_tokens"] == found["metric/num_tokens"]
