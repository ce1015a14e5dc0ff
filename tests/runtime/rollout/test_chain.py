"""The chain sampler: columns of a batch, statistics, counters."""

from pathlib import Path

import pytest
import torch
from support.tiny_models import byte_tokenizer, sampling_policy, tiny_model

from recipec.runtime.batch import Batch, Task
from recipec.runtime.context import StageContext
from recipec.runtime.rollout.chain import ChainSampler, sample
from recipec.runtime.rollout.engine import SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.signals import SIGNALS
from recipec.spec.rollout_engine import Hf
from recipec.spec.sampler import Chain as Spec

TASKS = [Task(4, "hello", (74, 71, 78, 78, 81)), Task(9, "hi", (74, 75)), Task(4, "hello", (74, 71, 78, 78, 81))]


@pytest.fixture
def policy():
    """A tiny policy over bytes."""
    tokenizer = byte_tokenizer()
    model = tiny_model("llama", 1, vocab_size=len(tokenizer), max_position_embeddings=2048, eos_token_id=1)
    return sampling_policy(model, tokenizer, range(1, 9))


@pytest.fixture
def make_sampler(policy):
    """Return a function that builds a sampler of that policy from a spec."""

    def make(spec):
        context = StageContext(root=Path(), cache=Path(), seed=5, stage="explore")
        return ChainSampler(spec, context, policy=policy, rollout_engine=HfEngine(Hf(), context, policy=policy))

    return make


def columns(found):
    """What a call gives, without its statistics."""
    return Batch({name: value for name, value in found.items() if not name.startswith("metric/")})


@pytest.mark.parametrize("rows", ["trajectory", "step"])
def test_gives_what_it_declares(make_sampler, rows):
    """The columns are those that the spec provides, with the shapes and dtypes of the table, detached from sampling."""
    spec = Spec(num_generations=3, max_completion_length=20, rows=rows)
    batch = columns(make_sampler(spec)(TASKS))
    assert set(batch) == {name for name in spec.provides() if SIGNALS[name].kind == "column"}
    batch.check()
    assert batch.num_rows == 9
    for name, column in batch.items():
        if isinstance(column, torch.Tensor):
            assert str(column.dtype) == f"torch.{SIGNALS[name].dtype}"
            assert not column.is_inference()


def test_rows_hold_prompt_and_completion(make_sampler, policy):
    """Prompt first, then what was written, padded on the right; only what was written is trained."""
    batch = columns(make_sampler(Spec(num_generations=4, max_completion_length=30))(TASKS))
    assert batch["by_prompt_R"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch["prompt_id_R"].tolist() == [4] * 4 + [9] * 4 + [4] * 4
    for row in range(12):
        prompt = TASKS[batch["by_prompt_R"][row]].prompt_ids
        trained, attend = batch["trained_RT"][row], batch["attend_RT"][row]
        length = int(attend.sum())
        assert batch["tokens_RT"][row, : len(prompt)].tolist() == list(prompt)
        assert attend.tolist() == [t < length for t in range(len(attend))]
        assert trained.tolist() == [len(prompt) <= t < length for t in range(len(attend))]
        assert torch.equal(batch["turn_RT"][row], trained.long())
        assert (batch["sampler_logprob_RT"][row] != 0).tolist() == trained.tolist()
        written = batch["tokens_RT"][row][trained]
        assert batch["text_R"][row] == policy.tokenizer.decode(written, skip_special_tokens=True)


def test_a_task_that_comes_twice_is_sampled_twice(make_sampler):
    """No two rows draw the same numbers, and a row's numbers are those of its task and sample."""
    spec = Spec(num_generations=2, max_completion_length=30)
    batch = columns(make_sampler(spec)(TASKS))
    assert batch["text_R"][0] != batch["text_R"][1]
    assert batch["text_R"][:2] != batch["text_R"][4:]
    alone = columns(make_sampler(spec)(TASKS[1:2]))
    assert alone["text_R"] == batch["text_R"][2:4]


def test_steps_and_seeds_draw_anew(make_sampler):
    """The step, the stage and the seed are part of every key; an equal key gives equal rows."""
    chain = make_sampler(Spec(num_generations=2, max_completion_length=30))
    first = chain(TASKS)["text_R"]
    assert chain(TASKS)["text_R"] == first
    assert chain(TASKS, step=1)["text_R"] != first


def test_statistics(make_sampler):
    """Lengths count what was written; rows that were cut are the clipped ones; tokens add up over calls."""
    chain = make_sampler(Spec(num_generations=8, max_completion_length=40))
    found = chain(TASKS[:2])
    lengths = found["trained_RT"].sum(1).double()
    ended = torch.tensor(
        [set(ids.tolist()) & set(range(1, 9)) != set() for ids in found["tokens_RT"] * found["trained_RT"]]
    )
    assert found["metric/completions/mean_length"] == lengths.mean().item()
    assert found["metric/tokens/generated"] == lengths.sum().item()
    assert found["metric/completions/min_length"] == lengths.min().item()
    assert found["metric/completions/max_length"] == lengths.max().item()
    assert found["metric/completions/mean_terminated_length"] == pytest.approx(lengths[ended].mean().item())
    assert found["metric/completions/clipped_ratio"] == pytest.approx(1 - ended.double().mean().item())
    assert 0 < found["metric/completions/clipped_ratio"] < 1
    assert found["metric/num_tokens"] == int(found["attend_RT"].sum())
    assert chain(TASKS[:2])["metric/num_tokens"] == 2 * int(found["attend_RT"].sum())


def test_state_goes_on(make_sampler):
    """A sampler that loads another's state counts on, with episode ids that were not used before."""
    spec = Spec(num_generations=2, max_completion_length=4)
    whole, first, second = (make_sampler(spec) for _ in range(3))
    whole(TASKS)
    first(TASKS)
    second.load(first.state())
    expected, found = whole(TASKS), second(TASKS)
    assert torch.equal(expected["episode_id_R"], found["episode_id_R"])
    assert len(set(found["episode_id_R"].tolist())) == 6
    assert expected["metric/num_tokens"] == found["metric/num_tokens"]


def test_evaluation_has_its_own_randomness(make_sampler):
    """Sampling under another key leaves the sampler's own draws alone; greedy needs no key."""
    chain = make_sampler(Spec(num_generations=2, max_completion_length=20))
    before = chain(TASKS)["text_R"]
    engine = chain.engine
    drawn = sample(engine, TASKS[:2], SamplingParams(20), 2, (5, "evaluate", "held_out"))
    assert chain(TASKS)["text_R"] == before
    greedy = [sample(engine, TASKS[:2], SamplingParams(20, temperature=0.0), 1, (seed,)) for seed in (1, 2)]
    assert greedy[0] == greedy[1]
    assert [len(group) for group in drawn] == [2, 2]


def test_no_prompts_give_no_rows(make_sampler):
    """An empty step gives empty columns."""
    batch = columns(make_sampler(Spec())([]))
    batch.check()
    assert batch.num_rows == 0
