"""Shapes of models: what costs are derived from, without a weight being read.

A shape comes from ``policy.scratch``, from a local ``config.json``, or from ``model_shapes.json``, which holds models
that many recipes name, as their authors publish them.  Of any other model nothing is guessed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

VOCABULARY = {"characters": 100, "bytes": 260}
"""Tokens of the tokenizers of new models: four control tokens, and the characters or the bytes."""
GATED = (
    "llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2",
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl",
)  # fmt: skip
"""Families with three matrices in a feed-forward layer and rotary positions; their parameters are counted here."""
_TIED = ("gemma", "gemma2", "gemma3_text", "smollm3")
"""Families that have one matrix of embeddings if their configuration does not say it."""

SEEING = {"qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "qwen3_vl": "qwen3", "idefics3": "llama"}
"""New models that see, and the family of their decoders."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder.

    Example: ``Shape("llama", hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, intermediate=1536,
    vocabulary=49152, positions=8192, tied=True)`` is SmolLM2-135M.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    positions: int
    tied: bool
    encoder: int = 0
    """Parameters outside the decoder, such as a vision tower."""
    sees: str = ""
    """Family of the whole model, where that is an image-text model."""

    @property
    def linear(self) -> int:
        """Parameters of the layers' matrices: each costs two floating-point operations a token."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        matrices = 2 if self.family == "gpt2" else 3
        return self.layers * (attention + matrices * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        """All parameters: matrices, embeddings, biases and norms.

        >>> known_shape("Qwen/Qwen2.5-7B").parameters
        7615616512
        """
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        rest = self.positions * self.hidden + 2 * self.hidden if self.family == "gpt2" else self.hidden
        return self.linear + embeddings + self.layers * self._biases_and_norms + rest + self.encoder

    @property
    def _biases_and_norms(self) -> int:
        """Parameters of a layer that are in no matrix."""
        width = self.head_dim * (self.heads + 2 * self.kv_heads)
        if self.family == "gpt2":
            return width + self.hidden + self.intermediate + self.hidden + 4 * self.hidden
        biases = width if self.family == "qwen2" else 0
        norms = (4 if self.family in {"gemma2", "gemma3_text"} else 2) * self.hidden
        if self.family in {"qwen3", "gemma3_text"}:  # one norm for all heads' queries, one for their keys
            norms += 2 * self.head_dim
        if self.family == "olmo2":  # norms over all heads together
            norms += (self.heads + self.kv_heads) * self.head_dim
        return biases + norms

    @property
    def root(self) -> int:
        """Parameters outside the layers of the decoder: embeddings, head, last norm, and an image encoder."""
        return self.parameters - self.layers * self.layer

    @property
    def layer(self) -> int:
        """Parameters of one layer of the decoder.

        >>> shape = known_shape("Qwen/Qwen2.5-7B")
        >>> shape.layer, shape.root
        (233057792, 1089998336)
        """
        return self.linear // self.layers + self._biases_and_norms

    @property
    def matrices(self) -> dict[str, int]:
        """Rows and columns together of every matrix of a layer, by the name of its module."""
        heads, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.family == "gpt2":
            wide = self.hidden + self.intermediate
            return {"c_attn": self.hidden + 3 * heads, "c_proj": heads + self.hidden + wide, "c_fc": wide}
        if self.family == "phi3":
            fused = {"qkv_proj": self.hidden + heads + 2 * kv, "gate_up_proj": self.hidden + 2 * self.intermediate}
            return fused | {"o_proj": heads + self.hidden, "down_proj": self.intermediate + self.hidden}
        attention = dict.fromkeys(("q_proj", "o_proj"), self.hidden + heads)
        attention |= dict.fromkeys(("k_proj", "v_proj"), self.hidden + kv)
        return attention | dict.fromkeys(("gate_proj", "up_proj", "down_proj"), self.hidden + self.intermediate)

    def adapter(self, rank: int, targets: Collection[str] | str = "all_linear") -> int:
        """Parameters of low-rank adapters on the layers' matrices of these names.

        >>> shape = known_shape("Qwen/Qwen2.5-7B")
        >>> shape.adapter(8, ("q_proj", "v_proj")), shape.adapter(8)
        (2523136, 20185088)
        """
        chosen = self.matrices if targets == "all_linear" else set(targets) & self.matrices.keys()
        return self.layers * rank * sum(self.matrices[name] for name in chosen)

    def adapted(self, rank: int, targets: Collection[str] | str = "all_linear") -> int:
        """Numbers that adapters of one layer read and make inside for each token.

        >>> known_shape("Qwen/Qwen2.5-7B").adapted(8, ("q_proj", "v_proj"))
        7184
        """
        chosen = self.matrices if targets == "all_linear" else set(targets) & self.matrices.keys()
        wide = {"o_proj": self.heads * self.head_dim, "down_proj": self.intermediate}
        if self.family == "gpt2":
            wide = {"c_proj": self.heads * self.head_dim + self.intermediate}
        return sum(wide.get(name, self.hidden) + rank for name in chosen)

    @property
    def cached(self) -> int:
        """Numbers kept for each token while sampling: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@functools.cache
