"""Keys and values kept from turn to turn: the same rows come out, and fewer tokens are read."""

import pytest
import torch
from support.counting_game import grown, make_game, tasks
from support.tiny_models import SHAPE
from transformers import Lfm2Config, Lfm2ForCausalLM

from recipec.runtime.attention import packed
from recipec.runtime.rollout import kv_reuse
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.episodes import Growth, keys_of, roots
from recipec.spec.rollout_engine import Hf as Spec
from recipec.spec.sampler import Chain as ChainSpec

KINDS = ["llama", "qwen2", "gpt2", "window", "mixed"]
PROMPTS = [(80, 81, 82, 83, 84), (90, 91), tuple(range(100, 120))]


def read_tokens(game):
    """Count the tokens that pass through the model, padding included."""
    seen = []
    game.policy.model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return seen


def without_memory(kind="llama", **game):
    """Build a game whose engine keeps nothing."""
    return make_game(kind, engine=Spec(max_memory=0), **game)


def requests(prompts, **params):
    """Ask for two samples of each prompt."""
    return [Request(ids, tuple((0, i, s) for s in range(2)), i, **params) for i, ids in enumerate(prompts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("game", [{}, {"window": True}, {"kept": 5}, {"answer": " and so on and on it goes: {} "}])
def test_same_episodes_with_and_without(kind, game):
    """Ids are equal and log-probabilities agree, for turns that append, are cut, or are written anew."""
    found, expected = (grown(make(kind, **game)) for make in (make_game, without_memory))
    for leaf, peer in zip(found, expected, strict=True):
        for turn, other in zip(leaf.path(), peer.path(), strict=True):
            assert turn.ids == other.ids
            assert turn.logprob == pytest.approx(other.logprob, abs=1e-4)
            assert turn.position == other.position


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["sdpa", "eager", packed.NAME])
def test_goes_on_from_a_memory(kind, attention):
    """Rows of unequal memory and unequal new parts draw what rows read from the start draw, forks of one included."""
    if kind in {"gpt2", "mixed"} and attention == packed.NAME:
        attention = "sdpa"
    game = make_game(kind)
    game.policy.model.set_attn_implementation(attention)
    engine = game.engine
    sampling = SamplingParams(9, temperature=0.9)
    first = engine.generate(requests(PROMPTS, keep_kv=True), sampling)
    more = [(70,), (71, 72, 73), (), (74,) * 30, (75, 76), (77,)]
    contexts, memories = [], []
    for prompt, (one, two) in zip(PROMPTS, first, strict=True):
        for completion in (one, two, one):  # the last is a fork
            assert completion.kv.ids == prompt + completion.ids[:-1]
            memories.append(completion.kv)
            contexts.append(prompt + completion.ids + more[len(contexts) % len(more)])
    memories[4], contexts[7] = None, PROMPTS[2]  # one is not remembered, one is a part of what is
    kept = [[part.clone() for pair in m.parts for part in pair] for m in memories if m]
    found = engine.generate(
        [Request(ids, ((1, i, 0), (1, i, 1)), kv=m) for i, (ids, m) in enumerate(zip(contexts, memories, strict=True))],
        sampling,
    )
    expected = engine.generate([Request(ids, ((1, i, 0), (1, i, 1))) for i, ids in enumerate(contexts)], sampling)
    for group, peers in zip(found, expected, strict=True):
        for completion, peer in zip(group, peers, strict=True):
            assert completion.ids == peer.ids
            assert completion.logprob == pytest.approx(peer.logprob, abs=1e-4)
    for parts, one in zip(kept, [m for m in memories if m], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(parts, [p for pair in one.parts for p in pair], strict=True))


def test_each_token_is_read_once():
    """With memory a chain's tokens pass through the model once, but for each turn's last."""
    game = make_game(answer="!")
    game.policy.stop_ids = frozenset()
    seen = read_tokens(game)
    (leaf, *_) = grown_alone(game)
    path = leaf.path()
    row = len(path[-1].parent.position.context_ids) + len(path[-1].ids)
    assert sum(seen) == row - 1
    plain = without_memory(answer="!")
    plain.policy.stop_ids = frozenset()
    seen = read_tokens(plain)
    grown_alone(plain)
    assert sum(seen) == sum(len(t.parent.position.context_ids) + len(t.ids) - 1 for t in path)


def growth_of(game, **more):
    """Begin to grow chains of a few tokens a turn."""
    return Growth(game.policy, game.environment, game.engine, SamplingParams(6), **more)


def grown_alone(game):
    """Grow one chain."""
    return growth_of(game).grow(roots(game.environment, tasks(1), 1), [(1,)])


def test_forks_go_on_from_their_parents():
    """A chain grown from an inner node reads only what the chain before it left unread, and harms it not."""
    keys = keys_of(tasks(1), 2, (1,))[0]
    found = []
    for game in (make_game(turns=4), without_memory(turns=4)):
        growth = growth_of(game, forks=True)
        (root,) = roots(game.environment, tasks(1), 1)
        (leaf,) = growth.grow([root], keys[:1])
        before = [(turn.ids, turn.logprob, turn.position) for turn in leaf.path()]
        seen = read_tokens(game)
        starts = [root, leaf.path()[1], leaf.path()[1], leaf.parent]
        forks = growth.grow(starts, [(2,), (3,), (4,), (5,)])
        again = growth.grow([forks[0].path()[0], forks[1].parent], [(6,), (7,)])
        assert [(turn.ids, turn.logprob, turn.position) for turn in leaf.path()] == before
        found.append(([turn for end in (*forks, *again) for turn in end.path()], sum(seen)))
        growth.clear_cache()
        assert game.engine.store.bytes == 0
    (turns, read), (peers, peer_read) = found
    for turn, peer in zip(turns, peers, strict=True):
        assert turn.ids == peer.ids
        assert turn.logprob == pytest.approx(peer.logprob, abs=1e-4)
    assert read < 0.5 * peer_read


@pytest.mark.parametrize("bytes_", [0, 20_000, 60_000])
def test_what_is_kept_is_bounded(bytes_):
    """A full store keeps no more, and the rows are the same; after a step nothing is kept."""
    game, held = make_game(engine=Spec(max_memory=bytes_ / 2**30)), []
    spec = ChainSpec(num_generations=4, max_completion_length=8)
    expected = make_game().sampler(spec)(tasks())
    chain = game.sampler(spec)
    game.policy.model.register_forward_hook(lambda *_: held.append(chain.engine.store.bytes))
    found = chain(tasks())
    assert found["text_R"] == expected["text_R"]
    assert max(held) <= bytes_
    assert bool(max(held)) == bool(bytes_)
    assert chain.engine.store.bytes == 0
    assert not chain.engine.store.entries


def test_same_bits_twice():
    """A second sampling of a step gives equal bits, whatever was remembered before it."""
    engine = Spec(max_memory=30_000 / 2**30)
    spec = ChainSpec(num_generations=4, max_completion_length=8)
    used, fresh = (make_game(engine=engine).sampler(spec) for _ in range(2))
    used.engine.generate(requests(PROMPTS, keep_kv=True), SamplingParams(6))
    first, second = used(tasks()), fresh(tasks())
    assert torch.equal(first["sampler_logprob_RT"], second["sampler_logprob_RT"])
    assert torch.equal(first["tokens_RT"], second["tokens_RT"])


def test_windowed_episodes_keep_nothing():
    """Where prompts are written anew nothing is kept after the first turn."""
    game = make_game(window=True)
    engine = game.engine
    asked = []
    generate = engine.generate
    engine.generate = lambda wanted, sampling: (asked.append([r.keep_kv for r in wanted]), generate(wanted, sampling))[
        1
    ]
    growth_of(game).grow(roots(game.environment, tasks(), 2), [(i,) for i in range(6)])
    assert all(asked[0])
    assert len(asked) > 2
    assert not any(flag for flags in asked[1:] for flag in flags)
    assert engine.store.bytes == 0


def test_dropped_memory_is_read_again():
    """A memory that was dropped, or is of another text, changes nothing."""
    engine = make_game().engine
    ((one, _), (other, _), _) = engine.generate(requests(PROMPTS, keep_kv=True), SamplingParams(6))
    history = PROMPTS[0] + one.ids + (70, 71)
    ((expected,),) = engine.generate([Request(history, ((3,),))], SamplingParams(6))
    one.kv.drop()
    one.kv.drop()
    for held in (one.kv, other.kv):
        ((found,),) = engine.generate([Request(history, ((3,),), kv=held)], SamplingParams(6))
        assert found == expected


def test_prompts_read_apart():
    """What has much to read is read first, alone, where that is less work in all."""
    assert kv_reuse.prefill_first([1]) == []
    assert kv_reuse.prefill_first([500] + [2] * 30) == [0]
    assert kv_reuse.prefill_first([500, 480] + [2] * 30 + [490]) == [0, 1, 32]
    assert kv_reuse.prefill_first([40, 41, 39]) == []


def test_policies_without_plain_layers_keep_nothing():
    """A policy whose layers keep another kind of state is computed again from the start, and writes the same."""
    game = make_game()
    config = Lfm2Config(
        **{**SHAPE, "vocab_size": game.policy.model.config.vocab_size}, layer_types=["conv", "full_attention"]
    )
    torch.manual_seed(0)
    game.policy.model = Lfm2ForCausalLM(config).eval()
    (found,) = game.engine.generate(requests(PROMPTS[:1], keep_kv=True), SamplingParams(6))
    assert [completion.kv for completion in found] == [None, None]
    assert all(leaf.position.ended for leaf in grown(game))
