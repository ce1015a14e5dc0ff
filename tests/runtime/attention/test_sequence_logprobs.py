"""Log-probabilities of sequences under a model at hand."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

import recipec
from recipec.runtime.attention.certification.run import sample_sequences
from recipec.runtime.attention.certification.tiny_config import shrink

KINDS = ("trie", "packed", "dense", "auto")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Certificates of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def small(family: str = "llama"):
    """Make a small random model."""
    config = shrink(AutoConfig.for_model(family))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)


def plain(model, rows, temperature: float) -> list[torch.Tensor]:
    """Each row alone, all logits."""
    found = []
    for row in rows:
        ids = torch.as_tensor(row, dtype=torch.long)
        if len(ids) < 2:
            found.append(torch.zeros(0))
            continue
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float() / temperature
        found.append(torch.log_softmax(logits, -1).gather(-1, ids[1:, None])[:, 0])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_sequences_are_scored_as_if_alone(kind, family):
    """Values and gradients are those of each sequence alone, at any temperature; short ones give nothing."""
    model = small(family)
    rows = [*sample_sequences(), [], [5], torch.tensor([7, 8, 9])]
    grads = []
    for one in (recipec.sequence_logprobs(model, rows, attention=kind, temperature=0.7), plain(model, rows, 0.7)):
        model.zero_grad()
        sum((i + 1) * row.square().sum() for i, row in enumerate(one)).backward()
        grads.append((one, torch.cat([p.grad.flatten() for p in model.parameters()])))
    (found, found_grad), (expected, expected_grad) = grads
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert (found_grad - expected_grad).norm() < 1e-5 * expected_grad.norm()


def test_an_adapter_is_scored_with():
    """A model wrapped by peft is scored with its adapter, which gets the gradient."""
    model = get_peft_model(small(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    rows = sample_sequences()
    expected = plain(model, rows, 1.0)
    found = recipec.sequence_logprobs(model, rows)
    assert all(torch.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(found, expected, strict=True))
    torch.cat(found).sum().backward()
    assert any(p.grad is not None and p.grad.any() for name, p in model.named_parameters() if "lora" in name)


def test_the_model_is_left_as_it_was():
    """Weights, modes of modules and what it computes elsewhere stay."""
    model = small().train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    recipec.sequence_logprobs(model, [[5, 6, 7], [5, 6, 8]])
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model(input_ids=ids).logits, before)


def test_no_sequences_give_nothing():
    """Nothing asked is nothing given; sequences without a second token have nothing to score."""
    assert recipec.sequence_logprobs(small(), []) == []
    assert [len(one) for one in recipec.sequence_logprobs(small(), [[], [5]])] == [0, 0]


@pytest.mark.parametrize("row", [[1, 2, -1], [1, 64], [1.5, 2], [True, 2], [1] * 300])
def test_ids_of_another_model_are_refused(row):
    """An id outside the vocabulary, no number, or more tokens than positions."""
    with pytest.raises(recipec.RecipeError) as refused:
        recipec.sequence_logprobs(small(), [[1, 2], row])
    assert refused.value.diagnostics[0].code == "RC835"


def test_a_model_that_does_not_certify_is_refused():
    """Nothing is known of how its layers attend."""
    config = AutoConfig.for_model("bloom", vocab_size=64, hidden_size=16, n_layer=2, n_head=2)
    with pytest.raises(recipec.RecipeError) as refused:
        recipec.sequence_logprobs(AutoModelForCausalLM.from_config(config), [[1, 2], [1, 3]])
    assert refused.value.diagnostics[0].code == "RC830"
