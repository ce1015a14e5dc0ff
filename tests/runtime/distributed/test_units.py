"""Parts of a run over several processes that one process can show."""

from itertools import pairwise

from hypothesis import given, strategies as st

from recipec.host.preflight import PreflightRequest
from recipec.host.ranks import Ranks
from recipec.runtime.distributed.load_balancing import assign_microbatches, contiguous_owners
from recipec.runtime.protocols import RolloutEngine
from recipec.runtime.rollout.engine import Completion, Request, SamplingParams
from recipec.runtime.rollout.shared_rollouts import SharedRollouts
from recipec.runtime.training.sequences import check
from recipec.spec.train_engine import Deepspeed, Fsdp

COSTS = st.lists(st.integers(1, 100), max_size=20)


@given(costs=COSTS, size=st.integers(1, 8), lockstep=st.booleans())
def test_every_micro_batch_counts_once(costs, size, lockstep):
    """Each micro-batch counts on one rank; in lockstep all ranks have the same number of passes."""
    assignments = assign_microbatches(costs, size, lockstep=lockstep)
    assert sorted(one.microbatch for own in assignments for one in own if one.counts) == list(range(len(costs)))
    if lockstep:
        assert len({len(own) for own in assignments}) == 1


@given(costs=COSTS, size=st.integers(1, 8))
def test_a_pass_in_lockstep_has_micro_batches_of_similar_cost(costs, size):
    """No pass contains a micro-batch that costs more than one of an earlier pass."""
    assignments = assign_microbatches(costs, size, lockstep=True)
    passes = [[costs[one.microbatch] for one in together] for together in zip(*assignments, strict=True)]
    assert all(min(earlier) >= max(later) for earlier, later in pairwise(passes))


@given(costs=COSTS, size=st.integers(1, 8))
def test_the_busiest_rank_has_at_most_one_micro_batch_more_than_its_share(costs, size):
    """Without lockstep, no rank computes more than the even share and the largest micro-batch together."""
    assignments = assign_microbatches(costs, size, lockstep=False)
    load = [sum(costs[one.microbatch] for one in own) for own in assignments]
    assert max(load) <= sum(costs) / size + max(costs, default=0)


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=30), size=st.integers(1, 6))
def test_prompts_are_divided_in_contiguous_shares(weights, size):
    """Owners never decrease, and stay below the number of ranks."""
    owners = contiguous_owners(weights, size)
    assert owners == sorted(owners)
    assert 0 <= min(owners) <= max(owners) < size


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


def test_cost_decides_and_not_the_number_of_micro_batches():
    """One costly micro-batch keeps a rank busy while another rank computes all the cheap ones."""
    assignments = assign_microbatches([9, 1, 1, 1, 1, 1], 2, lockstep=False)
    assert [[one.microbatch for one in own] for own in assignments] == [[0], [1, 2, 3, 4, 5]]
