"""Policies: the model to train."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from recipec.component import Component, OriginRef, Section, TemplateRef, component, param


class Lora(Section):
    """Train low-rank adapters instead of the weights (PEFT).

    References:
        Hu et al., `LoRA <https://arxiv.org/abs/2106.09685>`_, 2021.
    """

    r: int = param(8, "Rank of the adapters.", ge=1)
    alpha: float = param(16.0, "Scaling of the adapters; their output is multiplied by alpha / r.", gt=0)
    dropout: float = param(0.0, "Dropout on the adapters' input.", ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all_linear"] = param(
        "all_linear",
        "Names of the layers to adapt, or all linear layers. Names select layers of the decoder; layers of an image "
        "encoder are selected by names that only the encoder has.",
    )


class _New(Section):
    """Size of a new model with random weights."""

    architecture: str = param("llama", "Model family.")
    hidden_size: int = param(..., "Hidden size.", ge=1)
    layers: int = param(..., "Number of decoder layers.", ge=1)
    heads: int = param(..., "Number of attention heads.", ge=1)
    kv_heads: int | None = param(None, "Number of key-value heads; `heads` if omitted.", ge=1)
    intermediate_size: int | None = param(
        None, "Size of the feed-forward layers; 4 times `hidden_size` if omitted.", ge=1
    )
    max_positions: int = param(1024, "Maximum sequence length.", unit="tokens", ge=1)
    tokenizer: OriginRef = param(
        "characters", "Tokenizer: `characters` (printable ASCII, one token each), `bytes`, or a directory (`./…`)."
    )
    tie_embeddings: bool = param(True, "Share one matrix between input and output embeddings.")
    seed: int = param(0, "Seed of the random weights.")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        heads = self.kv_heads or self.heads
        if self.hidden_size % self.heads:
            msg = f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
        elif self.heads % heads:
            msg = f"heads {self.heads} is not a multiple of kv_heads {heads}"
        elif self.architecture == "gpt2" and heads != self.heads:
            msg = "gpt2 has no kv_heads: every head has its own keys and values"
        elif self.architecture != "gpt2" and self.hidden_size // self.heads % 2:
            msg = f"hidden_size / heads is {self.hidden_size // self.heads}: rotary positions need an even number"
        else:
            return self
        raise ValueError(msg)


class Scratch(_New):
    """A new causal language model with random weights."""

    architecture: Literal["llama", "qwen2", "qwen3", "gpt2"] = param("llama", "Model family.")


class VisionScratch(_New):
    """A new vision-language model with random weights and a matching image processor."""

    architecture: Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3"] = param("qwen2_vl", "Model family.")
    image_size: int = param(64, "Maximum side of an image; larger images are scaled down.", unit="pixels", ge=1)
    patch_size: int = param(8, "Side of an image patch.", unit="pixels", ge=1)
    merge: int = param(2, "Number of patches per side that are merged into one token.", ge=1)
    vision_hidden_size: int | None = param(None, "Hidden size of the image encoder; `hidden_size` if omitted.", ge=1)
    vision_layers: int = param(2, "Number of layers of the image encoder.", ge=1)
    vision_heads: int | None = param(None, "Number of attention heads of the image encoder; `heads` if omitted.", ge=1)


class Images(Section):
    """Resizing of images before the model's own image processor."""

    size: int | None = param(None, "Side of the square to which images are resized; not resized if omitted.",
                            unit="pixels", ge=1, le=8192)  # fmt: skip
    fit: Literal["letterbox", "stretch", "crop", "none"] = param(
        "letterbox",
        "How an image is made square: padded with black, stretched, or center-cropped; with `none`, only its longer "
        "side is resized to `size`.",
    )
    min_pixels: int | None = param(None, "Minimum area; smaller images are scaled up (Qwen families).",
                                  unit="pixels", ge=1)  # fmt: skip
    max_pixels: int | None = param(None, "Maximum area; larger images are scaled down (Qwen families).",
                                  unit="pixels", ge=1)  # fmt: skip
    split: bool | None = param(
        None, "Split large images into tiles (Idefics3, SmolVLM); the default of the image processor if omitted."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            msg = f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}"
            raise ValueError(msg)
        return self


