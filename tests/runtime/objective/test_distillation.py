"""A teacher's distributions next to those of the policy, on small models."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.attention.trie_attention import TrieAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.scratch import characters
from recipec.runtime.objective import distillation
from recipec.runtime.objective.distillation import Teacher
from recipec.spec import policy as policy_spec
from recipec.spec.attention import Dense, Trie


def loaded(folder: Any, seed: int, width: int, attention: type) -> CausalLm:
    """Save a random model and load it as a policy."""
    torch.manual_seed(seed)
    tokenizer = characters()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    path = folder / str(seed)
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    context = StageContext(folder, folder, 0, "learn", temperature=0.7)
    made = CausalLm(policy_spec.CausalLm(), context, Origin("directory", str(path)))
    made.set_attention(attention((Dense if attention is DenseAttention else Trie)(), context))
    return made


@pytest.mark.parametrize("attention", [DenseAttention, TrieAttention])
@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize(("beta", "temperature"), [(0.0, None), (0.5, 1.0), (1.0, None)])
def test_rows_are_compared_token_by_token(
    attention: Any, rows: int, beta: float, temperature: float | None, tmp_path: Any, monkeypatch: Any
) -> None:
    """Value and gradient are those of both models' whole logits, whatever is shared and however they are cut."""
    policy, other = loaded(tmp_path, 1, 16, attention), loaded(tmp_path, 2, 24, attention)
    monkeypatch.setattr(distillation, "LOGITS", rows * distillation.ALIVE * policy.vocabulary)
    tokens_RT = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 11, 0], [5, 6, 7, 8, 12]])
    attend_RT = tokens_RT > 0
    trained_RT = attend_RT & (torch.arange(5) > 1)
    made = Teacher(other, beta, temperature).compared(policy, tokens_RT, attend_RT, trained_RT)
    made["divergence_RT"].square().sum().backward()
    got = policy.model.lm_head.weight.grad.clone(), policy.model.model.embed_tokens.weight.grad.clone()
    policy.model.zero_grad()

    heat = temperature or 0.7
    one = functional.log_softmax(policy.model(input_ids=tokens_RT).logits[:, :-1] / heat, -1)
    two = functional.log_softmax(other.model(input_ids=tokens_RT).logits[:, :-1].detach() / heat, -1)
    mixed = torch.log((1 - beta) * one.exp() + beta * two.exp())
    kl = [(p.exp() * (p - mixed)).sum(-1) for p in (one, two)]
    whole = (two.exp() * (two - one)).sum(-1) if beta == 0 else (one.exp() * (one - two)).sum(-1)
    expected = whole if beta in (0, 1) else (1 - beta) * kl[0] + beta * kl[1]
    expected = functional.pad(expected, (1, 0)) * trained_RT
    torch.testing.assert_close(made["divergence_RT"], expected, atol=2e-6, rtol=1e-5)
    expected.square().sum().backward()
    for mine, theirs in zip(
        got, (policy.model.lm_head.weight.grad, policy.model.model.embed_tokens.weight.grad), strict=True
    ):
        assert float((mine - theirs).norm() / theirs.norm()) < 5e-6
    assert all(p.grad is None for p in other.model.parameters())
