"""Small copies of a model's configuration.

They have every kind of layer of the model, few and narrow ones, and windows and chunks that are shorter than the
sequences of the comparison.  One table of sizes serves all architectures, decoders and image encoders.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from transformers import PreTrainedConfig

from recipec.runtime.model.vision_families import family_of

VOCABULARY = 64
IMAGE_TOKEN = VOCABULARY - 1
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 8,
    "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "sliding_window": 12, "attention_chunk_size": 16, "query_pre_attn_scalar": 8, "num_global_key_value_heads": 2,
    "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0,
    "ffn_dim": 64, "word_embed_proj_dim": 32, "rotary_dim": 8, "intermediate_size_mlp": 64,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "qk_head_dim": 16,
    "v_head_dim": 12, "kv_channels": 8, "attention_hidden_size": 64, "attention_head_dim": 16, "adapter_rank": 8,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "zero_expert_num": 2,
    "num_experts_per_tok": 2, "moe_topk": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "moe_layer_start_index": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "first_k_dense_replace": 1,
    # recurrent and linear layers
    "attn_layer_period": 2, "attn_layer_offset": 1, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_head_dim": 8, "linear_num_heads": 4,
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_dt_rank": 4, "mamba_d_ssm": 64,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "n_mamba_heads": 4, "mamba_headdim": 16, "mamba_chunk_size": 16,
    "mamba_n_groups": 1, "mamba_ngroups": 1, "mamba_expand": 2, "expand": 2, "num_heads": 8, "n_groups": 1,
    "chunk_size": 16, "state_size": 8, "ssm_state_size": 8, "time_step_rank": 4, "lru_width": 32,
    # images
    "image_token_id": IMAGE_TOKEN, "image_size": 16, "patch_size": 4, "scale_factor": 2, "embed_dim": 32,
    "out_hidden_size": 32, "window_size": 16,
}  # fmt: skip
"""By the names of the library; a family's own names are found by its ``attribute_map``."""
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "depth")


def shrink(config: Any) -> Any:
    """Return a small configuration of the same architecture; of a vision-language model's, encoder and decoder."""
    small = copy.deepcopy(config if family_of(config) is not None else config.get_text_config())
    _shrink(small)
    return small


def _shrink(config: Any) -> None:
    library_names = {own: name for name, own in config.attribute_map.items()}
    values = dict(vars(config))
    changed = _fewer_layers(values)
    for name, value in values.items():
        size = SIZES.get(name, SIZES.get(library_names.get(name, "")))
        if isinstance(value, PreTrainedConfig):
            _shrink(value)
        elif name == "num_key_value_heads" and value is not None:
            changed[name] = SIZES["num_attention_heads"] if value == config.num_attention_heads else min(value, 2)
        elif isinstance(value, list) and size is not None:
            changed[name] = [size] * len(changed.get(name, value))
        elif isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            changed[name] = 0.0
        elif isinstance(value, dict) and "rope" in name:
            changed[name] = _small_sections(value)
        elif value is not None and size is not None and name not in changed:
            changed[name] = min(value, size) if name == "first_k_dense_replace" else size
    for name, value in changed.items():
        setattr(config, name, value)


def _fewer_layers(values: dict[str, Any]) -> dict[str, Any]:
    """Keep the first layer of each kind, and at least three layers.

    Returns:
        What changes: the number of layers, and lists with a value for each layer or with numbers of layers.
    """
    counts = [name for name in _LAYER_COUNTS if isinstance(values.get(name), int)]
    if not counts:
        return {}
    count = values[counts[0]]
    chosen_ones = {name: value for name, value in values.items() if _numbers_layers(name, value, count)}
    lists = {
        name: value
        for name, value in values.items()
        if isinstance(value, list) and len(value) == count > 1 and name not in chosen_ones
    }
    kinds: dict[str, list[int]] = {}
    for layer in range(count):
        kind = [value[layer] for value in lists.values()], [layer in value for value in chosen_ones.values()]
        kinds.setdefault(repr(kind), []).append(layer)
    # Zamba's hybrid layers share weights, and the library needs two of them
    some = (layers[: 2 if "'hybrid'" in kind else 1] for kind, layers in kinds.items())
    kept = sorted({*range(min(3, count)), *itertools.chain(*some)})
    return {
        **dict.fromkeys(counts, len(kept)),
        **{name: [value[layer] for layer in kept] for name, value in lists.items()},
        **{name: [new for new, layer in enumerate(kept) if layer in value] for name, value in chosen_ones.items()},
    }


def _numbers_layers(name: str, value: Any, count: int) -> bool:
    """Whether a list has the numbers of those layers that differ from the others."""
    if not isinstance(value, list) or not any(part in name for part in ("layer", "idx", "index")):
        return False
    return all(type(number) is int and 0 <= number < count for number in value) and sorted(set(value)) == value != []


def _small_sections(rope: dict[str, Any]) -> dict[str, Any]:
    """Make the sections of rotary positions fit the small heads, at any depth."""
    return {
        name: _small_sections(value) if isinstance(value, dict) else [2, 1, 1] if name == "mrope_section" else value
        for name, value in rope.items()
    }
