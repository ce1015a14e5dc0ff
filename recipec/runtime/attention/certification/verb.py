"""``recipec certify``: compare a stage's attention with dense rows on this machine, and measure what it saves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.errors.credit import which_stage
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph, StageGraph
from recipec.planning.model_shapes import known_shape
from recipec.runtime.attention import flops, prefix_tree
from recipec.runtime.attention.certification.run import TOLERANCE, given_policy, perturb, random_model
from recipec.runtime.attention.certification.sample_rows import random_rows, read_rows
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext, cache_folder
from recipec.runtime.model import weights
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.protocols import Sharing
from recipec.runtime.vision.sample_rows import columns, keyed, shifted_tokens, with_images
from recipec.spec.attention import Attention, Dense, Trie
from recipec.spec.policy import Policy
from recipec.spec.recipe import weights_kind

_TOKENS = 4096
"""Most tokens of the rows for a model of up to 5 million parameters; fewer for larger ones."""
_REPEATS = 4
_DRAWS = 8
_WORSE = 1.15
"""Accepted ratio of the low-precision errors of the attention and of dense rows."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of the trained tokens, and the gradient of a weighted sum of them."""

    logprob: Tensor
    grad: Tensor

    def off(self, other: Scores) -> tuple[float, float]:
        """Return the largest difference of a log-probability, and the relative difference of the gradient."""
        apart = float((self.logprob - other.logprob).abs().max()) if len(self.logprob) else 0.0
        return apart, float((self.grad - other.grad).norm() / other.grad.norm().clamp_min(1e-30))


@weights.quiet()  # the library takes sampled tokens for padding and advises a mask
def certify(graph: Graph, root: Path, stage: str | None = None, rows: Path | None = None) -> dict[str, Any]:
    """Compare a stage's attention with dense rows, on recorded rows or on random ones with the recipe's proportions.

    If the weights are not available, a small random model of the same architecture is used; ``model`` of the result
    names it.  For an attention that shares nothing, ``trie`` is compared.

    Raises:
        RecipeError: RC798, the stage does not exist; RC836, neither do model or rows; RC830 and other codes if the
            attention does not support the model.
    """
    stage_graph = _stage(graph, stage)
    context = StageContext(root, cache_folder(), graph.seed, stage_graph.name)
    policy, named = _policy(graph, stage_graph, context)
    attention = stage_graph.required(Attention)
    spec = attention if attention.shares else Trie()
    parameters = sum(p.numel() for p in policy.model.parameters())
    limit = max(256, int(_TOKENS * min(1.0, 5e6 / parameters)))
    batch = (
        random_rows(stage_graph, limit, policy.vocabulary, policy.max_positions)
        if rows is None
        else read_rows(rows, limit, policy.vocabulary)
    )
    batch = with_images(policy, batch, recorded=rows is not None)
    kinds: dict[str, Any] = {"dense": DenseAttention(Dense(), context), "shared": spec.load()(spec, context)}
    low = policy.model.dtype
    errors = _errors(policy, kinds, batch, low)
    counted = _counted(policy, batch, kinds["shared"].sharing)
    policy.model.to(low)
    seconds = _seconds(policy, kinds, batch)
    equal = max(errors["max_logprob_error"], errors["max_gradient_error"]) <= TOLERANCE
    equal = equal and errors.get("low_precision_error_ratio", 0.0) <= _WORSE
    return {
        "stage": stage_graph.name,
        "model": named,
        "attention": spec.type_name,
        "rows": batch.num_rows,
        "equal": equal,
        **errors,
        **counted,
        "measured_speedup": seconds["dense"] / seconds["shared"],
        "activation_bytes": _saved(policy, kinds["shared"], batch),
        "dense_activation_bytes": _saved(policy, kinds["dense"], batch),
    }


def _stage(graph: Graph, name: str | None) -> StageGraph:
    named = [one for one in graph.stages if name in {None, one.name}]
    if not named:
        raise RecipeError(which_stage(name, [one.name for one in graph.stages], "stage"))
    sharing = [one for one in named if one.required(Attention).shares]
    practice = [one for one in named if one.kind != "sft"]
    return (sharing or practice or named)[0]


def _policy(graph: Graph, stage: StageGraph, context: StageContext) -> tuple[CausalLm, str]:
    """Return the model of a stage, or of the stage that it starts from, or a small model of the same architecture."""
    while weights_kind(stage.origin) == "stage":
        stage = graph.stage(stage.origin)
    spec: Any = stage.required(Policy)
    kind = weights_kind(stage.origin)
    if kind == "scratch":
        plain = spec.model_copy(update={"lora": None})
        policy = plain.load()(plain, context, Origin("scratch"))
        perturb(policy.model, context.seed)
        return policy, "the recipe's own, with random weights"
    folder = context.root / stage.origin
    if kind == "hub":
        name, _, revision = stage.origin.partition("@")
        try:
            folder = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
        except (OSError, ValueError):
            return _twin(stage.origin, context, spec)
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        plain = spec.model_copy(update={"lora": None})
        return plain.load()(plain, context, Origin("directory", str(folder.resolve()))), stage.origin
    if (folder / "config.json").is_file():
        weights.inspect_folder(folder, weights=False, sees=spec.sees)
        with weights.quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return _small(config, context, spec.dtype), f"a small model with the architecture of {stage.origin}"
    return _twin(stage.origin, context, spec)


