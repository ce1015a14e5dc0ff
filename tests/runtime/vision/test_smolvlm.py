"""SmolVLM, whose joint processor needs packages that are not there: a folder as the hub has them, tiles included."""

import json

import pytest
import torch
import transformers
from support.images import build, conversations, noise, scored, stock_of, use

from recipec.runtime.model import scratch
from recipec.runtime.model.origin import Origin
from recipec.runtime.vision import scratch as scratch_vision

PROCESSOR = {
    "do_image_splitting": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 1,
    "image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor",
    "max_image_size": {"longest_edge": 16}, "size": {"longest_edge": 32}, "video_sampling": {"fps": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model of the family, its tokenizer and the description of its image processor."""
    root = tmp_path_factory.mktemp("smolvlm")
    tokenizer = scratch_vision.with_marks(scratch.characters(), "idefics3")
    text = {
        "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 512,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    eyes = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 4,
    }  # fmt: skip
    shown = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.SmolVLMConfig(
        text_config=text, vision_config=eyes, scale_factor=2, image_token_id=shown, pad_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.SmolVLMForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    (root / "model" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return root


def test_rows_of_tiles(home):
    """Rows whose images are tiles and a whole are scored as by the stock model, under every attention."""
    policy = build(home, origin=Origin("directory", "model"))
    assert policy.picture(noise(0), "a").inputs["pixel_values"].shape[1] == 5
    batch, rows = conversations(policy)
    batch["trained_RT"][:, 0] = False
    with torch.no_grad():
        expected = stock_of(policy, batch, rows)
        for kind in ("dense", "packed", "trie"):
            use(policy, kind)
            assert (scored(policy, batch) - expected).abs().max() < 1e-5, kind


def test_control_tokens_stay_control_tokens(home):
    """Reading a folder takes no other token's meaning away, and what is saved again reads the same."""
    policy = build(home, origin=Origin("directory", "model"))
    policy.save(home / "again")
    again = build(home, origin=Origin("directory", "again"))
    assert again.text.control == policy.text.control
    assert {"<bos>", "<eos>", "<image>", "<global-img>"} <= set(policy.text.control.values())
    assert again.picture(noise(0), "a").digest == policy.picture(noise(0), "a").digest
