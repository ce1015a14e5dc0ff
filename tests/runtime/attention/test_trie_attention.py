"""Rows that share prefixes are computed once and give what dense rows give, on every family that certifies."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_attention import COMMON, FAMILIES, gradients, make
from transformers import AutoConfig

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention import interface, recurrent_layers
from recipec.runtime.attention.certification import cache as certificates
from recipec.runtime.attention.certification.run import certify, random_model, sample_sequences
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.trie_attention import SharedPrefix, TrieAttention
from recipec.runtime.model.causal_lm import CausalLm
from recipec.spec import attention

EQUAL = sorted(set(FAMILIES) - {"bloom"})
KERNELS = ("auto", "sdpa", "eager")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Certificates of this module's tests."""
    return tmp_path_factory.mktemp("cache")


def bound(family: str, monkeypatch, cache: Path) -> CausalLm:
    """Build a policy that keeps its certificates in the folder of the tests."""
    model = make(family, monkeypatch)
    model.context = replace(model.context, cache=cache)
    return model


def tree() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of a tree of three levels, one twice and one the beginning of others; other tokens of each are scored."""
    rows = [row + [4 + i for i in range(len(row), 22)] for row in sample_sequences() if len(row) > 2]
    rows = [row[:n] for row, n in zip(rows, (21, 20, 18, 21, 15, 19, 20, 12, 1, 9), strict=False)]
    rows += [[7, 8], rows[0][:14]]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    attend = torch.arange(tokens.shape[1]) < lengths[:, None]
    drawn = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    return tokens, attend, attend & drawn


def run(model: CausalLm, kind, batch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Score rows under an attention; return what it gave and all gradients of a random function of it."""
    model.set_attention(kind)
    made = model(*batch)
    weight = torch.rand(batch[0].shape, generator=torch.Generator().manual_seed(5))
    ((made["logprob_RT"] + 0.3 * made["entropy_RT"]) * weight).sum().backward()
    return made, gradients(model)


def equal(found, expected) -> None:
    """Compare two runs at 1e-5."""
    (made, grads), (dense, dense_grads) = found, expected
    for name in ("logprob_RT", "entropy_RT"):
        assert torch.allclose(made[name], dense[name], atol=1e-5, rtol=0), name
    assert grads.keys() == dense_grads.keys()
    scale = max(float(g.abs().max()) for g in dense_grads.values())
    for name, grad in dense_grads.items():
        assert torch.allclose(grads[name], grad, atol=1e-5 * max(1.0, scale), rtol=0), name


@pytest.mark.parametrize("family", EQUAL)
def test_the_trie_equals_dense_with_gradients(family, monkeypatch, cache):
    """Log-probabilities, entropies and every gradient are those of padded rows, and fewer tokens were computed."""
    model = bound(family, monkeypatch, cache)
    expected = run(model, DenseAttention(attention.Dense(), model.context), tree())
    trie = TrieAttention(attention.Trie(), model.context)
    equal(run(model, trie, tree()), expected)
    assert trie.shared.tokens < trie.shared.dense_tokens


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", [TrieAttention, SharedPrefix])
def test_every_kernel_and_both_forms_agree(kernel, kind, monkeypatch, cache):
    """Under flash, the stock kernel with a mask, and plain products; with all prefixes shared, or prompts alone."""
    model = bound("mistral", monkeypatch, cache)
    spec = {TrieAttention: attention.Trie, SharedPrefix: attention.SharedPrefix}[kind](kernel=kernel)
    expected = run(model, DenseAttention(attention.Dense(), model.context), tree())
    equal(run(model, kind(spec, model.context), tree()), expected)


