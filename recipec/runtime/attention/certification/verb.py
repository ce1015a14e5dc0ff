"""Proof on this machine that a stage's attention gives what dense rows give, and what it saves."""

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
from recipec.runtime.attention.certification.sample_rows import made_up, recorded
from recipec.runtime.attention.certification.tiny_config import shrink
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext, cache_folder
from recipec.runtime.model import weights
from recipec.runtime.model.causal_lm import CausalLm, Origin
from recipec.runtime.protocols import Sharing
from recipec.runtime.vision.sample_rows import columns, illustrated, keyed, moved
from recipec.spec.attention import Dense, Trie
from recipec.spec.recipe import weights_kind

_TOKENS = 4096
"""Of rows, at most, for a model of a few million parameters; fewer for larger ones."""
_REPEATS = 4
_DRAWS = 8
_WORSE = 1.15
"""Most that the error of a low precision may grow."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of the trained tokens, and all gradients of a random sum of them."""

    logprob: Tensor
    grad: Tensor

    def off(self, other: Scores) -> tuple[float, float]:
        """Return the largest difference of log-probabilities, and the relative one of gradients."""
        apart = float((self.logprob - other.logprob).abs().max()) if len(self.logprob) else 0.0
        return apart, float((self.grad - other.grad).norm() / other.grad.norm().clamp_min(1e-30))


