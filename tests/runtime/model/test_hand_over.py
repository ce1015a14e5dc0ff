"""From stage to stage: what a policy computes stays the same, and what is trained is what the recipe says."""

from itertools import product
from pathlib import Path

import pytest
import torch
from peft import LoraModel
from support.images import build
from support.policies import dense_policy
from transformers import AutoModelForCausalLM

from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import committed
from recipec.runtime.attention.dense import DenseAttention
from recipec.runtime.context import StageContext
from recipec.runtime.model import fixed_outputs, quantization
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.reward_model import RewardModel
from recipec.runtime.objective.reference import Frozen
from recipec.spec import policy as specs, reference
from recipec.spec.attention import Dense

SIZES = {"hidden_size": 32, "layers": 2, "heads": 4, "max_positions": 64}
TOKENS = torch.arange(12)[None] * 7 % 90 + 4


def policy(root: Path, origin: Origin, *, tied: bool = True, family: str = "llama", **params) -> CausalLm:
    """Build or load a policy of text, or one of images."""
    if family == "qwen2_vl":
        return build(root, origin=None if origin.kind == "scratch" else origin, **params)
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s", temperature=1.0)
    scratch = specs.Scratch(architecture=family, tie_embeddings=tied, **SIZES) if origin.kind == "scratch" else None
    return dense_policy(specs.CausalLm(scratch=scratch, **params), context, origin)


def logits(made: CausalLm) -> torch.Tensor:
    """Compute the logits of a few tokens."""
    with torch.no_grad():
        return made.model(input_ids=TOKENS, use_cache=False).logits.float()


def adapted(root: Path, targets: str | tuple[str, ...], **params) -> CausalLm:
    """Save a policy with an adapter that makes a difference as `./parent`."""
    parent = policy(root, Origin("scratch"), lora=specs.Lora(r=2, targets=targets), **params)
    before = logits(parent)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parent.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    assert (logits(parent) - before).abs().max() > 1e-2
    parent.save(root / "parent")
    return parent


EMBEDDINGS = [("lm_head",), ("embed_tokens",), ("embed_tokens", "lm_head"), ("q_proj", "lm_head"), "all_linear"]