def test_shared_prefix_shares_prompts_and_nothing_else(monkeypatch, cache):
    """Equal answers to one prompt cost their tokens each; the prompt costs its own once."""
    model = bound("llama", monkeypatch, cache)
    tokens = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, 9], [5, 6, 7, 4, 9]])
    attend = torch.ones_like(tokens, dtype=torch.bool)
    trained = torch.arange(5) >= torch.full((3, 1), 3)
    two = SharedPrefix(attention.SharedPrefix(), model.context)
    run(model, two, (tokens, attend, trained))
    assert two.shared.tokens == 3 + 3 * 1  # the last token of a row predicts nothing
    all_of_it = TrieAttention(attention.Trie(), model.context)
    run(model, all_of_it, (tokens, attend, trained))
    assert all_of_it.shared.tokens == 3 + 2


def test_a_model_that_does_not_certify_is_refused(monkeypatch, cache):
    """A model outside the attention interface stays as it was, with a code."""
    model = bound("bloom", monkeypatch, cache)
    before = model(*tree())["logprob_RT"]
    with pytest.raises(RecipeError) as refused:
        model.set_attention(TrieAttention(attention.Trie(), model.context))
    assert refused.value.diagnostics[0].code == "RC830"
    assert torch.equal(model(*tree())["logprob_RT"], before)


def test_rope_that_looks_at_the_longest_row_is_refused():
    """Its positions would depend on which rows are in a forward pass."""
    config = AutoConfig.for_model(
        "llama", **COMMON, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    )
    found = certify(shrink(config))
    assert not found.equal
    assert "dynamic" in found.why


HYBRIDS = {
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "bamba": {"attn_layer_indices": [1]},
    "falcon_h1": {},
    "recurrent_gemma": {},
}


@pytest.mark.parametrize("family", HYBRIDS)
def test_layers_that_carry_a_state_are_given_rows(family):
    """Hybrids are certified with both kinds of layers in them: states flow along rows, tokens go through once."""
    small = shrink(AutoConfig.for_model(family, **{"num_hidden_layers": 3, **HYBRIDS[family]}))
    found = certify(small)
    assert found.equal, found.why
    assert recurrent_layers.mixers(random_model(small, seed=0))


