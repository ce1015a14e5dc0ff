"""The weights that are loaded are all of the directory's, and of one model: nothing is left out without a word."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.images import build
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import Origin
from recipec.spec import policy as specs

INDEX = "model.safetensors.index.json"


def make(root: Path, origin: Origin, family: str = "llama") -> CausalLm:
    """Build a policy of four layers, or load one."""
    if family == "qwen2_vl":
        return build(root, origin=None if origin.kind == "scratch" else origin)
    context = StageContext(root=root, cache=root / "cache", seed=0, stage="s")
    sizes = {"hidden_size": 16, "layers": 4, "heads": 2, "intermediate_size": 32, "max_positions": 64}
    scratch = specs.Scratch(architecture=family, **sizes) if origin.kind == "scratch" else None
    return dense_policy(specs.CausalLm(scratch=scratch), context, origin)


def saved(root: Path, family: str = "llama") -> Path:
    """Save a policy; return its folder."""
    make(root, Origin("scratch"), family).save(root / "model")
    return root / "model"


def problem(root: Path, family: str = "llama") -> str:
    """Return the message with which the folder's weights are refused."""
    with pytest.raises(RecipeError) as refused:
        make(root, Origin("directory", "./model"), family)
    assert refused.value.diagnostics[0].code == "RC723"
    return refused.value.diagnostics[0].message


def shard(folder: Path, *, twice: bool = False) -> None:
    """Write the weights as two shards with an index, in place of the single file."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5 - twice :]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": {name: file for file in parts for name in parts[file]}}))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize(("family", "key"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_weights_of_more_layers_than_the_model_has_are_named(tmp_path, family, key, layers):
    """config.json says fewer layers than the file has."""
    folder = saved(tmp_path, family)
    described = json.loads((folder / "config.json").read_text())
    described.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(described | {key: layers}))
    found = problem(tmp_path, family)
    assert f".{layers}." in found
    assert "config.json" in found


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2_vl"])
@pytest.mark.parametrize("name", ["v_head.summary.weight", "model.layers.0.self_attn.gate.weight", "lm_head.bias"])
def test_a_tensor_without_a_place_is_named(tmp_path, family, name):
    """A value head, a gate, and a bias that the family does not have."""
    folder = saved(tmp_path, family)
    save_file({**load_file(folder / "model.safetensors"), name: torch.ones(2)}, folder / "model.safetensors")
    assert name.rpartition(".")[0].rpartition(".")[2] in problem(tmp_path, family)


@pytest.mark.parametrize(
    ("family", "name"),
    [("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"), ("gpt2", "transformer.h.0.attn.masked_bias")],
)
def test_what_older_versions_saved_and_a_model_computes_is_no_weight(tmp_path, family, name):
    """Frequencies and masks are left out, and the model is what it was."""
    folder = saved(tmp_path, family)
    before = make(tmp_path, Origin("directory", "./model"), family).fingerprint()
    save_file({**load_file(folder / "model.safetensors"), name: torch.ones(2)}, folder / "model.safetensors")
    assert make(tmp_path, Origin("directory", "./model"), family).fingerprint() == before


def test_shards_with_an_index_are_the_same_model(tmp_path):
    """One file or several: the same weights; an index may also name the single file."""
    folder = saved(tmp_path)
    before = make(tmp_path, Origin("directory", "./model")).fingerprint()
    names = load_file(folder / "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert make(tmp_path, Origin("directory", "./model")).fingerprint() == before
    shard(folder)
    assert make(tmp_path, Origin("directory", "./model")).fingerprint() == before


@pytest.mark.parametrize("index", [True, False])
def test_a_single_file_beside_shards_is_ambiguous(tmp_path, index):
    """Which of the two is meant is not guessed, with the index of the shards or without it."""
    folder = saved(tmp_path)
    single = (folder / "model.safetensors").read_bytes()
    shard(folder)
    (folder / "model.safetensors").write_bytes(single)
    if not index:
        (folder / INDEX).unlink()
    assert "it has both model.safetensors and model" in problem(tmp_path)


def test_a_tensor_in_two_shards_is_ambiguous(tmp_path):
    """The last one would win without a word."""
    shard(saved(tmp_path), twice=True)
    assert "is in model-00002-of-00002.safetensors and in another file" in problem(tmp_path)