def _table() -> dict[str, Any]:
    text = resources.files("recipec.planning").joinpath("model_shapes.json").read_text(encoding="utf-8")
    shapes: dict[str, Any] = json.loads(text)
    return shapes


def known_shape(origin: str) -> Shape | None:
    """Return the shape of a model named in shipped recipes, whatever its revision; none if it is not in the table."""
    name = origin.partition("@")[0]
    if name.startswith("package:"):
        name = name.partition("/")[0]
    entry = _table().get(name)
    if isinstance(entry, str):
        entry = _table()[entry]
    return None if entry is None else Shape(**entry)


def scratch_shape(scratch: Mapping[str, Any], vocabulary: int | None = None) -> Shape | None:
    """Return the shape of a new model; none if its tokenizer is a directory and ``vocabulary`` is not given.

    >>> scratch_shape({"architecture": "llama", "hidden_size": 64, "layers": 2, "heads": 4}).parameters
    137792
    """
    tokens = vocabulary or VOCABULARY.get(str(scratch.get("tokenizer") or "characters"))
    if tokens is None:
        return None
    hidden, heads = int(scratch["hidden_size"]), int(scratch["heads"])
    family, encoder = str(scratch.get("architecture") or "llama"), 0
    if family in SEEING:
        tokens += 0 if vocabulary else 3  # the control tokens of images
        family, encoder = SEEING[family], _encoder(scratch, family, hidden)
    return Shape(
        family=family,
        hidden=hidden,
        layers=int(scratch["layers"]),
        heads=heads,
        kv_heads=int(scratch.get("kv_heads") or heads),
        head_dim=hidden // heads,
        intermediate=int(scratch.get("intermediate_size") or 4 * hidden),
        vocabulary=tokens,
        positions=int(scratch.get("max_positions") or 1024),
        tied=bool(scratch.get("tie_embeddings", True)),
        encoder=encoder,
    )


def _encoder(scratch: Mapping[str, Any], family: str, hidden: int) -> int:
    """Count the parameters of a new model's image encoder and of what brings its results to the decoder's width."""
    patch, merge = int(scratch.get("patch_size") or 8), int(scratch.get("merge") or 2)
    wide = int(scratch.get("vision_hidden_size") or hidden)
    inner, joined = 4 * wide, wide * merge**2
    attention = 4 * wide * (wide + 1)
    if family == "idefics3":
        layer = attention + 2 * wide * inner + inner + 5 * wide
        places = (int(scratch.get("image_size") or 64) // patch) ** 2
        rest = 3 * patch**2 * wide + wide + places * wide + 2 * wide + joined * hidden
    elif family == "qwen3_vl":
        layer = attention + 2 * wide * inner + inner + 5 * wide
        merger = joined * (joined + 1) + joined * hidden + hidden
        added = min(int(scratch.get("vision_layers") or 2), int(scratch["layers"]))  # layers of the decoder
        places = (int(scratch.get("image_size") or 64) // patch) ** 2
        rest = (3 * patch**2 + 1 + places + 2) * wide + merger + added * (merger + 2 * joined)
    else:
        gated = family == "qwen2_5_vl"
        layer = attention + (3 if gated else 2) * wide * inner + (2 if gated else 1) * inner + wide
        layer += (2 if gated else 4) * wide
        rest = 3 * patch**2 * wide + (1 if gated else 2) * wide + joined * (joined + 1) + joined * hidden + hidden
    return int(scratch.get("vision_layers") or 2) * layer + rest


def config_shape(config: Mapping[str, Any]) -> Shape | None:
    """Return the shape that a model directory's ``config.json`` states; none for a family that is not counted here."""
    text = config.get("text_config") if isinstance(config.get("text_config"), Mapping) else config
    assert isinstance(text, Mapping)
    family = str(config.get("model_type", ""))
    try:
        if family == "gpt2":
            return _gpt2(text)
        if family not in GATED:
            return None
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        return Shape(
            family=SEEING.get(family, family),
            hidden=hidden,
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or hidden // heads),
            intermediate=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            positions=int(text.get("max_position_embeddings") or 0),
            tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", family in _TIED))),
            sees=family if "_vl" in family else "",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _gpt2(config: Mapping[str, Any]) -> Shape:
    hidden, heads = int(config["n_embd"]), int(config["n_head"])
    return Shape(
        family="gpt2",
        hidden=hidden,
        layers=int(config["n_layer"]),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate=int(config.get("n_inner") or 4 * hidden),
        vocabulary=int(config["vocab_size"]),
        positions=int(config["n_positions"]),
        tied=bool(config.get("tie_word_embeddings", True)),
    )
