"""The model that is trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from recipec.component import Component, OriginRef, PathRef, Section, component, param


class Lora(Section):
    """Train low-rank adapters instead of the weights (peft).

    References:
        Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_, 2021.
    """

    r: int = param(8, "Rank.", ge=1)
    alpha: float = param(16.0, "Scale is alpha / r.", gt=0)
    dropout: float = param(0.0, "Dropout on the adapters' input.", ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all_linear"] = param(
        "all_linear",
        "Names of the layers that get adapters: the decoder's; layers of an image encoder by names that only it has.",
    )


class _New(Section):
    """A new model, with random weights from its own seed."""

    architecture: str = param("llama", "Family of decoders.")
    hidden_size: int = param(..., "Width.", ge=1)
    layers: int = param(..., "Decoder layers.", ge=1)
    heads: int = param(..., "Attention heads.", ge=1)
    kv_heads: int | None = param(None, "Key-value heads; as many as heads if absent.", ge=1)
    intermediate_size: int | None = param(
        None, "Width of the feed-forward layers; 4 times hidden_size if absent.", ge=1
    )
    max_positions: int = param(1024, "Longest sequence.", unit="tokens", ge=1)
    tokenizer: OriginRef = param(
        "characters", "`characters` (printable ASCII, one token each), `bytes`, or a directory (`./…`)."
    )
    tie_embeddings: bool = param(True, "Use one matrix for input and output embeddings.")
    seed: int = param(0, "Seed of the weights.")


class Scratch(_New):
    """A new model, with random weights from its own seed."""

    architecture: Literal["llama", "qwen2", "qwen3", "gpt2"] = param("llama", "Family of decoders.")


class VisionScratch(_New):
    """A new image-text model, with random weights from its own seed and an image processor that fits."""

    architecture: Literal["qwen2_vl", "qwen2_5_vl", "idefics3"] = param("qwen2_vl", "Family of image-text models.")
    image_size: int = param(64, "Longest side of an image; larger ones are scaled down.", unit="pixels", ge=1)
    patch_size: int = param(8, "Side of the squares that the encoder reads.", unit="pixels", ge=1)
    merge: int = param(2, "Squares of so many patches a side become one token.", ge=1)
    vision_hidden_size: int | None = param(None, "Width of the encoder; hidden_size if absent.", ge=1)
    vision_layers: int = param(2, "Layers of the encoder.", ge=1)
    vision_heads: int | None = param(None, "Attention heads of the encoder; as many as heads if absent.", ge=1)


class Images(Section):
    """What becomes of an image before the model's own processor takes it."""

    size: int | None = param(None, "Side of a square that every image is brought to; as it is if absent.",
                            unit="pixels", ge=1, le=8192)  # fmt: skip
    fit: Literal["letterbox", "stretch", "crop", "none"] = param(
        "letterbox",
        "How it becomes square: black beside it, distorted, its middle, or not: only its longer side gets that size.",
    )
    min_pixels: int | None = param(None, "Scale smaller images up to this area, in families that can (Qwen).",
                                  unit="pixels", ge=1)  # fmt: skip
    max_pixels: int | None = param(None, "Scale larger images down to this area, in families that can (Qwen).",
                                  unit="pixels", ge=1)  # fmt: skip
    split: bool | None = param(
        None,
        "Read tiles of a large image too, in families that can (Idefics3, SmolVLM); the processor's way if absent.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Images:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            msg = f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}"
            raise ValueError(msg)
        return self


class Policy(Component):
    """Base class of policies."""

    slot: ClassVar[str] = "policy"


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT"),
    provides=("logprob_RT", "entropy_RT"),
    impl="recipec.runtime.model.causal_lm:CausalLm",
    state=True,
    uses=("attention",),
)
class CausalLm(Policy):
    """Any Hugging Face decoder.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForCausalLM.
    """

    type: Literal["causal_lm"] = "causal_lm"
    dtype: Literal["float32", "bfloat16"] = param(
        "float32", "Type of the weights; log-probabilities are float32 always."
    )
    lora: Lora | None = param(None, "Train adapters instead of the weights.")
    scratch: Scratch | None = param(None, "What to build when `from` is `scratch`.")
    chat_template: PathRef | None = param(None, "Jinja file in place of the tokenizer's own template; sandboxed.")
    dropout: float = param(0.0, "The model's own dropout while training.", ge=0, lt=1)


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT", "pixels_I", "image_row_I"),
    provides=("logprob_RT", "entropy_RT"),
    impl="recipec.runtime.vision.vision_lm:VisionLm",
    state=True,
    uses=("attention",),
)
class VisionLm(Policy):
    """Hugging Face image-text models of the families Qwen2-VL, Qwen2.5-VL, Idefics3 and SmolVLM.

    An image is encoded once in a forward pass, however many rows show it.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForImageTextToText.
        Dettmers et al., `QLoRA <https://arxiv.org/abs/2305.14314>`_, 2023: nf4.
    """

    type: Literal["vision_lm"] = "vision_lm"
    dtype: Literal["float32", "bfloat16"] = param(
        "float32", "Type of the weights; log-probabilities are float32 always."
    )
    quantization: Literal["nf4"] | None = param(
        None, "Four-bit weights of the decoder under the adapter, quantized twice; needs bitsandbytes and a GPU."
    )
    image: Images = param(Images, "Size and fit of images.")
    lora: Lora | None = param(None, "Train adapters instead of the weights.")
    scratch: VisionScratch | None = param(None, "What to build when `from` is `scratch`.")
    chat_template: PathRef | None = param(None, "Jinja file in place of the tokenizer's own template; sandboxed.")
    dropout: float = param(0.0, "The decoder's own dropout while training.", ge=0, lt=1)
