"""The model that is trained."""

from __future__ import annotations

from typing import Any, Literal

from recipec.component import Component, OriginRef, PathRef, Section, component, knob


class Lora(Section):
    """Train low-rank adapters instead of the weights (peft).

    References:
        Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_, 2021.
    """

    r: int = knob(8, "Rank.", ge=1)
    alpha: float = knob(16.0, "Scale is alpha / r.", gt=0)
    dropout: float = knob(0.0, "Dropout on the adapters' input.", ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all_linear"] = knob("all_linear", "Names of the layers that get adapters.")


class Scratch(Section):
    """A new model, with random weights from its own seed."""

    architecture: Literal["llama", "qwen2", "qwen3", "gpt2"] = knob("llama", "Family of decoders.")
    hidden_size: int = knob(..., "Width.", ge=1)
    layers: int = knob(..., "Decoder layers.", ge=1)
    heads: int = knob(..., "Attention heads.", ge=1)
    kv_heads: int | None = knob(None, "Key-value heads; as many as heads if absent.", ge=1)
    intermediate_size: int | None = knob(None, "Width of the feed-forward layers; 4 times hidden_size if absent.", ge=1)
    max_positions: int = knob(1024, "Longest sequence.", unit="tokens", ge=1)
    tokenizer: OriginRef = knob(
        "characters", "`characters` (printable ASCII, one token each), `bytes`, or a directory (`./…`)."
    )
    tie_embeddings: bool = knob(True, "Use one matrix for input and output embeddings.")
    seed: int = knob(0, "Seed of the weights.")


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT"),
    provides=("logprob_RT", "entropy_RT"),
    impl="recipec.runtime.policy:CausalLm",
    state=True,
)
class CausalLm(Component):
    """Any Hugging Face decoder.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForCausalLM.
    """

    type: Literal["causal_lm"] = "causal_lm"
    dtype: Literal["float32", "bfloat16"] = knob(
        "float32", "Type of the weights; log-probabilities are float32 always."
    )
    lora: Lora | None = knob(None, "Train adapters instead of the weights.")
    scratch: Scratch | None = knob(None, "What to build when `from` is `scratch`.")
    chat_template: PathRef | None = knob(None, "Jinja file in place of the tokenizer's own template; sandboxed.")
    dropout: float = knob(0.0, "The model's own dropout while training.", ge=0, lt=1)


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT", "pixels_I", "image_row_I"),
    provides=("logprob_RT", "entropy_RT"),
)
class VisionLm(Component):
    """Hugging Face image-text models.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForImageTextToText.
    """

    type: Literal["vision_lm"] = "vision_lm"
    dtype: Literal["float32", "bfloat16"] = knob(
        "float32", "Type of the weights; log-probabilities are float32 always."
    )
    quantization: Literal["nf4"] | None = knob(None, "Four-bit base weights.")
    image: dict[str, Any] = knob(dict, "Size and fit of images.")
    lora: Lora | None = knob(None, "Train adapters instead of the weights.")
    dropout: float = knob(0.0, "The model's own dropout while training.", ge=0, lt=1)
