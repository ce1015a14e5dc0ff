"""Models and tokenizers from directories and the hub: looked at first, loaded second, never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

DROPOUTS = (
    "attention_dropout", "attn_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout",
    "activation_dropout", "residual_dropout", "embedding_dropout", "resid_dropout", "embed_dropout", "ffn_dropout",
)  # fmt: skip


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a directory."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_model(folder: Path, dropout: float = 0.0) -> nn.Module:
    """Load the model of a directory on the CPU in float32."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, dropout)
    model: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype="float32", local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
    )
    return model