class Policy(Component):
    """Base class of policies."""

    slot: ClassVar[str] = "policy"
    scalar_impl: ClassVar[str] = ""
    """Class of the same model with a scalar head, which `rm` stages train; empty if there is none."""

    @property
    def sees(self) -> bool:
        """Whether the model reads images."""
        return self.needs("pixels_I")

    def adapter(self) -> Lora | None:
        """Return the adapter that is trained; ``None`` where the weights are."""
        return None

    def dropout_rates(self) -> dict[str, float]:
        """Return the parameters that switch dropout on in training, by dotted key.

        >>> CausalLm(lora=Lora(r=4, dropout=0.1)).dropout_rates()
        {'lora.dropout': 0.1}
        """
        return {}

    def quantized(self) -> bool:
        """Whether the weights under the adapter are quantized."""
        return False

    def new_model(self) -> Scratch | VisionScratch | None:
        """Return the description of the model to build where a stage starts from `scratch`."""
        return None

    def without_new_model(self) -> Self:
        """Return the same policy for a stage that begins from existing weights."""
        return self


class TransformersPolicy(Policy):
    """Keys of every policy that Hugging Face Transformers builds."""

    preflight: ClassVar[str] = "recipec.runtime.model.quantization:check"

    type: Literal["causal_lm", "vision_lm"]
    dtype: Literal["float32", "bfloat16"] = param(
        "float32", "Data type of the weights; log-probabilities are always float32."
    )
    quantization: Literal["nf4", "int8"] | None = param(
        None,
        "Decoder weights of four bits (`nf4`, QLoRA with double quantization) or eight (`int8`, LLM.int8) under LoRA "
        "adapters; needs bitsandbytes and a GPU.",
    )
    lora: Lora | None = param(None, "Train LoRA adapters instead of the weights.")
    scratch: Scratch | VisionScratch | None = None
    head_dtype: Literal["float32"] | None = param(
        None, "Compute logits in float32, in training and in sampling by engine `hf`; in the model's type if omitted."
    )
    chat_template: TemplateRef | None = param(
        None,
        "Jinja template, a file with one, or one of the package (`recipec:chat/chatml`), that replaces the chat "
        "template of the tokenizer; sandboxed.",
    )
    eos_token: str | None = param(
        None, "Token of the vocabulary that ends a text, in place of the tokenizer's own; it is saved with the policy."
    )
    dropout: float = param(0.0, "Dropout of the decoder during training.", ge=0, lt=1)

    def adapter(self) -> Lora | None:
        """Return `lora`."""
        return self.lora

    def dropout_rates(self) -> dict[str, float]:
        """Return those of the model and of its adapter."""
        rates = {"dropout": self.dropout, "lora.dropout": self.lora.dropout if self.lora else 0.0}
        return {key: rate for key, rate in rates.items() if rate}

    def quantized(self) -> bool:
        """Whether there is a `quantization`."""
        return self.quantization is not None

    def new_model(self) -> Scratch | VisionScratch | None:
        """Return `scratch`."""
        return self.scratch

    def without_new_model(self) -> Self:
        """Leave `scratch` out."""
        return self.model_copy(update={"scratch": None})


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT"),
    provides=("logprob_RT", "entropy_RT"),
    impl="recipec.runtime.model.causal_lm:CausalLm",
    state=True,
    uses=("attention",),
)
class CausalLm(TransformersPolicy):
    """Causal language model of Hugging Face Transformers.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForCausalLM.
        Dettmers et al., `QLoRA <https://arxiv.org/abs/2305.14314>`_, 2023: nf4.
        Dettmers et al., `LLM.int8() <https://arxiv.org/abs/2208.07339>`_, 2022: int8.
    """

    scalar_impl: ClassVar[str] = "recipec.runtime.model.reward_model:RewardModel"

    type: Literal["causal_lm"] = "causal_lm"
    scratch: Scratch | None = param(None, "Model to create if `from` is `scratch`.")


@component(
    "policy",
    requires=("tokens_RT", "attend_RT", "trained_RT", "pixels_I", "image_row_I"),
    provides=("logprob_RT", "entropy_RT"),
    impl="recipec.runtime.vision.vision_lm:VisionLm",
    state=True,
    uses=("attention",),
)
class VisionLm(TransformersPolicy):
    """Vision-language model of Hugging Face Transformers: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Idefics3 or SmolVLM.

    An image is encoded once per forward pass, even if several rows contain it.

    References:
        `Transformers <https://huggingface.co/docs/transformers>`_, AutoModelForImageTextToText.
        Dettmers et al., `QLoRA <https://arxiv.org/abs/2305.14314>`_, 2023: nf4.
    """

    packages: ClassVar[Mapping[str, str]] = {"pillow": "PIL"}
    extra: ClassVar[str] = "vision"

    type: Literal["vision_lm"] = "vision_lm"
    image: Images = param(Images, "Resizing of images.")
    scratch: VisionScratch | None = param(None, "Model to create if `from` is `scratch`.")
