"""Models with a state in place of attention are sampled with their own log-probabilities, or refused."""

import pytest
import torch
from support.policies import dense_policy
from support.tiny_models import SHAPE, byte_tokenizer
from transformers import AutoModelForCausalLM, FalconMambaConfig, Mamba2Config, MambaConfig, RecurrentGemmaConfig

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.origin import Origin
from recipec.runtime.rollout.engine import Request, SamplingParams
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec.policy import CausalLm as Spec
from recipec.spec.rollout_engine import Hf

TOKENIZER = byte_tokenizer()
NAMES = {"vocab_size": len(TOKENIZER), "eos_token_id": 1, "bos_token_id": None, "pad_token_id": 0}
STATES = {**NAMES, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
GRIFFIN = RecurrentGemmaConfig(
    **SHAPE | NAMES | {"num_hidden_layers": 3}, lru_width=32, attention_window_size=16, head_dim=8
)


@pytest.fixture
def engine(tmp_path):
    """Return an engine of a random model of a configuration."""

    def make(config):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        TOKENIZER.save_pretrained(tmp_path)
        context = StageContext(tmp_path, tmp_path / "cache", 0, "a")
        policy = dense_policy(Spec(), context, Origin("directory", str(tmp_path)))
        return HfEngine(Hf(), context, policy=policy)

    return make


@pytest.mark.parametrize(
    "config",
    [MambaConfig(**STATES), FalconMambaConfig(**STATES), Mamba2Config(**STATES, num_heads=4, head_dim=16, n_groups=1)],
    ids=lambda config: config.model_type,
)
def test_log_probabilities_are_those_of_the_whole_row(engine, config):
    """Of prompts of several lengths in one batch, and of several rows of one prompt."""
    sampler = engine(config)
    prompts = [tuple(2 + (7 * t + r) % 200 for t in range(length)) for r, length in enumerate((5, 11, 9))]
    requests = [Request(ids=ids, keys=[(r, "a"), (r, "b")], prompt_id=r) for r, ids in enumerate(prompts)]
    for request, completions in zip(requests, sampler.generate(requests, SamplingParams(8)), strict=True):
        for one in completions:
            row = [*request.ids, *one.ids]
            with torch.no_grad():
                logprob_TV = sampler.policy.model.eval()(torch.tensor([row]), use_cache=False).logits[0].log_softmax(-1)
            expected = [logprob_TV[t - 1, row[t]].item() for t in range(len(request.ids), len(row))]
            assert list(one.logprob) == pytest.approx(expected, abs=1e-5)


def test_a_model_that_cannot_continue_rows_is_refused(engine):
    """RecurrentGemma keeps its state in its layers, which cannot tell padding from tokens."""
    with pytest.raises(RecipeError, match="RC893") as caught:
        engine(GRIFFIN)
    assert "'recurrent_gemma' cannot be sampled here" in caught.value.diagnostics[0].message