def _twin(origin: str, context: StageContext, spec: Any) -> tuple[CausalLm, str]:
    shape = known_shape(origin)
    family = "" if shape is None else shape.sees if spec.sees else shape.family
    if shape is None or family not in CONFIG_MAPPING:
        raise RecipeError(errors.nothing_to_certify(f"neither weights nor the architecture of `{origin}` are here"))
    config = AutoConfig.for_model(
        family,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
    )
    if spec.sees:  # the library's default has one section for three axes
        half = shape.head_dim // 2
        config.text_config.rope_parameters["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return _small(config, context, spec.dtype), f"a small model with the architecture of {origin}"


def _small(config: Any, context: StageContext, dtype: str) -> CausalLm:
    """Build a small random model of the same architecture."""
    with torch.random.fork_rng(devices=[]), weights.quiet():
        model = random_model(shrink(config), context.seed)
    return given_policy(model.to(getattr(torch, dtype)), context.cache)


def _errors(policy: CausalLm, kinds: dict[str, Any], batch: Batch, low: torch.dtype) -> dict[str, Any]:
    """Compare in float64, or in float32 if the model does not support it, and in the model's own precision."""
    exact, scores = torch.float64, None
    try:
        policy.model.to(exact)
        scores = {name: _score(policy, kind, batch) for name, kind in kinds.items()}
    except RecipeError:
        raise
    except (RuntimeError, TypeError, NotImplementedError):
        exact = torch.float32
        policy.model.to(exact)
        scores = {name: _score(policy, kind, batch) for name, kind in kinds.items()}
    logprob, grad = scores["shared"].off(scores["dense"])
    errors_by_name: dict[str, Any] = {
        "max_logprob_error": logprob,
        "max_gradient_error": grad,
        "precision": str(exact).removeprefix("torch."),
    }
    if low not in {torch.float32, torch.float64}:
        errors_by_name["low_precision_error_ratio"] = _rounded(policy, kinds, batch, exact, low)
    return errors_by_name


def _rounded(policy: CausalLm, kinds: dict[str, Any], batch: Batch, exact: torch.dtype, low: torch.dtype) -> float:
    """Return the low-precision error of gradients divided by that of dense rows, as root mean squares.

    A single sample of rounding errors is not reliable, so the ids are shifted a few times: other tokens, same prefixes.
    """
    total = dict.fromkeys(kinds, 0.0)
    for shift in range(_DRAWS):
        shifted = Batch({**batch, "tokens_RT": shifted_tokens(policy, batch, shift)})
        policy.model.to(exact)
        expected = _score(policy, kinds["dense"], shifted)
        policy.model.to(low)  # exact, because the weights had this precision
        for name, kind in kinds.items():
            total[name] += _score(policy, kind, shifted).off(expected)[1] ** 2
    return float((total["shared"] / max(total["dense"], 1e-30)) ** 0.5)


def _score(policy: CausalLm, kind: Any, batch: Batch, parts: tuple[Tensor, ...] | None = None) -> Scores:
    """Score rows in one forward pass, or in several, and take the gradient."""
    policy.set_attention(kind)
    policy.model.zero_grad()
    weight = torch.randn(batch["tokens_RT"].shape, generator=torch.Generator().manual_seed(0))
    logprob_RT = torch.zeros(batch["tokens_RT"].shape, dtype=torch.float64)
    for index in parts or (torch.arange(batch.num_rows),):
        part = batch.rows(index)
        width = int(part["attend_RT"].sum(-1).max())
        logprob = policy.logprobs(*columns(part, width), entropy=False)["logprob_RT"]
        torch.autograd.backward((logprob.cpu() * weight[index, :width]).sum())
        logprob_RT[index, :width] = logprob.detach().cpu().double()
    grads = [p.grad.flatten().cpu().double() for p in policy.model.parameters() if p.grad is not None]
    return Scores(logprob_RT[batch["trained_RT"]], torch.cat(grads))


def _counted(policy: CausalLm, batch: Batch, sharing: Sharing) -> dict[str, Any]:
    """Count tokens and operations of a forward and backward pass, for rows on their own and for the prefix tree."""
    tokens = keyed(policy, batch)["tokens_RT"].numpy()
    lengths = np.maximum(batch["attend_RT"].sum(-1).numpy() - 1, 0)
    scored = batch["trained_RT"].numpy().copy()
    scored[:, 0] = False
    prompts = prefix_tree.prompt_lengths(scored, lengths) if sharing == "prompts" else None
    tree = prefix_tree.build(tokens, lengths, prompts)
    dense, merged = flops.of_tree(flops.sizes(policy.model), tree, scored)
    return {"token_ratio": tree.dense_tokens / tree.size, "ideal_speedup": dense / merged}


def _seconds(policy: CausalLm, kinds: dict[str, Any], batch: Batch) -> dict[str, float]:
    """Measure a forward and backward pass of both attentions; for dense, the fastest of a few batch sizes."""
    rows = torch.arange(batch.num_rows)
    divisions: dict[tuple[str, int], tuple[Tensor, ...]] = {("shared", batch.num_rows): (rows,)}
    for size in {1, 2, batch.num_rows}:
        divisions["dense", size] = torch.split(rows, size)
    best: dict[str, float] = {}
    for _ in range(_REPEATS):
        for (name, _), parts in divisions.items():
            best[name] = min(best.get(name, float("inf")), _took(policy, kinds[name], batch, parts))
    return best


def _took(policy: CausalLm, kind: Any, batch: Batch, parts: tuple[Tensor, ...]) -> float:
    clock: Callable[[], float] = time.perf_counter if policy.device.type == "cuda" else time.process_time
    began = clock()
    _score(policy, kind, batch, parts)
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def _saved(policy: CausalLm, kind: Any, batch: Batch) -> int:
    """Count the bytes saved for the backward pass of all rows, without weights."""
    own = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    policy.set_attention(kind)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.logprobs(*columns(batch, batch["tokens_RT"].shape[1]), entropy=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