@pytest.mark.parametrize("targets", EMBEDDINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_on_shared_weights_is_merged_into_its_own_layer_alone(tmp_path, tied, targets):
    """With one matrix for input and output, the one without the adapter stays as it was; also once it is saved."""
    expected = logits(adapted(tmp_path, targets, tied=tied))
    merged = policy(tmp_path, Origin("directory", "./parent", adapter="merge"))
    assert torch.allclose(logits(merged), expected, atol=1e-5)
    merged.save(tmp_path / "merged")
    again = policy(tmp_path, Origin("directory", "./merged"))
    assert torch.equal(logits(again), logits(merged))
    library = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(library(TOKENS).logits, expected, atol=1e-5)
    assert library.config.tie_word_embeddings == (tied and targets == "all_linear")
    continued = policy(tmp_path, Origin("directory", "./parent", adapter="continue"))
    assert torch.equal(logits(continued), expected)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_bfloat16_rotates_distant_tokens_as_the_loaded_model_does(tmp_path, family):
    """Frequencies of rotations stay float32 in a model that is new or merged, as in one that is saved and loaded."""
    sizes = specs.Scratch(architecture=family, **{**SIZES, "max_positions": 2048})
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s", temperature=1.0)
    tokens = torch.arange(1500)[None] * 7 % 90 + 4

    def saved_and_loaded(made: CausalLm) -> None:
        made.save(tmp_path / "saved")
        again = dense_policy(specs.CausalLm(dtype="bfloat16"), context, Origin("directory", "./saved"))
        with torch.no_grad():
            assert torch.equal(again.model(tokens).logits, made.model(tokens).logits)

    saved_and_loaded(dense_policy(specs.CausalLm(scratch=sizes, dtype="bfloat16"), context, Origin("scratch")))
    described = specs.CausalLm(scratch=sizes, dtype="bfloat16", lora=specs.Lora(r=2))
    dense_policy(described, context, Origin("scratch")).save(tmp_path / "parent")
    merged = Origin("directory", "./parent", adapter="merge")
    saved_and_loaded(dense_policy(specs.CausalLm(dtype="bfloat16"), context, merged))


def test_a_reference_that_merges_an_adapter_computes_what_the_adapter_does(tmp_path):
    """Another model as a reference takes the same way: tied weights with an adapter on the head."""
    parent = adapted(tmp_path, ("lm_head",))
    made = policy(tmp_path, Origin("scratch"))
    frozen = Frozen(reference.Frozen(**{"from": "./parent"}), made.context, policy=made)
    assert torch.allclose(logits(frozen.scorer), logits(parent), atol=1e-5)


@pytest.mark.parametrize("broken", [1e-3, float("nan")])
def test_a_merge_that_changes_the_model_stops_the_run(tmp_path, monkeypatch, broken):
    """Whatever goes wrong in it, logits before and after are compared: RC737."""
    adapted(tmp_path, "all_linear")
    merge = LoraModel.merge_and_unload

    def spoilt(self: object) -> object:
        made = merge(self)
        made.lm_head.weight += broken
        return made

    monkeypatch.setattr(LoraModel, "merge_and_unload", spoilt)
    with pytest.raises(RecipeError) as refused:
        policy(tmp_path, Origin("directory", "./parent", adapter="merge"))
    assert refused.value.diagnostics[0].code == "RC737"


@pytest.fixture(scope="module")
def parents(tmp_path_factory) -> Path:
    """Save a policy of each family, without an adapter and with one."""
    root = tmp_path_factory.mktemp("parents")
    for family in FAMILIES:
        for name, adapter in (("full", None), ("adapter", specs.Lora(r=2))):
            policy(root, Origin("scratch"), family=family, lora=adapter).save(root / f"{name}-{family}")
    return root


FAMILIES = ["llama", "qwen2", "gpt2", "qwen2_vl"]
HAND_OVERS = [
    ("full", None, False, "all"),
    ("full", None, True, "adapter"),
    ("adapter", "continue", False, "adapter"),
    ("adapter", "continue", True, "adapter"),
    ("adapter", "merge", False, "all"),
    ("adapter", "merge", True, "adapter"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("parent", "how", "described", "trained"), HAND_OVERS)
def test_the_parameters_that_the_recipe_says_are_trained(parents, family, dtype, parent, how, described, trained):
    """All of them without an adapter, those of the adapter with one; each gets a gradient, and no other does."""
    origin = Origin("directory", f"./{parent}-{family}", adapter=how)
    made = policy(parents, origin, family=family, dtype=dtype, lora=specs.Lora(r=2) if described else None)
    names = {name for name, _ in made.model.named_parameters()}
    adapter = {name for name in names if "lora_" in name}
    assert bool(adapter) == (trained == "adapter")
    assert set(made.trainable_parameters()) == (adapter or names)
    made.model(input_ids=TOKENS, use_cache=False).logits.float().square().sum().backward()
    reached = {name for name, parameter in made.model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name in made.trainable_parameters() if "visual" not in name}


CANNOT = pytest.mark.skipif(bool(quantization.problem()), reason=quantization.problem() or "it can")
TABLE = [
    pytest.param(tied, kind, narrow, dtype, *way, marks=CANNOT if narrow else ())
    for tied, kind, narrow, dtype, way in product(
        (True, False), ("policy", "reward"), (None, "nf4", "int8"), ("float32", "bfloat16"), HAND_OVERS
    )
    if narrow is None or (way[2] and dtype == "bfloat16")
]


def noted(made: CausalLm, folder: Path) -> None:
    """Save a policy as a finished stage does, with what it computes."""
    with committed(folder, {fixed_outputs.KEY: fixed_outputs.fixed_outputs(made)}) as temporary:
        made.save(temporary)


@pytest.mark.parametrize(("kind", "lora"), [("policy", None), ("policy", specs.Lora(r=2)), ("reward", None)])
def test_a_load_that_changes_the_model_stops_the_run(tmp_path, monkeypatch, kind, lora):
    """What a policy computes is noted where it is saved; one that is loaded as another is refused: RC896."""
    made = of_kind(tmp_path, Origin("scratch"), kind, lora=lora)
    shift(made)
    noted(made, tmp_path / "parent")
    origin = Origin("directory", "./parent", "continue" if lora else None)
    for dtype in ("float32", "bfloat16"):
        of_kind(tmp_path, origin, kind, dtype=dtype)
    if lora:
        of_kind(tmp_path, Origin("directory", "./parent", "merge"), kind)
    if kind == "policy":  # another kind of output is not compared
        of_kind(tmp_path, origin, "reward", lora=lora)
    read = CausalLm._read

    def spoilt(self: CausalLm, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
        model = read(self, folder, dtype)
        model.model.layers[1].mlp.down_proj.weight.data.zero_()
        return model

    monkeypatch.setattr(CausalLm, "_read", spoilt)
    with pytest.raises(RecipeError) as refused:
        of_kind(tmp_path, origin, kind)
    assert refused.value.diagnostics[0].code == "RC896"
    assert str(tmp_path / "parent") in refused.value.diagnostics[0].message


@pytest.fixture(scope="module")
def handed(tmp_path_factory) -> Path:
    """Save a policy and a reward model, tied and not, with and without an adapter, each after some training."""
    root = tmp_path_factory.mktemp("handed")
    for tied, kind, name in product((True, False), ("policy", "reward"), ("full", "adapter")):
        made = of_kind(root, Origin("scratch"), kind, tied=tied, lora=specs.Lora(r=2) if name == "adapter" else None)
        shift(made)
        made.save(root / f"{name}-{kind}-{tied}")
    return root


def of_kind(root: Path, origin: Origin, kind: str, *, tied: bool = True, **params) -> CausalLm:
    """Build or load a policy, or a reward model as a stage of kind `rm` does."""
    if kind == "policy":
        return policy(root, origin, tied=tied, **params)
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s", temperature=1.0)
    scratch = specs.Scratch(architecture="llama", tie_embeddings=tied, **SIZES) if origin.kind == "scratch" else None
    made = RewardModel(specs.CausalLm(scratch=scratch, **params), context, origin)
    made.set_attention(DenseAttention(Dense(), context))
    return made


def shift(made: CausalLm) -> None:
    """Change everything that is trained, as a stage does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(made.trainable_parameters().items()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.add_(noise.to(parameter.device, parameter.dtype))


def outputs(made: CausalLm) -> torch.Tensor:
    """Compute logits, or the score of each row."""
    if not isinstance(made, RewardModel):
        return logits(made).cpu()
    with torch.no_grad():
        return made.scores(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)).cpu()


@pytest.mark.parametrize(("tied", "kind", "narrow", "dtype", "parent", "how", "described", "trained"), TABLE)
def test_a_hand_over(handed, tmp_path, tied, kind, narrow, dtype, parent, how, described, trained):
    """A stage begins with what its parent computed, trains what its recipe states, and saves what it computes."""
    name = f"./{parent}-{kind}-{tied}"
    before = outputs(of_kind(handed, Origin("directory", name, "continue" if parent == "adapter" else None), kind))
    lora = specs.Lora(r=2) if described else None
    made = of_kind(handed, Origin("directory", name, how), kind, dtype=dtype, lora=lora, quantization=narrow)
    exact = dtype == "float32" and not narrow
    rounding = 1e-5 if exact else 0.1 * float(before.abs().max())
    assert torch.allclose(outputs(made), before, rtol=0, atol=rounding)
    fixed = {name: p.detach().clone() for name, p in made.model.named_parameters() if not p.requires_grad}
    adapter = {name for name in made.trainable_parameters() if "lora_" in name}
    assert (bool(adapter), bool(fixed)) == (trained == "adapter", trained == "adapter")
    shift(made)
    changed = outputs(made)
    assert (changed - before).abs().max() > max(1e-3, 0.1 * rounding)
    assert all(torch.equal(p, fixed[name]) for name, p in made.model.named_parameters() if name in fixed)
    made.save(tmp_path / "again")
    saved = Origin("directory", "./again", "continue" if trained == "adapter" else None)
    again = outputs(of_kind(tmp_path, saved, kind, dtype=dtype))
    assert torch.allclose(again, changed, rtol=0, atol=rounding if narrow else 1e-6)
