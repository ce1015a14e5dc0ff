"""Families with rows of their own length, biases and noise: log-probabilities are those of the model alone."""

import pytest
import torch
from support.policies import dense_policy
from support.tiny_models import SHAPE, byte_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    FalconConfig,
    MixtralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PhimoeConfig,
)

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.dropout import rates, set_rates
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.positions import longest_row, switches_after
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec.policy import CausalLm as Spec
from recipec.spec.rollout_engine import Hf

TOKENIZER = byte_tokenizer()
NAMES = {"vocab_size": len(TOKENIZER), "eos_token_id": 1, "bos_token_id": None}
SMALL = {**SHAPE, **NAMES, "max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 4.0, 6.0, 8.0],
    "original_max_position_embeddings": 24,
}
FALCON = FalconConfig(**NAMES, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
PHI3 = Phi3Config(**SMALL, rope_parameters=LONGROPE, original_max_position_embeddings=24)
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.fixture
def saved(tmp_path):
    """Save a sharp random model of a configuration with a tokenizer of bytes."""

    def save(config):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(6)
        model.save_pretrained(tmp_path)
        TOKENIZER.save_pretrained(tmp_path)
        return tmp_path

    return save


def loaded(folder, say=lambda _: None, **more):
    """Load a policy as a stage does."""
    context = StageContext(folder, folder / "cache", 0, "a", say=say)
    return dense_policy(Spec(**more), context, Origin("directory", str(folder)))


def expected(folder, row):
    """Return the log-probabilities of a row by the library's own model, computed alone, by its plainest attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        logprob_TV = model(torch.tensor([row]), use_cache=False).logits[0].log_softmax(-1)
    return [logprob_TV[t - 1, row[t]].item() for t in range(1, len(row))]


@pytest.mark.parametrize("config", [FALCON, PHI3], ids=["falcon with alibi", "phi3 with longrope"])
def test_a_row_is_scored_and_sampled_as_if_alone(saved, config):
    """Whatever else is in its batch, and whatever kernel the library prefers; the sampler has the same numbers."""
    folder = saved(config)
    policy = loaded(folder)
    rows = [[2 + (7 * t + 3 * r) % 200 for t in range(length)] for r, length in enumerate((5, 11, 24))]
    tokens_RT = torch.zeros(len(rows), 24, dtype=torch.int64)
    for r, row in enumerate(rows):
        tokens_RT[r, : len(row)] = torch.tensor(row)
    attend_RT = torch.arange(24) < torch.tensor([[len(row)] for row in rows])
    with torch.no_grad():
        found_RT = policy.logprobs(tokens_RT, attend_RT, attend_RT.clone())["logprob_RT"]
    for r, row in enumerate(rows):
        assert found_RT[r, 1 : len(row)].tolist() == pytest.approx(expected(folder, row), abs=1e-4)
    engine = HfEngine(Hf(), policy.context, policy=policy)
    for row in rows[:2]:
        [[drawn]] = engine.generate([Request(ids=tuple(row), keys=[(0, "key")], prompt_id=0)], SamplingParams(12))
        whole = expected(folder, [*row, *drawn.ids])
        assert list(drawn.logprob) == pytest.approx(whole[len(row) - 1 :], abs=1e-4)


def test_rows_end_where_rope_scaling_takes_other_factors(saved):
    """After that length each token of a row would be computed otherwise; this is reported once."""
    told = []
    policy = loaded(saved(PHI3), told.append)
    assert policy.max_positions == longest_row(policy.model.config) == switches_after(policy.model.config) == 24
    assert any("at most 24 tokens" in one for one in told)
    assert switches_after(FALCON) is None
    with pytest.raises(RecipeError, match="RC736"):
        policy.logprobs(*(torch.ones(1, 25, dtype=kind) for kind in (torch.int64, torch.bool, torch.bool)))


NOISY = {
    "biogpt": BioGptConfig(**SMALL, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5, layerdrop=0.5),
    "opt": OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, layerdrop=0.5),
    "mixtral": MixtralConfig(**SMALL, **EXPERTS, router_jitter_noise=0.5),
    "mpt": MptConfig(vocab_size=258, d_model=32, n_heads=4, n_layers=2, emb_pdrop=0.5),
}


@pytest.mark.parametrize("config", NOISY.values(), ids=NOISY)
def test_dropout_of_a_model_is_that_of_the_recipe(config):
    """By whatever name a family has it, at any depth; what else is random in training is off."""
    assert any(rate for *_, rate in rates(config))
    set_rates(config, 0.0)
    assert not any(rate for *_, rate in rates(config))
    torch.manual_seed(0)
    model, ids = AutoModelForCausalLM.from_config(config), torch.arange(20)[None]
    trained, sampled = (model.train(mode)(ids, use_cache=False).logits for mode in (True, False))
    assert torch.equal(trained, sampled)


def test_a_dropout_that_is_written_as_a_whole_number_is_set():
    """Files of many models have `"attention_dropout": 0`."""
    config = Phi3Config(**SMALL, attention_dropout=0)
    set_rates(config, 0.1)
    assert config.attention_dropout == 0.1


def test_a_model_with_noise_of_its_own_is_refused(saved):
    """Its updates would compare log-probabilities with others of the same weights; its router is left as it is."""
    with pytest.raises(RecipeError, match="RC894"):
        loaded(saved(PhimoeConfig(**SMALL, **EXPERTS, router_jitter_noise=0.1)))
