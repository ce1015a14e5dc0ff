"""Models of a few thousand weights, of every kind of cache, and a tokenizer of bytes."""

from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def tiny_model(kind, scale, *, vocab_size, max_position_embeddings, eos_token_id, **more):
    """Build a model; weights that are ``scale`` times as large make sharp distributions."""
    size = {"vocab_size": vocab_size, "eos_token_id": eos_token_id}
    shape = {**SHAPE, **size, "max_position_embeddings": max_position_embeddings, **more}
    deep = {**shape, "num_hidden_layers": 7}
    torch.manual_seed(0)
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**shape)),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=max_position_embeddings, **size)
        ),
        "window": lambda: MistralForCausalLM(MistralConfig(**shape, sliding_window=6)),
        "mixed": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**deep, head_dim=8, sliding_window=6)),
    }[kind]()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return made.eval()


def byte_tokenizer(*merged):
    """Build a byte-level tokenizer; ``merged`` are further tokens of several characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<pad>", "<eos>", *alphabet, *merged]
    inner = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def sampling_policy(model, tokenizer, stop_ids):
    """What of a policy an engine and a sampler read, around a model."""
    positions = model.config.get_text_config().max_position_embeddings
    return SimpleNamespace(
        model=model,
        tokenizer=tokenizer,
        stop_ids=frozenset(stop_ids),
        max_positions=positions,
        image_encoder=None,
        image_store=None,
    )
