"""Packed equals dense, on every family that goes through the attention interface; the others are refused."""

from pathlib import Path

import pytest
import torch
from support.policies import dense_policy
from transformers import AutoConfig, AutoModelForCausalLM

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.auto import AutoAttention, ideal
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.packed import PackedAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model import logprob_head, weights
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.dropout import set_rates
from recipec.spec import attention, policy

VOCABULARY = 100
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": 4},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0, "attention_multiplier": 0.2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {},
    "olmo2": {},
    "starcoder2": {"sliding_window": 4},
    "stablelm": {},
    "mamba": {"state_size": 4},
    "bloom": {"n_layer": 2, "n_head": 4},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4},
}
PACKED = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "cohere", "granite", "gpt2", "gpt_neox")
PACKED_TOO = ("opt", "phi3", "olmo2", "starcoder2", "gpt_oss")
REFUSED = ("mamba", "bloom")


def make(family: str, monkeypatch: pytest.MonkeyPatch, temperature: float = 0.7) -> CausalLm:
    """Build a policy around a tiny random model of a family, at a temperature other than 1."""
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family]})
    if family == "opt":
        config.do_layer_norm_before = True
    set_rates(config, 0.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=weights.implementation(config))
        for parameter in model.parameters():  # biases and norms begin at 0 and 1: hide nothing behind that
            parameter.data += 0.1 * torch.randn_like(parameter)
    monkeypatch.setattr("recipec.runtime.model.scratch.build_model", lambda *_: model)
    context = StageContext(root=Path(), cache=Path(), seed=0, stage="s", temperature=temperature)
    return dense_policy(policy.CausalLm(scratch=policy.Scratch(hidden_size=32, layers=2, heads=4)), context)


