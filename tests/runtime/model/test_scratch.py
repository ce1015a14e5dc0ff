"""New models depend on their own seed alone; their tokenizers survive saving and loading."""

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from recipec.runtime.model.scratch import CHARACTERS, build_model, build_tokenizer, bytes_, characters
from recipec.spec.policy import Scratch

SIZES = {"hidden_size": 32, "layers": 2, "heads": 4, "max_positions": 64}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("tie", [True, False])
def test_weights_come_from_the_seed_alone(architecture, tie):
    """The same seed gives the same bits whatever was drawn before, leaves global draws alone, and others differ."""
    spec = Scratch(architecture=architecture, tie_embeddings=tie, **SIZES)
    first = build_model(spec, characters()).state_dict()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = build_model(spec, characters()).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    other = build_model(spec.model_copy(update={"seed": 1}), characters()).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_characters_are_one_token_each():
    """Printable ASCII and newline round-trip, one token a character; anything else is unknown, never dropped."""
    tokenizer = characters()
    ids = tokenizer(CHARACTERS, add_special_tokens=False).input_ids
    assert len(ids) == len(set(ids)) == len(CHARACTERS) == 96
    assert tokenizer.decode(ids) == CHARACTERS
    assert set(tokenizer("é", add_special_tokens=False).input_ids) == {tokenizer.unk_token_id}


@pytest.mark.parametrize("text", ["plain", "Grüße, 世界 \x00\t\r\n", "   spaces  "])
def test_bytes_round_trip(text):
    """Any text is its UTF-8 bytes, one token each, and comes back."""
    tokenizer = bytes_()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["characters", "bytes"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
def test_tokenizers_load_with_auto_tokenizer(name, architecture, tmp_path):
    """Saved beside the model of any architecture, `AutoTokenizer` gives the same ids, ends and chat template."""
    tokenizer = build_tokenizer(name, tmp_path)
    build_model(Scratch(architecture=architecture, **SIZES), tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Say 2 + 2 =\n  4, 'ok'!"
    assert loaded(text, add_special_tokens=False).input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    rendered = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "<bos>user\nhi<eos><bos>assistant\nyo<eos><bos>assistant\n"


def test_a_tokenizer_directory_is_loaded(tmp_path):
    """`tokenizer: ./mine` reads a directory relative to the recipe."""
    characters().save_pretrained(tmp_path / "mine")
    assert build_tokenizer("./mine", tmp_path).get_vocab() == characters().get_vocab()


@pytest.mark.parametrize(
    "sizes",
    [
        {"heads": 3},
        {"kv_heads": 3},
        {"architecture": "gpt2", "kv_heads": 2},
        {"hidden_size": 12, "heads": 4},
    ],
)
def test_impossible_shapes_are_refused(sizes):
    """Sizes that do not divide are refused when a recipe is read."""
    with pytest.raises(ValidationError):
        Scratch(**{**SIZES, **sizes})
