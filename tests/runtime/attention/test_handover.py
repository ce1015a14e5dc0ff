"""Passes that hand shared prefixes over have the loss and the gradients of one pass, and compute each token once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_attention import COMMON, gradients, make
from transformers import AutoConfig

from recipec.runtime.attention import handover
from recipec.runtime.attention.certification.run import certify
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.handover import Handover, handed_over
from recipec.runtime.attention.microbatch_packing import Packing
from recipec.runtime.attention.prefix_tree import build
from recipec.runtime.attention.trie_attention import SharedPrefix, TrieAttention
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.training.packing import pack_rows
from recipec.spec import attention

GQA = ("starcoder2", "stablelm")  # their norms compute in the type of the model
WINDOW, CAPPED = "starcoder2", "gemma2"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Certificates of this module's tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def policy(request, monkeypatch, cache) -> CausalLm:
    """A tiny model of a family, in float64."""
    model = make(request.param, monkeypatch)
    model.context = replace(model.context, cache=cache)
    model.model.double()
    return model


def forest(draw: np.random.Generator, depth: int) -> list[list[int]]:
    """Return rows of a forest of some depth: some end where others go on, and some are equal."""
    rows: list[list[int]] = []

    def grow(begin: list[int], left: int) -> None:
        begin = begin + draw.integers(4, 7, draw.integers(1, 6)).tolist()
        if not left or draw.random() < 0.3:
            rows.append(begin)
        for _ in range(int(draw.integers(1, 4)) if left else 0):
            grow(begin, left - 1)

    for _ in range(int(draw.integers(1, 3))):
        grow([], depth - 1)
    return rows[:14]


def batch_of(rows: list[list[int]], draw: np.random.Generator) -> Batch:
    """Pad rows; random tokens of them are trained, in prefixes too."""
    tokens_RT = pad_rows(rows, torch.int64)
    attend_RT = torch.arange(tokens_RT.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    trained_RT = torch.from_numpy(draw.random(tokens_RT.shape) < 0.6) & attend_RT
    return Batch(tokens_RT=tokens_RT, attend_RT=attend_RT, trained_RT=trained_RT)


def result(policy: CausalLm, kind, rows: Batch, tokens: int) -> tuple[float, torch.Tensor, int]:
    """Return loss and gradient of some log-probabilities and entropies, and the most tokens kept at once."""
    policy.set_attention(kind)
    packing = pack_rows(rows, tokens, padded=kind.padded, sharing=kind.sharing)
    loss, most = passed(policy, rows, packing, range(len(packing.parts)))
    return loss, torch.cat([grad.flatten() for grad in gradients(policy).values()]), most


def passed(policy: CausalLm, rows: Batch, packing: Packing, passes: Sequence[int]) -> tuple[float, int]:
    """Make some passes; return their loss, and the most tokens kept at once."""
    kind = policy.attention
    weight_RT = torch.rand(rows["tokens_RT"].shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    handover = Handover(policy, rows, packing, passes if kind.hands_over else ())
    loss, most = 0.0, 0
    for place, number in enumerate(passes):
        part = rows.rows(packing.parts[number])
        before = 0 if kind.shared is None else kind.shared.tokens
        with handover.during(place):
            made = policy(*(part[name] for name in ("tokens_RT", "attend_RT", "trained_RT")))
            one = ((made["logprob_RT"] + 0.3 * made["entropy_RT"]) * weight_RT[packing.parts[number]]).sum()
            one.backward()
            loss += float(one.detach())
            if kind.shared is not None:
                old = sum(one.segment.end - one.segment.begin for one in handover.alive if one.segment.first < place)
                most = max(most, old + kind.shared.tokens - before)
    assert not handover.alive
    return loss, most


def off(found: tuple[float, torch.Tensor, int], expected: tuple[float, torch.Tensor, int]) -> float:
    """Return the larger relative difference of two results."""
    by_loss = abs(found[0] - expected[0]) / abs(expected[0])
    return max(by_loss, float((found[1] - expected[1]).norm() / expected[1].norm()))


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("policy", GQA, indirect=True)
def test_every_budget_gives_the_gradient_of_one_pass(policy, depth):
    """At any depth: loss and gradient differ by rounding, each token is computed once, and no more are kept."""
    for seed in range(2):
        draw = np.random.default_rng([depth, seed])
        rows = batch_of(forest(draw, depth), draw)
        lengths_R = rows["attend_RT"].sum(-1).numpy()
        size = build(rows["tokens_RT"].numpy(), lengths_R - 1).size
        whole = build(rows["tokens_RT"].numpy(), lengths_R).size
        padded = result(policy, DenseAttention(attention.Dense(), policy.context), rows, 10**6)
        kind = TrieAttention(attention.Trie(), policy.context)
        assert off(result(policy, kind, rows, whole), padded) < 1e-12
        for tokens in {int(lengths_R.max()), int(lengths_R.max()) + 5, (int(lengths_R.max()) + whole) // 2}:
            kind = TrieAttention(attention.Trie(), policy.context)
            found = result(policy, kind, rows, tokens)
            assert off(found, padded) < 1e-12
            assert kind.shared.tokens == size
            assert kind.shared.dense_tokens == (lengths_R - 1).sum()
            assert found[2] <= tokens


def cut(policy: CausalLm, kind, *, pairs: bool = False) -> tuple[int, tuple, tuple]:
    """Return the number of unique tokens, and the results of cut and of padded rows."""
    draw = np.random.default_rng(3)
    rows = batch_of(forest(draw, 4), draw)
    if kind.sharing == "prompts":
        rows = batch_of([[g, 5, 6, 7, 8, 9, 5 + i, 6][: 7 + i % 2] for i in range(4) for g in (4, 5)], draw)
        rows["trained_RT"] = rows["attend_RT"] & (torch.arange(8) >= 6)
    if pairs:
        rows |= {"by_pair_R": torch.arange(rows.num_rows) % (rows.num_rows // 2)}
    longest = int(rows["attend_RT"].sum(-1).max()) * (1 + pairs)
    padded = result(policy, DenseAttention(attention.Dense(), policy.context), rows, 10**6)
    found = result(policy, kind, rows, longest)
    lengths_R = rows["attend_RT"].sum(-1).numpy()
    assert kind.shared.tokens < (lengths_R - 1).sum()
    return build(rows["tokens_RT"].numpy(), lengths_R - 1).size, found, padded


@pytest.mark.parametrize("policy", ["llama", CAPPED, "gpt_oss", "gemma3_text", "gpt2", "granite"], indirect=True)
def test_families_in_float32(policy):
    """Windows, capped scores, sinks, experts and scaled heads: the gradient of padded rows to 1e-5."""
    policy.model.float()
    kind = TrieAttention(attention.Trie(), policy.context)
    size, found, padded = cut(policy, kind)
    assert kind.shared.tokens == size
    assert off(found, padded) < 1e-5


@pytest.mark.parametrize("policy", [WINDOW], indirect=True)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", [TrieAttention, SharedPrefix])
def test_kernels_and_prompts_alone(policy, kernel, kind):
    """Kernels see a whole tree whoever computed its keys; prompts are handed over where they alone are shared."""
    spec = {TrieAttention: attention.Trie, SharedPrefix: attention.SharedPrefix}[kind](kernel=kernel)
    _, found, padded = cut(policy, kind(spec, policy.context))
    assert off(found, padded) < 1e-12


@pytest.mark.parametrize("policy", [WINDOW], indirect=True)
def test_pairs_are_handed_prefixes(policy):
    """Rows of pairs stay together, so that the order of passes is not that of the tree: the gradient is the same."""
    _, found, padded = cut(policy, TrieAttention(attention.Trie(), policy.context), pairs=True)
    assert off(found, padded) < 1e-12


@pytest.mark.parametrize("policy", GQA[:1], indirect=True)
def test_trained_tokens_of_a_prefix_are_scored_once(policy):
    """Four passes of one row each compute the logits of five tokens in their prefix once, of the other three each."""
    rows = batch_of([[5, 6, 4, 6, 5, 4, 4 + i, 6, 5] for i in range(4)], np.random.default_rng(0))
    rows["trained_RT"] = rows["attend_RT"]
    policy.set_attention(TrieAttention(attention.Trie(), policy.context))
    packing = pack_rows(rows, 9, padded=False, sharing="prefixes")
    counted: list[int] = []
    policy.model.lm_head.register_forward_hook(lambda _, inputs, __: counted.append(inputs[0].shape[-2]))
    passed(policy, rows, packing, range(4))
    assert sum(counted) == 5 + 4 * 3


@pytest.mark.parametrize("policy", GQA[:1], indirect=True)
def test_ranks_hand_over_what_each_has(policy):
    """Each rank computes a prefix of its own passes once, though others are between them; gradients are summed."""
    saved = 0
    for seed in range(4):
        draw = np.random.default_rng(seed)
        rows = batch_of(forest(draw, 4), draw)
        lengths_R = rows["attend_RT"].sum(-1)
        expected = result(policy, DenseAttention(attention.Dense(), policy.context), rows, 10**6)
        kind = TrieAttention(attention.Trie(), policy.context)
        policy.set_attention(kind)
        packing = pack_rows(rows, int(lengths_R.max()), padded=False, sharing="prefixes")
        dealt = [range(rank, len(packing.parts), 2) for rank in range(2)]
        loss = sum(passed(policy, rows, packing, passes)[0] for passes in dealt)
        found = loss, torch.cat([grad.flatten() for grad in gradients(policy).values()]), 0
        assert off(found, expected) < 1e-12
        size = build(rows["tokens_RT"].numpy(), lengths_R.numpy() - 1).size
        lost = packing.recomputed_tokens - sum(handed_over(packing, passes) for passes in dealt)
        assert size <= kind.shared.tokens <= size + lost
        saved += packing.recomputed_tokens - lost
    assert saved


@pytest.mark.parametrize("policy", GQA[:1], indirect=True)
@pytest.mark.parametrize("part", ["embed", "layers.0", "self_attn", "lm_head", "layers.1"])
def test_frozen_parts(policy, part):
    """Where a part of the model is frozen, down to keys without a gradient, the others have theirs."""
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(part not in name)
    _, found, padded = cut(policy, TrieAttention(attention.Trie(), policy.context))
    assert off(found, padded) < 1e-12


@pytest.mark.parametrize("policy", GQA[:1], indirect=True)
def test_activations_computed_again(policy):
    """With gradient checkpointing, a layer that is computed again is given the same keys."""
    policy.model.train()
    policy.enable_gradient_checkpointing()
    kind = TrieAttention(attention.Trie(), policy.context)
    size, found, padded = cut(policy, kind)
    assert kind.shared.tokens == size
    assert off(found, padded) < 1e-12


@pytest.mark.parametrize("policy", GQA[:1], indirect=True)
def test_an_adapter(policy):
    """A LoRA adapter alone is trained: its gradient is that of padded rows."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "c_fc"], init_lora_weights=False)
    policy.peft_model = get_peft_model(policy.model, config)
    policy.model = policy.peft_model.base_model.model.double()
    _, found, padded = cut(policy, TrieAttention(attention.Trie(), policy.context))
    assert off(found, padded) < 1e-12


@pytest.mark.parametrize("policy", ["mamba"], indirect=True)
def test_layers_with_a_state_do_not_hand_over(policy):
    """Their state is not among keys and values."""
    kind = TrieAttention(attention.Trie(), policy.context)
    policy.set_attention(kind)
    assert not kind.hands_over


def test_a_model_hands_over_if_that_is_equal_too(monkeypatch):
    """Certificates compare passes that hand over; where their gradient is another one, trees are still shared."""
    small = shrink(AutoConfig.for_model("llama", **COMMON))
    assert certify(small).hands_over
    monkeypatch.setattr(handover.Prefix, "backward", lambda _: None)
    found = certify(small)
    assert found.equal
    assert not found.hands_over