def rows(lengths: tuple[int, ...] = (9, 4, 12, 1, 7)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random rows, right-padded; a few tokens of each are scored."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    attend = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    trained = attend & (torch.rand(tokens.shape, generator=generator) < 0.6)
    return tokens * attend, attend, trained


def plain(model: CausalLm, tokens: torch.Tensor, attend: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    """Compute log-probabilities the obvious way: one row at a time, all logits."""
    found = torch.zeros(tokens.shape)
    for r, length in enumerate(attend.sum(-1).tolist()):
        logits = model.model(input_ids=tokens[r : r + 1, :length], use_cache=False).logits.float()
        logprob = torch.log_softmax(logits / model.context.temperature, -1)[0]
        for t in range(1, length):
            if trained[r, t]:
                found[r, t] = logprob[t - 1, tokens[r, t]]
    return found


def gradients(model: CausalLm) -> dict[str, torch.Tensor]:
    """Take the gradients away from the model."""
    found = {name: p.grad for name, p in model.model.named_parameters() if p.grad is not None}
    model.model.zero_grad()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_logprobs_are_those_of_the_whole_model(family, monkeypatch):
    """Scaling and soft-caps of final logits, padding and chunks change nothing: each row alone, all logits, agrees."""
    model = make(family, monkeypatch)
    monkeypatch.setattr(logprob_head, "LOGITS", 3 * VOCABULARY)
    batch = rows()
    assert torch.allclose(model(*batch)["logprob_RT"], plain(model, *batch), atol=1e-5)
    assert model.separable


@pytest.mark.parametrize("family", PACKED + PACKED_TOO)
def test_packed_equals_dense_with_gradients(family, monkeypatch):
    """Log-probabilities, entropies and every gradient of packed rows are those of padded rows, to 1e-5 in float32."""
    model = make(family, monkeypatch)
    batch = rows()
    weight = torch.rand(batch[0].shape, generator=torch.Generator().manual_seed(5))
    found = {}
    for kind, spec in (("dense", attention.Dense()), ("packed", attention.Packed())):
        model.set_attention((DenseAttention if kind == "dense" else PackedAttention)(spec, model.context))
        made = model(*batch)
        ((made["logprob_RT"] + 0.3 * made["entropy_RT"]) * weight).sum().backward()
        found[kind] = (made, gradients(model))
    (dense, dense_grads), (packed, packed_grads) = found["dense"], found["packed"]
    assert torch.allclose(packed["logprob_RT"], dense["logprob_RT"], atol=1e-5, rtol=0)
    assert torch.allclose(packed["entropy_RT"], dense["entropy_RT"], atol=1e-5, rtol=0)
    assert packed_grads.keys() == dense_grads.keys()
    scale = max(float(g.abs().max()) for g in dense_grads.values())
    for name, grad in dense_grads.items():
        assert torch.allclose(packed_grads[name], grad, atol=1e-5 * max(1.0, scale), rtol=0), name


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_cannot_be_packed_is_refused_and_auto_takes_dense(family, monkeypatch):
    """A state-space model and one outside the attention interface are refused, never wrong."""
    model = make(family, monkeypatch)
    batch = rows()
    before = model(*batch)["logprob_RT"]
    with pytest.raises(RecipeError) as refused:
        model.set_attention(PackedAttention(attention.Packed(), model.context))
    assert refused.value.diagnostics[0].code == "RC830"
    auto = AutoAttention(attention.Auto(), model.context)
    model.set_attention(auto)
    assert torch.equal(model(*batch)["logprob_RT"], before)
    assert isinstance(auto.chosen, DenseAttention)
    assert auto.why


def test_auto_takes_packed_where_rows_share_nothing(monkeypatch):
    """A llama over random rows is packed, from the first of them on."""
    model = make("llama", monkeypatch)
    auto = AutoAttention(attention.Auto(), model.context)
    model.set_attention(auto)
    assert auto.name == ""
    model(*rows())
    assert (auto.name, auto.why[:7]) == ("packed", "ideal 1")
    assert isinstance(auto.chosen, PackedAttention)


def test_auto_looks_at_no_rows_of_a_model_that_drops(monkeypatch):
    """A loaded model may drop by its own configuration, of which no plan knows: rows are packed, and it says why."""
    model = make("llama", monkeypatch)
    model.model.config.attention_dropout = 0.1
    auto = AutoAttention(attention.Auto(), model.context)
    model.set_attention(auto)
    assert auto.name == "packed"
    assert "dropout" in auto.why


def test_a_second_model_follows_the_first(monkeypatch):
    """A reference computes by what the policy's attention has chosen, and makes it choose where it comes first."""
    first, second = make("llama", monkeypatch), make("llama", monkeypatch)
    leader = AutoAttention(attention.Auto(), first.context)
    first.set_attention(leader)
    follower = leader.unbound_copy()
    second.set_attention(follower)
    second(*rows())
    assert (leader.name, follower.name, follower.why) == ("packed", "packed", leader.why)


@pytest.mark.parametrize(("limit", "gain"), [(None, 4.0), (13, 2.0), (12, 1.0)])
def test_what_a_forest_would_save(monkeypatch, limit, gain):
    """Rows that differ in their last token alone cost one row, logits too, as many as are in one forward pass."""
    model = make("llama", monkeypatch)
    tokens = torch.arange(4, 16).repeat(4, 1)
    tokens[:, -1] = torch.arange(20, 24)
    attend = torch.ones_like(tokens, dtype=torch.bool)
    scored = torch.zeros_like(attend)
    scored[:, -1] = True
    assert ideal(model, tokens, attend, scored, limit) == pytest.approx(gain)


def test_activations_computed_again_stay_packed(monkeypatch):
    """Under gradient checkpointing the backward recomputes with the same row boundaries: gradients are equal."""
    model = make("llama", monkeypatch)
    model.set_attention(PackedAttention(attention.Packed(), model.context))
    batch = rows()
    model.train()
    model(*batch)["logprob_RT"].sum().backward()
    expected = gradients(model)
    model.enable_gradient_checkpointing()
    model(*batch)["logprob_RT"].sum().backward()
    for name, grad in gradients(model).items():
        assert torch.allclose(grad, expected[name], atol=1e-6), name


def test_generation_works_on_a_packed_model(monkeypatch):
    """Outside packed passes the model attends as stock sdpa does, masks and caches included."""
    model = make("llama", monkeypatch)
    tokens = torch.tensor([[5, 6, 7, 8], [0, 0, 9, 10]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    arguments = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    expected = model.model.generate(tokens, **arguments)
    model.set_attention(PackedAttention(attention.Packed(), model.context))
    assert torch.equal(model.model.generate(tokens, **arguments), expected)


@pytest.mark.parametrize("kind", [DenseAttention, PackedAttention])
def test_nothing_scored_gives_zeros(kind, monkeypatch):
    """A batch without a trained token has log-probabilities of 0, and a backward pass that gives gradients of 0.

    Ranks that share weights make each backward pass together, so none may leave one out.
    """
    model = make("llama", monkeypatch)
    model.set_attention(kind(attention.Dense(), model.context))
    tokens, attend, trained = rows((3, 2))
    made = model(tokens, attend, torch.zeros_like(trained))
    assert made["logprob_RT"].shape == tokens.shape
    assert not made["logprob_RT"].any()
    made["logprob_RT"].sum().backward()
    grads = gradients(model)
    assert "model.layers.0.self_attn.q_proj.weight" in grads
    assert not any(grad.any() for grad in grads.values())


def test_logits_are_never_all_alive(monkeypatch):
    """The head sees at most the stated number of logits rows at once, in the forward and in the backward."""
    model = make("llama", monkeypatch)
    seen = []
    original = model.head
    monkeypatch.setattr(model, "head", lambda hidden: seen.append(len(hidden)) or original(hidden))
    monkeypatch.setattr(logprob_head, "LOGITS", 4 * VOCABULARY)
    model(*rows())["logprob_RT"].sum().backward()
    assert max(seen) == 4
    assert sum(seen) == 2 * int((rows()[2][:, 1:]).sum())


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_shared_predictors_are_gathered_back(dtype, near):
    """A predictor of several targets is computed once; each scored position gets its own log-probability and grad.

    In float64 nothing on the way is rounded to float32.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, generator=generator, dtype=dtype, requires_grad=True)
    table = torch.randn(7, 5, generator=generator, dtype=dtype)
    found = logprob_head.TargetHiddenStates(
        hidden, torch.tensor([0, 0, 1, 2]), torch.tensor([3, 4, 0, 6]), gather_M=torch.tensor([2, 0, 1, 0, 3])
    )
    logprob, entropy = logprob_head.score(lambda h: h @ table.T, found, 7, 0.5, spread_of="entropy")
    logits = torch.log_softmax(hidden @ table.T / 0.5, -1)
    expected = logits[torch.tensor([1, 0, 0, 0, 2]), torch.tensor([0, 3, 4, 3, 6])]
    spread = -(logits.exp() * logits).sum(-1)[torch.tensor([1, 0, 0, 0, 2])]
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    (mine,) = torch.autograd.grad((logprob * weight + entropy * weight.flip(0)).sum(), hidden)
    (theirs,) = torch.autograd.grad((expected * weight + spread * weight.flip(0)).sum(), hidden)
    assert torch.allclose(logprob, expected, rtol=0, atol=near)
    assert torch.allclose(entropy, spread, rtol=0, atol=near)
    assert torch.allclose(mine, theirs, rtol=0, atol=10 * near)


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss"])
def test_sampling_after_packed_keeps_caps_and_sinks(family, monkeypatch):
    """A policy bound to packed rows writes and reads padded rows as its own attention does, with caps and sinks."""
    monkeypatch.setitem(FAMILIES, "gemma2", {**FAMILIES["gemma2"], "attn_logit_softcapping": 0.001})
    policy = make(family, monkeypatch)
    ids = torch.tensor([[1, 7, 9, 4, 8, 30, 2, 5]])
    policy.model.eval()
    with torch.no_grad():
        policy.model.set_attn_implementation("eager")
        expected = policy.model(input_ids=ids).logits
        PackedAttention(attention.Packed(), policy.context).bind(policy)
        whole = policy.model(input_ids=ids).logits
        first = policy.model(input_ids=ids[:, :5], use_cache=True)
        rest = [policy.model(input_ids=ids[:, i : i + 1], past_key_values=first.past_key_values) for i in range(5, 8)]
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([r.logits for r in rest], 1), expected[:, 5:], atol=1e-5, rtol=1e-5)
