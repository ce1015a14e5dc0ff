"""A model leaves a run whole: loaded from the export it is the trained one, and nothing names this machine."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.small_recipes import ROWS, SFT
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipec.run.licences import licences

LORA = SFT.replace("      type: causal_lm\n", "      type: causal_lm\n      lora: {r: 2}\n").replace("1.0e-3", "1.0e-1")
HELD_OUT = "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [accuracy], reward: {right: {type: exact_match}}}}\n"


def logits(path):
    """Compute the logits of a model on a few tokens."""
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(path)(torch.arange(8)[None]).logits


@pytest.mark.parametrize(("recipe", "merge"), [(SFT, ()), (LORA, ("--merge",))])
def test_an_export_is_the_trained_model(folder, recipe, merge):
    """Logits are those of the run's policy, and the card has the data, the results and the recipe as it was run."""
    rate = ("--set", "stages.learn.optimizer.weight_decay=0.125")
    assert folder.run(recipe.replace("stages:", HELD_OUT + "stages:"), *rate, a__jsonl=ROWS).code == 0
    made = folder.call("export", "runs/small", *merge, "--to", "out/model")
    assert made.code == 0, made.err
    target, policy = folder.path / "out/model", folder.path / "runs/small/stages/learn/policy"
    expected = logits(policy)
    shutil.move(folder.path / "runs", folder.path / "elsewhere")
    assert torch.allclose(logits(target), expected, atol=1e-5)
    AutoTokenizer.from_pretrained(target)
    assert {path.name for path in target.glob("*.safetensors")} == {"model.safetensors"}
    assert all(torch.isfinite(tensor).all() for tensor in load_file(target / "model.safetensors").values())
    text = "".join(path.read_text() for path in target.glob("*.*") if path.suffix in {".json", ".md", ".jinja"})
    assert str(folder.path) not in text
    card = (target / "README.md").read_text()
    assert "| learn | sft | scratch | a.jsonl | 2 |" in card
    assert "pipeline_tag: text-generation\n" in card
    assert "held_out/accuracy" in card
    assert "weight_decay: 0.125" in card
    again = folder.call("export", "elsewhere/small", *merge, "--to", "out/model")
    assert (again.code, again.first) == (1, "RC761")
    assert "help: delete it, or choose another folder with `--to`" in again.err


def test_an_adapter_without_a_public_base_is_merged(folder):
    """Alone it could not be loaded anywhere: RC937. What is no run, or is not finished, is refused."""
    assert folder.run(LORA, a__jsonl=ROWS).code == 0
    assert folder.call("export", "runs/small").first == "RC937"
    assert folder.call("export", "runs/small", "--stage", "other").first == "RC936"
    found = folder.call("export", "runs")
    assert found.first == "RC772"
    assert "there is no `graph.json` in it" in found.err or "there is no such file" in found.err
    config = folder.path / "runs/small/stages/learn/policy/adapter_config.json"
    assert json.loads(config.read_text())["base_model_name_or_path"] is None


def test_the_card_lists_the_licences_of_what_went_in(tmp_path, monkeypatch):
    """Licences are those that cards in the hub's cache and packages state; nothing is fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, licence in (("models--some--base", "apache-2.0"), ("datasets--some--pairs", "cc-by-4.0")):
        (tmp_path / name / "refs").mkdir(parents=True)
        (tmp_path / name / "refs/main").write_text("a" * 40)
        card = tmp_path / name / "snapshots" / ("a" * 40) / "README.md"
        card.parent.mkdir(parents=True)
        card.write_text(f"---\nlicense: {licence}\ntags: [x]\n---\n# A card\n")
    mixed = {"sources": {"a": {"hub": "some/other"}, "b": {"path": "b.jsonl", "hub": None}}}
    data = [{"slot": "data", "params": params} for params in ({"hub": "some/pairs"}, mixed)]
    stages = [
        {"name": "one", "origin": "some/base", "loop": {"body": data[:1]}, "before": []},
        {"name": "two", "origin": "one", "loop": {"body": []}, "before": data[1:]},
        {"name": "three", "origin": "package:typer", "loop": {"body": []}, "before": []},
        {"name": "four", "origin": "scratch", "loop": {"body": []}, "before": []},
        {"name": "five", "origin": "package:typer/small.gguf", "loop": {"body": []}, "before": []},
    ]
    assert list(licences(stages)) == [
        ("some/base", "apache-2.0"),
        ("some/pairs", "cc-by-4.0"),
        ("some/other", "not stated"),
        ("package:typer", "MIT"),
        ("package:typer/small.gguf", "MIT"),
    ]
