"""New image-text models: a small encoder and decoder with weights from their own seed, and what prepares images."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.data.text import protect
from recipec.runtime.model.vision_families import Idefics, Qwen
from recipec.spec.policy import VisionScratch

# as in `scratch`, the markers of a turn are control tokens
_TEMPLATE = (
    "{%% macro say(content) %%}{%% if content is string %%}{{ content }}{%% else %%}{%% for part in content %%}"
    "{%% if part['type'] == 'image' %%}%s{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}{%% endif %%}"
    "{%% endmacro %%}"
    "{%% for message in messages %%}{{ '<bos>' + message['role'] + '\n' }}"
    "{%% if message['role'] == 'assistant' %%}{%% generation %%}{{ say(message['content']) + '<eos>' }}"
    "{%% endgeneration %%}{%% else %%}{{ say(message['content']) + '<eos>' }}{%% endif %%}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<bos>assistant\n' }}{%% endif %%}"
)


def with_marks(tokenizer: Any, architecture: str) -> Any:
    """Give a new model's tokenizer the control tokens of images, and a chat template that writes them."""
    marks = _marks(architecture)
    protect(tokenizer, marks)
    tokenizer.chat_template = _TEMPLATE % (marks[1] if architecture == "idefics3" else "".join(marks))
    return tokenizer


def _marks(architecture: str) -> tuple[str, str, str]:
    """Return the control tokens of images in the order in which a new tokenizer numbers them: the image's is second."""
    if architecture == "idefics3":
        return Idefics.around, Idefics.shown, Idefics.whole
    begin, end, _ = Qwen.marks
    return begin, Qwen.shown, end


def build_model(spec: VisionScratch, tokenizer: Any, dropout: float = 0.0) -> nn.Module:
    """Build the model of ``spec`` on the CPU in float32; its weights depend on ``spec.seed`` alone.

    Raises:
        RecipeError: RC720, the sizes do not fit each other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model: nn.Module = AutoModelForImageTextToText.from_config(
            _config(spec, tokenizer, dropout), dtype=torch.float32, attn_implementation="sdpa"
        )
    return model


def build_processor(spec: VisionScratch) -> Any:
    """Build the image processor of a new model: three channels between -1 and 1."""
    common = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    square = spec.patch_size * spec.merge
    if spec.architecture == "idefics3":
        side = {"longest_edge": spec.image_size}
        return transformers.Idefics3ImageProcessorPil(
            size=side, max_image_size=side, do_image_splitting=False, **common
        )
    return transformers.Qwen2VLImageProcessorPil(
        patch_size=spec.patch_size,
        merge_size=spec.merge,
        temporal_patch_size=1,
        size={"shortest_edge": square**2, "longest_edge": max(square, spec.image_size) ** 2},
        **common,
    )


def _config(spec: VisionScratch, tokenizer: Any, dropout: float) -> Any:
    _check(spec)
    width = spec.hidden_size // spec.heads
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads or spec.heads,
        "intermediate_size": spec.intermediate_size or 4 * spec.hidden_size,
        "max_position_embeddings": spec.max_positions,
        "attention_dropout": dropout,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    begin, shown, end = tokenizer.convert_tokens_to_ids(list(_marks(spec.architecture)))
    common = {"vision_config": _eyes(spec), "image_token_id": shown, "tie_word_embeddings": spec.tie_embeddings}
    if spec.architecture == "idefics3":
        text |= {"model_type": "llama", "head_dim": width}
        common |= {"scale_factor": spec.merge, "pad_token_id": tokenizer.pad_token_id}
        return AutoConfig.for_model("idefics3", text_config=text, **common)
    third = width // 2 // 3
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [width // 2 - 2 * third, third, third],
    }
    if spec.architecture == "qwen3_vl":
        text["head_dim"] = width
        text["rope_parameters"]["mrope_interleaved"] = True  # as in published models: vLLM reads it
    return AutoConfig.for_model(
        spec.architecture,
        text_config=text,
        vision_start_token_id=begin,
        vision_end_token_id=end,
        video_token_id=len(tokenizer),  # there are no videos
        **common,
    )


def _check(spec: VisionScratch) -> None:
    """Refuse sizes that cannot be cut evenly."""
    idefics = spec.architecture == "idefics3"
    for size, parts, name, step in (
        (spec.hidden_size, spec.heads, "hidden_size / heads", 2),
        (_wide(spec), spec.vision_heads or spec.heads, "vision_hidden_size / vision_heads", 1 if idefics else 4),
        (spec.heads, spec.kv_heads or spec.heads, "heads / kv_heads", 1),
        (spec.image_size, spec.patch_size * spec.merge, "image_size / (patch_size * merge)", 1),
    ):
        if size % parts or size // parts % step:
            even = "a whole number" if step == 1 else f"a multiple of {step}"
            raise RecipeError(errors.bad_shape(f"{name} is {size / parts:g}, and must be {even}"))
    if not idefics and spec.hidden_size // spec.heads < 6:
        width = spec.hidden_size // spec.heads
        raise RecipeError(errors.bad_shape(f"hidden_size / heads is {width}: positions in three axes need 6 or more"))


def _wide(spec: VisionScratch) -> int:
    return spec.vision_hidden_size or spec.hidden_size


def _eyes(spec: VisionScratch) -> dict[str, Any]:
    """Describe the encoder in the words of its family."""
    heads, inner = spec.vision_heads or spec.heads, 4 * _wide(spec)
    config: dict[str, Any] = {"patch_size": spec.patch_size, "hidden_size": _wide(spec)}
    if spec.architecture == "idefics3":
        config |= {"num_hidden_layers": spec.vision_layers, "num_attention_heads": heads, "intermediate_size": inner}
        return config | {"image_size": spec.image_size}
    config |= {"depth": spec.vision_layers, "num_heads": heads, "temporal_patch_size": 1}
    config["spatial_merge_size"] = spec.merge
    if spec.architecture == "qwen2_vl":
        return config | {"embed_dim": _wide(spec), "hidden_size": spec.hidden_size, "mlp_ratio": 4}
    config |= {"out_hidden_size": spec.hidden_size, "intermediate_size": inner}
    if spec.architecture == "qwen3_vl":
        side = spec.image_size // spec.patch_size
        deepest = min(spec.vision_layers, spec.layers)
        return config | {"num_position_embeddings": side**2, "deepstack_visual_indexes": list(range(deepest))}
    window = 4 * spec.patch_size * spec.merge
    return config | {"window_size": window, "fullatt_block_indexes": [spec.vision_layers - 1]}
