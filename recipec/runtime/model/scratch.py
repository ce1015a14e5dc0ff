"""New models: a small decoder with weights from its own seed, and tokenizers with one token a character or byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.planning.model_shapes import scratch_shape
from recipec.spec.policy import Scratch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
# the markers are control tokens, so that a turn ends with one token: eos
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<bos>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<eos>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<eos>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
)


def characters() -> PreTrainedTokenizerFast:
    r"""Build the tokenizer with one token for each printable ASCII character and the newline.

    >>> characters()("a\n b", add_special_tokens=False).input_ids
    [70, 4, 5, 71]
    """
    return _single(CHARACTERS)


def bytes_() -> PreTrainedTokenizerFast:
    """Build the tokenizer with one token for each of the 256 bytes of UTF-8.

    >>> len(bytes_()("é", add_special_tokens=False).input_ids)
    2
    """
    return _single("".join(map(chr, range(256))))


def _single(latin: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: the one form that every class of tokenizer reads back alike."""
    alphabet = [_visible(ord(character)) for character in latin]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL.values(), *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast_tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL)
    fast_tokenizer.chat_template = CHAT_TEMPLATE
    return fast_tokenizer


def _visible(byte: int) -> str:
    """Return the printable stand-in of a byte in byte-level vocabularies.

    Source: GPT-2's encoder, https://github.com/openai/gpt-2/blob/master/src/encoder.py: printable Latin-1 stands for
    itself, the others take the code points from 256 on, in order.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(byte) if byte in plain else chr(256 + sum(other not in plain for other in range(byte)))


def build_model(spec: Scratch, tokenizer: Any, dropout: float = 0.0) -> nn.Module:
    """Build the model of ``spec`` on the CPU in float32; its weights depend on ``spec.seed`` alone.

    Raises:
        RecipeError: RC720, the sizes do not fit each other.
    """
    config = _config(spec, tokenizer, dropout)
    shape = scratch_shape(spec.model_dump(), len(tokenizer))
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if shape is not None and 4 * shape.parameters > here:
        problem = f"its {shape.parameters:,} parameters need {4 * shape.parameters:,} bytes, this machine has {here:,}"
        raise RecipeError(errors.bad_shape(problem))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    return model


def _config(spec: Scratch, tokenizer: Any, dropout: float) -> PretrainedConfig:
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": spec.tie_embeddings,
    }
    if spec.architecture == "gpt2":
        return AutoConfig.for_model(
            "gpt2",
            n_embd=spec.hidden_size,
            n_layer=spec.layers,
            n_head=spec.heads,
            n_inner=spec.intermediate_size,
            n_positions=spec.max_positions,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            **common,
        )
    return AutoConfig.for_model(
        spec.architecture,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads or spec.heads,
        head_dim=spec.hidden_size // spec.heads,
        intermediate_size=spec.intermediate_size or 4 * spec.hidden_size,
        max_position_embeddings=spec.max_positions,
        attention_dropout=dropout,
        **common,
    )


def build_tokenizer(name: str, root: Path) -> Any:
    """Build the tokenizer called ``characters`` or ``bytes``, or load the one in a directory."""
    if name == "characters":
        return characters()
    if name == "bytes":
        return bytes_()
    from recipec.runtime.model.weights import load_tokenizer  # noqa: PLC0415 - avoids importing the loaders for new models

    return load_tokenizer(root / name)
