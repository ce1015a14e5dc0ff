"""Proof that an architecture computes forests as it computes rows, before any row of the user's goes through it.

A random model of the architecture, shrunk, scores the rows of a tree one by one and as a forest, in float32.  Windows
and chunks are shrunk below the rows' length, so that they bite.  Nothing is assumed about families: what differs, or
does not go through the attention interface, is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from recipec.diagnostics import Refused
from recipec.runtime import trie
from recipec.runtime.attention import interface
from recipec.runtime.model import weights
from recipec.runtime.vision.families import family_of

TOLERANCE = 1e-5
_FORM = 3  # of this proof; a change makes every verdict anew
_VOCABULARY = 64
_SIZES = {
    "vocab_size": _VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 8,
    "max_position_embeddings": 256, "n_positions": 256, "n_ctx": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "n_shared_experts": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_embd": 32, "n_head": 4, "n_inner": 64, "ffn_dim": 64, "word_embed_proj_dim": 32,
    "sliding_window": 12, "attention_chunk_size": 16, "query_pre_attn_scalar": 8, "intermediate_size_mlp": 64,
    "embedding_size": 32, "global_head_dim": 8, "vocab_size_per_layer_input": _VOCABULARY,
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
_LENGTHWISE = {"dynamic", "longrope", "su"}
"""Rope scalings that look at the longest position of a batch."""

_certified: dict[str, Certificate] = {}
"""What this process has found or read."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was found, errors as :func:`compared` gives them; ``why`` says what is wrong.

    Example: ``Certificate(equal=True, max_logprob_error=9.5e-7, max_gradient_error=4e-7)``.
    """

    equal: bool
    max_logprob_error: float = float("nan")
    max_gradient_error: float = float("nan")
    why: str = ""


def certificate(config: Any, cache: Path) -> Certificate:
    """Certify the architecture of a configuration, or look up what was found for these versions."""
    sees = family_of(config) is not None
    try:
        small = _with_vision().shrunk(config) if sees else shrunk(config)
    except Exception as error:  # noqa: BLE001 - each family validates its own keys with its own exceptions
        return Certificate(equal=False, why=f"no small model of its kind can be made: {_line(error)}")
    said = json.dumps(small.to_dict(), sort_keys=True, default=str)
    about = (_FORM, torch.__version__, transformers.__version__, type(small).__name__, said)
    digest = hashlib.sha256(repr(about).encode()).hexdigest()
    if digest in _certified:
        return _certified[digest]
    file = cache / "attention" / f"{digest}.json"
    found = _read(file)
    if found is None:
        found = _with_images(small, cache) if sees else certify(small)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
        temporary.replace(file)
    _certified[digest] = found
    return found


def _with_vision() -> Any:
    """Return how models that see are certified, by a policy of theirs, which knows attentions as these know this."""
    from recipec.runtime.vision import certificate as seeing  # noqa: PLC0415

    return seeing


def _with_images(small: Any, cache: Path) -> Certificate:
    if why := _lengthwise(small):
        return Certificate(equal=False, why=why)
    try:
        found: Certificate = _with_vision().certify(small, cache)
    except Refused as refused:
        return Certificate(equal=False, why=refused.diagnostics[0].message)
    except Exception as error:  # noqa: BLE001 - families fail in their own ways on what they do not know
        return Certificate(equal=False, why=_line(error))
    return found


def _read(file: Path) -> Certificate | None:
    try:
        return Certificate(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


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


def certify(small: Any) -> Certificate:
    """Compare rows and forest in a random model of a small configuration."""
    if why := _lengthwise(small):
        return Certificate(equal=False, why=why)
    try:
        with torch.random.fork_rng(devices=[]), weights.quiet(), torch.enable_grad():
            torch.manual_seed(1)
            model = _model(small)
            rows = probe()
            weight = torch.randn(sum(len(row) - 1 for row in rows))
            expected, expected_grad = scored(model, weight, by_row(model, rows))
            forest = interface.Pass(_merged(rows))
            layers, carrying = interface.bind(model)
            found, found_grad = scored(model, weight, _by_forest(model, rows, forest))
    except Refused as refused:
        return Certificate(equal=False, why=refused.diagnostics[0].message)
    except Exception as error:  # noqa: BLE001 - families fail in their own ways on what they do not know
        return Certificate(equal=False, why=_line(error))
    if forest.calls != layers:
        return Certificate(equal=False, why=f"{forest.calls} of {layers} attention layers see the forest")
    made = compared(found, found_grad, expected, expected_grad)
    if not made.equal and layers + carrying < small.num_hidden_layers:
        why = f"{layers + carrying} of its {small.num_hidden_layers} layers go through the attention interface"
        return replace(made, why=why)
    return made


def compared(found: Tensor, found_grad: Tensor, expected: Tensor, expected_grad: Tensor) -> Certificate:
    r"""Hold log-probabilities and the gradient of their weighted sum against what they must be.

    The errors are the largest difference of a log-probability, in nats, and
    :math:`\lVert g - g^* \rVert / \lVert g^* \rVert`.
    """
    off = float((found - expected).abs().max())
    off_grad = float((found_grad - expected_grad).norm() / expected_grad.norm())
    equal = off <= TOLERANCE and off_grad <= TOLERANCE
    why = "" if equal else f"log-probabilities differ by {off:.1e}, gradients by {off_grad:.1e}"
    return Certificate(equal, off, off_grad, why)


def _lengthwise(small: Any) -> str:
    """Say what makes a row depend on the longest one of its batch, if anything does."""
    found = _LENGTHWISE & set(_rotations(small.to_dict()))
    return f"its rope scaling `{min(found)}` looks at the longest row of a batch" if found else ""


def _rotations(said: Any) -> list[str]:
    if not isinstance(said, dict):
        return []
    here = [str(said[key]) for key in ("rope_type", "type") if isinstance(said.get(key), str)]
    return here + [kind for value in said.values() for kind in _rotations(value)]


def _model(small: Any) -> Any:
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(small)]
    model = kind._from_config(small, attn_implementation=weights.implementation(small))  # noqa: SLF001
    model.float().train()  # what a layer does at random while it trains must show
    for parameter in model.parameters():  # biases and norms begin at 0 and 1: hide nothing behind that
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def probe() -> list[list[int]]:
    """Rows of a tree of three levels, one twice and one the beginning of others."""
    draw = np.random.default_rng(0)

    def some(count: int) -> list[int]:
        return [int(i) for i in draw.integers(3, _VOCABULARY, count)]

    root = some(21)
    middles = [[*root, *some(9)] for _ in range(2)]
    leaves = [[*middle, *some(count)] for middle in middles for count in (5, 8, 11)]
    return [*leaves, leaves[1], middles[0], some(6)]


def _merged(rows: list[list[int]]) -> trie.Trie:
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return trie.build(tokens, lengths)


def by_row(model: Any, rows: list[list[int]]) -> Tensor:
    """Log-probability of every token but the first of each row, each row alone through the whole model."""
    found = []
    for row in rows:
        ids = torch.tensor(row)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
        found.append(torch.log_softmax(logits, -1).gather(-1, ids[1:, None])[:, 0])
    return torch.cat(found)


def _by_forest(model: Any, rows: list[list[int]], made: interface.Pass) -> Tensor:
    forest = made.trie
    with interface.over(made, model):
        logits = model(
            input_ids=torch.from_numpy(forest.tokens_N)[None],
            position_ids=torch.from_numpy(forest.position_N)[None],
            use_cache=False,
        ).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)
    parts = [
        logprobs[torch.from_numpy(node[: len(row) - 1]), torch.tensor(row[1:])]
        for row, node in zip(rows, forest.node_RT, strict=True)
    ]
    return torch.cat(parts)


def scored(model: Any, weight: Tensor, logprob: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and the gradient of a random sum of them."""
    model.zero_grad()
    torch.autograd.backward((logprob * weight).sum())
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return logprob.detach(), torch.cat([grad.flatten() for grad in grads]).clone()


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
