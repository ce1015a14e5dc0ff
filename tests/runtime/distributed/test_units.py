"""Parts of a run over several processes that one process can show."""

from hypothesis import given, strategies as st

from recipec.host.preflight import PreflightRequest
from recipec.host.ranks import Ranks
from recipec.runtime.distributed.dealing import deal, idle, owners
from recipec.runtime.protocols import RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
from recipec.runtime.rollout.shared_rollouts import SharedRollouts
from recipec.runtime.training.sequences import check
from recipec.spec.train_engine import Deepspeed, Fsdp

COSTS = st.lists(st.integers(1, 100), max_size=20)


@given(costs=COSTS, size=st.integers(1, 8), rounds=st.booleans(), least=st.booleans())
def test_every_part_is_computed_once(costs, size, rounds, least):
    """Each micro-batch counts on one rank; passes that are collective are as many on all ranks."""
    dealt = deal(costs, size, rounds=rounds, at_least_one=least)
    assert sorted(turn.part for turns in dealt for turn in turns if turn.counts) == list(range(len(costs)))
    if rounds:
        assert len({len(turns) for turns in dealt}) == 1
    if costs and (rounds or least):
        assert all(dealt)
    assert 0 <= idle(costs, dealt, rounds=rounds) < 1


@given(costs=COSTS, size=st.integers(1, 8))
def test_the_busiest_rank_has_at_most_one_part_more_than_its_share(costs, size):
    """Without rounds, no rank computes more than the even share and the largest micro-batch together."""
    load = [sum(costs[turn.part] for turn in turns) for turns in deal(costs, size, rounds=False)]
    assert max(load) <= sum(costs) / size + max(costs, default=0)


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=30), size=st.integers(1, 6))
def test_prompts_are_dealt_in_contiguous_shares(weights, size):
    """Owners never decrease, and stay below the number of ranks."""
    found = owners(weights, size)
    assert found == sorted(found)
    assert 0 <= min(found) <= max(found) < size


class Echo(RolloutEngine):
    """Answers every prompt with its own first token."""

    shares_weights = True

    def generate(self, requests, sampling):  # noqa: ARG002 - its signature
        """Repeat the first token for each key."""
        return [[Completion((one.ids[0],), (-1.0,), ended=True) for _ in one.keys] for one in requests]


def test_completions_come_back_in_the_order_of_the_requests():
    """Requests of several prompts and group sizes are answered in order, also several of one prompt."""
    requests = [Request((n,), tuple((n, i) for i in range(n % 3)), prompt_id=n % 4) for n in range(1, 9)]
    made = SharedRollouts(Echo(), Ranks()).generate(requests, SamplingParams(max_length=1))
    assert [[one.ids for one in group] for group in made] == [[(n,)] * (n % 3) for n in range(1, 9)]


def test_an_engine_that_computes_whole_sequences_is_refused_before_the_run():
    """RC539: DeepSpeed does not spread sequences here, FSDP does."""
    request = PreflightRequest(root=None)
    assert [found.code for found in check(Deepspeed(sequence_parallel=2), request)] == ["RC539"]
    assert list(check(Deepspeed(), request)) == list(check(Fsdp(sequence_parallel=2), request)) == []


def test_cost_decides_and_not_the_number_of_parts():
    """One costly micro-batch keeps a rank busy while another rank computes all the cheap ones."""
    dealt = deal([9, 1, 1, 1, 1, 1], 2, rounds=False)
    assert [[turn.part for turn in turns] for turns in dealt] == [[0], [1, 2, 3, 4, 5]]