@pytest.mark.parametrize(
    ("family", "params", "kinds"),
    [
        ("bamba", {"num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27]}, {"linear_attention", "full_attention"}),
        ("gemma2", {"num_hidden_layers": 26}, {"sliding_attention", "full_attention"}),
    ],
)
def test_a_small_configuration_has_every_kind_of_layer(family, params, kinds):
    """Layers that differ from the others are kept, wherever they are, and windows are shorter than the sequences."""
    small = shrink(AutoConfig.for_model(family, **params))
    assert small.num_hidden_layers <= 4
    assert set(small.layer_types) == kinds
    assert small.to_dict().get("sliding_window", 0) < min(map(len, sample_sequences()[:6]))


def test_a_copy_of_a_model_has_its_own_states():
    """Layers that were bound and then copied mix with the copy's weights."""
    model = random_model(shrink(AutoConfig.for_model("mamba")), seed=0).eval()
    interface.install(model)
    other = copy.deepcopy(model)
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(other(input_ids=ids).logits, before)


@pytest.mark.parametrize(("params", "family"), [({"kernel": "flex"}, "llama"), ({"kernel": "flash"}, "gemma2")])
def test_a_kernel_that_cannot_is_refused(params, family, monkeypatch, cache):
    """What no kernel of that name can compute here is told when the attention is bound."""
    model = bound(family, monkeypatch, cache)
    with pytest.raises(RecipeError) as refused:
        model.set_attention(TrieAttention(attention.Trie(**params), model.context))
    assert refused.value.diagnostics[0].code == "RC831"


def test_flash_is_refused_where_a_window_bites(monkeypatch, cache):
    """Rows longer than the window are seen when they come."""
    model = bound("mistral", monkeypatch, cache)
    model.set_attention(TrieAttention(attention.Trie(kernel="flash"), model.context))
    with pytest.raises(RecipeError) as refused:
        model(*tree())
    assert refused.value.diagnostics[0].code == "RC831"


def test_a_certificate_is_made_once(monkeypatch, tmp_path):
    """The second policy of one architecture finds it; a damaged one is made again."""
    made = []
    original = certificates.certify
    monkeypatch.setattr(certificates, "certify", lambda small: made.append(small) or original(small))
    monkeypatch.setattr(certificates, "_certified", {})
    model = bound("llama", monkeypatch, tmp_path)
    for _ in range(2):
        model.set_attention(TrieAttention(attention.Trie(), model.context))
        certificates._certified.clear()
    assert len(made) == 1
    (file,) = (tmp_path / "attention").iterdir()
    file.write_text("{")
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    assert len(made) == 2


def test_certifying_draws_nothing(monkeypatch, tmp_path):
    """Whether a certificate was found or made, the run's random numbers are the same."""
    model = bound("llama", monkeypatch, tmp_path)
    before = torch.get_rng_state()
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", ["llama", "stablelm", "mamba"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_computed_again_stay_a_forest(family, reentrant, monkeypatch, cache):
    """Under gradient checkpointing the backward recomputes the same forest, also where arguments are dropped."""
    model = bound(family, monkeypatch, cache)
    expected = run(model, TrieAttention(attention.Trie(), model.context), tree())
    model.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    equal(run(model, TrieAttention(attention.Trie(), model.context), tree()), expected)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mamba"])
def test_generation_is_as_it_was(family, monkeypatch, cache):
    """Outside of forests the model attends as before it was bound: masks, caches and caps of scores included."""
    model = bound(family, monkeypatch, cache)
    tokens = torch.tensor([[5, 6, 7, 8], [0, 0, 9, 10]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = model.model(input_ids=tokens, attention_mask=mask).logits
    written = model.model.generate(tokens, attention_mask=mask, max_new_tokens=6, do_sample=False)
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    assert torch.equal(model.model(input_ids=tokens, attention_mask=mask).logits, expected)
    assert torch.equal(model.model.generate(tokens, attention_mask=mask, max_new_tokens=6, do_sample=False), written)


def test_rows_with_holes_are_refused(monkeypatch, cache):
    """Padding on the left, or anywhere inside, has no place in a forest."""
    model = bound("llama", monkeypatch, cache)
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    tokens, attend, trained = tree()
    attend[0, 0] = False
    with pytest.raises(RecipeError) as refused:
        model(tokens, attend, trained)
    assert refused.value.diagnostics[0].code == "RC832"


def test_a_layer_that_goes_another_way_is_refused(monkeypatch, cache):
    """Calls are counted in every pass, so that nothing is silently wrong."""
    model = bound("llama", monkeypatch, cache)
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    model.model.model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(RecipeError) as refused:
        model(*tree())
    assert refused.value.diagnostics[0].code == "RC833"


def test_dropout_is_refused(monkeypatch, cache):
    """Rows would share one draw."""
    model = bound("llama", monkeypatch, cache)
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    for layer in model.model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    model.train()
    with pytest.raises(RecipeError) as refused:
        model(*tree())
    assert refused.value.diagnostics[0].code == "RC834"


def test_forests_are_kept_for_the_next_pass(monkeypatch, cache):
    """The old policy, the reference and every epoch find the forest of the same rows."""
    model = bound("llama", monkeypatch, cache)
    trie = TrieAttention(attention.Trie(), model.context)
    model.set_attention(trie)
    model(*tree())
    first = list(trie._trees.values())
    model(*tree())
    assert list(trie._trees.values()) == first


def test_nothing_scored_gives_zeros(monkeypatch, cache):
    """A batch without a trained token has log-probabilities of 0 everywhere, and gradients of 0."""
    model = bound("llama", monkeypatch, cache)
    model.set_attention(TrieAttention(attention.Trie(), model.context))
    tokens, attend, trained = tree()
    made = model(tokens, attend, torch.zeros_like(trained))
    assert made["logprob_RT"].shape == tokens.shape
    assert not made["logprob_RT"].any()
