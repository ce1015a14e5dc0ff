"""Operations that a pass must make, by hand."""

import pytest
from support.images import build
from torch import nn
from transformers import AutoConfig

from recipec.runtime.attention import recurrent_layers
from recipec.runtime.attention.certification.run import random_model
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.attention.flops import Sizes, required, sizes

HALF = Sizes(trained=75, frozen=25, recurrent=40, width=8, head=50)


@pytest.mark.parametrize(
    ("params", "matrices", "attended", "logits"),
    [
        ({"backward": False}, 1.0, 1.0, 1.0),
        ({"backward": True}, 1 + 2 * 0.75 + 0.25, 3.5, 3.0),
        ({"backward": True, "head": False}, 1 + 2 * 0.75 + 0.25, 3.5, 2.0),
    ],
)
def test_operations_of_a_pass(params, matrices, attended, logits):
    """Matrices by unique tokens, those of layers with a state by the tokens of all rows; backward by what trains."""
    found = required(HALF, tokens=10, pairs=55, logits=2, dense=20, **params)
    assert found == pytest.approx(2 * (60 * 10 + 40 * 20) * matrices + 4 * 8 * 55 * attended + 2 * 50 * 2 * logits)


def test_a_frozen_model_has_gradients_of_its_inputs_alone():
    """Where nothing trains, the backward goes through each matrix once."""
    frozen = Sizes(trained=0, frozen=100, recurrent=0, width=0, head=0)
    assert required(frozen, 10, 55, 2, backward=True) == 2 * 100 * 10 * 2


def test_of_a_model_that_sees_its_decoder_counts(tmp_path):
    """Matrices of the text layers, without the image encoder, embeddings and head."""
    model = build(tmp_path).model
    layers = [m for name, m in model.named_modules() if "language_model" in name and isinstance(m, nn.Linear)]
    found = sizes(model)
    assert found.linear == sum(layer.weight.numel() for layer in layers)
    assert (found.width, found.head) == (2 * 32, 32 * model.config.get_text_config().vocab_size)


def test_layers_that_carry_a_state_do_not_attend():
    """Of three layers, one of which attends, one has pairs of tokens; matrices of the others see every row."""
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    model = random_model(shrink(AutoConfig.for_model("qwen3_next", num_hidden_layers=3, layer_types=kinds)), seed=0)
    states, config = recurrent_layers.mixers(model), model.config
    found = sizes(model)
    assert len(states) == 2
    assert found.width == config.head_dim * config.num_attention_heads
    assert found.recurrent == sum(p.numel() for mixer in states for p in mixer.parameters() if p.dim() > 1) > 0