@weights.quiet()  # its advice on masks is about padding that it takes sampled tokens for
def certify(graph: Graph, root: Path, stage: str | None = None, rows: Path | None = None) -> dict[str, Any]:
    """Compare a stage's attention with dense rows, on rows that were recorded or made up from the recipe.

    Without weights at hand a small random model of the same architecture stands in; ``model`` says which it was.
    An attention that shares nothing is compared as ``trie``.

    Raises:
        RecipeError: RC798, there is no such stage; RC836, there is no such model or row; RC830 and whatever else the
            attention refuses.
    """
    found = _stage(graph, stage)
    context = StageContext(root, cache_folder(), graph.seed, found.name)
    policy, named = _policy(graph, found, context)
    asked = found.node("attention")
    assert asked is not None
    spec = asked.spec if asked.type in {"trie", "shared_prefix"} and asked.spec is not None else Trie()
    parameters = sum(p.numel() for p in policy.model.parameters())
    limit = max(256, int(_TOKENS * min(1.0, 5e6 / parameters)))
    batch = (
        made_up(found, limit, policy.vocabulary, policy.max_positions)
        if rows is None
        else recorded(rows, limit, policy.vocabulary)
    )
    batch = illustrated(policy, batch, recorded=rows is not None)
    kinds: dict[str, Any] = {"dense": DenseAttention(Dense(), context), "shared": spec.load()(spec, context)}
    low = policy.model.dtype
    errors = _errors(policy, kinds, batch, low)
    counted = _counted(policy, batch, kinds["shared"].sharing)
    policy.model.to(low)
    seconds = _seconds(policy, kinds, batch)
    equal = max(errors["max_logprob_error"], errors["max_gradient_error"]) <= TOLERANCE
    equal = equal and errors.get("low_precision_error_ratio", 0.0) <= _WORSE
    return {
        "stage": found.name,
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
    sharing = [one for one in named if (one.settings.get("attention") or {}).get("type") in {"trie", "shared_prefix"}]
    practice = [one for one in named if one.kind != "sft"]
    return (sharing or practice or named)[0]


def _policy(graph: Graph, stage: StageGraph, context: StageContext) -> tuple[CausalLm, str]:
    """Find the model of a stage, or of the stage that it starts from, or a small one of its kind."""
    while weights_kind(stage.origin) == "stage":
        stage = graph.stage(stage.origin)
    node = stage.node("policy")
    assert node is not None
    spec: Any = node.spec
    kind = weights_kind(stage.origin)
    if kind == "scratch":
        plain = spec.model_copy(update={"lora": None})
        made = plain.load()(plain, context, Origin("scratch"))
        perturb(made.model, context.seed)
        return made, "the recipe's own, with random weights"
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
        weights.inspect_folder(folder, weights=False, sees=spec.type_name == "vision_lm")
        with weights.quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return _small(config, context, spec.dtype), f"a small one of {stage.origin}'s kind"
    return _twin(stage.origin, context, spec)


def _twin(origin: str, context: StageContext, spec: Any) -> tuple[CausalLm, str]:
    shape = known_shape(origin)
    family = "" if shape is None else shape.sees if spec.type_name == "vision_lm" else shape.family
    if shape is None or family not in CONFIG_MAPPING:
        raise RecipeError(errors.nothing_to_certify(f"neither weights nor the architecture of `{origin}` are here"))
    config = AutoConfig.for_model(
        family,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
    )
    if spec.type_name == "vision_lm":  # the library's own default has one section for three axes
        half = shape.head_dim // 2
        config.text_config.rope_parameters["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return _small(config, context, spec.dtype), f"a small one of {origin}'s kind"


def _small(config: Any, context: StageContext, dtype: str) -> CausalLm:
    """Build a small random model of the same architecture."""
    with torch.random.fork_rng(devices=[]), weights.quiet():
        model = random_model(shrink(config), context.seed)
    return given_policy(model.to(getattr(torch, dtype)), context.cache)


def _errors(policy: CausalLm, kinds: dict[str, Any], batch: Batch, low: torch.dtype) -> dict[str, Any]:
    """Compare in float64, or float32 where the model does not take it; and a lower precision with that."""
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
    found: dict[str, Any] = {
        "max_logprob_error": logprob,
        "max_gradient_error": grad,
        "precision": str(exact).removeprefix("torch."),
    }
    if low not in {torch.float32, torch.float64}:
        found["low_precision_error_ratio"] = _rounded(policy, kinds, batch, exact, low)
    return found


def _rounded(policy: CausalLm, kinds: dict[str, Any], batch: Batch, exact: torch.dtype, low: torch.dtype) -> float:
    """Return how much larger the error of a low precision is than dense rows' own: root mean squares of gradients.

    One draw of rounding errors says little, so the ids are shifted a few times: other tokens, the same prefixes.
    """
    total = dict.fromkeys(kinds, 0.0)
    for shift in range(_DRAWS):
        shifted = Batch({**batch, "tokens_RT": moved(policy, batch, shift)})
        policy.model.to(exact)
        expected = _score(policy, kinds["dense"], shifted)
        policy.model.to(low)  # weights that were of this precision come back as they were
        for name, kind in kinds.items():
            total[name] += _score(policy, kind, shifted).off(expected)[1] ** 2
    return float((total["shared"] / max(total["dense"], 1e-30)) ** 0.5)


def _score(policy: CausalLm, kind: Any, batch: Batch, parts: tuple[Tensor, ...] | None = None) -> Scores:
    """Score rows in one forward pass, or in several, and take the gradient."""
    policy.use(kind)
    policy.model.zero_grad()
    weight = torch.randn(batch["tokens_RT"].shape, generator=torch.Generator().manual_seed(0))
    found = torch.zeros(batch["tokens_RT"].shape, dtype=torch.float64)
    for index in parts or (torch.arange(batch.num_rows),):
        part = batch.rows(index)
        width = int(part["attend_RT"].sum(-1).max())
        logprob = policy.logprobs(*columns(part, width), entropy=False)["logprob_RT"]
        torch.autograd.backward((logprob.cpu() * weight[index, :width]).sum())
        found[index, :width] = logprob.detach().cpu().double()
    grads = [p.grad.flatten().cpu().double() for p in policy.model.parameters() if p.grad is not None]
    return Scores(found[batch["trained_RT"]], torch.cat(grads))


def _counted(policy: CausalLm, batch: Batch, sharing: Sharing) -> dict[str, Any]:
    """Count tokens, and the operations of a forward and a backward, row by row and as a forest."""
    tokens = keyed(policy, batch)["tokens_RT"].numpy()
    lengths = np.maximum(batch["attend_RT"].sum(-1).numpy() - 1, 0)
    scored = batch["trained_RT"].numpy().copy()
    scored[:, 0] = False
    prompts = np.where(scored.any(-1), scored.argmax(-1), lengths) if sharing == "prompts" else None
    forest = prefix_tree.build(tokens, lengths, None if prompts is None else np.minimum(prompts, lengths))
    row, column = scored.nonzero()
    unique = len(np.unique(forest.node_RT[row, column - 1]))
    of, whole = flops.sizes(policy.model), forest.dense_tokens
    dense = flops.least(of, whole, forest.dense_pairs, len(row), backward=True)
    return {
        "token_ratio": whole / forest.size,
        "ideal_speedup": dense / flops.least(of, forest.size, forest.pairs, unique, backward=True, dense=whole),
    }


def _seconds(policy: CausalLm, kinds: dict[str, Any], batch: Batch) -> dict[str, float]:
    """Measure a forward and a backward, the two attentions in turn; dense in the best of a few divisions."""
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
    """Count the bytes kept for the backward of all rows in one pass, weights left out."""
    own = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    policy.use(kind)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.logprobs(*columns(batch, batch["tokens_RT"].shape[1]), entropy=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
