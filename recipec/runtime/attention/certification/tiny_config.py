"""Small configurations of an architecture: each kind of layer, windows and chunks that are shorter than the rows."""

from __future__ import annotations

from typing import Any

VOCABULARY = 64
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 8,
    "max_position_embeddings": 256, "n_positions": 256, "n_ctx": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "n_shared_experts": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_embd": 32, "n_head": 4, "n_inner": 64, "ffn_dim": 64, "word_embed_proj_dim": 32,
    "sliding_window": 12, "attention_chunk_size": 16, "query_pre_attn_scalar": 8, "intermediate_size_mlp": 64,
    "embedding_size": 32, "global_head_dim": 8, "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "moe_layer_start_index": 1, "moe_num_experts": 4,
    "moe_k": 2, "d_model": 32, "n_heads": 4, "n_layers": 3, "rotary_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_dt_rank": 4, "mamba_d_ssm": 64, "state_size": 8,
    "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_mamba_heads": 4, "mamba_headdim": 16,
    "mamba_chunk_size": 16, "chunk_size": 16, "time_step_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
    "expert_layer_period": 2, "expert_layer_offset": 1, "lru_width": 32, "n_groups": 1, "num_heads": 8,
    "mamba_n_groups": 1, "mamba_ngroups": 1, "expand": 2, "mamba_expand": 2, "qk_head_dim": 16,
    "attention_hidden_size": 64, "attention_head_dim": 16, "kv_channels": 8, "num_query_groups": 4, "adapter_rank": 8,
    "ffn_hidden_size": 64, "expert_ffn_hidden_size": 16, "zero_expert_num": 2, "moe_topk": 2, "kv_n_heads": 2,
    "num_experts_per_token": 2, "linear_head_dim": 8, "linear_num_heads": 4, "max_seq_len": 256, "moe_top_k": 2,
}  # fmt: skip
_OF_WHOLE = ("_name_or_path", "output_attentions", "model_type", "transformers_version")


def shrunk(config: Any) -> Any:
    """Return a small configuration of the same architecture: each kind of layer once or more, windows that bite."""
    config = config.get_text_config()
    said = config.to_dict()
    chosen = _layers(said, int(config.num_hidden_layers))
    heads, groups = said.get("num_attention_heads"), said.get("num_key_value_heads")
    sizes = _SIZES | dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), len(chosen))
    sizes |= {"num_key_value_heads": 4 if groups == heads else 1 if groups == 1 else 2, "num_global_key_value_heads": 2}
    said |= {name: size for name, size in sizes.items() if said.get(name) is not None}
    said |= {name: 0.0 for name, value in said.items() if _drops(name) and isinstance(value, float)}
    if said.get("first_k_dense_replace"):
        said["first_k_dense_replace"] = 1
    _shrink_rotations(said)
    _shrink_parts(said)
    if said.get("hybrid_layer_ids"):
        said["hybrid_layer_ids"] = [i for i, kind in enumerate(said["layers_block_type"]) if kind == "hybrid"]
    for name in ("dtype", "torch_dtype", "quantization_config", "architectures", "transformers_version", "model_type"):
        said.pop(name, None)
    return type(config)(**said)


def _shrink_parts(said: dict[str, Any]) -> None:
    """Shrink configurations inside this one, and leave out of them what only a whole one takes."""
    for name, part in said.items():
        if name.endswith("_config") and isinstance(part, dict):
            small = {key: _SIZES.get(key, value) if value else value for key, value in part.items()}
            said[name] = {key: value for key, value in small.items() if key not in _OF_WHOLE}


def _drops(name: str) -> bool:
    return "dropout" in name or name.endswith("pdrop")


def _layers(said: dict[str, Any], count: int) -> list[int]:
    """Choose layers that show every kind, and cut each list that has a value a layer down to them."""
    listed = {name: value for name, value in said.items() if isinstance(value, list) and len(value) == count > 1}
    kinds: dict[str, int] = {}
    for index in range(count):
        kinds.setdefault(repr([value[index] for value in listed.values()]), index)
    chosen = sorted(kinds.values())[:6]
    if "hybrid" in (said.get("layers_block_type") or ()):  # layers of that kind share their weights: take two
        again = [index for index, kind in enumerate(said["layers_block_type"]) if kind == "hybrid"][:2]
        chosen = sorted({*chosen, *again, *range(2)})
    if len(chosen) < 3:
        chosen = sorted({*chosen, *range(min(3, count))})
    for name, value in listed.items():
        said[name] = [value[index] for index in chosen]
    for name, value in said.items():
        if isinstance(value, dict) and value and all(str(key).isdigit() for key in value):  # keys are layers
            said[name] = {
                new: value[key] for new, index in enumerate(chosen) for key in (index, str(index)) if key in value
            }
    return chosen


def _shrink_rotations(said: dict[str, Any]) -> None:
    """Make sections of rotary positions fit the small heads, at any depth."""
    for name, value in said.items():
        if isinstance(value, dict) and "rope" in name:
            said[name] = dict(value)
            _shrink_rotations(said[name])
            if value.get("mrope_section"):
                said[name]["mrope_section"] = [2, 1, 1]
        elif isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            _shrink_rotations(value)
